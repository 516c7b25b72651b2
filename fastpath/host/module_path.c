/* SPDX-License-Identifier: Apache-2.0 */
/* The root is compared with the real path, since a name can lead anywhere. Who may replace files
 * below the root, in between too, may put any module there: the root keeps out what lies elsewhere,
 * and no file that was put into it.
 */
#include "fastpath/host/module_path.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool knit_module_path_is_remote(const char *given)
{
    const char *end = given;

    while (isalnum((unsigned char)*end) || (end != given && *end != '\0' && strchr("+-.", *end)))
        end++;
    return end != given && strncmp(end, "://", 3) == 0;
}

int knit_module_root_find(
    const char *given, const char *key, char **ret_root, struct knit_sentence *ret_why)
{
    struct stat status;

    *ret_root = NULL;
    if (given == NULL)
        return 0;
    if (stat(given, &status) != 0)
        return knit_sentence_set(ret_why, KNIT_MODULE_PATH_E_REFUSED,
            "%s: cannot find the folder %.500s: %s", key, given, strerror(errno));
    if (!S_ISDIR(status.st_mode))
        return knit_sentence_set(
            ret_why, KNIT_MODULE_PATH_E_REFUSED, "%s: %.500s is no folder", key, given);
    *ret_root = realpath(given, NULL);
    return *ret_root != NULL ? 0 : -ENOMEM;
}

static bool is_below(const char *path, const char *root)
{
    size_t len = strlen(root);

    /* "/" alone ends with a slash. */
    return strncmp(path, root, len) == 0 && (path[len] == '/' || root[len - 1] == '/');
}

static int check_file(
    const char *given, const char *path, const char *root, struct knit_sentence *ret_why)
{
    struct stat status;

    if (access(path, R_OK) < 0)
        return knit_sentence_set(ret_why, KNIT_MODULE_PATH_E_REFUSED,
            "cannot read the module %.500s: %s", given, strerror(errno));
    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode))
        return knit_sentence_set(ret_why, KNIT_MODULE_PATH_E_REFUSED,
            "cannot load the module %.500s: it is no regular file", given);
    if (root != NULL && !is_below(path, root))
        return knit_sentence_set(ret_why, KNIT_MODULE_PATH_E_REFUSED,
            "cannot load the module %.300s: it is %.300s, which is not in modules_root, %.300s",
            given, path, root);
    return 0;
}

int knit_module_path_find(
    const char *given, const char *root, char **ret_path, struct knit_sentence *ret_why)
{
    char *path;
    int r;

    *ret_path = NULL;
    if (knit_module_path_is_remote(given))
        return knit_sentence_set(ret_why, KNIT_MODULE_PATH_E_REFUSED,
            "cannot load the module %.500s: expected the path of a file here, not an address",
            given);
    path = realpath(given, NULL);
    if (path == NULL)
        return errno == ENOMEM ? -ENOMEM
                               : knit_sentence_set(ret_why, KNIT_MODULE_PATH_E_REFUSED,
                                     "cannot find the module %.500s: %s", given, strerror(errno));
    r = check_file(given, path, root, ret_why);
    if (r == 0)
        *ret_path = path;
    else
        free(path);
    return r;
}
