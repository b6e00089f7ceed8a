/* A disk that blocks: preloaded into a process, it makes every opening for writing, every write and every sync of
 * files below one folder take a second more. Other threads of the process go on, as beside a real disk that hangs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char folder[PATH_MAX];
static int armed;
static long blocked;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Block in `path`, an absolute one, and everything below it; with NULL nowhere. */
void slow_disk_arm(const char *path)
{
    if (path)
        snprintf(folder, sizeof folder, "%s/", path);
    __atomic_store_n(&armed, path != NULL, __ATOMIC_SEQ_CST);
}

/* Calls that have blocked so far. */
long slow_disk_blocked(void)
{
    return __atomic_load_n(&blocked, __ATOMIC_SEQ_CST);
}

static void wait_if_below(const char *path)
{
    struct timespec left = {1, 0};
    if (strncmp(path, folder, strlen(folder)) != 0)
        return;
    __atomic_add_fetch(&blocked, 1, __ATOMIC_SEQ_CST);
    while (nanosleep(&left, &left) != 0)
        ;
}

static void wait_for(int fd)
{
    char link[64], path[PATH_MAX];
    ssize_t length;
    if (!__atomic_load_n(&armed, __ATOMIC_SEQ_CST))
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
        path[length] = '\0';
        wait_if_below(path);
    }
}

ssize_t write(int fd, const void *data, size_t size)
{
    wait_for(fd);
    return REAL(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    wait_for(fd);
    return REAL(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    wait_for(fd);
    return REAL(pwrite64)(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    wait_for(fd);
    return REAL(writev)(fd, parts, n);
}

int fsync(int fd)
{
    wait_for(fd);
    return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    wait_for(fd);
    return REAL(fdatasync)(fd);
}

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = mode_of(flags, rest);                                                                            \
        va_end(rest);                                                                                                  \
        if (__atomic_load_n(&armed, __ATOMIC_SEQ_CST) && (flags & O_ACCMODE) != O_RDONLY)                              \
            wait_if_below(path);                                                                                       \
        return REAL(name)(path, flags, mode);                                                                          \
    }

OPEN(open)
OPEN(open64)
