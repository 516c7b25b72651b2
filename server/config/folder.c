/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is made for the trial: a check must not leave traces, and what is there may be another
 * daemon's. */
#include "server/config/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int knit_folder_check(const char *path, struct knit_sentence *why)
{
    char *copy = strdup(path);
    const char *folder;
    struct stat status;
    int r = 0;

    if (copy == NULL)
        return -ENOMEM;
    folder = dirname(copy);
    if (stat(folder, &status) == 0 && !S_ISDIR(status.st_mode))
        r = ENOTDIR;
    else if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) < 0)
        r = errno;
    if (r != 0)
        r = knit_sentence_set(why, KNIT_FOLDER_E_REFUSED, "cannot make %s: the folder %s: %s", path,
            folder, strerror(r));
    free(copy);
    return r;
}
