/* SPDX-License-Identifier: Apache-2.0 */
/* The rows: each command and each option, with the words by which help describes it. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clients/tool/command.h"
#include "proto/limits.h"
#include "proto/trace.h"

/* Options without a letter. */
enum {
    OPTION_RAW = 256,
    OPTION_JSON,
    OPTION_OUTPUT,
    OPTION_DEFAULT,
    OPTION_MAYBE,
    OPTION_ERROR,
    OPTION_QUEUE_MAX,
    OPTION_PRIORITY,
    OPTION_AFFINITY,
    OPTION_TOKEN_FILE,
    OPTION_TLS_CA,
    OPTION_TLS_CERT,
    OPTION_TLS_KEY,
    OPTION_TLS_PIN,
    OPTION_TLS_PIN_ONLY,
    OPTION_KEY,
    OPTION_TRACEPARENT,
    OPTION_RETRIES,
    OPTION_GRACE,
    OPTION_ONCE,
};

#define ASKING                                                                                     \
    "call batch tasks describe ping health stats calls sessions stop kill top lift drain reload "  \
    "policy"
/* Those that say who calls. */
#define CONNECTING ASKING " bench"

enum { JOBS_MAX = 1000, QUEUE_MAX_MAX = 65535, RETRIES_MAX = 1000, GRACE_MS_MAX = 86400000 };

const struct knit_tool_command knit_tool_commands[] = {
    {"call", "TASK [ARGUMENT...]", "call a task and print its result as JSON",
        "An ARGUMENT is JSON. @FILE sends the bytes of a file, - those of standard input;\n"
        "@text:FILE sends a file as text, @json:FILE as the JSON that is in it. What JSON\n"
        "has no word for is written as an object with one member: {\"$bin\": BASE64},\n"
        "{\"$float\": \"NaN\"}, {\"$bigint\": \"0xff\"}, {\"$map\": [[KEY, VALUE], ...]},\n"
        "{\"$f64\": [1.5]} and more, see knit(1). Results are printed in the same way.\n",
        "task", false, knit_tool_call},
    {"batch", "TASK [FILE]", "call a task for each line of a file or of standard input",
        "A line is the JSON array of one call's arguments: [2, 3], or [] for none. Calls are\n"
        "made side by side, and each line has one line of output, in the same order: its\n"
        "result; where it failed an empty one, and the error on standard error. With --json\n"
        "it is {\"result\": ...} or {\"error\": {...}}. The exit status is 1 if any failed.\n",
        "task file", false, knit_tool_batch},
    {"tasks", "", "list the tasks with their signatures", "", "", false, knit_tool_tasks},
    {"describe", "TASK", "print a task's signature, description, module and limits", "", "task",
        false, knit_tool_describe},
    {"ping", "", "see whether the daemon answers and a worker can serve, and how fast",
        "The exit status is 4 when no worker can serve.\n", "", false, knit_tool_ping},
    {"health", "", "the same as a probe: exit status 0 ready, 1 degraded, 2 not reachable", "", "",
        false, knit_tool_health},
    {"stats", "", "print the daemon's counters", "", "", false, knit_tool_stats},
    {"calls", "", "list what runs and waits; for root and the daemon's user",
        "A call's address is SESSION.SLOT.GENERATION; no other call ever has the same.\n", "",
        false, knit_tool_calls},
    {"sessions", "", "list who is attached by shared memory, and the daemon's event loops",
        "For root and the daemon's user.\n", "", false, knit_tool_sessions},
    {"top", "", "watch calls, workers and sessions, and end calls; ? lists its keys",
        "With --once, or where its output is no terminal that obeys escape sequences (TERM=dumb,\n"
        "or not set), it prints one look as text; with --json as {\"stats\": ..., \"calls\": ...,\n"
        "\"sessions\": ...}. For root and the daemon's user.\n",
        "", false, knit_tool_top},
    {"stop", "CALL...", "ask calls to stop, by the addresses that knit calls prints",
        "What waits is not started, what runs is told and may go on. For root and the daemon's\n"
        "user.\n",
        "", false, knit_tool_stop},
    {"kill", "CALL...", "the same, and kill the worker of one that goes on",
        "For root and the daemon's user.\n", "", false, knit_tool_kill},
    {"lift", "TASK", "serve a quarantined task again; for root and the daemon's user", "", "task",
        false, knit_tool_lift},
    {"drain", "", "let the daemon finish its calls and end; for root and its own user",
        "It accepts no more connections and tells its callers to go elsewhere. Returns when it\n"
        "has begun to.\n",
        "", false, knit_tool_drain},
    {"token", "NAME FILE", "make a token for a caller, and its line for the daemon",
        "Writes 256 random bits to FILE, which must be new and is for the caller alone, and\n"
        "prints the line for the daemon's file of tokens, which is no secret.\n",
        "", false, knit_tool_token},
    {"reload", "", "read policy and certificates again; for root and the daemon's user", "", "",
        false, knit_tool_reload},
    {"policy", "check FILE | why PRINCIPAL TASK", "look at a policy",
        "check says what is wrong with a file, without a daemon. why asks the daemon whether a\n"
        "principal, as user:alice, token:billing or anonymous, may run a task or use a method,\n"
        "and which line says so: exit status 0 it may, 1 it may not. For root and the daemon's\n"
        "user.\n",
        "", false, knit_tool_policy},
    {"check", "PID", "look through a daemon's memory for what is broken",
        "For the daemon's own user and root. It only reads, and asks the daemon nothing, so\n"
        "it works on one that is stuck.\n",
        "pid", false, knit_tool_check},
    {"bench", "[OPTION...] [TASK]", "put load on a pool and print its figures",
        "Runs knit-bench, which stands beside knit; knit bench --help has its options. Its\n"
        "address is that of knit --url, which stands before the word bench, else the default\n"
        "socket, by shm://.\n",
        "", true, knit_tool_bench},
    {"help", "[COMMAND]", "print what commands and options there are, or one command's", "",
        "command", false, knit_tool_help},
    {"version", "", "print the version", "", "", false, knit_tool_version},
};
const size_t knit_tool_commands_count = sizeof(knit_tool_commands) / sizeof(knit_tool_commands[0]);

