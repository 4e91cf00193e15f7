/* Stands between a program and the C library: lets one call fail, or records what is written.
 *
 * Built with  cc -shared -fPIC -O2 -o shim.so shim.c -ldl  and loaded with LD_PRELOAD. Nothing
 * happens until watch() is called. Counted are calls that change a file below one folder, and, on
 * their own, requests for large blocks of memory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define LARGE (64 * 1024)

static char folder[PATH_MAX];
static size_t folder_length; /* 0: nothing is watched */
static long calls, fail_at, blocks, fail_block_at;
static int fail_with, log_fd = -1;

/* Watch the files below a folder: the call number fail fails with an error, as does the request
 * number fail_block for memory (0: none). What is done is recorded in a file (-1: nowhere). */
void watch(const char *path, long fail, int error, long fail_block, int record) {
    strncpy(folder, path, PATH_MAX - 1);
    calls = blocks = 0;
    fail_at = fail;
    fail_with = error;
    fail_block_at = fail_block;
    log_fd = record;
    folder_length = strlen(folder);
}

long watched_calls(void) { return calls; }
long watched_blocks(void) { return blocks; }

static int inside(const char *whole) {
    return folder_length && !strncmp(whole, folder, folder_length) &&
           (whole[folder_length] == '/' || !whole[folder_length]);
}

static int below(const char *path, char *whole) {
    if (!folder_length || !path) return 0;
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return 0;
        if (snprintf(whole, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) return 0;
    }
    return inside(whole);
}

static int behind(int fd, char *whole) {
    char link[64];
    if (!folder_length || fd == log_fd) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, whole, PATH_MAX - 1);
    if (n < 0) return 0;
    whole[n] = 0;
    return inside(whole);
}

/* One record: kind, three numbers (offset, bytes that follow, length of the second path). */
static void record(char kind, const char *path, const char *second, uint64_t at, const void *data,
                   uint64_t size) {
    if (log_fd < 0) return;
    uint32_t lengths[2] = {(uint32_t)strlen(path), second ? (uint32_t)strlen(second) : 0};
    uint64_t numbers[2] = {at, size};
    struct iovec parts[6] = {{&kind, 1},          {lengths, sizeof lengths},
                             {numbers, sizeof numbers}, {(void *)path, lengths[0]},
                             {(void *)second, lengths[1]}, {(void *)data, data ? size : 0}};
    for (int i = 0; i < 6; i++) {
        const char *from = parts[i].iov_base;
        size_t left = parts[i].iov_len;
        while (left) {
            long n = syscall(SYS_write, log_fd, from, left);
            if (n <= 0) _exit(97);
            from += n;
            left -= (size_t)n;
        }
    }
}

static int fails(void) {
    if (++calls != fail_at) return 0;
    errno = fail_with;
    return 1;
}

#define REAL(name, type, ...)                          \
    static type (*real)(__VA_ARGS__);                  \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL("write", ssize_t, int, const void *, size_t);
    char path[PATH_MAX];
    if (!behind(fd, path)) return real(fd, data, size);
    if (fails()) return -1;
    int flags = fcntl(fd, F_GETFL);
    off_t at = lseek(fd, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t n = real(fd, data, size);
    if (n > 0) record('w', path, NULL, (uint64_t)at, data, (uint64_t)n);
    return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL("writev", ssize_t, int, const struct iovec *, int);
    char path[PATH_MAX];
    if (!behind(fd, path)) return real(fd, parts, count);
    ssize_t sum = 0;
    for (int i = 0; i < count; i++) {
        ssize_t n = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (n < 0) return sum ? sum : -1;
        sum += n;
        if ((size_t)n < parts[i].iov_len) break;
    }
    return sum;
}

