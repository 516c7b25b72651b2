/* SPDX-License-Identifier: Apache-2.0 */
/* The folder is made by mkdtemp, so that tests which run in parallel never share one, and removed
 * by a depth-first walk that does not follow links, so that of a link which a test left behind
 * only the link is removed.
 */
#include "tests/support/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How many folders the walk keeps open; deeper ones are opened again, which is slower and no less
 * right. */
enum { WALK_FDS_MAX = 16 };

static void give_up(const char *what, const char *path)
{
    fprintf(stderr, "scratch: %s %s: %s\n", what, path, strerror(errno));
    abort();
}

char *knit_scratch_new(void)
{
    const char *parent = getenv("TMPDIR");
    char *dir = knit_scratch_path(parent != NULL && *parent ? parent : "/tmp", "knit-test-XXXXXX");

    if (mkdtemp(dir) == NULL)
        give_up("cannot make", dir);
    return dir;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

char *knit_scratch_free(char *dir)
{
    if (dir != NULL && nftw(dir, remove_entry, WALK_FDS_MAX, FTW_DEPTH | FTW_PHYS) < 0 &&
        errno != ENOENT)
        fprintf(stderr, "scratch: cannot remove %s: %s\n", dir, strerror(errno));
    free(dir);
    return NULL;
}

char *knit_scratch_path(const char *dir, const char *name)
{
    char *path;

    if (asprintf(&path, "%s/%s", dir, name) < 0)
        give_up("no memory for a path in", dir);
    return path;
}

char *knit_scratch_file(const char *dir, const char *name, const void *bytes, size_t len)
{
    char *path = knit_scratch_path(dir, name);
    FILE *file = fopen(path, "wbe");

    if (file == NULL || fwrite(bytes, 1, len, file) != len || fclose(file) != 0)
        give_up("cannot write", path);
    return path;
}

char *knit_scratch_read(const char *path, size_t *ret_len)
{
    FILE *file = fopen(path, "rbe");
    char *bytes = NULL;
    size_t len = 0, got;

    if (file == NULL)
        return NULL;
    do {
        bytes = realloc(bytes, len + BUFSIZ + 1);
        if (bytes == NULL)
            give_up("no memory for", path);
        got = fread(bytes + len, 1, BUFSIZ, file);
        len += got;
    } while (got > 0);
    fclose(file);
    bytes[len] = '\0';
    if (ret_len != NULL)
        *ret_len = len;
    return bytes;
}
