/* SPDX-License-Identifier: Apache-2.0 */
/* Where the file of a module lies. Paths are made real before anything starts: a worker runs
 * elsewhere and later, and a module that is not there is refused by the name that it was given.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

#include "proto/sentence.h"

enum {
    KNIT_MODULE_PATH_E_REFUSED = 1, /* the sentence says why */
};

/* Whether it names something on a machine or by a protocol ("http://a/b.so"), and no file here. */
bool knit_module_path_is_remote(const char *given);

/* The folder that modules have to lie in; key: what the option is called in a sentence. *ret_root
 * is the caller's; given NULL: there is none, and *ret_root is NULL. Returns 0,
 * KNIT_MODULE_PATH_E_REFUSED or -ENOMEM. */
KNIT_MUST_CHECK int knit_module_root_find(
    const char *given, const char *key, char **ret_root, struct knit_sentence *ret_why);

/* A regular file that can be read, below root, which was made real, or NULL. Symbolic links are
 * followed first, so none leads out of it. *ret_path is the caller's, NULL on failure. Returns as
 * above. */
KNIT_MUST_CHECK int knit_module_path_find(
    const char *given, const char *root, char **ret_path, struct knit_sentence *ret_why);
