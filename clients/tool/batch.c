/* SPDX-License-Identifier: Apache-2.0 */
/* knit batch: a call for each line, many in flight, an outcome for each line in their order.
 *
 * Outcomes stand in a ring from the oldest line that is not printed yet to the newest that was
 * read. Input is read only while the ring has room and no whole line waits, so memory is bounded
 * by `jobs`, however long the input is and however slow its reader; and an outcome is printed as
 * soon as its turn has come, though more input may be long in coming.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/tool/arguments.h"
#include "clients/tool/call_options.h"
#include "clients/tool/interrupt.h"
#include "clients/tool/json.h"
#include "clients/tool/tool.h"
#include "proto/buffer.h"
#include "proto/head.h"

enum { READ_BYTES = 64 * 1024 };

/* Of one line: a call, or why there is none. */
struct outcome {
    struct knit_handle *handle;
    struct knit_error *error;
};

struct batch {
    struct knit_tool_call_options options;
    const struct knit_tool *tool;
    const char *task;
    struct knit *k;
    int fd, interrupt_fd, interrupts;
    struct knit_buffer input, params;
    size_t begin;     /* of the line that waits, in the input */
    size_t seen;      /* no line ends before that */
    bool has_ended;   /* nothing more is read */
    bool is_skipping; /* the rest of a line that is too long */
    bool is_full;     /* the session has no room: only an outcome makes some */
    bool is_lost;     /* the connection */
    int read_error;
    struct outcome *ring;
    uint32_t size, count;
    uint64_t first; /* number of the oldest line in the ring, from 0 */
    uint64_t failures;
};

/* ---- lines become calls ---- */

static struct outcome *add_outcome(struct batch *batch)
{
    struct outcome *outcome = &batch->ring[(batch->first + batch->count++) % batch->size];

    *outcome = (struct outcome){0};
    return outcome;
}

/* Without memory for the error there is an outcome without words. */
static void add_failure(struct batch *batch, const struct knit_error *error)
{
    struct outcome *outcome = add_outcome(batch);

    outcome->error = malloc(sizeof(*outcome->error));
    if (outcome->error != NULL) {
        *outcome->error = *error;
        outcome->error->data = outcome->error->details = NULL;
    }
}

/* The arguments in a line, behind which stands a NUL. Returns KNIT_OK or the code of *ret_error. */
static int read_arguments(
    struct batch *batch, const char *line, size_t len, struct knit_error *ret_error)
{
    char reason[KNIT_JSON_REASON_BYTES];
    struct knit_writer writer;
    struct knit_head head;
    int r;

    knit_buffer_reset(&batch->params);
    knit_writer_init(&writer, &batch->params);
    r = knit_json_read(line, len, &writer, reason);
    if (r == KNIT_JSON_E_BAD) {
        knit_tool_own_error(ret_error, KNIT_BAD_ARGUMENT,
            strspn(line, " \t\r") == len ? "the line is empty; [] stands for no arguments"
                                         : "the line is no JSON: %s",
            reason);
        return KNIT_BAD_ARGUMENT;
    }
    if (r == 0)
        r = knit_writer_end(&writer);
    if (r == KNIT_WRITER_E_FULL) {
        knit_tool_own_error(ret_error, KNIT_TOO_LARGE,
            "the arguments: more than %zu bytes, and " KNIT_TOOL_CARRIES, batch->params.max,
            batch->params.max);
        ret_error->limit = (int64_t)batch->params.max;
        return KNIT_TOO_LARGE;
    }
    if (r != 0) {
        knit_tool_own_error(ret_error, r < 0 ? KNIT_INTERNAL : KNIT_BAD_ARGUMENT,
            "the arguments cannot be sent: %s",
            r < 0 ? "not enough memory" : knit_writer_reason(r));
        return ret_error->code;
    }
    if (knit_head_read(batch->params.bytes, batch->params.len, &head) != 0 ||
        head.type != KNIT_HEAD_ARRAY) {
        knit_tool_own_error(ret_error, KNIT_BAD_ARGUMENT,
            "the line is no array; the arguments of a call are one, as in [2, 3]");
        return KNIT_BAD_ARGUMENT;
    }
    return KNIT_OK;
}

/* False: the session has no room, and the line waits. */
static bool start_line(struct batch *batch, const char *line, size_t len)
{
    struct knit_handle *handle;
    struct knit_error error;
    int code = read_arguments(batch, line, len, &error);

    if (code == KNIT_OK)
        code = knit_start_raw(batch->k, &batch->options.call, &handle, &error, batch->task,
            batch->params.bytes, batch->params.len);
    batch->is_full = code == KNIT_WOULD_BLOCK;
    if (code == KNIT_WOULD_BLOCK)
        return false;
    if (code == KNIT_OK)
        add_outcome(batch)->handle = handle;
    else
        add_failure(batch, &error);
    return true;
}

