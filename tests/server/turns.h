/* SPDX-License-Identifier: Apache-2.0 */
/* An event loop without its thread, for tests of what runs in it: connections are socketpairs,
 * turns are made by the test, the worker is a thread of it that knows the tasks of enum lanes_task
 * by their small names ("echo", "gate", "room", ...). A result is the array of the arguments.
 */
#pragma once

#include "proto/message.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/daemon/loop.h"
#include "server/net/connection.h"
#include "server/net/output.h"
#include "tests/fastpath/lanes.h"

#define TURNS_SLOTS       64u
#define TURNS_ARENA_BYTES (4u << 20)

struct turns {
    struct lanes lanes;
    struct knit_registry *registry;
    struct knit_settings settings; /* may be changed before turns_connect() */
    struct knit_log log;
    struct knit_loops loops;
    struct knit_pool_session session;
    struct knit_loop loop;
};

/* The caller's end of a connection. */
struct turns_caller {
    struct turns *turns;
    struct knit_connection *connection; /* the loop's end; gone once it is closed */
    int fd;
    struct knit_scan scan;
    uint8_t *bytes; /* what came and is not consumed */
    size_t len, used;
    uint32_t responses;
    uint32_t msgid; /* of the last response, and its error's code; 0 = a result */
    uint32_t code;
    size_t result_len;
};

void turns_init(struct turns *turns);
/* Opens the gate of LANES_GATE. All connections must have been closed with turns_leave(). */
void turns_fini(struct turns *turns);

/* One turn of the loop. Returns true, to stand in a condition. */
bool turns_turn(struct turns *turns);

void turns_connect(struct turns *turns, struct turns_caller *caller);
/* Closes it, and makes turns until the loop has noticed. */
void turns_leave(struct turns_caller *caller);

/* Writes that many requests of the task with one bin of len bytes, msgids from first on. False
 * when the socket took only a part. */
bool turns_request(struct turns_caller *caller, const char *task, size_t len, uint32_t first,
    uint32_t count, const struct knit_options *options);
void turns_notify(struct turns_caller *caller, const char *task, uint32_t count);

/* Reads what is there. False at the end of the stream. */
bool turns_read(struct turns_caller *caller);

/* Turns and reading until so many responses have come in all; fails the test when they do not. */
void turns_expect(struct turns_caller *caller, uint32_t responses);

/* Nothing is in flight, and no slot is anybody's. */
bool turns_is_idle(struct turns *turns);
