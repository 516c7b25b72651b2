/* SPDX-License-Identifier: Apache-2.0 */
/* Files are read up to one byte beyond what a call may carry and no further: a stream may have no
 * end.
 */
#include "clients/tool/arguments.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "clients/tool/json.h"
#include "proto/text.h"

enum { READ_BYTES = 256 * 1024 };

/* What the bytes of a file become. */
enum file_kind {
    FILE_BIN,
    FILE_TEXT,
    FILE_JSON,
};

/* Returns 0, -EFBIG once there are more bytes than max, or what is wrong with the file. */
static int read_all(int fd, size_t max, struct knit_buffer *buffer)
{
    while (buffer->len <= max) {
        size_t want = max + 1 - buffer->len < READ_BYTES ? max + 1 - buffer->len : READ_BYTES;
        uint8_t *room = knit_buffer_reserve(buffer, want);
        ssize_t n = room != NULL ? read(fd, room, want) : 0;

        if (room == NULL)
            return -ENOMEM;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        buffer->len += (size_t)n;
    }
    return -EFBIG;
}

/* One value of the content. Returns an exit status. */
static int put_content(const struct knit_tool *tool, const char *path, enum file_kind kind,
    struct knit_buffer *content, struct knit_writer *writer)
{
    char reason[KNIT_JSON_REASON_BYTES];
    uint8_t *end;
    int r;

    if (kind == FILE_BIN) {
        knit_writer_bin(writer, content->bytes, content->len);
        return KNIT_TOOL_OK;
    }
    if (kind == FILE_TEXT) {
        if (!knit_text_is_utf8(content->bytes, content->len))
            return knit_tool_usage(tool, "%s is no UTF-8; @%s sends its bytes", path, path);
        knit_writer_str(writer, (const char *)content->bytes, content->len);
        return KNIT_TOOL_OK;
    }
    end = knit_buffer_reserve(content, 1);
    if (end == NULL)
        return knit_tool_no_memory(tool);
    *end = '\0';
    r = knit_json_read((const char *)content->bytes, content->len, writer, reason);
    if (r == KNIT_JSON_E_BAD)
        return knit_tool_usage(tool, "%s is no JSON: %s", path, reason);
    return r == 0 ? KNIT_TOOL_OK : knit_tool_no_memory(tool);
}

/* What has more than `len` bytes. */
static int refuse_large(const struct knit_tool *tool, const char *what, size_t len, size_t max)
{
    struct knit_error error;

    knit_tool_own_error(
        &error, KNIT_TOO_LARGE, "%s: more than %zu bytes, and " KNIT_TOOL_CARRIES, what, len, max);
    error.limit = (int64_t)max;
    return knit_tool_report(tool, &error);
}

/* A file, or standard input when path is NULL, as one value. */
static int put_file(
    const struct knit_tool *tool, const char *path, enum file_kind kind, struct knit_writer *writer)
{
    size_t most = writer->buffer->max;
    size_t max = kind == FILE_JSON ? knit_tool_json_max(most) : most;
    const char *shown = path != NULL ? path : "standard input";
    int status = KNIT_TOOL_OK;
    struct knit_buffer content;
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    int r = fd < 0 ? -errno : 0;

    knit_buffer_init(&content, max + 2);
    if (r == 0)
        r = read_all(fd, max, &content);
    if (r == 0)
        status = put_content(tool, shown, kind, &content, writer);
    else if (r == -EFBIG)
        status = refuse_large(tool, shown, max, most);
    else if (r == -ENOMEM)
        status = knit_tool_no_memory(tool);
    else
        status = knit_tool_usage(tool, "cannot read %s: %s", shown, strerror(-r));
    if (path != NULL && fd >= 0)
        close(fd);
    knit_buffer_fini(&content);
    return status;
}

/* A frequent mistake: a text whose quotation marks the shell has removed. */
static int refuse_argument(
    const struct knit_tool *tool, int index, const char *argument, const char *reason)
{
    if (argument[strspn(argument, " \t\r\n")] == '\0')
        return knit_tool_usage(
            tool, "argument %d is empty; an empty text is '\"\"' in a shell", index);
    if (isalpha((unsigned char)argument[0]) && strpbrk(argument, "\"'\\") == NULL &&
        strcmp(argument, "NaN") != 0 && strcmp(argument, "Infinity") != 0)
        return knit_tool_usage(
            tool, "argument %d is no JSON: %s, in a shell '\"%s\"'", index, reason, argument);
    return knit_tool_usage(tool, "argument %d is no JSON: %s", index, reason);
}

static int put_argument(
    const struct knit_tool *tool, int index, const char *argument, struct knit_writer *writer)
{
    char reason[KNIT_JSON_REASON_BYTES];
    int r;

    if (strncmp(argument, "@text:", 6) == 0)
        return put_file(tool, argument + 6, FILE_TEXT, writer);
    if (strncmp(argument, "@json:", 6) == 0)
        return put_file(tool, argument + 6, FILE_JSON, writer);
    if (argument[0] == '@')
        return put_file(tool, argument + 1, FILE_BIN, writer);
    if (strcmp(argument, "-") == 0)
        return put_file(tool, NULL, FILE_BIN, writer);
    r = knit_json_read(argument, strlen(argument), writer, reason);
    if (r == KNIT_JSON_E_BAD)
        return refuse_argument(tool, index, argument, reason);
    return r == 0 ? KNIT_TOOL_OK : knit_tool_no_memory(tool);
}

int knit_tool_put_arguments(
    const struct knit_tool *tool, int argc, char **argv, struct knit_buffer *params)
{
    struct knit_writer writer;
    int status = KNIT_TOOL_OK, r;

    knit_writer_init(&writer, params);
    knit_writer_array(&writer, (uint32_t)argc);
    for (int i = 0; i < argc && status == KNIT_TOOL_OK; i++)
        status = put_argument(tool, i + 1, argv[i], &writer);
    r = knit_writer_end(&writer);
    if (status != KNIT_TOOL_OK || r == 0)
        return status;
    if (r == KNIT_WRITER_E_FULL)
        return refuse_large(tool, "the arguments", params->max, params->max);
    return r < 0 ? knit_tool_no_memory(tool)
                 : knit_tool_usage(tool, "the arguments cannot be sent: %s", knit_writer_reason(r));
}
