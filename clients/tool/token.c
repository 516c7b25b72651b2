/* SPDX-License-Identifier: Apache-2.0 */
/* knit token: the secret goes to a file and nowhere else, so that no terminal, history or list of
 * processes has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "clients/tool/tool.h"
#include "proto/sha256.h"
#include "proto/token.h"

enum { RANDOM_BYTES = 32, TEXT_BYTES = 2 * RANDOM_BYTES };

static void print_hex(const uint8_t *bytes, size_t len, char *ret_text)
{
    for (size_t i = 0; i < len; i++)
        (void)snprintf(ret_text + 2 * i, 3, "%02x", bytes[i]);
}

/* The file with the token as its one line. Returns 0 or -errno, and then it is not there. */
static int write_token(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool is_written;

    if (fd < 0)
        return -errno;
    errno = ENOSPC;
    is_written = dprintf(fd, "%s\n", text) == TEXT_BYTES + 1 && fsync(fd) == 0;
    if (close(fd) == 0 && is_written)
        return 0;
    (void)unlink(path);
    return -errno;
}

int knit_tool_token(const struct knit_tool *tool, int argc, char **argv)
{
    uint8_t bytes[RANDOM_BYTES], digest[KNIT_SHA256_BYTES];
    char text[TEXT_BYTES + 1], digest_text[2 * KNIT_SHA256_BYTES + 1];
    int r;

    if (argc != 2)
        return knit_tool_usage(tool, "token takes the caller's name and a new file for its token");
    if (!knit_token_is_name(argv[0]))
        return knit_tool_usage(tool, "\"%s\" is no name: %s", argv[0], KNIT_TOKEN_NAME_RULE);
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return knit_tool_fail(tool, KNIT_TOOL_BROKE, "no random bytes: %s", strerror(errno));
    print_hex(bytes, sizeof(bytes), text);
    knit_sha256(knit_span(text, TEXT_BYTES), digest);
    print_hex(digest, sizeof(digest), digest_text);
    r = write_token(argv[1], text);
    explicit_bzero(bytes, sizeof(bytes));
    explicit_bzero(text, sizeof(text));
    if (r != 0)
        return knit_tool_usage(tool, "cannot write %s: %s", argv[1], strerror(-r));
    printf(tool->is_json ? "{\"name\":\"%s\",\"digest\":\"sha256:%s\"}\n" : "%s sha256:%s\n",
        argv[0], digest_text);
    return knit_tool_finish(tool);
}
