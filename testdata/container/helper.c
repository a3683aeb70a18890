/* What busybox has no applet for: `helper escape PATH` tries the classic way out of a chroot and prints the file;
   `helper ask SOCKET` sends a line to a socket and prints the answer; `helper mode PATH` makes a file 0640 through an
   open descriptor's path, as a C library does that has no better way to leave links alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int show(int fd)
{
    char buffer[512];
    ssize_t length = read(fd, buffer, sizeof buffer);
    if (length <= 0)
        return 1;
    return write(1, buffer, length) != length;
}

static int escape(const char *path)
{
    int here = open(".", O_RDONLY | O_DIRECTORY);
    mkdir("inner", 0755);
    if (here < 0 || chroot("inner") != 0)
        return 2;
    if (fchdir(here) != 0)
        return 3;
    for (int depth = 0; depth < 64; depth++)
        if (chdir("..") != 0)
            return 4;
    if (chroot(".") != 0)
        return 5;
    int file = open(path, O_RDONLY);
    return file < 0 ? 6 : show(file);
}

static int ask(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 || write(fd, "hello", 5) != 5)
        return 2;
    shutdown(fd, SHUT_WR);
    return show(fd);
}

static int mode(const char *path)
{
    char name[64];
    int file = open(path, O_PATH | O_NOFOLLOW);
    if (file < 0)
        return 2;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    return chmod(name, 0640) != 0;
}

int main(int count, char **words)
{
    if (count != 3)
        return 1;
    if (strcmp(words[1], "mode") == 0)
        return mode(words[2]);
    return strcmp(words[1], "escape") == 0 ? escape(words[2]) : ask(words[2]);
}
