/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between host and worker, of one size: to the worker over a SOCK_SEQPACKET socketpair
 * whose host's end receives nothing, to the host over a pipe.
 *
 *     worker                               host
 *     HELLO its versions             ->
 *                                    <-    START lane, modules, bootstrap text, policy
 *     CONFINED what is enforced      ->
 *     LOADING its next step          ->          (any number; a crash is reported with the last)
 *     REGISTRY its tasks             ->          (their announcement is in the memfd of START)
 *                                    <-    SERVE owner, board, pool segment, host, rights
 *     READY                          ->
 *                                    <-    ATTACH, DETACH, STOP
 *     ATTACHED, DETACHED, EVICTED,
 *     DENIED                         ->
 *
 * Instead of CONFINED, LOADING or REGISTRY a worker may send FAILED with a sentence.
 *
 * A message is one struct knit_control_message and exactly the descriptors that its type has.
 * Anything else is refused as a whole, and its descriptors are closed. End of file means that the
 * other side has closed its end; a worker then ends at once.
 *
 * Only messages to the worker have descriptors, and nothing can bring one to the host: a task could
 * send a socket with unsent data and SO_LINGER, whose last close sleeps, in the thread that
 * supervises all workers, whether it receives the descriptor or leaves no room for it.
 *
 * Threads: any; one message is one system call.
 * Security: a worker runs foreign code, so the host checks what it can of a message and uses the
 * rest for logs only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/confine/confine.h"
#include "fastpath/lane/layout.h"

#define KNIT_CONTROL_MAGIC     0x746e6f63u /* "cont" */
#define KNIT_CONTROL_VERSION   4u
#define KNIT_CONTROL_FD        3 /* of the worker's end of the socket */
#define KNIT_CONTROL_REPORT_FD 4 /* of its end of the pipe */
#define KNIT_CONTROL_FDS_MAX   4
/* A pipe of the worker's own, for what tasks print (capture.h); the host can read it too. */
#define KNIT_CONTROL_CAPTURE_READ_FD  5
#define KNIT_CONTROL_CAPTURE_WRITE_FD 6
#define KNIT_CONTROL_GIVEN_FD         7 /* and from there on, what else it is given */
#define KNIT_CONTROL_TEXT_SIZE        1024
/* In the environment of a worker, with its process number: what is loaded into it knows by this
 * where it is. */
#define KNIT_CONTROL_PID_VARIABLE "KNITTING_WORKER_PID"

enum {
    KNIT_CONTROL_E_AGAIN = 1,   /* no message has arrived, or there is no room in the socket */
    KNIT_CONTROL_E_CLOSED = 2,  /* the other side has closed its end */
    KNIT_CONTROL_E_VERSION = 3, /* the message is of another version */
    KNIT_CONTROL_E_BAD = 4,     /* no message, or one with other descriptors than its type has */
    KNIT_CONTROL_E_EXHAUSTED =
        5, /* the kernel lacks memory; polling does not report when it has some */
    KNIT_CONTROL_E_NO_FDS = 6, /* a message whose descriptors found no room in this process */
};

enum knit_control_type {
    KNIT_CONTROL_HELLO = 1, /* text: version of the product */
    KNIT_CONTROL_START,     /* fd: bootstrap text, modules, how they load, paths, each with a NUL */
    KNIT_CONTROL_CONFINED,  /* text: which part of the policy is not enforced, or "" */
    KNIT_CONTROL_LOADING,   /* text: "loading /a/b.so" */
    KNIT_CONTROL_REGISTRY,  /* START's file begins with the announcement of registry.h now */
    KNIT_CONTROL_FAILED,    /* text: why it cannot start */
    KNIT_CONTROL_SERVE,     /* fds: board, pool segment, a pidfd of the host, rights read-only */
    KNIT_CONTROL_READY,
    KNIT_CONTROL_ATTACH,   /* fds: request segment read-only, reply segment, bell */
    KNIT_CONTROL_ATTACHED, /* error */
    KNIT_CONTROL_DETACH,
    KNIT_CONTROL_DETACHED,
    KNIT_CONTROL_EVICTED, /* text: how the session broke the protocol */
    KNIT_CONTROL_STOP,
    KNIT_CONTROL_DENIED, /* a few a second: a call that its caller may not run */
    KNIT_CONTROL_TYPES,  /* one more than the last */
};

