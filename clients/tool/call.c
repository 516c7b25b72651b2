/* SPDX-License-Identifier: Apache-2.0 */
/* knit call.
 *
 * Ctrl-C is read from a descriptor beside the session's own. The first one asks the pool to cancel
 * and waits for the outcome, which may still be a result; the second one ends at once.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/tool/json.h"
#include "clients/tool/tool.h"
#include "proto/limits.h"
#include "proto/text.h"
#include "proto/walk.h"

enum {
    PARAMS_MAX = KNIT_MESSAGE_BYTES_MAX,
    READ_BYTES = 256 * 1024,
};

/* ---- arguments ---- */

static int read_all(int fd, struct knit_buffer *buffer)
{
    for (;;) {
        uint8_t *room = knit_buffer_reserve(buffer, READ_BYTES);
        ssize_t n = room != NULL ? read(fd, room, READ_BYTES) : 0;

        if (room == NULL)
            return buffer->error < 0 ? buffer->error : -EFBIG;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        buffer->len += (size_t)n;
    }
}

/* What the bytes of a file become. */
enum file_kind {
    FILE_BIN,
    FILE_TEXT,
    FILE_JSON,
};

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
        return knit_tool_usage(tool, "%s is too large", path);
    *end = '\0';
    r = knit_json_read((const char *)content->bytes, content->len, writer, reason);
    if (r == KNIT_JSON_E_BAD)
        return knit_tool_usage(tool, "%s is no JSON: %s", path, reason);
    return r == 0 ? KNIT_TOOL_OK : knit_tool_no_memory(tool);
}

/* A file, or standard input when path is NULL, as one value. */
static int put_file(
    const struct knit_tool *tool, const char *path, enum file_kind kind, struct knit_writer *writer)
{
    int status = KNIT_TOOL_OK;
    struct knit_buffer content;
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    int r = fd < 0 ? -errno : 0;

    knit_buffer_init(&content, PARAMS_MAX);
    if (r == 0)
        r = read_all(fd, &content);
    if (r == 0)
        status = put_content(tool, path, kind, &content, writer);
    if (path != NULL && fd >= 0)
        close(fd);
    knit_buffer_fini(&content);
    if (r == 0)
        return status;
    return knit_tool_usage(
        tool, "cannot read %s: %s", path != NULL ? path : "standard input", strerror(-r));
}

