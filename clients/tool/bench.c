/* SPDX-License-Identifier: Apache-2.0 */
/* knit bench: becomes knit-bench, the program beside this one. It measures calls by shared memory
 * unless an address was given, and says so with --url, as it takes none for granted. Whom to trust
 * and who calls goes along; a token that is in the environment stays there.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/tool/tool.h"

static const char program[] = "knit-bench";

enum { IDENTITY_WORDS = 11 }; /* at most, of add_identity() */

/* The path of the program in the folder of this one, or its name alone. */
static int find(char path[PATH_MAX])
{
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - sizeof(program));
    char *name;

    if (len < 0) {
        memcpy(path, program, sizeof(program));
        return -errno;
    }
    path[len] = '\0';
    name = strrchr(path, '/');
    memcpy(name != NULL ? name + 1 : path, program, sizeof(program));
    return 0;
}

/* Who calls and whom it trusts. */
static size_t add_identity(const struct knit_tool *tool, const char **words)
{
    const char *const options[][2] = {{"--token-file", tool->token_file},
        {"--tls-ca", tool->tls.ca_file}, {"--tls-cert", tool->tls.certificate_file},
        {"--tls-key", tool->tls.key_file}, {"--tls-pin", tool->tls.pin}};
    size_t count = 0;

    if (tool->tls.pin_only)
        words[count++] = "--tls-pin-only";
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (options[i][1] == NULL)
            continue;
        words[count++] = options[i][0];
        words[count++] = options[i][1];
    }
    return count;
}

int knit_tool_bench(const struct knit_tool *tool, int argc, char **argv)
{
    char path[PATH_MAX], url[512];
    const char **words = calloc((size_t)argc + 4 + IDENTITY_WORDS, sizeof(*words));
    size_t count = 0;
    int r;

    if (words == NULL)
        return knit_tool_no_memory(tool);
    snprintf(url, sizeof(url), "--url=%s%s", tool->has_url ? "" : "shm",
        tool->has_url ? tool->url : strchr(tool->url, ':'));
    words[count++] = program;
    words[count++] = url;
    if (tool->is_json)
        words[count++] = "--format=json";
    count += add_identity(tool, words + count);
    for (int i = 0; i < argc; i++)
        words[count++] = argv[i];
    r = find(path);
    if (r == 0) {
        execv(path, (char *const *)words);
        r = -errno;
    }
    free(words);
    return knit_tool_fail(tool, KNIT_TOOL_BROKE, "cannot run %s: %s%s", path, strerror(-r),
        r == -ENOENT ? "; builds with -Dbench=true have it" : "");
}
