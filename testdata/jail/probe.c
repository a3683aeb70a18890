/* What hostile commands do, and who watches that nothing comes of it.

   `probe without-landlock COMMAND…` is outside: it starts a command on a machine that has no Landlock, by a filter.

   `probe guard VICTIM COMMAND…` is outside: it starts a command with a terminal of its own as standard input and
   controlling terminal, the directory VICTIM as descriptor 9 and its file as descriptor 8. It says "BROKEN: …" when
   anything is written to the terminal.

   All others are inside, and do what their name says where they may; `touch PATH` does all that can be done to a path,
   and prints what it reads. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <pthread.h>
#include <unistd.h>

static socklen_t address_of(struct sockaddr_un *address, const char *name, int abstract)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    strncpy(address->sun_path + abstract, name, sizeof address->sun_path - 2);
    return offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1;
}

static int guard(int count, char **words)
{
    char path[4096];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (count < 2 || master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        return 99;
    struct pollfd polled = {master, POLLIN, 0};
    pid_t child = fork();
    if (child == 0) {
        setsid();
        int terminal = open(ptsname(master), O_RDWR);
        snprintf(path, sizeof path, "%s/file", words[0]);
        if (terminal < 0 || ioctl(terminal, TIOCSCTTY, 0) != 0 || dup2(terminal, 0) != 0 ||
            dup2(open(words[0], O_RDONLY | O_DIRECTORY), 9) != 9 || dup2(open(path, O_RDWR), 8) != 8)
            _exit(98);
        execvp(words[1], words + 1);
        _exit(97);
    }
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0)
        if (poll(&polled, 1, 20) > 0 && polled.revents & POLLIN) {
            fputs("BROKEN: the terminal was reached\n", stderr);
            polled.fd = -1;
        }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int without_landlock(char **words)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 444, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 446, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 99;
    execvp(words[0], words);
    return 97;
}

static void show(const char *path)
{
    char buffer[256];
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    ssize_t length = fd < 0 ? -1 : read(fd, buffer, sizeof buffer);
    if (length > 0)
        write(1, buffer, length);
    if (fd >= 0) {
        fchmod(fd, 0666);
        fchown(fd, 7, 7);
        fsetxattr(fd, "user.x", "y", 1, 0);
        futimens(fd, NULL);
        close(fd);
    }
}

/* A path below another one, in a few buffers that are used in turn. */
static const char *below(const char *path, const char *name)
{
    static char buffers[8][4096];
    static int next;
    char *buffer = buffers[next++ % 8];
    snprintf(buffer, sizeof buffers[0], "%s/%s", path, name);
    return buffer;
}

static void send_to(const char *name, int abstract)
{
    struct sockaddr_un address;
    socklen_t length = address_of(&address, name, abstract);
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        int fd = socket(AF_UNIX, type, 0);
        struct iovec part = {"x", 1};
        struct msghdr message = {.msg_name = &address, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1};
        sendto(fd, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&address, length);
        sendmsg(fd, &message, MSG_NOSIGNAL);
        connect(fd, (struct sockaddr *)&address, length);
        close(fd);
    }
}

