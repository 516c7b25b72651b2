/* SPDX-License-Identifier: Apache-2.0 */
/* A pipe with a reader, and not a file: a task may print any amount, also by its children, and
 * memory stays bounded. */
#include "fastpath/worker/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fastpath/control/control.h"
#include "proto/limits.h"

static struct {
    pthread_mutex_t mutex;
    int host_fd; /* what stdout and stderr are otherwise */
    bool is_on;
    bool is_cut;
    char last; /* byte that was handed on */
    size_t len;
    char bytes[KNIT_OUTPUT_KEPT_MAX];
} capture = {.mutex = PTHREAD_MUTEX_INITIALIZER, .host_fd = -1};

int knit_capture_init(void)
{
    if (fcntl(KNIT_CONTROL_CAPTURE_READ_FD, F_SETFD, FD_CLOEXEC) != 0 ||
        fcntl(KNIT_CONTROL_CAPTURE_WRITE_FD, F_SETFD, FD_CLOEXEC) != 0)
        return -errno;
    capture.host_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, KNIT_CONTROL_GIVEN_FD);
    return capture.host_fd >= 0 ? 0 : -errno;
}

static void keep(const char *bytes, size_t len)
{
    size_t room = sizeof(capture.bytes) - capture.len;
    size_t kept = len < room ? len : room;

    memcpy(capture.bytes + capture.len, bytes, kept);
    capture.len += kept;
    capture.is_cut = capture.is_cut || kept < len;
}

/* A part that the host does not take any more is lost with the host. */
static void hand_on(const char *bytes, size_t len)
{
    capture.last = bytes[len - 1];
    while (len > 0) {
        ssize_t wrote = write(capture.host_fd, bytes, len);

        if (wrote < 0 && errno != EINTR)
            return;
        bytes += wrote > 0 ? wrote : 0;
        len -= wrote > 0 ? (size_t)wrote : 0;
    }
}

/* One reading, which does not wait. Returns its bytes; 0 = there is nothing. */
static size_t read_some(void)
{
    char bytes[4096];
    ssize_t got = read(KNIT_CONTROL_CAPTURE_READ_FD, bytes, sizeof(bytes));

    if (got <= 0)
        return 0;
    if (capture.is_on)
        keep(bytes, (size_t)got);
    hand_on(bytes, (size_t)got);
    return (size_t)got;
}

/* What is there now; a child may print without end. */
static void read_all(void)
{
    int there = 0;

    if (ioctl(KNIT_CONTROL_CAPTURE_READ_FD, FIONREAD, &there) != 0)
        return;
    while (there > 0) {
        size_t got = read_some();

        if (got == 0)
            return;
        there -= (int)got;
    }
}

bool knit_capture_read(void)
{
    bool is_read;

    pthread_mutex_lock(&capture.mutex);
    is_read = read_some() != 0 || errno == EAGAIN || errno == EINTR;
    pthread_mutex_unlock(&capture.mutex);
    return is_read;
}

static bool print_to(int fd)
{
    (void)fflush(stdout);
    (void)fflush(stderr);
    return dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0;
}

void knit_capture_begin(void)
{
    pthread_mutex_lock(&capture.mutex);
    /* Of children that an earlier call has left. */
    read_all();
    capture.is_on = true;
    capture.len = 0;
    capture.is_cut = !print_to(KNIT_CONTROL_CAPTURE_WRITE_FD);
    pthread_mutex_unlock(&capture.mutex);
}

struct knit_span knit_capture_end(bool *ret_is_cut)
{
    (void)print_to(capture.host_fd);
    pthread_mutex_lock(&capture.mutex);
    read_all();
    /* In the log the line ends with the call, as it does without the option. */
    if (capture.len > 0 && capture.last != '\n')
        hand_on("\n", 1);
    capture.is_on = false;
    pthread_mutex_unlock(&capture.mutex);
    *ret_is_cut = capture.is_cut;
    return knit_span(capture.bytes, capture.len);
}
