/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that wait for the file look for its name, so the name must not be there before the
 * content. The file gets it by rename(), within one folder and so on one file system.
 */
#include "server/daemon/ready_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int knit_ready_file_write(const char *path, const char (*addresses)[64], size_t address_count,
    const char *socket_path, struct knit_sentence *why)
{
    char *other;
    FILE *file;
    bool is_written;
    int r = 0;

    if (asprintf(&other, "%s.%ld", path, (long)getpid()) < 0)
        return -ENOMEM;
    file = fopen(other, "wxe");
    is_written = file != NULL;
    if (file != NULL) {
        for (size_t i = 0; i < address_count; i++)
            fprintf(file, "url=knit://%s\n", addresses[i]);
        if (socket_path != NULL)
            fprintf(file, "url=unix://%s\nurl=shm://%s\n", socket_path, socket_path);
        fprintf(file, "pid=%ld\n", (long)getpid());
        is_written = !ferror(file);
        is_written = fclose(file) != EOF && is_written;
    }
    if (!is_written || rename(other, path) < 0) {
        r = knit_sentence_set(why, KNIT_READY_FILE_E_REFUSED, "cannot write the ready file %s: %s",
            path, strerror(errno));
        (void)unlink(other);
    }
    free(other);
    return r;
}
