/* SPDX-License-Identifier: Apache-2.0 */
/* How often somebody failed to say who they are, by address: so that one address cannot fill the
 * log, and gets no answers to a flood of guesses.
 *
 * Nobody is locked out: behind the address of a guesser may be others, whose right tokens go on to
 * be taken. There is no need to, since 128 bits are not guessed.
 *
 * Addresses are the keys of tenants: an IPv4 address, 64 bits of an IPv6 one, a user.
 *
 * Threads: its owner's lock.
 * Limits: KNIT_FAILURES_ADDRESSES addresses; another takes the place of the one that failed least
 * lately. Memory is taken at the first failure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    KNIT_FAILURES_ADDRESSES = 4096,
    KNIT_FAILURES_ANSWERS = 8, /* for an address in a second */
    KNIT_FAILURES_LINE_S = 60, /* between two lines of the log about an address */
};

struct knit_failures_table;

struct knit_failures {
    struct knit_failures_table *table; /* NULL: none has failed */
};

struct knit_failures_verdict {
    bool may_log;
    bool may_answer;
    uint64_t count; /* of the address, since its last line; this one is among them */
};

/* Zeroed memory is one without failures. */
void knit_failures_fini(struct knit_failures *failures);

/* One more. Without memory: neither line nor answer. */
struct knit_failures_verdict knit_failures_note(
    struct knit_failures *failures, uint64_t address, uint64_t now_ns);