static size_t line_max(const struct batch *batch)
{
    return knit_tool_json_max(batch->params.max);
}

static void drop_input(struct batch *batch)
{
    knit_buffer_reset(&batch->input);
    batch->begin = batch->seen = 0;
}

/* The line that waits is dropped, and what comes of it later. */
static void refuse_long_line(struct batch *batch)
{
    struct knit_error error;

    knit_tool_own_error(&error, KNIT_TOO_LARGE,
        "the line has more than %zu bytes, and " KNIT_TOOL_CARRIES, line_max(batch),
        batch->params.max);
    error.limit = (int64_t)batch->params.max;
    add_failure(batch, &error);
    drop_input(batch);
    batch->is_skipping = true;
}

/* Starts a call for each line that is there whole, while the ring has room. */
static void start_lines(struct batch *batch)
{
    batch->is_full = false;
    while (batch->count < batch->size && !batch->is_full && !batch->is_lost) {
        char *bytes = (char *)batch->input.bytes;
        size_t len = batch->input.len;
        char *end = batch->seen < len ? memchr(bytes + batch->seen, '\n', len - batch->seen) : NULL;

        batch->seen = end != NULL ? (size_t)(end - bytes) : len;
        if (end == NULL && !(batch->has_ended && batch->begin < len)) {
            if (!batch->is_skipping && len - batch->begin > line_max(batch))
                refuse_long_line(batch);
            return;
        }
        bytes[batch->seen] = '\0';
        if (!batch->is_skipping &&
            !start_line(batch, bytes + batch->begin, batch->seen - batch->begin)) {
            bytes[batch->seen] = '\n';
            return;
        }
        batch->is_skipping = false;
        batch->begin = batch->seen = batch->seen < len ? batch->seen + 1 : len;
    }
}

/* What has been started makes room for what comes. */
static void read_input(struct batch *batch)
{
    uint8_t *room;
    ssize_t n;

    if (batch->is_skipping)
        drop_input(batch);
    if (batch->begin > 0) {
        memmove(
            batch->input.bytes, batch->input.bytes + batch->begin, batch->input.len - batch->begin);
        batch->input.len -= batch->begin;
        batch->seen -= batch->begin;
        batch->begin = 0;
    }
    /* One more for the NUL behind the last line. */
    room = knit_buffer_reserve(&batch->input, READ_BYTES + 1);
    n = room != NULL ? read(batch->fd, room, READ_BYTES) : -1;
    if (n < 0 && (room == NULL || (errno != EINTR && errno != EAGAIN)))
        batch->read_error = room == NULL ? ENOMEM : errno;
    if (n > 0)
        batch->input.len += (size_t)n;
    batch->has_ended = n == 0 || batch->read_error != 0;
}

/* ---- outcomes become lines ---- */

/* With --retries the session opens another connection: one that was lost under a call is no end,
 * but for a call that has waited for one in vain. */
static bool is_for_good(const struct batch *batch, const struct knit_error *error)
{
    return batch->tool->retries == 0 || error->started == KNIT_STARTED_NO;
}

static void print_failure(struct batch *batch, const struct knit_error *error)
{
    batch->failures++;
    if (error->code == KNIT_DISCONNECTED && is_for_good(batch, error))
        batch->is_lost = true;
    knit_tool_report_line(batch->tool, batch->first + 1, error);
}

static void print_result(struct batch *batch, struct knit_handle *handle)
{
    struct knit_error error;
    const void *result;
    char *text = NULL;
    size_t len;

    if (knit_result_raw(handle, &error, &result, &len) != KNIT_OK) {
        print_failure(batch, &error);
    } else if (knit_json_write(knit_span(result, len), false, &text) != 0) {
        knit_tool_own_error(&error, KNIT_BAD_RESULT, "the result cannot be written as JSON");
        error.started = KNIT_STARTED_YES;
        print_failure(batch, &error);
    } else {
        knit_tool_put_outcome(batch->tool, text);
    }
    free(text);
}

/* Prints the outcomes that are there, up to the first one that is not. Returns whether there were
 * any, so that the ring has room. */
static bool print_outcomes(struct batch *batch)
{
    uint64_t first = batch->first;

    while (batch->count > 0) {
        struct outcome *outcome = &batch->ring[batch->first % batch->size];
        struct knit_error error;
        int code = KNIT_INTERNAL;

        if (outcome->handle != NULL)
            code = knit_await(outcome->handle, 0, &error);
        else if (outcome->error == NULL)
            knit_tool_own_error(&error, KNIT_INTERNAL, "not enough memory");
        if (code == KNIT_PENDING)
            break;
        if (code == KNIT_OK)
            print_result(batch, outcome->handle);
        else
            print_failure(batch, outcome->error != NULL ? outcome->error : &error);
        knit_free(outcome->handle);
        free(outcome->error);
        batch->first++;
        batch->count--;
    }
    return batch->first > first;
}

