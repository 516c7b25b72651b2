/* SPDX-License-Identifier: Apache-2.0 */
/* Every setting of the daemon, in one table.
 *
 * A row names the setting in the file ([section] key), on the command line (--name), its kind,
 * range, default and help line, and where its value lies in struct knit_settings. The file reader,
 * the command line, --help, the sample file and the test that checks the man page all read this
 * table and nothing else, so a setting cannot exist in one of them and be missing in another.
 *
 * A value comes from one of these places, later ones winning: the default, the file, the command
 * line; the environment instead of a default. A list that is given in one place replaces that of
 * an earlier place; within one place it grows. A single value given twice in one place is a mistake
 * and refused.
 *
 * Threads: filled before the first thread starts, constant afterwards.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/host/debug.h"
#include "proto/sentence.h"
#include "server/config/networks.h"

enum {
    KNIT_SETTING_E_REFUSED = 1, /* the sentence says why */
};

/* The value of a number that is `auto`; knit_settings_resolve() replaces it. */
#define KNIT_AUTO UINT64_MAX

#define KNIT_PROXIES_MAX 16

enum knit_setting_kind {
    KNIT_SETTING_NUMBER,      /* uint64_t; a size may carry KiB, MiB or GiB */
    KNIT_SETTING_AUTO_NUMBER, /* the same, or the word auto */
    KNIT_SETTING_MODE,        /* uint64_t, octal */
    KNIT_SETTING_SWITCH,      /* uint64_t, on or off */
    KNIT_SETTING_AUTO_SWITCH, /* the same, or the word auto */
    KNIT_SETTING_CHOICE,      /* uint64_t, index into `choices` */
    KNIT_SETTING_TEXT,        /* char *, NULL = not given */
    KNIT_SETTING_PATH,        /* char *, relative ones start at the file's folder */
    KNIT_SETTING_LIST,        /* struct knit_list, words */
    KNIT_SETTING_PATH_LIST,   /* struct knit_list, paths */
};

enum knit_setting_source {
    KNIT_SOURCE_DEFAULT,
    KNIT_SOURCE_FILE,
    KNIT_SOURCE_COMMAND_LINE,
    KNIT_SOURCE_ENVIRONMENT, /* $RUNTIME_DIRECTORY */
};

/* Where a value comes from. */
struct knit_setting_origin {
    enum knit_setting_source source;
    const char *folder; /* where relative paths start; NULL = where they stand */
    unsigned line;      /* of the file, or 0 */
};

struct knit_list {
    char **items; /* ended by NULL, or NULL: none */
    size_t count;
    unsigned *lines; /* of the file, on which each stands, or 0 */
};

/* Its words, ended by NULL, or NULL: none. */
static inline const char *const *knit_list_words(const struct knit_list *list)
{
    return (const char *const *)list->items;
}

/* The balancers, in the order of their names in the table. */
enum knit_balancer_choice {
    KNIT_BALANCER_CHOICE_ROUND_ROBIN,
    KNIT_BALANCER_CHOICE_FIRST_IDLE,
    KNIT_BALANCER_CHOICE_RANDOM_LANE,
    KNIT_BALANCER_CHOICE_FIRST_IDLE_OR_RANDOM,
    KNIT_BALANCER_CHOICE_LEAST_LOADED, /* behind it, another name of the first */
};

/* Whether clients show certificates, in the order of their names in the table. */
enum knit_tls_client_choice {
    KNIT_TLS_CLIENT_CHOICE_NONE,
    KNIT_TLS_CLIENT_CHOICE_OPTIONAL,
    KNIT_TLS_CLIENT_CHOICE_REQUIRED,
};

/* What a hard timeout ends, in the order of their names in the table. */
enum knit_scope_choice {
    KNIT_SCOPE_CHOICE_WORKER,
    KNIT_SCOPE_CHOICE_POOL,
};

/* Whether arenas grow as it is needed, in the order of their names in the table. */
enum knit_arena_mode_choice {
    KNIT_ARENA_MODE_CHOICE_GROWABLE,
    KNIT_ARENA_MODE_CHOICE_FIXED,
};

