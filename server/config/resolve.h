/* SPDX-License-Identifier: Apache-2.0 */
/* What follows from all settings together. */
#pragma once

#include <knitting/code.h>

#include "server/config/setting.h"

/* Replaces `auto` by figures and refuses settings that do not go together.
 * Returns 0, KNIT_SETTING_E_REFUSED or -ENOMEM. */
KNIT_MUST_CHECK int knit_settings_resolve(
    struct knit_settings *settings, struct knit_sentence *why);
