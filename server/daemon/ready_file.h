/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the program that started the daemon that it is ready, and how to call it:
 *
 *     url=knit://127.0.0.1:5648
 *     url=knits://127.0.0.1:5649
 *     url=unix:///run/knitting/knitting.sock
 *     url=shm:///run/knitting/knitting.sock
 *     pid=4711
 *
 * The file appears whole or not at all: it is written under another name and renamed. It goes when
 * the daemon begins to drain.
 *
 * What lies there already is replaced only if it is a ready file, of a daemon that ended without
 * removing it, or empty. A device, a link, a file with other content and that of a daemon that
 * still serves are refused and stay.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <knitting/code.h>

#include "proto/sentence.h"

enum {
    KNIT_READY_FILE_E_REFUSED = 1, /* the sentence says why */
};

struct knit_listening;

struct knit_ready_file {
    const char *path;  /* borrowed; NULL = none is wanted */
    const char *admin; /* borrowed: where its admin face is; NULL or "" = there is none */
    bool replaces;     /* also that of a daemon which serves: it is about to end */
    int fd;            /* of what was written, so that no other file gets its inode; -1 = nothing */
};

/* Whether a ready file may and can come to be there. path: NULL = none is wanted.
 * Returns 0, KNIT_READY_FILE_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_ready_file_check(const char *path, struct knit_sentence *why);

/* Removes a stale one, which must not announce this daemon.
 * Returns 0 or KNIT_READY_FILE_E_REFUSED. */
KNIT_MUST_CHECK int knit_ready_file_clear(
    const struct knit_ready_file *file, struct knit_sentence *why);

/* Of listening, the names of what it listens on alone.
 * Returns 0, KNIT_READY_FILE_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_ready_file_write(struct knit_ready_file *file,
    const struct knit_listening *listening, struct knit_sentence *why);

/* Removes the file that was written, unless another one has taken its place. */
void knit_ready_file_remove(struct knit_ready_file *file);
