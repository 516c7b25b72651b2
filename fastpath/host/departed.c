/* SPDX-License-Identifier: Apache-2.0 */
/* A caller may end its connection, keep descriptors and mappings, and attach again. What workers
 * wrote for it was charged to their memory cgroup, and stays charged there as long as a process has
 * the segment. So the pages of its results are taken back after a second, in which a caller whose
 * connection was ended by somebody else may still read what it has: the reply segment is the pool's
 * own, and no caller can prevent it. In that second a uid keeps no more than one session may have
 * (the reply budget), or it could fill the pool's memory by attaching again and again; beyond that
 * the oldest go first. The request segment is sealed against that, and pages of the reply segment
 * come back when a kept mapping is read. Both are counted once a second until no process has them,
 * and until then the session counts as one of its uid, which gets no more while they are more than
 * one session may take.
 *
 * Whether a process has a segment is asked by a lease: the kernel grants a write lease of a file if
 * no other open description of it exists; a mapping keeps its description. It sees only those that
 * were opened by path, which is why a caller gets descriptors that were reopened (segments.c).
 * Blocks alone do not tell: the descriptor that is kept to look at them keeps them too.
 */
#include "fastpath/host/departed.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"
#include "fastpath/lane/segment.h"

#define LOOK_FIRST_NS 10000000u /* most callers unmap at once */
#define LOOK_NS       1000000000u
#define BLOCK_BYTES   512u /* of st_blocks, whatever the file system */

static uint64_t bytes_of(int fd)
{
    struct stat status;

    return fd >= 0 && fstat(fd, &status) == 0 ? (uint64_t)status.st_blocks * BLOCK_BYTES : 0;
}

/* Whether another process has the segment, opened or mapped. A kernel that grants no leases cannot
 * say: then it does not while no page is left. */
static bool is_held(int fd)
{
    if (fd < 0)
        return false;
    if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
        (void)fcntl(fd, F_SETLEASE, F_UNLCK);
        return false;
    }
    return errno == EAGAIN;
}

static void close_all(struct knit_departed *departed)
{
    knit_fd_close(&departed->request_fd);
    knit_fd_close(&departed->reply_fd);
    knit_fd_close(&departed->results_fd);
}

/* The words in front of slabs and arenas stay: a caller that has not noticed yet reads there that
 * the session is closed. */
static void take_results_back(struct knit_departed *departed)
{
    if (departed->results_fd >= 0)
        (void)fallocate(departed->results_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            (off_t)departed->results_at, (off_t)departed->results_bytes);
    knit_fd_close(&departed->results_fd);
}

/* Returns whether its caller still has something. */
static bool look_at(struct knit_host *pool, struct knit_departed *departed, uint64_t now_ns)
{
    pool->memory_bytes -= departed->bytes;
    departed->bytes = 0;
    /* Both go at once: an inspector of the pool finds a session whole or not at all. */
    if (!is_held(departed->request_fd) && !is_held(departed->reply_fd)) {
        close_all(departed);
        return false;
    }
    if (now_ns >= departed->take_back_ns)
        take_results_back(departed);
    departed->bytes = bytes_of(departed->request_fd) + bytes_of(departed->reply_fd);
    pool->memory_bytes += departed->bytes;
    return true;
}

void knit_departed_look(struct knit_host *pool, uint64_t now_ns)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < pool->departed_count; i++) {
        if (look_at(pool, &pool->departed[i], now_ns))
            pool->departed[kept++] = pool->departed[i];
    }
    pool->departed_count = kept;
    pool->departed_due_ns = kept != 0 ? now_ns + pool->departed_wait_ns : 0;
    pool->departed_wait_ns *= 2;
    if (pool->departed_wait_ns > LOOK_NS)
        pool->departed_wait_ns = LOOK_NS;
}

static void keep_to_budget(struct knit_host *pool, uid_t uid)
{
    uint64_t bytes = 0;

    for (uint32_t i = pool->departed_count; i-- > 0;) {
        struct knit_departed *departed = &pool->departed[i];

        if (departed->uid != uid || departed->results_fd < 0)
            continue;
        bytes += bytes_of(departed->results_fd);
        if (bytes > pool->options.reply_budget_bytes)
            take_results_back(departed);
    }
}

void knit_departed_add(
    struct knit_host *pool, const struct knit_host_session *session, uint64_t now_ns)
{
    const unsigned char *base = session->reply.base;
    struct knit_departed *departed;

    /* Cannot be: all of them, and all sessions, are within sessions_max together. */
    if (pool->departed_count == KNIT_HOST_SESSIONS_MAX)
        return;
    departed = &pool->departed[pool->departed_count++];
    *departed = (struct knit_departed){.uid = session->peer.uid,
        .results_at = (uint64_t)(session->view.reply.slab - base),
        .take_back_ns = now_ns + LOOK_NS};
    departed->results_bytes = session->reply.bytes - departed->results_at;
    /* Without a descriptor left it is not counted, but taken back at once. */
    departed->request_fd = fcntl(session->request_fd, F_DUPFD_CLOEXEC, 0);
    departed->results_fd = fcntl(session->reply_fd, F_DUPFD_CLOEXEC, 0);
    if (knit_segment_reopen_readonly(session->reply_fd, &departed->reply_fd) != 0) {
        departed->reply_fd = -1;
        take_results_back(departed);
    }
    keep_to_budget(pool, departed->uid);
    departed->bytes = bytes_of(departed->request_fd) + bytes_of(departed->reply_fd);
    pool->memory_bytes += departed->bytes;
    pool->departed_wait_ns = LOOK_FIRST_NS;
}

uint32_t knit_departed_count(const struct knit_host *pool, uid_t uid)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < pool->departed_count; i++)
        count += pool->departed[i].uid == uid;
    return count;
}

uint64_t knit_departed_bytes(const struct knit_host *pool, uid_t uid)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < pool->departed_count; i++)
        bytes += pool->departed[i].uid == uid ? pool->departed[i].bytes : 0;
    return bytes;
}

void knit_departed_fini(struct knit_host *pool)
{
    for (uint32_t i = 0; i < pool->departed_count; i++)
        close_all(&pool->departed[i]);
    pool->departed_count = 0;
}
