/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of a pool: id, name, signature, limits. Immutable once built.
 *
 * A worker builds one from its modules (module.h) and announces it to the host as bytes, from which
 * the host builds its own. Ids follow the order of modules, then of names, so all workers with the
 * same modules assign the same ids. Two registries are equal when their bytes are.
 *
 * Threads: any number may read; one builds.
 * Limits: 65,536 tasks (the id has 16 bits), names of 128 bytes, signatures of 4,096, docs of
 * 1,024. Security: announced bytes come from a process that runs foreign code, so every length
 * is checked, and names and signatures are parsed again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/limits.h"
#include "proto/precheck.h"
#include "proto/signature.h"
#include "proto/span.h"

#define KNIT_REGISTRY_TASKS_MAX      ((uint32_t)KNIT_TASKS_MAX)
#define KNIT_REGISTRY_DOC_BYTES_MAX  1024u
#define KNIT_REGISTRY_ON_TIMEOUT_MAX 2200u       /* what takes 2048 bytes, as a map */
#define KNIT_REGISTRY_BYTES_MAX      (64u << 20) /* of an announcement */
#define KNIT_REGISTRY_EPOCH_FIRST    1u
#define KNIT_REGISTRY_NEAREST_MAX    4096u

enum {
    KNIT_REGISTRY_E_FULL = 1,      /* more tasks than ids */
    KNIT_REGISTRY_E_DUPLICATE = 2, /* the registry has a task of that name */
    KNIT_REGISTRY_E_BAD = 3,       /* the bytes are no registry of this version */
};

struct knit_registry_task {
    uint32_t id;
    const char *name;
    size_t name_len;
    const struct knit_signature *signature; /* its text: knit_signature_text() */
    struct knit_precheck precheck;          /* of the signature */
    const char *doc;                        /* "" when there is none */
    uint32_t timeout_ms;                    /* 0 = none */
    uint32_t hard_timeout_ms;               /* 0 = the pool's */
    uint32_t flags;                         /* KNIT_TASK_* */
    struct knit_span on_timeout;            /* what a caller gets when timeout_ms are over, a map of
                                               substitute.h; absent = TIMEOUT */
    uint32_t module;                        /* by its place among the pool's; in an announcement
                                               what the worker says, and unchecked */
};

struct knit_registry;

/* An empty registry. NULL when out of memory. */
struct knit_registry *knit_registry_new(uint32_t epoch);
struct knit_registry *knit_registry_free(struct knit_registry *registry);

/* Adds a copy of the task under the next id. Its name is the signature's, and on success the
 * registry owns the signature; `id`, `name`, `signature` and `precheck` of `task` are ignored. A
 * doc that is too long is cut. Returns 0, KNIT_REGISTRY_E_FULL, KNIT_REGISTRY_E_DUPLICATE, or
 * -ENOMEM. */
KNIT_MUST_CHECK int knit_registry_add(struct knit_registry *registry,
    const struct knit_registry_task *task, struct knit_signature *signature);

/* Leaves out ids, so that the next task has this one: those are of tasks that others may run. Such
 * a registry cannot be announced. Returns 0, KNIT_REGISTRY_E_FULL (ids do not go back), -ENOMEM. */
KNIT_MUST_CHECK int knit_registry_skip(struct knit_registry *registry, uint32_t id);

/* Append the announcement. Returns the buffer's error. */
KNIT_MUST_CHECK int knit_registry_put(
    const struct knit_registry *registry, struct knit_buffer *buffer);

/* Builds a registry from an announcement. Returns 0, KNIT_REGISTRY_E_BAD, KNIT_REGISTRY_E_FULL,
 * KNIT_REGISTRY_E_DUPLICATE, -ENOMEM. */
KNIT_MUST_CHECK int knit_registry_parse(
    struct knit_span bytes, struct knit_registry **ret_registry);

uint32_t knit_registry_epoch(const struct knit_registry *registry);
uint32_t knit_registry_count(const struct knit_registry *registry);

/* NULL when there is no such task, or its id was left out. O(1). */
const struct knit_registry_task *knit_registry_at(
    const struct knit_registry *registry, uint32_t id);
const struct knit_registry_task *knit_registry_find(
    const struct knit_registry *registry, const char *name, size_t len);

/* The task whose name is nearest to `name`, for "unknown task" messages; NULL when none is near. At
 * most KNIT_REGISTRY_NEAREST_MAX tasks are compared, so that many misspelt calls stay cheap. */
const struct knit_registry_task *knit_registry_nearest(
    const struct knit_registry *registry, const char *name, size_t len);