static const char *set_url(struct knit_tool *tool, const char *value)
{
    tool->url = value;
    tool->has_url = true;
    return NULL;
}

static const char *set_token_file(struct knit_tool *tool, const char *value)
{
    tool->token_file = value;
    return NULL;
}

static const char *set_timeout(struct knit_tool *tool, const char *value)
{
    char *end;

    errno = 0;
    tool->timeout_ms = strtod(value, &end);
    if (end == value || *end != '\0' || errno != 0 || !isfinite(tool->timeout_ms) ||
        tool->timeout_ms < 0)
        return "a number of milliseconds";
    tool->has_timeout = true;
    return NULL;
}

static const char *set_timeout_default(struct knit_tool *tool, const char *value)
{
    tool->timeout_default = value;
    return NULL;
}

static const char *set_timeout_maybe(struct knit_tool *tool, const char *value)
{
    (void)value;
    tool->timeout_maybe = true;
    return NULL;
}

static const char *set_timeout_error(struct knit_tool *tool, const char *value)
{
    tool->timeout_error = value;
    return NULL;
}

/* A number from 1 to `most`; false: it is none. */
static bool read_count(const char *value, unsigned long most, uint32_t *ret)
{
    char *end;
    unsigned long count = strtoul(value, &end, 10);

    if (end == value || *end != '\0' || !isdigit((unsigned char)value[0]) || count < 1 ||
        count > most)
        return false;
    *ret = (uint32_t)count;
    return true;
}

static const char *set_jobs(struct knit_tool *tool, const char *value)
{
    return read_count(value, JOBS_MAX, &tool->jobs) ? NULL : "a number from 1 to 1000";
}

static const char *set_queue_max(struct knit_tool *tool, const char *value)
{
    return read_count(value, QUEUE_MAX_MAX, &tool->queue_max) ? NULL : "a number from 1 to 65535";
}

static const char *set_raw(struct knit_tool *tool, const char *value)
{
    (void)value;
    tool->is_raw = true;
    return NULL;
}

static const char *set_json(struct knit_tool *tool, const char *value)
{
    (void)value;
    tool->is_json = true;
    return NULL;
}

static const char *set_output(struct knit_tool *tool, const char *value)
{
    (void)value;
    tool->wants_output = true;
    return NULL;
}

static const char *set_priority(struct knit_tool *tool, const char *value)
{
    static const char *const names[] = {"urgent", "normal", "background"};

    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(value, names[i]) == 0) {
            tool->priority = i;
            tool->has_priority = true;
            return NULL;
        }
    }
    return "urgent, normal or background";
}

static const char *set_affinity(struct knit_tool *tool, const char *value)
{
    char *end;

    errno = 0;
    tool->affinity = strtoull(value, &end, 10);
    if (errno != 0 || *end != '\0' || !isdigit((unsigned char)value[0]) || tool->affinity == 0)
        return "a number from 1 to 18446744073709551615";
    return NULL;
}

static const char *set_tls_ca(struct knit_tool *tool, const char *value)
{
    tool->tls.ca_file = value;
    tool->has_tls = true;
    return NULL;
}

static const char *set_tls_cert(struct knit_tool *tool, const char *value)
{
    tool->tls.certificate_file = value;
    tool->has_tls = true;
    return NULL;
}

static const char *set_tls_key(struct knit_tool *tool, const char *value)
{
    tool->tls.key_file = value;
    tool->has_tls = true;
    return NULL;
}

static const char *set_tls_pin(struct knit_tool *tool, const char *value)
{
    tool->tls.pin = value;
    tool->has_tls = true;
    return NULL;
}

static const char *set_tls_pin_only(struct knit_tool *tool, const char *value)
{
    (void)value;
    tool->tls.pin_only = true;
    tool->has_tls = true;
    return NULL;
}

