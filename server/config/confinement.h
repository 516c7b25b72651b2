/* SPDX-License-Identifier: Apache-2.0 */
/* From the settings of [worker] to the policy that workers are started with. It is part of reading
 * settings: it uses types of fastpath and none of its functions. */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

#include "fastpath/confine/confine.h"
#include "proto/sentence.h"
#include "server/config/setting.h"

enum {
    KNIT_CONFINEMENT_E_REFUSED = 1, /* the sentence says why */
};

/* Whether the settings go together: ports are ports, and nothing is opened that `permission`
 * closes. Returns 0 or KNIT_CONFINEMENT_E_REFUSED. */
KNIT_MUST_CHECK int knit_confinement_check(
    const struct knit_settings *settings, struct knit_sentence *why);

/* Replaces `auto` by figures. What stays KNIT_AUTO is no limit. */
void knit_confinement_resolve(struct knit_settings *settings);

/* The policy, of settings that were checked. Paths are made real, so they have to be there.
 * Returns 0, KNIT_CONFINEMENT_E_REFUSED or -ENOMEM; free it in any case. */
KNIT_MUST_CHECK int knit_confinement_policy(const struct knit_settings *settings,
    struct knit_confine_policy *ret_policy, struct knit_sentence *why);
void knit_confinement_policy_free(struct knit_confine_policy *policy);
