/* SPDX-License-Identifier: Apache-2.0 */
/* The host dies at each of its fault points: its workers end too, and its caller ends each call
 * with one outcome whose `started` is correct.
 *
 * Method: the host is a child of this test and kills itself at the point that KNIT_FAULT names. The
 * test is a caller of another process, which has only the granted descriptors. With a running call
 * in each worker and others queued it causes the point to be reached, waits for the host's end, and
 * compares the outcomes that it can still collect or settle with a ledger of runs. Processes whose
 * parent ends become children of this test, so it sees whether one is left. The test is built with
 * its own copy of fastpath, which has the points.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/segment.h"
#include "tests/fastpath/pools.h"
#include "tests/support/deadline.h"

#define WORKERS      2u
#define CALLS        20u
#define HARD_MS      300u
#define ABANDONED_MS 50u

/* What causes a point to be reached. The value is the letter that asks the host for it. */
enum cause {
    BY_DEATH = 0, /* a worker is killed */
    BY_HARD_TIMEOUT = 'H',
    BY_SHUTDOWN = 'S',
    BY_ATTACH = 'A',
    BY_DETACH = 'D',
    BY_INVALID_CELL =
        'L', /* a worker is killed, and its replacement reads an invalid value in the ring */
};

/* The caller sends it when it has mapped and sealed its session; the point is armed from then. */
#define ATTACHED 'M'

static const enum cause causes[KNIT_FAULT_COUNT] = {
    [KNIT_FAULT_TIMEOUT_AFTER_HALT] = BY_HARD_TIMEOUT,
    [KNIT_FAULT_TIMEOUT_AFTER_HARD_KILL] = BY_HARD_TIMEOUT,
    [KNIT_FAULT_TIMEOUT_AFTER_ABANDONED_KILL] = BY_DETACH,
    [KNIT_FAULT_SESSION_AFTER_SEGMENTS] = BY_ATTACH,
    [KNIT_FAULT_SESSION_AFTER_PUBLISH] = BY_ATTACH,
    [KNIT_FAULT_SESSION_AFTER_CLOSED] = BY_DETACH,
    [KNIT_FAULT_SESSION_AFTER_DETACH] = BY_DETACH,
    [KNIT_FAULT_SESSION_BEFORE_FREE] = BY_DETACH,
    [KNIT_FAULT_SESSION_AFTER_EVICT] = BY_INVALID_CELL,
    [KNIT_FAULT_SHUTDOWN_AFTER_CLOSED] = BY_SHUTDOWN,
    [KNIT_FAULT_SHUTDOWN_AFTER_STOP] = BY_SHUTDOWN,
    [KNIT_FAULT_RECOVERY_AFTER_CLAIM] = BY_SHUTDOWN,
    [KNIT_FAULT_SHUTDOWN_BEFORE_STOPPED] = BY_SHUTDOWN,
};

/* What the host sends: the grant with its descriptors, and the pids of the workers. */
struct invitation {
    struct knit_host_grant grant;
    pid_t workers[WORKERS];
    uint32_t hold, count; /* ids of the tasks */
    uint32_t epoch;
};

struct guest {
    struct invitation invitation;
    struct knit_mapping request, reply, board;
    struct knit_request_view ring;
    struct knit_session *session;
    struct pools_outcome outcomes[CALLS];
    uint32_t slots[CALLS];
};

/* ---- the host ---- */

static void send_invitation(int fd, const struct invitation *invitation)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } ancillary = {.bytes = {0}};
    const int fds[4] = {invitation->grant.board_fd, invitation->grant.request_fd,
        invitation->grant.reply_fd, invitation->grant.bell_fd};
    struct iovec body = {(void *)invitation, sizeof(*invitation)};
    struct msghdr header = {.msg_iov = &body,
        .msg_iovlen = 1,
        .msg_control = ancillary.bytes,
        .msg_controllen = sizeof(ancillary.bytes)};
    struct cmsghdr *control = CMSG_FIRSTHDR(&header);

    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(control), fds, sizeof(fds));
    if (sendmsg(fd, &header, 0) != (ssize_t)sizeof(*invitation))
        _exit(3);
}

static uint32_t id_of(const struct pools *pools, const char *task)
{
    return knit_registry_find(knit_host_registry(pools->pool), task, strlen(task))->id;
}

static void obey(struct pools *pools, char letter, uint64_t session, enum knit_fault_point point)
{
    struct knit_host_peer peer = {.uid = 8};
    struct knit_host_grant grant;

    if (letter == ATTACHED) {
        if (knit_host_attached(pools->pool, session) != 0 ||
            setenv("KNIT_FAULT", knit_fault_name(point), 1) != 0)
            _exit(4);
    } else if (letter == BY_SHUTDOWN) {
        knit_host_shutdown(pools->pool, false, knit_clock_ns() + 100000000u);
    } else if (letter == BY_DETACH) {
        knit_host_detach(pools->pool, session);
    } else if (letter == BY_ATTACH &&
               knit_host_attach(pools->pool, &peer,
                   &(struct knit_host_ask){64, 0, KNIT_FEATURES, KNIT_CLASSES_MAX}, &grant) == 0) {
        if (knit_segment_seal(grant.request_fd) != 0)
            _exit(4);
        (void)knit_host_attached(pools->pool, grant.id);
    }
}

