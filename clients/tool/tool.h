/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of `knit` share: the command line, and how a run ends. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/knitting.h>

/* Exit statuses, as knit.1 lists them. */
enum {
    KNIT_TOOL_OK = 0,
    KNIT_TOOL_FAILED = 1,       /* TASK_FAILED, or a check found something */
    KNIT_TOOL_USAGE = 2,        /* the command line; nothing was called */
    KNIT_TOOL_DISCONNECTED = 3, /* no connection, or it was lost */
    KNIT_TOOL_REFUSED = 4,      /* the pool did not take the call */
    KNIT_TOOL_TIMEOUT = 5,
    KNIT_TOOL_BROKE = 6,       /* the worker died, or its result was invalid */
    KNIT_TOOL_OUTPUT = 7,      /* stdout could not be written */
    KNIT_TOOL_CANCELLED = 130, /* by Ctrl-C */
};

struct json_object;

struct knit_tool {
    const char *url;                /* as it was given, or that of the default socket */
    bool has_url;                   /* it was given, by the option or the environment */
    const char *token_file, *token; /* where it is, or itself; of the two one at most; or NULL */
    double timeout_ms;              /* negative: none */
    bool has_timeout;
    struct knit_tls_options tls;
    bool has_tls;  /* one of these was given */
    uint32_t jobs; /* calls in flight at most */
    bool is_raw;
    bool is_json;
    bool wants_output;
    uint32_t queue_max; /* 0: not given */
    bool has_priority;
    uint32_t priority; /* as struct knit_call_options has it */
    uint64_t affinity; /* 0: none */
    const char *key;   /* NULL: none */
    const char *trace; /* the same */
    uint32_t retries;  /* attempts beside the first */
    bool is_once;
    bool has_grace;
    uint32_t grace_ms;
    const char *timeout_default, *timeout_error; /* NULL: not given */
    bool timeout_maybe;
};

/* Each runs one command; argv are its own arguments. Returns the exit status. */
int knit_tool_call(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_batch(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_tasks(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_describe(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_health(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_ping(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_drain(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_lift(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_reload(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_policy(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_calls(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_sessions(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_stop(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_kill(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_top(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_stats(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_check(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_bench(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_help(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_token(const struct knit_tool *tool, int argc, char **argv);
int knit_tool_version(const struct knit_tool *tool, int argc, char **argv);

/* Opens the session, within --timeout; options NULL: for one call at a time. Returns KNIT_OK, or
 * the code of the error. */
KNIT_MUST_CHECK int knit_tool_try_open(const struct knit_tool *tool,
    const struct knit_open_options *options, struct knit **ret, struct knit_error *ret_error);

/* The same; on failure reports it. Returns the exit status. */
KNIT_MUST_CHECK int knit_tool_open(
    const struct knit_tool *tool, const struct knit_open_options *options, struct knit **ret);

/* For a call of one of the daemon's own methods. */
struct knit_call_options knit_tool_method_options(const struct knit_tool *tool);

/* One line about the error on stderr. Returns the exit status that goes with its code. */
int knit_tool_report(const struct knit_tool *tool, const struct knit_error *error);

/* The outcome of one line of many, as one line on stdout: with --json {"result": ...} or
 * {"error": {...}}, else the result, or nothing and the error on stderr. */
void knit_tool_put_outcome(const struct knit_tool *tool, const char *json);
void knit_tool_report_line(
    const struct knit_tool *tool, uint64_t line, const struct knit_error *error);

/* An error that the tool itself finds before it calls anything. */
void knit_tool_own_error(struct knit_error *ret_error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One line about a mistake on the command line. Returns KNIT_TOOL_USAGE. */
int knit_tool_usage(const struct knit_tool *tool, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for any other status that the tool itself finds. Returns it. */
int knit_tool_fail(const struct knit_tool *tool, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int knit_tool_no_memory(const struct knit_tool *tool);

/* Writes to stdout what others wrote, with escapes in place of what a terminal would obey; JSON
 * stays the same JSON, and a newline follows it. */
void knit_tool_put_text(const char *text);
void knit_tool_put_json(const char *text);
void knit_tool_put_object(struct json_object *object);

/* Writes to stderr what is to be known though nothing is wrong, with escapes too. */
void knit_tool_put_note(const struct knit_tool *tool, const char *text);
/* The same escapes, of a text that may hold anything, into memory: as much as fits, and a NUL. */
void knit_tool_escape(const char *text, size_t len, char *ret_text, size_t size);

/* Writes to stderr what a task printed, a line at a time, with escapes too; is_cut: that is not
 * all. */
void knit_tool_put_output(const struct knit_tool *tool, const char *text, size_t len, bool is_cut);

/* A task as knit tasks shows it, as text and as JSON. */
void knit_tool_print_task(const struct knit_task_info *info);
struct json_object *knit_tool_task_object(const struct knit_task_info *info);

/* Flushes stdout. Returns KNIT_TOOL_OK, or reports a failed write and returns KNIT_TOOL_OUTPUT. */
int knit_tool_finish(const struct knit_tool *tool);
