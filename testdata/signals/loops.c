/* Calls that never give EINTR natively, under a timer whose handler was set without SA_RESTART: `loops` counts those that
   do, answers that are wrong because a call was done twice, and signals that come with another reason than they were
   sent with. It ends with 0 where there are none. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile long ticks, strange;

static void tick(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    ticks++;
    if (info->si_code != SI_KERNEL)
        strange++;
}

static long wrong;

static void check(const char *what, long result)
{
    if (result < 0 && wrong++ < 5)
        printf("%s: %s\n", what, strerror(errno));
}

static void timer(int microseconds)
{
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &every, NULL);
}

int main(int count, char **words)
{
    int turns = count > 1 ? atoi(words[1]) : 3000;
    struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO};
    sigaction(SIGALRM, &action, NULL);
    mkdir("loops", 0755);
    chdir("loops");
    timer(300);
    for (int turn = 0; turn < turns; turn++) {
        struct stat found;
        check("stat", stat("../loops", &found));
        check("getuid", getuid());
        check("getgroups", getgroups(0, NULL));
        int file = open("made", O_CREAT | O_EXCL | O_WRONLY, 0644);
        check("open", file);
        check("fchown", fchown(file, 5, 6));
        close(file);
        check("unlink", unlink("made"));
        check("mkdir", mkdir("folder", 0755));
        check("rmdir", rmdir("folder"));
        check("symlink", symlink("x", "link"));
        check("lchown", lchown("link", 7, 8));
        check("unlink", unlink("link"));
    }
    for (int turn = 0; turn < turns / 50; turn++) {
        pid_t child = fork();
        if (child == 0) {
            // A child has no timer of its own; its parent's signals don't reach it, and its own handler is still set.
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        int status;
        pid_t ended;
        while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR)
            ;
        check("execve", ended == child && status == 0 ? 0 : -1);
    }
    // What is interrupted natively still is.
    int pipes[2];
    char byte;
    if (pipe(pipes) != 0 || read(pipes[0], &byte, 1) >= 0 || errno != EINTR)
        check("read is not interrupted", -1);
    timer(0);
    printf("%ld wrong, %ld strange signals\n", wrong, strange);
    return ticks == 0 || wrong != 0 || strange != 0;
}
