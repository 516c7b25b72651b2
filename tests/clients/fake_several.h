/* SPDX-License-Identifier: Apache-2.0 */
/* Several servers in the test's own process, each on an address of loopback of its own and all on
 * one port, as the machines behind one name are. Each has a thread and serves many connections:
 *
 *     echo   its first argument              where  the number of the server
 *     hold   no answer until it is asked to release what it holds; then its number
 *     busy   OVERLOADED, `started` no, from a server that is busy; else as `where`
 *
 * `$/hello` tells of workers and an instance, `$/ping` is as in the protocol, `$/cancel` answers a
 * call that is held with CANCELLED, `$/tasks` lists `where`, or, of a
 * server that is paged, three of that name, one a page; each has the server's number as its doc. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    KNIT_SEVERAL_PAGES = 3,
    KNIT_SEVERAL_MAX = 8,
    KNIT_SEVERAL_CONNECTIONS = 8,
    KNIT_SEVERAL_HELD = 256
};

/* What a server is told to do, once. */
enum knit_several_order {
    KNIT_SEVERAL_NOTHING,
    KNIT_SEVERAL_DIE,     /* closes everything, and refuses connections */
    KNIT_SEVERAL_LIVE,    /* listens again */
    KNIT_SEVERAL_DROP,    /* closes its connections alone */
    KNIT_SEVERAL_RELEASE, /* answers what it holds */
    KNIT_SEVERAL_GOAWAY,  /* says so on each connection */
    KNIT_SEVERAL_END,
};

struct knit_several_connection {
    int fd; /* -1: none */
    uint8_t bytes[64 * 1024];
    uint32_t len;
};

struct knit_several_held {
    uint32_t connection, msgid;
};

struct knit_several {
    /* Set by the test before it begins to listen. */
    uint64_t workers;
    uint32_t life;             /* a part of its instance */
    const char *_Atomic types; /* of its one task, `where`; NULL = "() -> int" */
    _Atomic bool is_deaf, is_busy, is_paged, is_unpinged; /* the last: it answers no ping */
    _Atomic bool leaves_when_asked; /* for its tasks: says goaway behind the answer */
    _Atomic uint32_t hello_code;    /* of the error that answers `$/hello`; 0 = none */
    /* To be read. */
    _Atomic uint32_t calls, connections, accepted, pings, cancelled, references;

    uint32_t number;
    int listen_fd, order_fd;
    _Atomic enum knit_several_order order;
    struct knit_several_connection connection[KNIT_SEVERAL_CONNECTIONS];
    struct knit_several_held held[KNIT_SEVERAL_HELD];
    uint32_t held_count;
    pthread_t thread;
};

extern struct knit_several several[KNIT_SEVERAL_MAX];
extern uint16_t several_port;

/* So many, at 127.0.0.1, 127.0.0.2 and so on, with as many workers as said: 0 = 1. */
void knit_several_start(uint32_t count, const uint64_t *workers);
void knit_several_stop(void);

/* Returns when it is done. */
void knit_several_tell(uint32_t number, enum knit_several_order order);

/* "knit://127.0.0.1:PORT,127.0.0.2:PORT", of the first so many. */
const char *knit_several_url(uint32_t count);