static _Noreturn void be_host(
    struct pools *pools, int fd, enum knit_fault_point point, enum cause cause)
{
    struct invitation invitation;
    struct knit_host_peer peer = {.uid = 7};
    struct pollfd ready[2] = {{.fd = fd, .events = POLLIN}};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    pools->options.hard_timeout_ms = cause == BY_HARD_TIMEOUT ? HARD_MS : 0;
    pools->options.abandoned_ms = ABANDONED_MS;
    if (pools_open(pools) != 0 ||
        knit_host_attach(pools->pool, &peer,
            &(struct knit_host_ask){64, 0, KNIT_FEATURES, KNIT_CLASSES_MAX},
            &invitation.grant) != 0)
        _exit(2);
    for (uint32_t lane = 0; lane < WORKERS; lane++) {
        struct knit_host_lane_stats stats;

        knit_host_lane_stats(pools->pool, lane, &stats);
        invitation.workers[lane] = stats.pid;
    }
    invitation.hold = id_of(pools, "hold");
    invitation.count = id_of(pools, "count");
    invitation.epoch = knit_registry_epoch(knit_host_registry(pools->pool));
    send_invitation(fd, &invitation);
    ready[1] = (struct pollfd){.fd = knit_host_fd(pools->pool), .events = POLLIN};
    for (;;) {
        char letter;

        (void)poll(ready, 2, -1);
        if ((ready[0].revents & POLLIN) != 0 && read(fd, &letter, 1) == 1)
            obey(pools, letter, invitation.grant.id, point);
        knit_host_dispatch(pools->pool);
    }
}

/* ---- the caller ---- */

static void receive_invitation(int fd, struct invitation *ret_invitation)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } ancillary;
    int fds[4];
    struct iovec body = {ret_invitation, sizeof(*ret_invitation)};
    struct msghdr header = {.msg_iov = &body,
        .msg_iovlen = 1,
        .msg_control = ancillary.bytes,
        .msg_controllen = sizeof(ancillary.bytes)};

    assert_int_equal(recvmsg(fd, &header, MSG_CMSG_CLOEXEC), (ssize_t)sizeof(*ret_invitation));
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(fds));
    ret_invitation->grant.board_fd = fds[0];
    ret_invitation->grant.request_fd = fds[1];
    ret_invitation->grant.reply_fd = fds[2];
    ret_invitation->grant.bell_fd = fds[3];
}

static void open_session(struct guest *guest, int fd)
{
    const char attached = ATTACHED;
    const struct knit_host_grant *grant = &guest->invitation.grant;
    const struct knit_geometry *geometry = &grant->geometry;
    struct knit_session_options options = {.steal = grant->steal, .bell_fd = grant->bell_fd};
    struct knit_reply_view reply;
    struct knit_board_view board;

    assert_int_equal(knit_segment_map(grant->request_fd, knit_layout_request_bytes(geometry), true,
                         &guest->request),
        0);
    assert_int_equal(
        knit_segment_map(grant->reply_fd, knit_layout_reply_bytes(geometry), false, &guest->reply),
        0);
    assert_int_equal(knit_segment_map(grant->board_fd, knit_layout_board_bytes(geometry->lanes),
                         false, &guest->board),
        0);
    knit_layout_request(geometry, guest->request.base, &guest->ring);
    knit_layout_reply(geometry, guest->reply.base, &reply);
    knit_layout_board(geometry->lanes, guest->board.base, &board);
    assert_int_equal(
        knit_session_new(geometry, &guest->ring, &reply, &board, &options, &guest->session), 0);
    assert_int_equal(knit_segment_seal(grant->request_fd), 0);
    assert_int_equal(write(fd, &attached, 1), 1);
}

static void publish(struct guest *guest, uint32_t index, uint32_t task)
{
    const unsigned char params[2] = {0x91, (unsigned char)(index + 1)};
    struct knit_session_call call = {.task = task,
        .epoch = guest->invitation.epoch,
        .lane = index < 2 ? index : KNIT_LANE_ANY,
        .payload = params,
        .len = sizeof(params),
        .user = &guest->outcomes[index]};

    assert_int_equal(knit_session_publish(guest->session, &call, &guest->slots[index]), 0);
    knit_session_flush(guest->session);
}

static void collect(struct guest *guest)
{
    struct knit_session_outcome outcome;

    while (knit_session_collect(guest->session, &outcome, 1) == 1) {
        struct pools_outcome *to = outcome.user;

        assert_false(to->is_there);
        to->is_there = true;
        if (outcome.status == KNIT_STATUS_ERROR) {
            assert_int_equal(
                knit_failure_decode(knit_span(outcome.body, outcome.len), &to->failure), 0);
            to->code = to->failure.code;
        }
    }
}

