/* SPDX-License-Identifier: Apache-2.0 */
/* What a daemon would refuse anyway, a token over a network without TLS, is not sent: it would be
 * known by then.
 */
#include "clients/lib/token.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <knitting/knitting.h>

#include "clients/lib/error.h"

#define BLANKS " \t\r\n"

struct knit_token {
    bool is_file;
    char text[]; /* the file's path, or the token */
};

static int refuse(struct knit_error *ret_error, const char *text)
{
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, "%s", text);
}

static int check_length(size_t len, struct knit_error *ret_error)
{
    if (len >= KNIT_TOKEN_BYTES_MIN && len <= KNIT_TOKEN_BYTES_MAX)
        return KNIT_OK;
    return refuse(ret_error, "a token has 16 to 1024 bytes; `knit token` makes one");
}

/* A pipe would be waited for, and has its bytes once alone, but the token is read again for each
 * connection. */
static bool is_pipe(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

/* As much of the file as a token may have, and a byte more. Returns how much; -1: why not. */
static ssize_t read_file(const char *path, char *room, size_t size, const char **ret_reason)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    size_t len = 0;
    ssize_t got = fd < 0 ? -1 : 1;

    if (fd >= 0 && is_pipe(fd)) {
        *ret_reason = "it is a pipe; expected a regular file";
        (void)close(fd);
        return -1;
    }
    while ((got > 0 && len < size) || (got < 0 && fd >= 0 && errno == EINTR)) {
        got = read(fd, room + len, size - len);
        len += got > 0 ? (size_t)got : 0;
    }
    *ret_reason = strerror(errno);
    if (fd >= 0)
        (void)close(fd);
    return got < 0 ? -1 : (ssize_t)len;
}

/* The token of the file, without the blanks round it. */
static int take_file(const char *path, char room[KNIT_TOKEN_BYTES_MAX + 1],
    struct knit_span *ret_token, struct knit_error *ret_error)
{
    const char *reason;
    ssize_t got = read_file(path, room, KNIT_TOKEN_BYTES_MAX + 1, &reason);
    size_t len, begin;

    if (got < 0)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "cannot read the token's file \"%s\": %s", path, reason);
    len = (size_t)got;
    while (len > 0 && strchr(BLANKS, room[len - 1]) != NULL)
        len--;
    for (begin = 0; begin < len && strchr(BLANKS, room[begin]) != NULL;)
        begin++;
    *ret_token = knit_span(room + begin, len - begin);
    if (check_length(len - begin, NULL) == KNIT_OK)
        return KNIT_OK;
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "the file \"%s\" holds no token, which has 16 to 1024 bytes; `knit token` makes one", path);
}

static int take(const struct knit_token *token, char room[KNIT_TOKEN_BYTES_MAX + 1],
    struct knit_span *ret_token, struct knit_error *ret_error)
{
    if (token->is_file)
        return take_file(token->text, room, ret_token, ret_error);
    *ret_token = knit_span_text(token->text);
    return check_length(ret_token->len, ret_error);
}

int knit_token_new(
    const struct knit_token_options *options, struct knit_token **ret, struct knit_error *ret_error)
{
    char room[KNIT_TOKEN_BYTES_MAX + 1];
    struct knit_token *token;
    struct knit_span ignored;
    const char *text;
    int code;

    *ret = NULL;
    if (options == NULL)
        return KNIT_OK;
    code = knit_error_check_reserved("knit_token_options", options->reserved,
        sizeof(options->reserved) / sizeof(options->reserved[0]), ret_error);
    if (code != KNIT_OK)
        return code;
    if ((options->file == NULL) == (options->text == NULL))
        return refuse(ret_error, options->file != NULL
                                     ? "knit_token_options: expected a file or a text, not both"
                                     : "knit_token_options: expected a file or a text");
    text = options->file != NULL ? options->file : options->text;
    token = calloc(1, sizeof(*token) + strlen(text) + 1);
    if (token == NULL)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    token->is_file = options->file != NULL;
    memcpy(token->text, text, strlen(text) + 1);
    code = take(token, room, &ignored, ret_error);
    explicit_bzero(room, sizeof(room));
    *ret = code == KNIT_OK ? token : knit_token_free(token);
    return code;
}

struct knit_token *knit_token_free(struct knit_token *token)
{
    if (token != NULL)
        explicit_bzero(token->text, strlen(token->text));
    free(token);
    return NULL;
}

/* Whether what goes over the connection does not leave this machine. */
static bool stays_here(int fd)
{
    struct sockaddr_storage own = {.ss_family = AF_UNSPEC};
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&own;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&own;
    socklen_t len = sizeof(own);

    if (getsockname(fd, (struct sockaddr *)&own, &len) != 0)
        return false;
    if (own.ss_family == AF_INET)
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    if (own.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    return own.ss_family == AF_UNIX;
}

int knit_token_say(const struct knit_token *token, int fd, bool is_encrypted,
    char room[KNIT_TOKEN_BYTES_MAX + 1], struct knit_span *ret_token, struct knit_error *ret_error)
{
    *ret_token = (struct knit_span){0};
    if (token == NULL)
        return KNIT_OK;
    if (!is_encrypted && !stays_here(fd))
        return refuse(ret_error,
            "a token is not sent over a network without TLS, where others could read it: its URL "
            "begins with knits://");
    return take(token, room, ret_token, ret_error);
}
