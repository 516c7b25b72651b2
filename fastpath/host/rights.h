/* SPDX-License-Identifier: Apache-2.0 */
/* What sessions of other processes may run (lane/rights.h), and what they weigh: the segment, and
 * the rights and weights of the sessions in it.
 *
 * Whoever attaches a session may give a word by which its caller's right is known, and changes that
 * as it likes; the session's copy in the segment follows with knit_host_rights_renew().
 *
 * Threads: any.
 */
#pragma once

#include <knitting/code.h>

#include "fastpath/lane/rights.h"

struct knit_host;
struct knit_host_session;

/* The table, whose rows the host's program fills, and which its own threads ask too. Once the pool
 * is open; not in one whose workers are threads. */
const struct knit_rights_view *knit_host_rights(const struct knit_host *pool);

/* What loops tell each other and the workers of principals (lane/places.h); the same. */
struct knit_places knit_host_places(const struct knit_host *pool);

/* Each session gets the right and the weight that its caller has now. */
void knit_host_rights_renew(struct knit_host *pool);

/* For host/ alone, under the pool's mutex. Once the tasks are known. */
KNIT_MUST_CHECK int knit_host_rights_make(struct knit_host *pool);
/* The session has its place; it gives it up, and its caller may go. Accept one without a right. */
void knit_host_rights_enter(struct knit_host *pool, const struct knit_host_session *session);
void knit_host_rights_leave(struct knit_host *pool, struct knit_host_session *session);
