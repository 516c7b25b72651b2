/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool does, as one list of cases that are run at every distance.
 *
 * A case is a sentence and a function. It gets a session at the distance that is run, and asserts
 * with cmocka what the sentence says. Where a distance cannot do what it says, the case names the
 * distance in `refused_at` and asserts the named error there. What a distance does not have yet
 * stands in `missing_at`: that is shown as missing and counted, never as passed. Where the sentence
 * has no meaning (there is no daemon to kill), it is not run, by `absent_at`.
 *
 * After each case the frame looks whether anything is left: calls, slots and blocks of the session,
 * references to prepared calls; then, with the session closed, sessions, memory, threads and
 * descriptors of the pool and of this program (counters.h).
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "tests/conformance/place.h"
#include "tests/support/deadline.h"
#include "tests/support/random.h"

/* What a case gets. */
struct conformance {
    enum distance distance;
    struct place *place;
    struct knit *k; /* a session with the place, made for this case */
    struct knit_error error;
    struct knit_random random;
    bool is_own_place; /* conformance_open_place() replaced it */
};

struct conformance_case {
    const char *id;
    const char *sentence;
    void (*run)(struct conformance *c);
    unsigned refused_at; /* AT() of those where it asserts the named error */
    unsigned missing_at; /* of those that do not have it yet */
    unsigned absent_at;  /* of those where the sentence has no meaning */
};

struct conformance_section {
    const char *title;
    const struct conformance_case *cases;
    size_t count;
};

#define CONFORMANCE_SECTION(title, cases)                                                          \
    {                                                                                              \
        title, cases, sizeof(cases) / sizeof(cases[0])                                             \
    }

extern const struct conformance_section conformance_values;
extern const struct conformance_section conformance_built;
extern const struct conformance_section conformance_many;
extern const struct conformance_section conformance_slots;
extern const struct conformance_section conformance_lanes;
extern const struct conformance_section conformance_balancer;
extern const struct conformance_section conformance_options;
extern const struct conformance_section conformance_inliner;
extern const struct conformance_section conformance_timeouts;
extern const struct conformance_section conformance_errors;
extern const struct conformance_section conformance_ends;
extern const struct conformance_section conformance_limits;
extern const struct conformance_section conformance_trials;
extern const struct conformance_section conformance_sets;
extern const struct conformance_section conformance_later;
extern const struct conformance_section conformance_pools;
extern const struct conformance_section conformance_promises;
extern const struct conformance_section conformance_declared;
extern const struct conformance_section conformance_keys;
extern const struct conformance_section conformance_questions;

/* Runs the rest of the case at a pool of its own; c->k is a session with that. */
void conformance_open_place(struct conformance *c, const struct place_wish *wish);

/* One more session with the place; the case closes it. options: NULL = none. */
struct knit *conformance_session(struct conformance *c, const struct knit_open_options *options);

/* Fails the test with the error's text unless the code is KNIT_OK. */
void conformance_succeeds(struct conformance *c, int code);

/* Fails it unless the call failed like that; what c->error says must be what the code says. */
void conformance_fails(struct conformance *c, int code, int expected);

/* The pool serves: add(2, 3) is 5. */
void conformance_serves(struct conformance *c);

/* Bounds of what would otherwise not end. */
#define CONFORMANCE_PATIENCE_MS 20000
double conformance_patience_ms(void);

/* Starts task(id, gate, flag) of the ledger, hold or defer, and waits until it runs. */
struct knit_handle *conformance_start_gated(
    struct conformance *c, struct knit *k, const char *task, uint32_t id, uint32_t gate, bool flag);

/* That of hold; ignores: its abort flag too. */
struct knit_handle *conformance_hold(
    struct conformance *c, struct knit *k, uint32_t id, uint32_t gate, bool ignores);

/* Waits for a result of so many bytes, and returns them; they are the handle's. */
const uint8_t *conformance_bytes(struct conformance *c, struct knit_handle *handle, size_t len);

/* Waits for a result, reads it, and frees the handle. */
int64_t conformance_int(struct conformance *c, struct knit_handle *handle);

/* The lane, of four at most, that a call of "where" or one like it ran in; frees the handle. */
uint32_t conformance_lane(struct conformance *c, struct knit_handle *handle);
