/* SPDX-License-Identifier: Apache-2.0 */
/* Where a collector of spans is: http://HOST[:PORT][/PATH].
 *
 * By http alone. Spans are for a collector beside the daemon, which sends them on by whatever its
 * operator has set up, with certificates, tokens and a queue on a disk; a second client of TLS in
 * here would do that again, and worse.
 *
 * Threads: pure functions.
 */
#pragma once

#include <knitting/code.h>

#include "proto/sentence.h"

#define KNIT_COLLECTOR_EXAMPLE "http://127.0.0.1:4318/v1/traces"

struct knit_collector_url {
    char host[256]; /* a name, or a number without brackets */
    char port[6];
    char path[512];
    char authority[300]; /* of the field Host */
};

/* key: of the setting, for the sentence. Returns 0; not 0 with the sentence. */
KNIT_MUST_CHECK int knit_collector_url_parse(const char *key, const char *text,
    struct knit_collector_url *ret_url, struct knit_sentence *why);
