/* SPDX-License-Identifier: Apache-2.0 */
/* Settings from a file: `[section]`, `key = value`, comments with # or ;. */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

#include "server/config/setting.h"

/* Longest line of the file, its end not counted. */
#define KNIT_SETTINGS_LINE_MAX 197

/* Whether there is something to read, or to be told why it cannot be read: a link that leads
 * nowhere and a folder that may not be entered are no reason to go without settings. */
bool knit_settings_file_is_there(const char *path);

/* Reads a whole file into settings. The first mistake ends it. path is borrowed for their life.
 *
 * Returns 0, KNIT_SETTING_E_REFUSED with a sentence that begins with file:line, or -ENOMEM.
 */
KNIT_MUST_CHECK int knit_settings_file_read(
    struct knit_settings *settings, const char *path, struct knit_sentence *why);
