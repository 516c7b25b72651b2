/* SPDX-License-Identifier: Apache-2.0 */
/* The access log: a line for each call that came over a socket, when it has its outcome, or when it
 * is known that nobody waits for one any more.
 *
 *     ts=2026-05-04T10:11:12.345Z principal=token:shop task=resize kind=request outcome=ok
 *     took_us=1520 wait_us=20 run_us=1500 in_bytes=64 out_bytes=9 by=worker peer=192.0.2.7:50212
 *     trace=0af7651916cd43dd8448eb211c80319c span=b7ad6b7169203331
 *
 * (one line), or the same as JSON, as the daemon's log is. It goes into that log, or to the end of
 * a file of its own, which is opened again when settings' files are read again, so that it can be
 * rotated.
 *
 * Loops make lines and a thread writes them (outbox.h), so a disk that is slow or full stops no
 * loop: lines are dropped then, and counted. Rejected: a loop that writes what it has gathered once
 * a turn. A pipe or a socket can be asked not to block, but a file on a disk cannot: its write()
 * waits for the disk when the kernel has enough pages to write.
 *
 * Threads: knit_access_log_put() and knit_access_log_hand_over() are for the loop of that number,
 * all others for the main thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/base/counters.h"
#include "server/base/log.h"
#include "server/report/ended_call.h"

struct knit_access_log;

struct knit_access_log_options {
    const char *path; /* NULL: into the log */
    struct knit_log *log;
    uint32_t loops;
};

/* A file that is not there is created. Returns 0, or -errno with the sentence. */
KNIT_MUST_CHECK int knit_access_log_open(const struct knit_access_log_options *options,
    struct knit_access_log **ret_access, struct knit_sentence *why);
/* The loops have ended. Writes what is there; waits for the disk. NULL is allowed; returns NULL. */
struct knit_access_log *knit_access_log_close(struct knit_access_log *access);

/* Of its thread: lines that it has dropped. */
const struct knit_counters *knit_access_log_counters(const struct knit_access_log *access);

/* Whether it goes into a file of its own. */
bool knit_access_log_has_file(const struct knit_access_log *access);

/* The file of that name from now on, as the parts of a reload do it (daemon/reload.h). */
KNIT_MUST_CHECK int knit_access_log_prepare(void *access, struct knit_sentence *why);
void knit_access_log_commit(void *access, struct knit_log *log, struct knit_sentence *note);
void knit_access_log_abandon(void *access);

void knit_access_log_put(
    struct knit_access_log *access, uint32_t loop, const struct knit_ended_call *call);
/* At the end of a turn. Returns how many lines were dropped since the last time. */
uint64_t knit_access_log_hand_over(struct knit_access_log *access, uint32_t loop);
