/* SPDX-License-Identifier: Apache-2.0 */
/* The policy in force: what a policy file (proto/policy.h) says about the tasks of this pool.
 *
 * It gives every principal its right (fastpath/lane/rights.h): a class of those to whom the same is
 * allowed, with the same limits. Loops and workers ask the table of rights and know no policy.
 * The methods of the protocol that a policy decides about are the table's own bits, in the order of
 * knit_policy_methods.
 *
 * A new file takes effect in three steps once knit_policy_commit() is called: each
 * principal is given a right by the new file, then each session the right of its principal, then
 * classes that nobody has any more may be used again. Until then none is taken from anybody.
 *
 * Threads: any; one mutex, which is the last that a thread takes. But the file is set by the main
 * thread.
 * Limits: 1,022 classes at once. Whoever would need one more may do nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/rights.h"
#include "proto/policy.h"
#include "proto/sentence.h"
#include "proto/span.h"
#include "server/policy/principal.h"

struct knit_authentication;
struct knit_log;
struct knit_policy;
struct knit_registry;

/* Reads a file and looks up the users and groups in it. The file must be all zeros. Returns 0,
 * KNIT_POLICY_E_REFUSED, -ENOMEM. May block on a name service. */
KNIT_MUST_CHECK int knit_policy_load(
    struct knit_policy_file *file, const char *path, struct knit_sentence *why);

/* A policy by which nobody may do anything, until it has a file. The table and the registry are
 * borrowed. NULL when out of memory. */
KNIT_MUST_CHECK struct knit_policy *knit_policy_new(
    const struct knit_rights_view *rights, const struct knit_registry *registry);
/* Returns NULL. Accepts NULL. */
struct knit_policy *knit_policy_free(struct knit_policy *policy);

/* Compiles a file, which is taken over, beside the one that holds. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_policy_prepare(struct knit_policy *policy, struct knit_policy_file *file);

/* From now on that one decides, for rights that are given from now on; or it is forgotten. */
void knit_policy_commit(struct knit_policy *policy);
void knit_policy_abandon(struct knit_policy *policy);

/* No right of an earlier file is left. True: some principals have none for want of a class, and may
 * get one now. */
bool knit_policy_settle(struct knit_policy *policy);

/* A right for a principal that is known by these names. */
uint64_t knit_policy_right(struct knit_policy *policy, const struct knit_policy_names *names);

/* Gives the principal its right and its limits; a knit_principals_rule, `arg` is the policy. */
void knit_policy_rule(void *arg, struct knit_principal *principal);

/* Says in the log, and in the note where there is one, what patterns of tasks stand for none, and
 * what tokens nobody has, which is most often a misspelt name: a `deny` for one denies nobody
 * anything. A few of them. */
void knit_policy_log_idle(struct knit_policy *policy, const char *path,
    struct knit_authentication *authentication, struct knit_log *log, struct knit_sentence *note);

/* Whether that is allowed, and by which line, as a sentence. */
bool knit_policy_explain(struct knit_policy *policy, const struct knit_policy_names *names,
    struct knit_span name, struct knit_sentence *ret_because);

/* Whether the principal might run a task of that name, if there were one. False as well without
 * memory for it. It takes as long as the file has patterns for the principal. */
bool knit_policy_covers(
    struct knit_policy *policy, const struct knit_principal *principal, struct knit_span name);

/* Whether a policy says who may use the method. */
bool knit_policy_decides(const char *method);

/* Whether the right allows the method; what is not the policy's to decide everybody may use. */
bool knit_policy_method(
    const struct knit_rights_view *rights, const struct knit_right *right, const char *method);
