/* A slower disk for a process that was started with this library in LD_PRELOAD: fsync and fdatasync do their work, and
 * return LOGQUEUE_BENCH_FSYNC_US microseconds later. Every thread waits by itself, as on a device that takes several
 * flushes at once; nothing else is slower.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

typedef int (*sync_call)(int);

static sync_call real_fsync, real_fdatasync;
static struct timespec delay;

__attribute__((constructor)) static void prepare(void) {
    const char *text = getenv("LOGQUEUE_BENCH_FSYNC_US");
    long us = text == NULL ? 0 : atol(text);
    delay.tv_sec = us / 1000000;
    delay.tv_nsec = us % 1000000 * 1000;
    real_fsync = (sync_call)dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (sync_call)dlsym(RTLD_NEXT, "fdatasync");
}

static int later(int result) {
    struct timespec left = delay;
    if (result != 0) return result; /* errno stays as the call left it */
    prctl(PR_SET_TIMERSLACK, 1000); /* of this thread; the default of 50 us would be felt */
    while (nanosleep(&left, &left) != 0) {}
    return 0;
}

int fsync(int fd) { return later(real_fsync(fd)); }
int fdatasync(int fd) { return later(real_fdatasync(fd)); }
