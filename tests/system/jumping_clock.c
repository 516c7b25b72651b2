/* SPDX-License-Identifier: Apache-2.0 */
/* A library to preload: the clock of the day is off by the number of seconds in the file that
 * KNIT_CLOCK names, which the test changes while the program runs. The monotonic clock does not
 * change, as when an administrator sets the clock. Setting the machine's own clock would disturb
 * all other programs.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))

static _Atomic int64_t *off_by;
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void open_file(void)
{
    const char *path = getenv("KNIT_CLOCK");
    void *memory;
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    if (fd < 0)
        return;
    memory = mmap(NULL, sizeof(*off_by), PROT_READ, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (memory != MAP_FAILED)
        off_by = memory;
}

VISIBLE int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int r;

    if (real_clock == NULL)
        *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    r = real_clock(clock, ret);
    if (r == 0 && off_by != NULL &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        /* relaxed: it orders nothing. */
        ret->tv_sec += atomic_load_explicit(off_by, memory_order_relaxed);
    return r;
}

VISIBLE int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;
    int r = clock_gettime(CLOCK_REALTIME, &now);

    (void)zone;
    ret->tv_sec = now.tv_sec;
    ret->tv_usec = now.tv_nsec / 1000;
    return r;
}

VISIBLE time_t time(time_t *ret)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (ret != NULL)
        *ret = now.tv_sec;
    return now.tv_sec;
}