struct knit_control_hello {
    uint32_t layout_version;
    int32_t error; /* errno of a failed exec: the process ends; else 0 */
};

struct knit_control_start {
    uint32_t lane;
    uint32_t lanes;
    uint32_t text_bytes; /* length of the start text */
    uint32_t modules;
    uint32_t read_paths; /* of the policy; in the start text they follow what is of modules */
    uint32_t write_paths;
    struct knit_confine_rules rules;
};

struct knit_control_confined {
    struct knit_confine_status force;
    int32_t wait_error; /* errno with which futex_waitv is refused to it; 0 = it is not */
    uint32_t reserved;
};

struct knit_control_registry {
    uint32_t bytes;
};

struct knit_control_serve {
    uint32_t owner;
    uint32_t steal;
    uint32_t spin_us;
    uint32_t pause_ns;
    uint32_t park_ms;
    uint32_t hard_timeout_ms;
    uint64_t result_max_bytes;
    uint32_t abort_grace_ms; /* of deferred calls, for which the worker itself sees to it */
    uint32_t deferred_max;
};

struct knit_control_attach {
    uint64_t session;
    struct knit_geometry geometry;
    uint64_t reply_budget_bytes;
    uint32_t is_trusted;
    uint32_t bell_is_pipe;
    uint64_t flow;   /* its number */
    uint32_t weight; /* its place among the weights of flows, from 1; 0 = it weighs 1 */
    uint32_t right;  /* its place among the rights, from 1; 0 = it may run every task */
};

struct knit_control_session {
    uint64_t session;
    int32_t error; /* ATTACHED: 0 or errno */
    uint32_t task; /* DENIED: its id */
};

struct knit_control_message {
    uint32_t magic;
    uint32_t version;
    uint32_t type; /* enum knit_control_type */
    uint32_t reserved;
    union {
        struct knit_control_hello hello;
        struct knit_control_start start;
        struct knit_control_confined confined;
        struct knit_control_registry registry;
        struct knit_control_serve serve;
        struct knit_control_attach attach;
        struct knit_control_session session;
    };
    char text[KNIT_CONTROL_TEXT_SIZE]; /* NUL-terminated after receive */
};

/* Sets the head, and the rest to zero. */
void knit_control_init(struct knit_control_message *message, enum knit_control_type type);

/* How many descriptors a message of this type has. */
uint32_t knit_control_fds(uint32_t type);

/* To the worker. fds: as many as the type has; they stay the caller's. Returns 0,
 * KNIT_CONTROL_E_AGAIN (if !may_block), _E_EXHAUSTED, _E_CLOSED, -errno. */
int knit_control_send(
    int fd, const struct knit_control_message *message, const int *fds, bool may_block);

/* Descriptors of the message are the caller's and close-on-exec; the rest of ret_fds is -1. Returns
 * 0, KNIT_CONTROL_E_AGAIN (only when !may_block), _E_CLOSED, _E_VERSION, _E_BAD, -errno, or
 * _E_NO_FDS with the message; but for 0 no descriptor is open. */
KNIT_MUST_CHECK int knit_control_receive(int fd, struct knit_control_message *ret_message,
    int ret_fds[KNIT_CONTROL_FDS_MAX], bool may_block);

/* To the host, whole or not at all. Async-signal-safe, so a forked child may use it. Returns 0,
 * KNIT_CONTROL_E_AGAIN (if the pipe does not block), _E_CLOSED, -errno. */
int knit_control_report(int fd, const struct knit_control_message *message);

/* In the host, whose end does not block. Returns 0, KNIT_CONTROL_E_AGAIN, _E_CLOSED, _E_VERSION,
 * _E_BAD, -errno. */
KNIT_MUST_CHECK int knit_control_read_report(int fd, struct knit_control_message *ret_message);
