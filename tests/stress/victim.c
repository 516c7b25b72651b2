/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that is killed. It does everything a caller can do, once; between its first and its last
 * mark it may die at any instruction.
 *
 * It never spins, and its waiting loops have no time limit: the killer judges answers that come
 * late or not at all.
 */
#include "tests/stress/victim.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/segment.h"
#include "fastpath/lane/session.h"
#include "tests/stress/stepper.h"

struct victim {
    struct victim_start start;
    struct knit_mapping board, request, reply;
    struct knit_session *session;
    uint32_t next_id;
};

static _Noreturn void give_up(const char *why)
{
    (void)!write(STDERR_FILENO, why, strlen(why));
    _exit(1);
}

static void open_session(struct victim *victim)
{
    const struct knit_geometry *geometry = &victim->start.geometry;
    struct knit_session_options options = {.steal = victim->start.steal != 0,
        .argument_max_bytes = victim->start.argument_max_bytes,
        .bell_fd = VICTIM_BELL};
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;

    if (knit_segment_map(
            VICTIM_BOARD, knit_layout_board_bytes(geometry->lanes), false, &victim->board) != 0 ||
        knit_segment_map(
            VICTIM_REQUEST, knit_layout_request_bytes(geometry), true, &victim->request) != 0 ||
        knit_segment_map(VICTIM_REPLY, knit_layout_reply_bytes(geometry), false, &victim->reply) !=
            0)
        give_up("the victim cannot map its session\n");
    knit_layout_board(geometry->lanes, victim->board.base, &board);
    knit_layout_request(geometry, victim->request.base, &request);
    knit_layout_reply(geometry, victim->reply.base, &reply);
    if (knit_session_new(geometry, &request, &reply, &board, &options, &victim->session) != 0)
        give_up("the victim has no memory\n");
    if (knit_segment_seal(VICTIM_REQUEST) != 0 || write(VICTIM_LEASE, "m", 1) != 1)
        give_up("the victim cannot seal its session\n");
}

static uint32_t publish(struct victim *victim, uint32_t task, const void *bytes, size_t len)
{
    struct knit_session_call call = {.task = task,
        .epoch = victim->start.epoch,
        .lane = KNIT_LANE_ANY,
        .payload = bytes,
        .len = len};
    uint32_t slot = 0;

    if (knit_session_publish(victim->session, &call, &slot) != 0)
        give_up("the victim cannot publish\n");
    return slot;
}

static uint32_t publish_count(struct victim *victim)
{
    unsigned char bytes[2] = {0x91, (unsigned char)victim->next_id++};

    return publish(victim, victim->start.task_count, bytes, sizeof(bytes));
}

/* [bin of so many bytes] */
static size_t put_bin(unsigned char *bytes, size_t len)
{
    bytes[0] = 0x91;
    bytes[1] = 0xc5;
    bytes[2] = (unsigned char)(len >> 8);
    bytes[3] = (unsigned char)len;
    return len + 4;
}

static void finish(struct victim *victim, uint32_t slot)
{
    struct knit_session_outcome outcome;

    while (!knit_session_collect_slot(victim->session, slot, &outcome))
        (void)knit_session_wait(victim->session, slot, knit_clock_ns() + 50000000);
    if (outcome.held)
        knit_session_release(victim->session, slot);
}

/* The way an event loop does it. */
static void finish_all(struct victim *victim)
{
    struct knit_session_outcome outcomes[4];

    while (knit_session_slots_free(victim->session) < VICTIM_SLOTS) {
        struct pollfd bell = {.fd = VICTIM_BELL, .events = POLLIN};
        size_t count;

        if (knit_session_arm(victim->session))
            (void)poll(&bell, 1, 50);
        knit_session_disarm(victim->session);
        count = knit_session_collect(victim->session, outcomes, 4);
        for (size_t i = 0; i < count; i++) {
            if (outcomes[i].held)
                knit_session_release(victim->session, outcomes[i].slot);
        }
    }
}

static void publish_in_place(struct victim *victim)
{
    struct knit_session_call call = {
        .task = victim->start.task_echo, .epoch = victim->start.epoch, .lane = 1};
    void *room, *other;
    uint32_t slot;

    if (knit_session_reserve(victim->session, 204, &room) != 0 ||
        knit_session_reserve(victim->session, 60, &other) != 0)
        give_up("the victim has no room\n");
    knit_session_unreserve(victim->session, other);
    call.payload = room;
    call.len = put_bin(room, 200);
    if (knit_session_publish_reserved(victim->session, &call, &slot) != 0)
        give_up("the victim cannot publish\n");
}

static void live(struct victim *victim)
{
    static unsigned char bytes[1500];
    uint32_t first = publish_count(victim), second, waiting;
    int started;

    second = publish(victim, victim->start.task_echo, bytes, put_bin(bytes, 300));
    publish_in_place(victim);
    knit_session_flush(victim->session);
    finish(victim, first);
    finish(victim, second);
    waiting = publish(victim, victim->start.task_wait_abort, "\x90", 1);
    knit_session_flush(victim->session);
    knit_session_abort(victim->session, waiting);
    /* The call may be answered before; then it is collected with the others. */
    (void)!knit_session_settle(victim->session, publish_count(victim), &started);
    finish_all(victim);
    /* In flight when it leaves: queued, running, aborted, answered and not collected. */
    (void)publish(victim, victim->start.task_wait_abort, "\x90", 1);
    (void)publish_count(victim);
    knit_session_flush(victim->session);
    knit_session_abort(victim->session, publish_count(victim));
    (void)publish(victim, victim->start.task_echo, bytes, put_bin(bytes, 1400));
    victim->session = knit_session_free(victim->session);
    knit_segment_unmap(&victim->board);
    knit_segment_unmap(&victim->request);
    knit_segment_unmap(&victim->reply);
    for (int fd = VICTIM_BOARD; fd <= VICTIM_LEASE; fd++)
        (void)close(fd);
}

int main(void)
{
    static struct victim victim = {.next_id = VICTIM_FIRST_ID};
    char go;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(VICTIM_LEASE, &victim.start, sizeof(victim.start)) != sizeof(victim.start))
        give_up("the victim got no start message\n");
    open_session(&victim);
    finish(&victim, publish_count(&victim));
    if (write(VICTIM_LEASE, "r", 1) != 1 || read(VICTIM_LEASE, &go, 1) != 1)
        return 1;
    stepper_mark();
    live(&victim);
    _exit(0);
}
