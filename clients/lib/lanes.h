/* SPDX-License-Identifier: Apache-2.0 */
/* Calls through the lanes of a daemon on this machine.
 *
 * knit_lanes_attach() asks the daemon over the session's stream for segments, maps them and opens a
 * session of fastpath/lane/session.h on them. From then on tasks are called by writing into shared
 * memory; the stream stays as the session's lease, by whose end the daemon notices that the caller
 * is gone, and the caller that the daemon is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/span.h"

struct knit;
struct knit_error;
struct knit_handle;
struct knit_lanes;
struct knit_open_options;
struct knit_registry_task;

/* The stream has said `$/hello`. Blocks until until_ns. Returns 0, or the code of an error. */
int knit_lanes_attach(struct knit *k, const struct knit_open_options *options, uint64_t until_ns,
    struct knit_error *ret_error);

/* NULL ok. In a forked child (is_ours false) nothing that is shared is touched. */
struct knit_lanes *knit_lanes_free(struct knit_lanes *lanes, bool is_ours);

/* A task by its name; good until the next one is asked for. Asks the daemon again when the name is
 * not known, which blocks for a round trip. Returns KNIT_OK, KNIT_UNKNOWN_TASK, or the code of what
 * went wrong. */
int knit_lanes_find(struct knit *k, const char *task, const struct knit_registry_task **ret_task,
    struct knit_error *ret_error);

/* The most one call's arguments may be. */
uint64_t knit_lanes_payload_max(const struct knit_lanes *lanes);

/* Publish a call that is not started after start_by_ns (0 = no limit). Returns 0,
 * KNIT_WOULD_BLOCK, KNIT_TOO_LARGE, KNIT_DISCONNECTED. */
int knit_lanes_start(struct knit_lanes *lanes, struct knit_handle *handle, uint32_t task,
    struct knit_span params, uint64_t start_by_ns);

void knit_lanes_flush(struct knit_lanes *lanes);

/* Give handles whose calls were answered their outcomes. */
void knit_lanes_collect(struct knit_lanes *lanes);

/* The same for one handle. Whether it is done now. */
bool knit_lanes_collect_one(struct knit_lanes *lanes, struct knit_handle *handle);

/* The pool has closed the session: only the stream can tell why. */
bool knit_lanes_is_closed(const struct knit_lanes *lanes);

/* Sleep until something is answered; until_ns is bounded by the next look at the lease. False: it
 * was not, or the session is closed. */
bool knit_lanes_wait(struct knit_lanes *lanes, struct knit_handle *handle, uint64_t until_ns);

void knit_lanes_cancel(struct knit_lanes *lanes, struct knit_handle *handle);

/* Whether a worker has claimed the handle's call, which has not been collected. */
bool knit_lanes_has_started(const struct knit_lanes *lanes, const struct knit_handle *handle);

/* Give the handle's call its outcome early. False: it had been answered, collect that instead. */
bool knit_lanes_settle(
    struct knit_lanes *lanes, struct knit_handle *handle, enum knit_started *ret_started);

/* The handle goes away: its call is cancelled and the answer dropped. */
void knit_lanes_forget(struct knit_lanes *lanes, struct knit_handle *handle);

/* Give the block of a held outcome back. */
void knit_lanes_release(struct knit_lanes *lanes, struct knit_handle *handle);

/* The lease is gone: collect what was answered, settle everything else. */
void knit_lanes_disconnect(struct knit *k);

/* How many calls have no outcome yet. */
uint32_t knit_lanes_in_flight(const struct knit_lanes *lanes);

/* For knit_fd(): the bell, and whether it may be slept on (false: something is to be collected). */
int knit_lanes_bell_fd(const struct knit_lanes *lanes);
bool knit_lanes_arm(struct knit_lanes *lanes);
void knit_lanes_disarm(struct knit_lanes *lanes);