struct knit_settings {
    /* [server] */
    struct knit_list listen;
    struct knit_list listen_tls;
    struct knit_list proxy_from;
    struct knit_network proxies[KNIT_PROXIES_MAX]; /* the same, read */
    struct knit_list tls_certificate;
    struct knit_list tls_key;
    uint64_t tls_client; /* enum knit_tls_client_choice */
    char *tls_client_ca;
    char *tls_crl;
    char *tls_ticket_keys;
    char *socket;
    uint64_t socket_mode;
    char *socket_group;
    char *admin;
    struct knit_list admin_hosts;
    struct knit_list attach_users;
    struct knit_list attach_groups;
    char *policy;
    uint64_t allow_remote_without_authentication;
    char *tokens;
    uint64_t require_authentication;
    uint64_t reload_check_s;
    uint64_t threads_io;
    uint64_t max_connections;
    uint64_t message_max_bytes;
    uint64_t input_max_bytes;
    uint64_t message_max_s;
    uint64_t in_flight_max;
    uint64_t output_max_bytes;
    uint64_t output_total_max_bytes;
    uint64_t output_stall_s;
    uint64_t idle_timeout_s;
    uint64_t drain_ms;
    uint64_t busy_poll_turns;
    uint64_t max_backoff_ms;
    /* [pool] */
    struct knit_list modules;
    char *modules_root;
    uint64_t workers;
    uint64_t balancer;
    uint64_t steal;
    uint64_t inliner_position; /* enum knit_inliner_at */
    uint64_t inliner_batch;
    uint64_t inliner_dispatch_threshold;
    struct knit_list inliner_modules;
    uint64_t inline_unconfined;
    uint64_t sessions_per_user;
    uint64_t slots;
    uint64_t queue_max;
    uint64_t queue_delay_ms;
    uint64_t lane_depth_us;
    uint64_t arena_initial_bytes;
    uint64_t arena_bytes;
    uint64_t arena_mode; /* enum knit_arena_mode_choice */
    uint64_t call_max_bytes;
    uint64_t deferred_max;
    uint64_t hard_timeout_ms;
    uint64_t hard_timeout_scope; /* enum knit_scope_choice */
    uint64_t abort_grace_ms;
    uint64_t slow_call_ms;
    uint64_t notification_max_ms;
    uint64_t deaths_per_minute;
    char *bootstrap;
    char *worker_program;
    /* [worker] */
    uint64_t spin_us;
    uint64_t park_ms;
    uint64_t pause_ns;
    uint64_t permission; /* index of its choices; the rest of it is for confinement.c */
    struct knit_list read_paths;
    struct knit_list write_paths;
    struct knit_list connect_ports;
    struct knit_list listen_ports;
    uint64_t udp_sockets;
    uint64_t unix_sockets;
    uint64_t exec_programs;
    uint64_t memory_max_bytes;
    uint64_t files_max;
    uint64_t core_max_bytes;
    uint64_t file_max_bytes;
    /* [log] */
    uint64_t level;      /* enum knit_log_level */
    uint64_t log_format; /* enum knit_log_format */
    char *access_log;    /* "none", "log" or a path */
    char *otlp_endpoint; /* NULL: spans go nowhere */
    char *otlp_service_name;
    struct knit_list debug;
    /* enum knit_debug of fastpath/host/debug.h, all of them with level debug; by
     * knit_settings_resolve(). */
    unsigned debug_bits;

    /* Where each row's value came from and, for the file, on which line; whether it was `auto`. */
    uint8_t source[96];
    unsigned line[96];
    bool is_auto[96];
    const char *file; /* that was read, or NULL; borrowed */
};

struct knit_setting {
    const char *section;
    const char *key;  /* in the file; the same with '-' is the command line's name */
    const char *name; /* on the command line where that differs, else NULL */
    enum knit_setting_kind kind;
    size_t offset; /* in struct knit_settings */
    uint64_t min, max;
    const char *const *choices; /* of KNIT_SETTING_CHOICE, ended by NULL */
    const char *preset;         /* the default, in the form a user would write; NULL = not set */
    const char *argument;       /* what --help shows after the name */
    const char *help;           /* one sentence or two */
};

/* The table, and how many rows it has. */
extern const struct knit_setting knit_setting_table[];
extern const size_t knit_setting_count;

/* Sets every default. */
KNIT_MUST_CHECK int knit_settings_init(struct knit_settings *settings, struct knit_sentence *why);
void knit_settings_fini(struct knit_settings *settings);

/* The row of a key or of a long name, or NULL. */
const struct knit_setting *knit_setting_by_key(const char *section, const char *key);
const struct knit_setting *knit_setting_by_name(const char *name, size_t name_len);

/* The row that took the place of a key which is no longer there, or NULL. section: NULL = any, for
 * a long name, in which '-' counts as '_'. */
const struct knit_setting *knit_setting_successor(const char *section, const char *key);

/* Writes the long name of a row ("threads-io") without the dashes before it. */
void knit_setting_name(const struct knit_setting *setting, char *ret_name, size_t size);

/* Sets one setting from text. Returns 0, KNIT_SETTING_E_REFUSED with a sentence that names key and
 * expectation, or -ENOMEM. */
KNIT_MUST_CHECK int knit_setting_set(struct knit_settings *settings,
    const struct knit_setting *setting, const struct knit_setting_origin *origin, const char *text,
    struct knit_sentence *why);

/* Puts before a sentence that begins with "section.key: " where that setting was given: what it
 * means beside others, or on this machine, is looked at when all have been read. */
void knit_setting_say_where(const struct knit_settings *settings, struct knit_sentence *why);

/* Whether something but the default has set it. The row must be there. */
bool knit_setting_is_given(
    const struct knit_settings *settings, const char *section, const char *key);
