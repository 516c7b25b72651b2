/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker may touch: the policy that its host gives it, and what became of it.
 *
 * The worker confines itself, between the dynamic linker's work and its own: single-threaded,
 * before it opens any module, so that a module's constructors already run confined. Nothing that a
 * task does later opens a way back. A host that wants more puts a command before the worker (prefix
 * in pool.h), and the two add up.
 *
 * A profile is `strict` (files may be read where modules and libraries lie, nothing else is open),
 * `custom` (the same, and what the policy lists), or `unsafe` (nothing is restricted). Limits hold
 * in all three where they are given.
 *
 * Who enforces what, and what was rejected, is in fastpath/confine/CONFINEMENT.md.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/sentence.h"

#define KNIT_CONFINE_PORTS_MAX 64u
#define KNIT_CONFINE_PATHS_MAX 256u
#define KNIT_CONFINE_NO_LIMIT  UINT64_MAX

enum {
    KNIT_CONFINE_E_REFUSED = 1, /* the sentence says what this kernel, or this policy, lacks */
};

enum knit_confine_profile {
    KNIT_CONFINE_UNSAFE, /* zeroed rules restrict nothing */
    KNIT_CONFINE_STRICT,
    KNIT_CONFINE_CUSTOM,
    KNIT_CONFINE_PROFILES, /* one more than there are */
};

/* Ports of TCP. */
struct knit_confine_ports {
    uint32_t is_any; /* all of them, whatever is listed */
    uint32_t count;
    uint16_t port[KNIT_CONFINE_PORTS_MAX];
};

static inline bool knit_confine_has_ports(const struct knit_confine_ports *ports)
{
    return ports->is_any || ports->count != 0;
}

/* As it travels to the worker. What opens something counts with `custom` alone. */
struct knit_confine_rules {
    uint32_t profile;     /* enum knit_confine_profile */
    uint32_t is_required; /* what cannot be enforced refuses the start; else it is reported */
    uint32_t may_exec; /* programs of the system's folders and of the paths to read, and memfds */
    uint32_t may_udp;
    uint32_t may_unix; /* connect unix sockets that have a path */
    uint32_t reserved;
    struct knit_confine_ports connect, listen;
    uint64_t memory_max_bytes; /* these four: KNIT_CONFINE_NO_LIMIT = as the host has it */
    uint64_t files_max;
    uint64_t core_max_bytes;
    uint64_t file_max_bytes; /* size of a file that is written */
};

struct knit_confine_policy {
    struct knit_confine_rules rules;
    const char *const *read;  /* NULL-ended absolute paths, files or folders; or NULL */
    const char *const *write; /* the same: read, written, made, removed; `custom` alone */
};

/* What holds in a worker, as it travels to the host. */
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

/* 0 if the rules make sense by themselves, whoever wrote them; else KNIT_CONFINE_E_REFUSED. */
int knit_confine_check(const struct knit_confine_policy *policy, struct knit_sentence *ret_why);

/* "strict"; NULL for what is no profile. */
const char *knit_confine_name(uint32_t profile);

/* In the worker, single-threaded. modules: NULL-ended paths; the folder of each may be read.
 * Returns 0: ret_missing says what is not enforced, "" when all is. KNIT_CONFINE_E_REFUSED: it says
 * why the worker must not go on; parts of the policy may be in force then. May open one descriptor,
 * which stays. */
int knit_confine_apply(const struct knit_confine_policy *policy, const char *const *modules,
    struct knit_confine_status *ret_force, struct knit_sentence *ret_missing);

/* In the worker, after the last descriptor that it sends: files_max also bounds what it may send
 * while others of its uid have sent much that nobody has received, and tasks can do that. 0, or
 * KNIT_CONFINE_E_REFUSED and why. */
int knit_confine_limit_files(const struct knit_confine_rules *rules, struct knit_sentence *ret_why);

/* In the host, once, before its threads start and before it starts workers: privileges it does not
 * need any more, and calls that no daemon makes. What is dropped here is gone for workers too, so a
 * host with `unsafe` workers leaves it alone. Returns 0 or -errno; ret_did, if not NULL, gets
 * KNIT_CONFINE_PRIVILEGES and KNIT_CONFINE_CALLS as far as they hold. */
int knit_confine_host(uint32_t *ret_did);
