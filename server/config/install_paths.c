/* SPDX-License-Identifier: Apache-2.0 */
/* What is named is made real at once (fastpath/host/module_path.h). What is not named is looked for
 * where it was installed, and beside this program, so that a folder that was copied works too. */
#include "server/config/install_paths.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "fastpath/host/module_path.h"

static int refuse_memory(struct knit_sentence *why)
{
    return knit_sentence_set(why, -ENOMEM, "out of memory");
}

static bool is_regular(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

int knit_install_paths_find_worker(
    const char *given, char ret_path[PATH_MAX], struct knit_sentence *why)
{
    char self[PATH_MAX];
    ssize_t len;
    char *slash;

    if (given != NULL) {
        if (realpath(given, ret_path) == NULL)
            return knit_sentence_set(why, KNIT_INSTALL_PATHS_E_REFUSED,
                "cannot find the worker program %s: %s", given, strerror(errno));
        if (!is_regular(ret_path) || access(ret_path, X_OK) < 0)
            return knit_sentence_set(why, KNIT_INSTALL_PATHS_E_REFUSED,
                "cannot run the worker program %s: it is no regular file or not executable", given);
        if (access(ret_path, R_OK) < 0)
            return knit_sentence_set(why, KNIT_INSTALL_PATHS_E_REFUSED,
                "cannot read the worker program %s: %s", given, strerror(errno));
        return 0;
    }
    if (access(KNIT_WORKER, X_OK) == 0) {
        (void)snprintf(ret_path, PATH_MAX, "%s", KNIT_WORKER);
        return 0;
    }
    len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len > 0) {
        self[len] = '\0';
        slash = strrchr(self, '/');
        if (slash != NULL)
            *slash = '\0';
        len = snprintf(ret_path, PATH_MAX, "%s/knitting-worker", self);
        if (len < PATH_MAX && access(ret_path, X_OK) == 0)
            return 0;
    }
    return knit_sentence_set(why, KNIT_INSTALL_PATHS_E_REFUSED,
        "cannot find the worker program: it is neither " KNIT_WORKER
        " nor beside knittingd; say where with --worker-program");
}

static int is_module(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return len > 3 && entry->d_name[0] != '.' && strcmp(entry->d_name + len - 3, ".so") == 0;
}

/* What is installed, in the order of names. */
static int list_installed_modules(char ***ret_paths, struct knit_sentence *why)
{
    struct dirent **entries;
    int count = scandir(KNIT_MODULEDIR, &entries, is_module, alphasort);
    char **paths = calloc((size_t)(count < 0 ? 0 : count) + 1, sizeof(*paths));
    int r = paths != NULL ? 0 : refuse_memory(why);

    for (int i = 0; i < count; i++) {
        if (r == 0 && asprintf(&paths[i], "%s/%s", KNIT_MODULEDIR, entries[i]->d_name) < 0) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): r is 0 only with paths. */
            paths[i] = NULL;
            r = refuse_memory(why);
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    *ret_paths = paths;
    if (r == 0 && count <= 0)
        return knit_sentence_set(why, KNIT_INSTALL_PATHS_E_REFUSED,
            "pool.modules: no modules are named and " KNIT_MODULEDIR
            " has none; name some with --module PATH");
    return r;
}

static int find_module(
    const char *given, const char *root, char **ret_path, struct knit_sentence *why)
{
    if (strcmp(given, "none") == 0 && access(given, F_OK) < 0)
        return knit_sentence_set(why, KNIT_INSTALL_PATHS_E_REFUSED,
            "pool.modules: a pool without modules has no tasks; none is not possible here, a "
            "module "
            "of that name is ./none");
    return knit_module_path_find(given, root, ret_path, why);
}

static int find_modules(
    const struct knit_list *modules, const char *root, char **ret_paths, struct knit_sentence *why)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < modules->count; i++)
        r = find_module(modules->items[i], root, &ret_paths[i], why);
    return r == -ENOMEM ? refuse_memory(why) : r;
}

/* What is installed stays under the names that it was installed by. */
static int check_installed(char *const *paths, const char *root, struct knit_sentence *why)
{
    int r = 0;

    for (; r == 0 && root != NULL && *paths != NULL; paths++) {
        char *path;

        r = knit_module_path_find(*paths, root, &path, why);
        free(path);
    }
    return r == -ENOMEM ? refuse_memory(why) : r;
}

int knit_install_paths_find_modules(
    const struct knit_list *modules, const char *root, char ***ret_paths, struct knit_sentence *why)
{
    char *real_root;
    int r;

    *ret_paths = NULL;
    r = knit_module_root_find(root, "pool.modules_root", &real_root, why);
    if (r != 0)
        return r == -ENOMEM ? refuse_memory(why) : r;
    if (modules->count == 0) {
        r = list_installed_modules(ret_paths, why);
        if (r == 0)
            r = check_installed(*ret_paths, real_root, why);
    } else {
        *ret_paths = calloc(modules->count + 1, sizeof(**ret_paths));
        r = *ret_paths != NULL ? find_modules(modules, real_root, *ret_paths, why)
                               : refuse_memory(why);
    }
    free(real_root);
    return r;
}

void knit_install_paths_free(char **paths)
{
    for (size_t i = 0; paths != NULL && paths[i] != NULL; i++)
        free(paths[i]);
    free(paths);
}
