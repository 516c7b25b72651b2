/* SPDX-License-Identifier: Apache-2.0 */
/* --print-config: each setting as a start would have it, and where that comes from.
 *
 * The lines are those of a settings file, with the origin as a comment behind the value; a list has
 * a line for each of its items. What is found out at a start, such as the usual socket, stands
 * there as it was found. Nothing is refused: what is wrong with the values is for --check-config.
 */
#pragma once

#include <knitting/code.h>

#include "server/config/setting.h"

/* To stdout. settings: resolved. usual_file is what is read without --config.
 * Returns 0, or -errno when it cannot be written. */
KNIT_MUST_CHECK int knit_print_config(const struct knit_settings *settings, const char *usual_file);