static const char *set_key(struct knit_tool *tool, const char *value)
{
    tool->key = value;
    return value[0] != '\0' && strlen(value) <= KNIT_KEY_BYTES_MAX ? NULL
                                                                   : "a text of 1 to 64 bytes";
}

static const char *set_once(struct knit_tool *tool, const char *value)
{
    (void)value;
    tool->is_once = true;
    return NULL;
}

static const char *set_grace(struct knit_tool *tool, const char *value)
{
    tool->has_grace = true;
    if (strcmp(value, "0") != 0 && !read_count(value, GRACE_MS_MAX, &tool->grace_ms))
        return "a number from 0 to 86400000";
    return NULL;
}

static const char *set_trace(struct knit_tool *tool, const char *value)
{
    struct knit_trace trace;

    tool->trace = value;
    return knit_trace_parse(knit_span_text(value), &trace)
               ? NULL
               : "a W3C traceparent, as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
}

static const char *set_retries(struct knit_tool *tool, const char *value)
{
    return read_count(value, RETRIES_MAX, &tool->retries) ? NULL : "a number from 1 to 1000";
}

const struct knit_tool_option knit_tool_options[] = {
    {'u', "url", "URL", NULL,
        "knit://HOST[:PORT], knits://HOST[:PORT], unix:///PATH or\n"
        "shm:///PATH; default: $KNITTING_URL, else the default socket of\n"
        "the daemon by unix://",
        set_url},
    {OPTION_TOKEN_FILE, "token-file", "FILE", CONNECTING,
        "the file with the token by which the daemon knows the caller;\n"
        "default: $KNITTING_TOKEN_FILE, or the token itself in\n"
        "$KNITTING_TOKEN",
        set_token_file},
    {OPTION_TLS_CA, "tls-ca", "PEM", CONNECTING,
        "knits://: authorities to trust in place of the system's", set_tls_ca},
    {OPTION_TLS_CERT, "tls-cert", "PEM", CONNECTING, "knits://: this caller's certificate",
        set_tls_cert},
    {OPTION_TLS_KEY, "tls-key", "PEM", CONNECTING,
        "knits://: its key, if it does not stand in the same file", set_tls_key},
    {OPTION_TLS_PIN, "tls-pin", "PIN", CONNECTING,
        "knits://: sha256//BASE64 of the server's public key", set_tls_pin},
    {OPTION_TLS_PIN_ONLY, "tls-pin-only", NULL, CONNECTING, "knits://: verify that alone",
        set_tls_pin_only},
    {'t', "timeout", "MS", ASKING,
        "how many milliseconds connecting, and then the call, may take;\n"
        "a call with 0 has expired already",
        set_timeout},
    {OPTION_DEFAULT, "default", "JSON", "call batch",
        "the result of a call whose time is over, which is no failure then", set_timeout_default},
    {OPTION_MAYBE, "maybe", NULL, "call batch", "the same with null", set_timeout_maybe},
    {OPTION_ERROR, "error", "TEXT", "call batch",
        "the message of the error TIMEOUT, if none of those two is given", set_timeout_error},
    {OPTION_PRIORITY, "priority", "WORD", "call batch",
        "urgent, normal or background: which of the calls of this\n"
        "connection that wait comes first",
        set_priority},
    {OPTION_AFFINITY, "affinity", "N", "call batch",
        "calls of one number go to one worker, as long as it lives", set_affinity},
    {OPTION_KEY, "key", "TEXT", "call", "made again with it within a minute, the call runs once",
        set_key},
    {OPTION_TRACEPARENT, "traceparent", "TEXT", "call batch",
        "the W3C traceparent of the span that makes the calls", set_trace},
    {OPTION_RETRIES, "retries", "N", "call batch",
        "make a call up to N times more that has not started, as one that\n"
        "is refused since the pool is busy",
        set_retries},
    {OPTION_ONCE, "once", NULL, "top", "print one look and end", set_once},
    {OPTION_GRACE, "grace", "MS", "kill top",
        "how many milliseconds the task may go on; default: the daemon's\n"
        "abort_grace_ms",
        set_grace},
    {'j', "jobs", "N", "batch", "calls in flight at most, 64 unless given", set_jobs},
    {OPTION_QUEUE_MAX, "queue-max", "N", "batch",
        "a call is refused as OVERLOADED where so many are in flight already", set_queue_max},
    {OPTION_RAW, "raw", NULL, "call stats",
        "print the bytes of a str or bin as they are, anything else as\n"
        "msgpack",
        set_raw},
    {OPTION_OUTPUT, "output", NULL, "call",
        "write what the task prints to stderr, when it has ended", set_output},
    {OPTION_JSON, "json", NULL, NULL, "print everything as JSON, errors too", set_json},
    {'h', "help", NULL, NULL, "the same as the command help", NULL},
    {'V', "version", NULL, NULL, "the same as the command version", NULL},
};
const size_t knit_tool_options_count = sizeof(knit_tool_options) / sizeof(knit_tool_options[0]);
