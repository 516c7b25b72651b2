/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a file that settings name can be made where it shall lie. */
#pragma once

#include <knitting/code.h>

#include "proto/sentence.h"

enum {
    KNIT_FOLDER_E_REFUSED = 1, /* the sentence says why */
};

/* Whether the folder of `path` is there and this process may make files in it.
 * Returns 0, KNIT_FOLDER_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_folder_check(const char *path, struct knit_sentence *why);