static ssize_t written_at(ssize_t (*real)(int, const void *, size_t, off_t), int fd,
                          const void *data, size_t size, off_t at) {
    char path[PATH_MAX];
    if (!behind(fd, path)) return real(fd, data, size, at);
    if (fails()) return -1;
    ssize_t n = real(fd, data, size, at);
    if (n > 0) record('w', path, NULL, (uint64_t)at, data, (uint64_t)n);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL("pwrite", ssize_t, int, const void *, size_t, off_t);
    return written_at(real, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
    REAL("pwrite64", ssize_t, int, const void *, size_t, off_t);
    return written_at(real, fd, data, size, at);
}

static int synced(int (*real)(int), int fd) {
    char path[PATH_MAX];
    if (!behind(fd, path)) return real(fd);
    if (fails()) return -1;
    record('s', path, NULL, 0, NULL, 0);
    return real(fd);
}

int fsync(int fd) {
    REAL("fsync", int, int);
    return synced(real, fd);
}

int fdatasync(int fd) {
    REAL("fdatasync", int, int);
    return synced(real, fd);
}

static int cut(int (*real)(int, off_t), int fd, off_t size) {
    char path[PATH_MAX];
    if (!behind(fd, path)) return real(fd, size);
    if (fails()) return -1;
    record('t', path, NULL, (uint64_t)size, NULL, 0);
    return real(fd, size);
}

int ftruncate(int fd, off_t size) {
    REAL("ftruncate", int, int, off_t);
    return cut(real, fd, size);
}

int ftruncate64(int fd, off_t size) {
    REAL("ftruncate64", int, int, off_t);
    return cut(real, fd, size);
}

int rename(const char *old, const char *new) {
    REAL("rename", int, const char *, const char *);
    char from[PATH_MAX], to[PATH_MAX];
    if (!below(old, from) || !below(new, to)) return real(old, new);
    if (fails()) return -1;
    int failed = real(old, new);
    if (!failed) record('r', from, to, 0, NULL, 0);
    return failed;
}

int link(const char *old, const char *new) {
    REAL("link", int, const char *, const char *);
    char from[PATH_MAX], to[PATH_MAX];
    if (!below(old, from) || !below(new, to)) return real(old, new);
    if (fails()) return -1;
    int failed = real(old, new);
    if (!failed) record('l', from, to, 0, NULL, 0);
    return failed;
}

int linkat(int one, const char *old, int two, const char *new, int flags) {
    REAL("linkat", int, int, const char *, int, const char *, int);
    if (one == AT_FDCWD && two == AT_FDCWD) return link(old, new);
    return real(one, old, two, new, flags);
}

int unlink(const char *name) {
    REAL("unlink", int, const char *);
    char path[PATH_MAX];
    if (!below(name, path)) return real(name);
    if (fails()) return -1;
    int failed = real(name);
    if (!failed) record('u', path, NULL, 0, NULL, 0);
    return failed;
}

static int opened(int (*real)(const char *, int, ...), const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !below(name, path)) return real(name, flags, mode);
    if (fails()) return -1;
    struct stat before;
    int was = !stat(name, &before);
    int fd = real(name, flags, mode);
    if (fd >= 0 && !was) record('c', path, NULL, 0, NULL, 0);
    if (fd >= 0 && was && (flags & O_TRUNC) && before.st_size) record('t', path, NULL, 0, NULL, 0);
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *name, int flags, ...) {
    REAL("open", int, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return opened(real, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
    REAL("open64", int, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return opened(real, name, flags, mode);
}

static FILE *stream(FILE *(*real)(const char *, const char *), const char *name, const char *how) {
    /* The C library writes a stream with calls of its own, which do not come by here. */
    char path[PATH_MAX];
    if (how && how[0] != 'r' && below(name, path)) {
        fprintf(stderr, "shim: a stream writes to %s, unseen\n", path);
        _exit(96);
    }
    return real(name, how);
}

FILE *fopen(const char *name, const char *how) {
    REAL("fopen", FILE *, const char *, const char *);
    return stream(real, name, how);
}

FILE *fopen64(const char *name, const char *how) {
    REAL("fopen64", FILE *, const char *, const char *);
    return stream(real, name, how);
}

static int no_block(size_t size) {
    if (!folder_length || size < LARGE) return 0;
    if (__atomic_add_fetch(&blocks, 1, __ATOMIC_RELAXED) != fail_block_at) return 0;
    errno = ENOMEM;
    return 1;
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) { return no_block(size) ? NULL : __libc_malloc(size); }

void *calloc(size_t count, size_t size) {
    return no_block(count * size) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size) {
    return no_block(size) ? NULL : __libc_realloc(block, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    if (no_block(size)) return ENOMEM;
    void *found = __libc_memalign(alignment, size);
    if (!found) return ENOMEM;
    *block = found;
    return 0;
}