static int touch(const char *path)
{
    struct stat found;
    static const char *names[] = {"file", "program", "folder", "folder/file", "link", "fifo", "socket", "secret", NULL};
    stat(path, &found);
    lstat(path, &found);
    for (const char **name = names; *name; name++) {
        const char *one = below(path, *name);
        show(one);
        stat(one, &found);
        chmod(one, 0777);
        chown(one, 7, 7);
        lchown(one, 8, 8);
        utimensat(AT_FDCWD, one, NULL, 0);
        utimensat(AT_FDCWD, one, NULL, AT_SYMLINK_NOFOLLOW);
        setxattr(one, "user.x", "y", 1, 0);
        removexattr(one, "user.victim");
        truncate(one, 0);
        close(open(one, O_WRONLY | O_APPEND | O_NONBLOCK));
        close(open(one, O_RDWR | O_CREAT | O_TRUNC | O_NONBLOCK, 0666));
        link(one, below(path, "linked"));
        link(one, "/stolen");
        rename(one, below(path, "renamed"));
        rename(one, "/stolen");
        unlink(one);
        rmdir(one);
        send_to(one, 0);
        pid_t child = fork();
        if (child == 0) {
            execl(one, one, (char *)NULL);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    mkdir(below(path, "made"), 0777);
    symlink("/", below(path, "made-link"));
    mknod(below(path, "made-fifo"), S_IFIFO | 0666, 0);
    mknod(below(path, "made-device"), S_IFCHR | 0666, 0x103);
    close(open(below(path, "made-file"), O_RDWR | O_CREAT | O_EXCL, 0666));
    close(open(path, O_RDWR | O_TMPFILE, 0666));
    struct sockaddr_un address;
    socklen_t length = address_of(&address, below(path, "made-socket"), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(fd, (struct sockaddr *)&address, length);
    chmod(path, 0777);
    chown(path, 7, 7);
    utimensat(AT_FDCWD, path, NULL, 0);
    setxattr(path, "user.x", "y", 1, 0);
    if (chdir(path) == 0) {
        show("file");
        mkdir("made-here", 0777);
        unlink("file");
    }
    return 0;
}

/* Every descriptor of every process, by each name that it has. */
static int descriptors(void)
{
    char path[300];
    DIR *processes = opendir("/proc");
    for (struct dirent *process; processes && (process = readdir(processes));) {
        int pid = atoi(process->d_name);
        if (pid == 0)
            continue;
        for (int fd = 0; fd < 16; fd++) {
            snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
            if (pid != getpid() || fd > 2)
                touch(path);
            snprintf(path, sizeof path, "/proc/%d/task/%d/fd/%d", pid, pid, fd);
            if (pid != getpid())
                touch(path);
            int process_fd = syscall(SYS_pidfd_open, pid, 0);
            int stolen = pid == getpid() ? -1 : (int)syscall(SYS_pidfd_getfd, process_fd, fd, 0);
            if (stolen >= 0) {
                printf("STOLEN %d of %d\n", fd, pid);
                snprintf(path, sizeof path, "/proc/self/fd/%d", stolen);
                touch(path);
                close(stolen);
            }
            close(process_fd);
        }
    }
    return 0;
}

static int debug(void)
{
    char buffer[16];
    for (int pid = 1; pid < 3; pid++) {
        if (pid == getpid() || (pid > 1 && pid != getppid()))
            continue;
        struct iovec local = {buffer, sizeof buffer}, remote = {(void *)0x400000, sizeof buffer};
        if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0 && pid == 1)
            puts("SEIZED process 1");
        if (ptrace(PTRACE_ATTACH, pid, 0, 0) == 0 && pid == 1)
            puts("ATTACHED process 1");
        if (process_vm_readv(pid, &local, 1, &remote, 1, 0) > 0 && pid == 1)
            puts("READ process 1");
    }
    return 0;
}

static int terminals(void)
{
    char path[64];
    for (int at = -3; at < 64; at++) {
        static const char *fixed[] = {"/dev/tty", "/dev/console", "/dev/pts/ptmx"};
        if (at < 0)
            snprintf(path, sizeof path, "%s", fixed[at + 3]);
        else
            snprintf(path, sizeof path, "/dev/pts/%d", at);
        int fd = open(path, O_RDWR | O_NONBLOCK);
        if (fd >= 0 && at != -1) {
            write(fd, "reached\n", 8);
            ioctl(fd, TIOCSTI, "r");
            ioctl(fd, TIOCSCTTY, 1);
        }
    }
    for (int fd = 0; fd < 16; fd++) {
        ioctl(fd, TIOCSTI, "r");
        if (isatty(fd))
            write(fd, "reached\n", 8);
    }
    return 0;
}

/* A pseudo-terminal that a command opens itself works. */
static int own_terminal(void)
{
    char word[16] = {0};
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        return 2;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        int terminal = open(ptsname(master), O_RDWR);
        int own = ioctl(terminal, TIOCSCTTY, 0) == 0 ? open("/dev/tty", O_RDWR) : -1;
        _exit(write(own, "hello", 5) != 5);
    }
    ssize_t length = read(master, word, 5);
    waitpid(child, NULL, 0);
    return length != 5 || strcmp(word, "hello") != 0;
}

static int devices(void)
{
    static const int numbers[][2] = {{1, 1}, {1, 11}, {4, 0}, {5, 1}, {10, 229}, {8, 0}, {254, 0}, {1, 3}};
    for (int at = 0; at < 8; at++)
        for (int block = 0; block < 2; block++) {
            char path[64];
            snprintf(path, sizeof path, "/dev-%d-%d", at, block);
            mknod(path, (block ? S_IFBLK : S_IFCHR) | 0666, numbers[at][0] << 8 | numbers[at][1]);
            struct stat found;
            int fd = open(path, O_RDWR | O_NONBLOCK);
            if (fd >= 0 && fstat(fd, &found) == 0 && syscall(SYS_ioctl, fd, 0x5401, &found) == 0)
                printf("OPENED device %d\n", at);
            char byte;
            if (fd >= 0 && read(fd, &byte, 1) == 1)
                printf("READ device %d\n", at);
        }
    return 0;
}

static int kernel(void)
{
    char buffer[4096] = {0};
    static const struct {
        const char *name;
        long number, one, two;
    } calls[] = {
        {"unshare user", SYS_unshare, CLONE_NEWUSER, 0}, {"unshare mounts", SYS_unshare, CLONE_NEWNS, 0},
        {"setns", SYS_setns, 0, 0},                      {"keyctl", SYS_keyctl, 0, -3},
        {"bpf", SYS_bpf, 0, 0},                          {"io_uring", SYS_io_uring_setup, 8, 0},
        {"userfaultfd", SYS_userfaultfd, 0, 0},          {"open_by_handle", SYS_open_by_handle_at, -100, 0},
        {"fsopen", SYS_fsopen, 0, 0},                    {"kexec", SYS_kexec_load, 0, 0},
        {"reboot", SYS_reboot, 0, 0},                    {"swapon", SYS_swapon, 0, 0},
        {"acct", SYS_acct, 0, 0},                        {"settimeofday", SYS_settimeofday, 0, 0},
    };
    for (unsigned at = 0; at < sizeof calls / sizeof *calls; at++)
        if (syscall(calls[at].number, calls[at].one, calls[at].two, buffer, 0, 0, 0) >= 0)
            printf("DONE %s\n", calls[at].name);
    if (mount("x", "/tmp", "tmpfs", 0, NULL) == 0 || umount2("/proc", MNT_DETACH) == 0)
        puts("DONE mount");
    return 0;
}

/* The classic way out of a chroot, and the same with a descriptor and without. */
static int escape(const char *path)
{
    int here = open("/", O_PATH | O_DIRECTORY);
    mkdir("/inner", 0755);
    if (chroot("/inner") == 0) {
        fchdir(here);
        for (int depth = 0; depth < 64; depth++)
            chdir("..");
        touch(path + 1);
        chroot(".");
        touch(path);
    }
    return 0;
}

static volatile int racing = 1;
static char raced[4096];
static const char *first, *second;

static void *swap(void *unused)
{
    while (racing) {
        strcpy(raced, first);
        strcpy(raced, second);
    }
    return unused;
}

/* Rewrites the path of a call from a second thread: an innocent one, and one that leads out. */
static int race(const char *path)
{
    pthread_t thread;
    first = "/tmp";
    second = path;
    pthread_create(&thread, NULL, swap, NULL);
    for (int turn = 0; turn < 2000; turn++) {
        struct stat found;
        chown(raced, 7, 7);
        mkdirat(AT_FDCWD, raced, 0777);
        symlink("/", raced);
        mknod(raced, S_IFIFO | 0666, 0);
        close(open(raced, O_CREAT | O_EXCL | O_WRONLY, 0666));
        stat(raced, &found);
    }
    racing = 0;
    pthread_join(thread, NULL);
    return 0;
}

/* A process that leaves its session, its parent and its terminal, and ignores what asks it to end. */
static int detach(void)
{
    for (int turn = 0; turn < 3; turn++)
        if (fork() > 0)
            _exit(0);
        else
            setsid();
    for (int number = 1; number < 32; number++)
        signal(number, SIG_IGN);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    sleep(1000);
    return 0;
}

int main(int count, char **words)
{
    const char *what = count > 1 ? words[1] : "", *path = count > 2 ? words[2] : "";
    if (strcmp(what, "guard") == 0)
        return guard(count - 2, words + 2);
    if (strcmp(what, "without-landlock") == 0)
        return without_landlock(words + 2);
    if (strcmp(what, "touch") == 0)
        return touch(path);
    if (strcmp(what, "descriptors") == 0)
        return descriptors();
    if (strcmp(what, "debug") == 0)
        return debug();
    if (strcmp(what, "terminals") == 0)
        return terminals();
    if (strcmp(what, "own-terminal") == 0)
        return own_terminal();
    if (strcmp(what, "devices") == 0)
        return devices();
    if (strcmp(what, "kernel") == 0)
        return kernel();
    if (strcmp(what, "escape") == 0)
        return escape(path);
    if (strcmp(what, "race") == 0)
        return race(path);
    if (strcmp(what, "detach") == 0)
        return detach();
    if (strcmp(what, "abstract") == 0)
        return send_to(path, 1), 0;
    return 1;
}
