/* SPDX-License-Identifier: Apache-2.0 */
/* The policy of a daemon: read at start and with each reload, and given to principals and sessions.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/daemon/reload.h"

struct knit_authentication;
struct knit_host;
struct knit_log;
struct knit_policy;
struct knit_principals;
struct knit_settings;

struct knit_rules {
    const struct knit_settings *settings;
    struct knit_log *log;
    struct knit_host *pool;
    struct knit_principals *principals;
    struct knit_authentication *authentication; /* who has a token */
    struct knit_policy *policy;                 /* NULL: there is none */
};

/* Before anything else is made: whether the file can be read. Returns 0; > 0 or -ENOMEM with a
 * sentence. */
KNIT_MUST_CHECK int knit_rules_check(
    const struct knit_settings *settings, struct knit_sentence *why);

/* The pool is open, and no connection yet. The members but `policy` are set. The same. */
KNIT_MUST_CHECK int knit_rules_begin(struct knit_rules *rules, struct knit_sentence *why);
/* No loop runs any more. Accepts a zeroed one. */
void knit_rules_end(struct knit_rules *rules);

/* When its commit is over, what is new holds for every call that is sent from then on. */
struct knit_reload_part knit_rules_part(struct knit_rules *rules);
