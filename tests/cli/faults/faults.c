/* A library that is loaded before the C library: it counts the operations of a process on files below
 * one folder, lets one of them fail, and writes down what was done, so that a power cut can be played.
 *
 * FAULTS_UNDER  the folder, without a slash at its end
 * FAULTS_AT     the number of the operation that fails, from 1; 0: none
 * FAULTS_HOW    fail: it fails; short: half of it is written, and the next one fails; full: it and all
 *               later writes fail for want of space; kill: the process is killed before it
 * FAULTS_LOG    what was done goes here */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 4096, LENGTH = 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char under[LENGTH], paths[FDS][LENGTH], how[16];
static long at, count, log_fd = -1;
static int ready, spoilt;

static void prepare(void) {
    if (ready) return;
    ready = 1;
    const char *folder = getenv("FAULTS_UNDER"), *n = getenv("FAULTS_AT"), *way = getenv("FAULTS_HOW");
    const char *log = getenv("FAULTS_LOG");
    snprintf(under, sizeof under, "%s", folder ? folder : "/nonexistent");
    snprintf(how, sizeof how, "%s", way ? way : "fail");
    at = n ? atol(n) : 0;
    if (log) log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static int ours(const char *path) {
    prepare();
    size_t n = strlen(under);
    return path && strncmp(path, under, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static const char *of(int fd) { return fd >= 0 && fd < FDS && paths[fd][0] ? paths[fd] : NULL; }

/* What goes into the log: a word, its numbers, paths, and data of a stated length. */
static void note(const char *word, const char *path, const char *to, long offset, const void *data, size_t n) {
    if (log_fd < 0) return;
    char head[3 * LENGTH];
    int length = snprintf(head, sizeof head, "%s\t%ld\t%zu\t%s\t%s\n", word, offset, n, path, to ? to : "");
    syscall(SYS_write, (int)log_fd, head, length);
    if (n) syscall(SYS_write, (int)log_fd, data, n);
}

/* Counts an operation; the error that it ends with, 0 for none. */
static int spoil(int writes, int *half) {
    count++;
    if (half) *half = 0;
    if (spoilt && strcmp(how, "full") == 0) return writes ? ENOSPC : 0;
    if (spoilt == 2) {
        spoilt = 1;
        return EIO;
    }
    if (count != at) return 0;
    if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
    spoilt = 1;
    if (strcmp(how, "full") == 0) return writes ? ENOSPC : 0;
    if (strcmp(how, "short") == 0 && half) {
        *half = 1;
        spoilt = 2;
        return 0;
    }
    return EIO;
}

#define GUARDED(...)                   \
    pthread_mutex_lock(&lock);         \
    __VA_ARGS__;                       \
    int kept = errno;                  \
    pthread_mutex_unlock(&lock);       \
    errno = kept;

static int opened(const char *path, int flags, mode_t mode) {
    int fd, error = 0;
    GUARDED({
        struct stat found;
        int writes = (flags & O_ACCMODE) != O_RDONLY, there = stat(path, &found) == 0;
        if (writes && (error = spoil(1, NULL))) {
            fd = -1;
            errno = error;
        } else {
            fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
            if (fd >= 0 && fd < FDS) {
                snprintf(paths[fd], LENGTH, "%s", path);
                if (!there && (flags & O_CREAT)) note("create", path, NULL, 0, NULL, 0);
                if (there && (flags & O_TRUNC)) note("truncate", path, NULL, 0, NULL, 0);
            }
        }
    })
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    if (ours(path)) return opened(path, flags | O_LARGEFILE, mode);
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    if (ours(path)) return opened(path, flags, mode);
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int close(int fd) {
    if (fd >= 0 && fd < FDS) paths[fd][0] = 0;
    return syscall(SYS_close, fd);
}

ssize_t write(int fd, const void *data, size_t n) {
    const char *path = of(fd);
    if (!path) return syscall(SYS_write, fd, data, n);
    ssize_t done = -1;
    GUARDED({
        int half = 0, error = spoil(1, &half);
        if (error) {
            errno = error;
        } else {
            int flags = fcntl(fd, F_GETFL);
            struct stat found;
            fstat(fd, &found);
            long offset = (flags & O_APPEND) ? found.st_size : lseek(fd, 0, SEEK_CUR);
            done = syscall(SYS_write, fd, data, half && n > 1 ? n / 2 : n);
            if (done > 0) note("write", path, NULL, offset, data, done);
        }
    })
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    if (!of(fd)) return syscall(SYS_writev, fd, parts, n);
    for (int i = 0; i < n; i++)
        if (parts[i].iov_len) return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

static int synced(int fd, int number) {
    const char *path = of(fd);
    if (!path) return syscall(number, fd);
    int done = -1;
    GUARDED({
        int error = spoil(0, NULL);
        if (error) {
            errno = error;
        } else if ((done = syscall(number, fd)) == 0) {
            note("sync", path, NULL, 0, NULL, 0);
        }
    })
    return done;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int cut(int fd, long length) {
    const char *path = of(fd);
    if (!path) return syscall(SYS_ftruncate, fd, length);
    int done = -1;
    GUARDED({
        int error = spoil(1, NULL);
        if (error) {
            errno = error;
        } else if ((done = syscall(SYS_ftruncate, fd, length)) == 0) {
            note("truncate", path, NULL, length, NULL, 0);
        }
    })
    return done;
}

int ftruncate(int fd, off_t length) { return cut(fd, length); }
int ftruncate64(int fd, off64_t length) { return cut(fd, length); }

#define NAMED(word, path, to, call)           \
    int done = -1;                            \
    GUARDED({                                 \
        int error = spoil(1, NULL);           \
        if (error) {                          \
            errno = error;                    \
        } else if ((done = (call)) == 0) {    \
            note(word, path, to, 0, NULL, 0); \
        }                                     \
    })                                        \
    return done;

int rename(const char *from, const char *to) {
    if (!ours(from) && !ours(to)) return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    NAMED("rename", from, to, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0))
}

int mkdir(const char *path, mode_t mode) {
    if (!ours(path)) return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    NAMED("mkdir", path, NULL, syscall(SYS_mkdirat, AT_FDCWD, path, mode))
}

int unlink(const char *path) {
    if (!ours(path)) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    NAMED("unlink", path, NULL, syscall(SYS_unlinkat, AT_FDCWD, path, 0))
}

int rmdir(const char *path) {
    if (!ours(path)) return syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
    NAMED("rmdir", path, NULL, syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR))
}

/* A folder that is removed with all in it is opened and emptied by names within. */
static int whole(int fd, const char *name, char *out) {
    if (name[0] == '/' || fd == AT_FDCWD) return snprintf(out, 2 * LENGTH, "%s", name);
    return of(fd) ? snprintf(out, 2 * LENGTH, "%s/%s", of(fd), name) : -1;
}

int unlinkat(int fd, const char *name, int flags) {
    char path[2 * LENGTH];
    if (whole(fd, name, path) < 0 || !ours(path)) return syscall(SYS_unlinkat, fd, name, flags);
    NAMED((flags & AT_REMOVEDIR) ? "rmdir" : "unlink", path, NULL, syscall(SYS_unlinkat, fd, name, flags))
}

static int opened_at(int fd, const char *name, int flags, mode_t mode) {
    char path[2 * LENGTH];
    int known = whole(fd, name, path) >= 0 && ours(path), done = syscall(SYS_openat, fd, name, flags, mode);
    if (known && done >= 0 && done < FDS) snprintf(paths[done], LENGTH, "%.*s", LENGTH - 1, path);
    return done;
}

int openat64(int fd, const char *name, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return opened_at(fd, name, flags | O_LARGEFILE, mode);
}

int openat(int fd, const char *name, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return opened_at(fd, name, flags, mode);
}

/* The number of operations, for whoever wants to let each of them fail. */
__attribute__((destructor)) static void end(void) {
    const char *file = getenv("FAULTS_COUNT");
    if (!file || !ready) return;
    int fd = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", count);
    syscall(SYS_write, fd, text, n);
    syscall(SYS_close, fd);
}
