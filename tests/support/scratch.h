/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of a test's own, with a fresh name, gone with all it holds when the test is done.
 *
 * Every path handed out is heap memory of the caller's. Nothing here returns an error: a test
 * without its folder cannot run, so it ends at once, with a line that says why.
 */
#pragma once

#include <stddef.h>

/* A new empty folder, mode 0700, in $TMPDIR or /tmp. Free it with knit_scratch_free(). */
char *knit_scratch_new(void);

/* Removes the folder and what is in it (links are not followed), frees the path, returns NULL. NULL
 * is ignored. */
char *knit_scratch_free(char *dir);

/* "dir/name", to be freed with free(). */
char *knit_scratch_path(const char *dir, const char *name);

/* Writes a file of that name into the folder; returns its path, to be freed with free(). */
char *knit_scratch_file(const char *dir, const char *name, const void *bytes, size_t len);

/* The whole of a file, NUL-terminated, to be freed with free(); NULL when it is not there. */
char *knit_scratch_read(const char *path, size_t *ret_len);
