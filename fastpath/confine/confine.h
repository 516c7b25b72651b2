/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker may access: the policy that its host sets, and how much of it is enforced.
 *
 * The worker confines itself after the dynamic linker has run and before it opens a module, while
 * it has one thread; so constructors of modules run confined too. No later action of a task can
 * lift it. A host may put a command in front of the worker (`prefix` in options.h); its
 * restrictions apply in addition.
 *
 * Profiles: `strict` (files may be read where modules and libraries lie, nothing else is open),
 * `custom` (as strict, and what the policy lists), `unsafe` (nothing is restricted). Limits hold in
 * all three if they are set.
 *
 * CONFINEMENT.md says which mechanism enforces what, and which alternatives were rejected.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"

#define KNIT_CONFINE_PORTS_MAX 64u
#define KNIT_CONFINE_PATHS_MAX 256u
#define KNIT_CONFINE_NO_LIMIT  UINT64_MAX

enum {
    KNIT_CONFINE_E_REFUSED = 1, /* what is wrong with the policy, or missing in the kernel */
};

enum knit_confine_profile {
    KNIT_CONFINE_UNSAFE, /* zeroed rules restrict nothing */
    KNIT_CONFINE_STRICT,
    KNIT_CONFINE_CUSTOM,
    KNIT_CONFINE_PROFILES, /* one more than the last */
};

/* TCP ports. */
struct knit_confine_ports {
    uint32_t is_any; /* all; the list is ignored */
    uint32_t count;
    uint16_t port[KNIT_CONFINE_PORTS_MAX];
};

static inline bool knit_confine_has_ports(const struct knit_confine_ports *ports)
{
    return ports->is_any || ports->count != 0;
}

/* As it is sent to the worker. Fields that open something have an effect only with `custom`. */
struct knit_confine_rules {
    uint32_t profile; /* enum knit_confine_profile */
    uint32_t
        is_required;   /* a part that cannot be enforced refuses the start; else it is reported */
    uint32_t may_exec; /* programs of the system's folders and of the paths to read, and memfds */
    uint32_t may_udp;
    uint32_t may_unix; /* connect unix sockets that have a path */
    uint32_t reserved;
    struct knit_confine_ports connect, listen;
    uint64_t memory_max_bytes; /* of these four KNIT_CONFINE_NO_LIMIT leaves the host's limit */
    uint64_t files_max;
    uint64_t core_max_bytes;
    uint64_t file_max_bytes; /* size of a file that it writes */
};

struct knit_confine_policy {
    struct knit_confine_rules rules;
    const char *const *read;  /* NULL-ended absolute paths, files or folders; or NULL */
    const char *const *write; /* the same, to be read, written, made, removed; only with `custom` */
};

/* What is enforced in a worker, as it is sent to the host. */
enum knit_confine_part {
    KNIT_CONFINE_PRIVILEGES = 1, /* no capabilities, none to be gained by exec */
    KNIT_CONFINE_FILES = 2,      /* Landlock */
    KNIT_CONFINE_PORTS = 4,  /* Landlock decides on TCP ports; else the calls decide on sockets */
    KNIT_CONFINE_SCOPES = 8, /* Landlock keeps signals and abstract sockets inside */
    KNIT_CONFINE_CALLS = 16, /* seccomp */
};

struct knit_confine_status {
    uint32_t profile;
    uint32_t parts;       /* enum knit_confine_part, or-ed */
    int32_t landlock_abi; /* 0 = none */
    uint32_t reserved;
};

/* No limits, nothing listed. */
void knit_confine_rules_init(struct knit_confine_rules *rules, enum knit_confine_profile profile);

/* Checks the policy by itself, not the kernel. Returns 0 or KNIT_CONFINE_E_REFUSED. */
KNIT_MUST_CHECK int knit_confine_check(
    const struct knit_confine_policy *policy, struct knit_sentence *ret_why);

/* "strict" and so on; NULL for any other number. */
const char *knit_confine_name(uint32_t profile);

/* In the worker, while it has one thread. modules: NULL-ended paths; the folder of each may be
 * read. Returns 0, and ret_missing says what is not enforced, "" when all is; or
 * KNIT_CONFINE_E_REFUSED, and it says why the worker must end; parts of the policy may be in force
 * then. May leave one descriptor open. */
KNIT_MUST_CHECK int knit_confine_apply(const struct knit_confine_policy *policy,
    const char *const *modules, struct knit_confine_status *ret_force,
    struct knit_sentence *ret_missing);

/* In the worker, after its modules were loaded: files that are opened meanwhile have numbers above
 * those of the modules' copies, which can be more than files_max. Returns 0 or
 * KNIT_CONFINE_E_REFUSED. */
KNIT_MUST_CHECK int knit_confine_limit_files(
    const struct knit_confine_rules *rules, struct knit_sentence *ret_why);

/* In the host, once, before it starts threads or workers: drops its privileges, and closes system
 * calls that no daemon makes. Workers inherit both, so a host with `unsafe` workers does not call
 * it. Returns 0 or -errno; ret_did, if not NULL, gets KNIT_CONFINE_PRIVILEGES and
 * KNIT_CONFINE_CALLS, each if it is in force. */
KNIT_MUST_CHECK int knit_confine_host(uint32_t *ret_did);
