/* SPDX-License-Identifier: Apache-2.0 */
/* Where the worker's program and the task modules lie. */
#pragma once

#include <limits.h>

#include <knitting/code.h>

#include "proto/sentence.h"
#include "server/config/setting.h"

enum {
    KNIT_INSTALL_PATHS_E_REFUSED = 1, /* the sentence says why */
};

/* The worker's program: `given` if it is not NULL, else as installed, else beside this program, as
 * in a folder that was copied. Returns 0 or KNIT_INSTALL_PATHS_E_REFUSED. */
KNIT_MUST_CHECK int knit_install_paths_find_worker(
    const char *given, char ret_path[PATH_MAX], struct knit_sentence *why);

/* The modules' real paths, ended by NULL. Free them with knit_install_paths_free() whatever is
 * returned. An empty list means all that are installed, of which there must be one. root: the
 * folder that all have to lie in, or NULL.
 * Returns 0, KNIT_INSTALL_PATHS_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_install_paths_find_modules(const struct knit_list *modules,
    const char *root, char ***ret_paths, struct knit_sentence *why);
void knit_install_paths_free(char **paths);
