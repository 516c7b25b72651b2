/* SPDX-License-Identifier: Apache-2.0 */
/* An event loop without its thread, for tests of what runs in it: connections are socketpairs,
 * turns are made by the test, the worker is a thread of it that knows the tasks of enum lanes_task
 * by their small names ("echo", "gate", "room", ...). A result is the array of the arguments.
 *
 * A test program has one such loop, `turns`, which TURNS_TEST() makes for each test. At its end
 * every caller leaves, and nothing may be left in flight.
 */
#pragma once

#include "proto/message.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/daemon/loop.h"
#include "server/net/connection.h"
#include "server/net/output.h"
#include "server/policy/principals.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"

#define TURNS_SLOTS       64u
#define TURNS_ARENA_BYTES (4u << 20)
#define TURNS_CALLERS_MAX (2 * TURNS_SLOTS)
#define TURNS_MSGIDS      64u

/* The caller's end of a connection. */
struct turns_caller {
    struct knit_connection *connection; /* the loop's end; gone once it is closed */
    bool is_open;
    int fd;
    struct knit_scan scan;
    uint8_t *bytes; /* what came and is not consumed */
    size_t len, used;
    uint32_t responses;
    uint32_t msgids[TURNS_MSGIDS]; /* of the last ones, by number modulo that */
    uint32_t msgid;                /* of the last response, and its error's code; 0 = a result */
    uint32_t code;
    uint64_t retry_after_ms;
    size_t result_len;
};

struct turns {
    struct lanes lanes;
    struct knit_registry *registry;
    struct knit_settings settings; /* may be changed before turns_connect() */
    struct knit_log log;
    struct knit_principals principals;
    struct knit_loops loops;
    struct knit_host_own_session session;
    struct knit_loop loop;
    struct turns_caller callers[TURNS_CALLERS_MAX];
    uint32_t caller_count;
    bool is_fresh; /* no connection's input is silent, however long the test had to wait */
};

extern struct turns turns;

/* depth_ns of the loop's session, see session.h; to be set before turns_setup(). */
extern uint32_t turns_depth_ns;

/* How long the task takes in the mean. */
void turns_set_mean(uint32_t task, uint32_t ns);

/* How many lanes there are, of which the first has a worker; to be set before turns_setup(). */
extern uint32_t turns_lanes;

/* The loop of one test. Its teardown opens the gate of LANES_GATE. */
int turns_setup(void **state);
int turns_teardown(void **state);
#define TURNS_TEST(test) cmocka_unit_test_setup_teardown(test, turns_setup, turns_teardown)
/* A new loop, for tests that go through several cases. */
void turns_restart(void);

/* One turn of the loop. Returns true, to stand in a condition. */
bool turns_turn(void);

/* Turns until the condition is true; fails the test when it does not come true. */
#define TURNS_UNTIL(condition) assert_true(KNIT_WAIT_UNTIL(turns_turn() && (condition), 10000))

/* Makes and keeps a caller until the end of the test, or until it leaves. */
struct turns_caller *turns_connect(void);
/* Sends and reads nothing from now on. */
void turns_hang_up(struct turns_caller *caller);
/* Closes its end, and makes turns until the loop has noticed. */
void turns_leave(struct turns_caller *caller);

/* Calls of the task "gate" wait until it is opened. */
bool turns_is_at_gate(void);
void turns_open_gate(void);

/* Writes that many requests of the task with one bin of len bytes, msgids from first on. False
 * when the socket took only a part. */
bool turns_request(struct turns_caller *caller, const char *task, size_t len, uint32_t first,
    uint32_t count, const struct knit_options *options);
/* Asks for the cancel of one, by notification. */
void turns_cancel(struct turns_caller *caller, uint8_t msgid);
void turns_notify(struct turns_caller *caller, const char *task, uint32_t count);

/* Reads what has arrived. False at the end of the stream. */
bool turns_read(struct turns_caller *caller);

/* Turns and reading until so many responses have come in all; fails the test when they do not. */
void turns_expect(struct turns_caller *caller, uint32_t responses);

/* No call is in flight, and every slot is free. */
bool turns_is_idle(void);
