/* SPDX-License-Identifier: Apache-2.0 */
/* From the settings of [worker] to what workers may touch (fastpath/host/permission.h). */
#pragma once

#include <knitting/code.h>

#include "fastpath/host/permission.h"
#include "proto/sentence.h"
#include "server/config/setting.h"

/* As knit_permission_check(). */
KNIT_MUST_CHECK int knit_confinement_check(
    const struct knit_settings *settings, struct knit_sentence *why);

/* Replaces `auto` by figures. What stays KNIT_AUTO is no limit. */
void knit_confinement_resolve(struct knit_settings *settings);

/* As knit_permission_policy(), of settings that were checked; knit_permission_policy_free() in any
 * case. */
KNIT_MUST_CHECK int knit_confinement_policy(const struct knit_settings *settings,
    struct knit_confine_policy *ret_policy, struct knit_sentence *why);
