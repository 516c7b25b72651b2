/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs that measure other systems share: one load, and what goes with it.
 *
 * Each program does the same work with another system: an argument goes to one worker, which sends
 * it back. peer.c keeps so many calls in flight, or sends a batch and waits for all of it, takes
 * the times and checks every answer; a program says how a call is sent and how an answer is waited
 * for. Its worker is a process of its own,
 * unless the system is one for threads; a server that stands between the two is started here and
 * ended with the program.
 *
 * Threads: one; what a system starts by itself must not call back here from others.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of batches those up to PEER_CALLS_MAX are for programs that keep so many calls apart, and all
 * calls in flight together are at most as long as PEER_DEPTH_MAX of the longest. */
enum { PEER_DEPTH_MAX = 64, PEER_CALLS_MAX = 1024, PEER_BYTES_MAX = 1 << 20, PEER_TEXT_MAX = 128 };

struct peer_options {
    const char *server;  /* program of the server in between, or NULL */
    const char *address; /* of a server that runs already, or NULL */
};

/* The program's own part. Each function ends the program when something fails. */
struct peer {
    const char *name;
    void (*open)(const struct peer_options *options);
    /* Sends the argument of the call with this number; `bytes` is good until its answer came. */
    void (*send)(uint32_t call, const void *bytes, size_t len);
    /* Waits until at least one answer came, and says so with peer_done(). */
    void (*wait)(void);
    void (*close)(void);
};

extern const struct peer peer;

/* The answer of a call. From send() or wait(). */
void peer_done(uint32_t call, const void *bytes, size_t len);

__attribute__((noreturn)) void peer_fail(const char *what);

/* Runs serve() in a process that ends with this one. Before anything of the system is touched. */
void peer_fork(void (*serve)(void));

/* Between the program and its worker: one line, such as the address one of them listens at. */
void peer_tell(const char *line);
void peer_hear(char line[PEER_TEXT_MAX]);

/* A port on the loopback interface at which no process listens at present. */
uint16_t peer_free_port(void);

/* Starts argv[0] and waits until it accepts connections at that port. */
void peer_start_server(char *const argv[], uint16_t port);

#ifdef __cplusplus
}
#endif
