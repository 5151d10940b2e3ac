/*
 * Loaded into a member before libc (LD_PRELOAD): a wall clock that can be moved, and a disk whose syncs can fail.
 *
 * QUORATE_SHIM names a page that is shared with whoever runs the member:
 *
 *     0  int64   nanoseconds added to CLOCK_REALTIME
 *     8  uint64  1: fsync and fdatasync fail with EIO, and nothing is synced; 2: fdatasync says that it has synced, and
 *             has not (a disk that lies: what a judge must find out)
 *    16  uint64  counted here: reads of the wall clock while it was moved
 *    24  uint64  counted here: syncs refused, and lies
 *
 * The monotonic clock is left alone. A sync that failed stays failed: nothing is written behind the caller's back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct page {
    volatile int64_t offset_ns;
    volatile uint64_t syncs;
    volatile uint64_t clock_moved;
    volatile uint64_t syncs_refused;
};

static struct page *page;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("QUORATE_SHIM");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) {
        _exit(97);
    }
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at == MAP_FAILED) {
        _exit(98);
    }
    page = at;
}

static int wall(clockid_t clock, struct timespec *time) {
    if (!real_clock_gettime) {
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    }
    int result = real_clock_gettime(clock, time);
    int64_t offset = page ? page->offset_ns : 0;
    if (result == 0 && offset != 0) {
        __atomic_fetch_add(&page->clock_moved, 1, __ATOMIC_RELAXED);
        int64_t nanos = time->tv_nsec + offset % 1000000000;
        int64_t seconds = time->tv_sec + offset / 1000000000;
        if (nanos < 0) {
            nanos += 1000000000;
            seconds -= 1;
        } else if (nanos >= 1000000000) {
            nanos -= 1000000000;
            seconds += 1;
        }
        time->tv_sec = seconds;
        time->tv_nsec = nanos;
    }
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        return wall(clock, time);
    }
    if (!real_clock_gettime) {
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    }
    return real_clock_gettime(clock, time);
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int result = wall(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *into) {
    struct timespec now;
    wall(CLOCK_REALTIME, &now);
    if (into) {
        *into = now.tv_sec;
    }
    return now.tv_sec;
}

enum { HONEST, FAILS, LIES };

static uint64_t counted(void) {
    uint64_t mode = page ? page->syncs : HONEST;
    if (mode != HONEST) {
        __atomic_fetch_add(&page->syncs_refused, 1, __ATOMIC_RELAXED);
    }
    return mode;
}

static int fails(void) {
    errno = EIO;
    return -1;
}

int fsync(int file) { return counted() == FAILS ? fails() : real_fsync(file); }

int fdatasync(int file) {
    switch (counted()) {
    case FAILS:
        return fails();
    case LIES:
        return 0;
    default:
        return real_fdatasync(file);
    }
}