/* ---- the run ---- */

static void interrupt(struct batch *batch)
{
    batch->interrupts++;
    batch->has_ended = true;
    drop_input(batch);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct outcome *outcome = &batch->ring[(batch->first + i) % batch->size];

        if (outcome->handle != NULL)
            knit_cancel(outcome->handle);
    }
    (void)knit_flush(batch->k, NULL);
}

static bool is_over(const struct batch *batch)
{
    return batch->interrupts > 1 ||
           (batch->count == 0 &&
               (batch->is_lost || (batch->has_ended && batch->begin == batch->input.len)));
}

static void wait_for_more(struct batch *batch)
{
    bool wants_input = !batch->has_ended && batch->count < batch->size && !batch->is_full;
    struct pollfd items[] = {
        {.fd = knit_fd(batch->k), .events = POLLIN},
        {.fd = batch->interrupt_fd, .events = POLLIN},
        {.fd = wants_input ? batch->fd : -1, .events = POLLIN},
    };

    if (poll(items, 3, items[0].fd < 0 ? 0 : -1) < 0)
        return;
    if (knit_tool_is_interrupted(batch->interrupt_fd))
        interrupt(batch);
    if (items[2].revents != 0)
        read_input(batch);
    if (knit_dispatch(batch->k, NULL) == KNIT_DISCONNECTED)
        batch->is_lost = true;
}

/* Returns an exit status. */
static int run(struct batch *batch)
{
    int status = KNIT_TOOL_OK;

    while (status == KNIT_TOOL_OK && !is_over(batch)) {
        bool has_room;

        start_lines(batch);
        /* It may take answers too, which then announce themselves no more: so it stands before. */
        (void)knit_flush(batch->k, NULL);
        has_room = print_outcomes(batch);
        status = knit_tool_finish(batch->tool);
        if (!has_room && status == KNIT_TOOL_OK && !is_over(batch))
            wait_for_more(batch);
    }
    if (status != KNIT_TOOL_OK)
        return status;
    if (batch->interrupts > 0)
        return KNIT_TOOL_CANCELLED;
    if (batch->is_lost)
        return knit_tool_fail(batch->tool, KNIT_TOOL_DISCONNECTED,
            "the connection was lost: nothing behind line %llu was called",
            (unsigned long long)batch->first);
    if (batch->read_error != 0)
        return knit_tool_usage(batch->tool, "cannot read on behind line %llu: %s",
            (unsigned long long)batch->first, strerror(batch->read_error));
    return batch->failures > 0 ? KNIT_TOOL_FAILED : KNIT_TOOL_OK;
}

static int open_and_run(struct batch *batch)
{
    const struct knit_open_options options = {.slots = batch->size, .would_block = true};
    int status = knit_tool_open(batch->tool, &options, &batch->k);
    size_t max;

    if (status != KNIT_TOOL_OK)
        return status;
    max = knit_arguments_max(batch->k);
    knit_buffer_init(&batch->params, max);
    knit_buffer_init(&batch->input, knit_tool_json_max(max) + 2 * (READ_BYTES + 1));
    batch->ring = calloc(batch->size, sizeof(*batch->ring));
    status = batch->ring != NULL
                 ? knit_tool_open_interrupt(batch->tool, batch->k, &batch->interrupt_fd)
                 : knit_tool_no_memory(batch->tool);
    if (status == KNIT_TOOL_OK)
        status = run(batch);
    /* Calls in flight are cancelled and their handles freed. */
    knit_close(batch->k);
    for (uint32_t i = 0; i < batch->count; i++)
        free(batch->ring[(batch->first + i) % batch->size].error);
    free(batch->ring);
    knit_buffer_fini(&batch->input);
    knit_buffer_fini(&batch->params);
    if (batch->interrupt_fd >= 0)
        close(batch->interrupt_fd);
    return status;
}

int knit_tool_batch(const struct knit_tool *tool, int argc, char **argv)
{
    bool is_stdin = argc < 2 || strcmp(argv[1], "-") == 0;
    struct batch batch = {.tool = tool, .interrupt_fd = -1, .size = tool->jobs};
    int status;

    if (argc < 1 || argc > 2)
        return knit_tool_usage(tool, "batch takes the name of a task and perhaps a file");
    batch.task = argv[0];
    batch.fd = is_stdin ? STDIN_FILENO : open(argv[1], O_RDONLY | O_CLOEXEC);
    if (batch.fd < 0)
        return knit_tool_usage(tool, "cannot read %s: %s", argv[1], strerror(errno));
    status = knit_tool_call_options_init(&batch.options, tool);
    if (status == KNIT_TOOL_OK)
        status = open_and_run(&batch);
    knit_tool_call_options_fini(&batch.options);
    if (!is_stdin)
        close(batch.fd);
    return status;
}