/* Publishes a slot that does not exist, in the first cell of lane 0 that was never written. */
static void write_invalid_cell(struct guest *guest)
{
    const struct knit_geometry *geometry = &guest->invitation.grant.geometry;
    uint64_t q = 0;

    while (atomic_load_explicit(&guest->ring.ring[q].ctrl, memory_order_relaxed) != 0)
        q++;
    assert_true(q < geometry->cells);
    atomic_store_explicit(&guest->ring.ring[q].ctrl,
        knit_ctrl(1, geometry->slots, knit_tag(q, geometry->cells)), memory_order_release);
}

static bool no_child_is_left(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

/* Each call has one outcome, and its `started` agrees with the ledger. */
static void check_outcomes(struct pools *pools, struct guest *guest)
{
    for (uint32_t i = 0; i < CALLS; i++) {
        uint64_t runs = atomic_load_explicit(&pools->ledger[i + 1], memory_order_seq_cst);
        int started = KNIT_STARTED_YES;

        collect(guest);
        if (!guest->outcomes[i].is_there &&
            !knit_session_settle(guest->session, guest->slots[i], &started))
            collect(guest);
        if (!guest->outcomes[i].is_there)
            assert_true(started != KNIT_STARTED_NO || runs == 0);
        else if (guest->outcomes[i].code == 0)
            assert_int_equal(runs, 1);
        else if (guest->outcomes[i].failure.started == KNIT_STARTED_NO)
            assert_int_equal(runs, 0);
        assert_true(runs <= 1);
    }
}

static bool both_run(struct pools *pools, struct guest *guest)
{
    /* Like a caller before it sleeps: wakes workers for calls that are not claimed yet. */
    (void)knit_session_arm(guest->session);
    knit_session_disarm(guest->session);
    return atomic_load_explicit(&pools->ledger[1], memory_order_seq_cst) == 1 &&
           atomic_load_explicit(&pools->ledger[2], memory_order_seq_cst) == 1;
}

/* The caller sleeps meanwhile, because some points are only reached when a sleeping caller is
 * woken. If it is awake at that moment, the host passes the point; a second death repeats it. */
static int wait_for_end(pid_t host, struct guest *guest)
{
    uint64_t until_ns = knit_deadline_in_ms(20000), repeat_ns = knit_clock_ns() + 2000000000u;
    int status;

    while (waitpid(host, &status, WNOHANG) == 0) {
        /* A host that does not reach the point ends by another signal than at a point. */
        if (knit_clock_ns() >= until_ns)
            (void)kill(host, SIGTERM);
        (void)knit_session_wait(guest->session, guest->slots[1], knit_clock_ns() + 50000000u);
        if (knit_clock_ns() >= repeat_ns) {
            repeat_ns = UINT64_MAX;
            (void)kill(guest->invitation.workers[1], SIGKILL);
        }
    }
    return status;
}

static void cause_point(struct guest *guest, enum cause cause, int fd)
{
    const char letter = (char)cause;

    if (cause == BY_INVALID_CELL)
        write_invalid_cell(guest);
    if (cause == BY_DEATH || cause == BY_INVALID_CELL)
        assert_int_equal(kill(guest->invitation.workers[0], SIGKILL), 0);
    else
        assert_int_equal(write(fd, &letter, 1), 1);
}

static void die_at(enum knit_fault_point point, enum cause cause)
{
    struct pools pools;
    struct guest guest = {.session = NULL};
    int pair[2], status;
    pid_t host;

    print_message("%s\n", knit_fault_name(point));
    pools_init(&pools, WORKERS);
    pools_make_ledger(&pools);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    host = fork();
    assert_true(host >= 0);
    if (host == 0)
        be_host(&pools, pair[1], point, cause);
    close(pair[1]);
    receive_invitation(pair[0], &guest.invitation);
    open_session(&guest, pair[0]);
    for (uint32_t i = 0; i < WORKERS; i++)
        publish(&guest, i, guest.invitation.hold);
    assert_true(KNIT_WAIT_UNTIL(both_run(&pools, &guest), 10000));
    for (uint32_t i = WORKERS; i < CALLS; i++)
        publish(&guest, i, guest.invitation.count);
    cause_point(&guest, cause, pair[0]);
    status = wait_for_end(host, &guest);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* Each worker ends by itself within a second of its host. */
    assert_true(KNIT_WAIT_UNTIL(no_child_is_left(), 1000));
    check_outcomes(&pools, &guest);
    guest.session = knit_session_free(guest.session);
    knit_segment_unmap(&guest.request);
    knit_segment_unmap(&guest.reply);
    knit_segment_unmap(&guest.board);
    knit_host_grant_close(&guest.invitation.grant);
    close(pair[0]);
    pools_fini(&pools);
}

static void the_host_dies_at_each_point(void **state)
{
    (void)state;
    for (int point = 0; point < KNIT_FAULT_COUNT; point++)
        die_at((enum knit_fault_point)point, causes[point]);
}

static void the_host_dies_while_it_refuses_queued_calls(void **state)
{
    (void)state;
    die_at(KNIT_FAULT_RECOVERY_AFTER_ANSWER, BY_SHUTDOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_dies_at_each_point),
        cmocka_unit_test(the_host_dies_while_it_refuses_queued_calls),
    };

    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
