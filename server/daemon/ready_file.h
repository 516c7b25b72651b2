/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the program that started the daemon that it is ready, and how to call it:
 *
 *     url=knit://127.0.0.1:5648
 *     url=unix:///run/knitting/knitting.sock
 *     url=shm:///run/knitting/knitting.sock
 *     pid=4711
 *
 * The file appears whole or not at all: it is written under another name and renamed.
 */
#pragma once

#include <stddef.h>

#include <knitting/code.h>

#include "proto/sentence.h"

enum {
    KNIT_READY_FILE_E_REFUSED = 1, /* the sentence says why */
};

/* addresses: "host:port"; socket_path NULL = none.
 * Returns 0, KNIT_READY_FILE_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_ready_file_write(const char *path, const char (*addresses)[64],
    size_t address_count, const char *socket_path, struct knit_sentence *why);