/* A frequent mistake: a text whose quotation marks the shell has removed. */
static int refuse_argument(
    const struct knit_tool *tool, int index, const char *argument, const char *reason)
{
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

static int put_arguments(
    const struct knit_tool *tool, int argc, char **argv, struct knit_buffer *params)
{
    struct knit_writer writer;
    int status = KNIT_TOOL_OK, r;

    knit_writer_init(&writer, params);
    knit_writer_array(&writer, (uint32_t)argc);
    for (int i = 0; i < argc && status == KNIT_TOOL_OK; i++)
        status = put_argument(tool, i + 1, argv[i], &writer);
    r = knit_writer_end(&writer);
    if (status == KNIT_TOOL_OK && r != 0)
        status = knit_tool_usage(tool, "the arguments cannot be sent: %s",
            r > 0 ? knit_writer_reason(r) : "not enough memory");
    return status;
}

/* ---- the call ---- */

static int block_interrupt(void)
{
    sigset_t interrupt;

    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);
    return signalfd(-1, &interrupt, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool is_interrupted(int interrupt_fd)
{
    struct signalfd_siginfo info;

    return read(interrupt_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

/* An error of the tool's own. */
static int report_own(const struct knit_tool *tool, int code, enum knit_started started,
    const char *message, const char *reason)
{
    struct knit_error error = {.code = code,
        .name = knit_error_code_name(code),
        .started = started,
        .origin = KNIT_ORIGIN_CLIENT,
        .lane = -1,
        .retry_after_ms = -1,
        .limit = -1,
        .actual = -1};

    snprintf(error.message, sizeof(error.message), "%s%s", message, reason);
    return knit_tool_report(tool, &error);
}

/* Waits for the outcome. Returns its code, or KNIT_PENDING after a second Ctrl-C. */
static int await(
    struct knit *k, int interrupt_fd, struct knit_handle *handle, struct knit_error *error)
{
    int interrupts = 0, code;

    while ((code = knit_await(handle, 0, error)) == KNIT_PENDING && interrupts < 2) {
        struct pollfd items[] = {
            {.fd = knit_fd(k), .events = POLLIN},
            {.fd = interrupt_fd, .events = POLLIN},
        };

        (void)poll(items, 2, -1);
        if (is_interrupted(interrupt_fd)) {
            interrupts++;
            knit_cancel(handle);
        }
        (void)knit_dispatch(k, NULL);
    }
    return code;
}

static int print_raw(const struct knit_tool *tool, struct knit_span result)
{
    struct knit_head head;

    if (knit_head_read(result.bytes, result.len, &head) == 0 &&
        (head.type == KNIT_HEAD_STR || head.type == KNIT_HEAD_BIN))
        result = knit_span(result.bytes + head.size, result.len - head.size);
    (void)fwrite(result.bytes, 1, result.len, stdout);
    return knit_tool_finish(tool);
}

static int print_result(const struct knit_tool *tool, struct knit_span result)
{
    char *text;

    if (tool->is_raw)
        return print_raw(tool, result);
    if (knit_json_write(result, false, &text) != 0)
        return report_own(
            tool, KNIT_BAD_RESULT, KNIT_STARTED_YES, "the result cannot be written as JSON", "");
    knit_tool_put_json(text);
    free(text);
    return knit_tool_finish(tool);
}

static int run(const struct knit_tool *tool, struct knit *k, int interrupt_fd, const char *task,
    const struct knit_buffer *params)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    struct knit_error error;
    const void *result;
    size_t len;
    int code;

    if (tool->has_timeout)
        options.timeout_ms = tool->timeout_ms;
    code = knit_start_raw(k, &options, &handle, &error, task, params->bytes, params->len);
    if (code == KNIT_OK)
        code = await(k, interrupt_fd, handle, &error);
    if (code == KNIT_PENDING)
        return KNIT_TOOL_CANCELLED;
    if (code != KNIT_OK)
        return knit_tool_report(tool, &error);
    code = knit_result_raw(handle, &error, &result, &len);
    return code == KNIT_OK ? print_result(tool, knit_span(result, len))
                           : knit_tool_report(tool, &error);
}

/* The descriptors that waiting needs are opened before anything is called, so that no call is
 * started whose outcome cannot be awaited. */
static int wait_and_run(const struct knit_tool *tool, struct knit *k, const char *task,
    const struct knit_buffer *params)
{
    int interrupt_fd = block_interrupt(), status;

    if (interrupt_fd < 0 || knit_fd(k) < 0)
        status = report_own(tool, KNIT_INTERNAL, KNIT_STARTED_NO,
            "cannot wait for an outcome, so nothing was called: ", strerror(errno));
    else
        status = run(tool, k, interrupt_fd, task, params);
    if (interrupt_fd >= 0)
        close(interrupt_fd);
    return status;
}

int knit_tool_call(const struct knit_tool *tool, int argc, char **argv)
{
    struct knit_buffer params;
    struct knit *k;
    int status;

    if (argc == 0)
        return knit_tool_usage(tool, "call needs the name of a task; knit tasks lists them");
    knit_buffer_init(&params, PARAMS_MAX);
    status = put_arguments(tool, argc - 1, argv + 1, &params);
    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, KNIT_TOOL_SLOTS, &k);
    if (status == KNIT_TOOL_OK) {
        status = wait_and_run(tool, k, argv[0], &params);
        knit_close(k);
    }
    knit_buffer_fini(&params);
    return status;
}
