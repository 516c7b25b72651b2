/* SPDX-License-Identifier: Apache-2.0 */
/* Replaces libFuzzer in builds without it: runs a fuzz target over the files of a corpus folder,
 * once each, and over every prefix of the short ones. So the corpus is an ordinary test, and what a
 * fuzzer once found is tested from then on.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/target.h"

/* Longer ones are run whole only: the work for all prefixes is quadratic. */
enum { PREFIXES_MAX = 300 };

/* A copy that ends where its memory ends, so that a sanitizer sees the first byte too many. */
static void run(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);

    if (copy == NULL)
        exit(2);
    memcpy(copy, bytes, len);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static int run_file(const char *path)
{
    struct stat status;
    FILE *file = fopen(path, "rb");
    uint8_t *bytes;
    size_t len;

    if (file == NULL || fstat(fileno(file), &status) != 0) {
        perror(path);
        return 2;
    }
    bytes = malloc((size_t)status.st_size + 1);
    if (bytes == NULL)
        exit(2);
    len = fread(bytes, 1, (size_t)status.st_size, file);
    fclose(file);
    for (size_t part = 0; part < len && len <= PREFIXES_MAX; part++)
        run(bytes, part);
    run(bytes, len);
    free(bytes);
    return 0;
}

int main(int argc, char **argv)
{
    struct dirent *entry;
    unsigned count = 0;
    char path[4096];
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;

    if (dir == NULL) {
        fprintf(stderr, "usage: replay CORPUS_FOLDER\n");
        return 2;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        if (run_file(path))
            return 2;
        count++;
    }
    closedir(dir);
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1;
}
