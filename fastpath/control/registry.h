/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of a pool: id <-> name, signature, limits. Immutable once built.
 *
 * A worker builds one from its modules (module.h) and announces it to the host as one run of bytes;
 * the host builds its own from these. Ids are places in the table, and the table is in the order of
 * modules, then of names, so that all workers that loaded the same modules count alike. Two
 * registries are the same when their bytes are.
 *
 * Threads: any number may read. Building is for one.
 * Limits: 65,536 tasks (the id has 16 bits), names of 128 bytes, signatures of 4,096, docs of
 * 1,024. Security: announced bytes come from a process that runs foreign code: every length is
 * checked, names and signatures are parsed again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buffer.h"
#include "proto/signature.h"
#include "proto/span.h"

#define KNIT_REGISTRY_TASKS_MAX     65536u
#define KNIT_REGISTRY_DOC_BYTES_MAX 1024u
#define KNIT_REGISTRY_BYTES_MAX     (64u << 20) /* of an announcement */
#define KNIT_REGISTRY_EPOCH_FIRST   1u
#define KNIT_REGISTRY_NEAREST_MAX   4096u

enum {
    KNIT_REGISTRY_E_FULL = 1,      /* one task more than there are ids */
    KNIT_REGISTRY_E_DUPLICATE = 2, /* a task of that name is there already */
    KNIT_REGISTRY_E_BAD = 3,       /* bytes that are no registry, or one of another version */
};

struct knit_registry_task {
    uint32_t id;
    const char *name;
    size_t name_len;
    const struct knit_signature *signature; /* its text: knit_signature_text() */
    const char *doc;                        /* "" when there is none */
    uint32_t timeout_ms;                    /* 0 = none */
    uint32_t hard_timeout_ms;               /* 0 = the pool's */
    uint32_t flags;                         /* KNIT_TASK_* */
};

struct knit_registry;

/* Empty, to be filled with knit_registry_add(). NULL when out of memory. */
struct knit_registry *knit_registry_new(uint32_t epoch);
struct knit_registry *knit_registry_free(struct knit_registry *registry);

/* Adds a copy of the task under the next id. The name is the signature's, and the signature is
 * taken over on success: `id`, `name` and `signature` of `task` do not count. A doc that is too
 * long is cut. Returns 0, KNIT_REGISTRY_E_FULL, KNIT_REGISTRY_E_DUPLICATE, -ENOMEM. */
int knit_registry_add(struct knit_registry *registry, const struct knit_registry_task *task,
    struct knit_signature *signature);

/* Append the announcement. Returns the buffer's error. */
int knit_registry_put(const struct knit_registry *registry, struct knit_buffer *buffer);

/* The reverse. Returns 0, KNIT_REGISTRY_E_BAD, KNIT_REGISTRY_E_FULL, KNIT_REGISTRY_E_DUPLICATE,
 * -ENOMEM. */
int knit_registry_parse(struct knit_span bytes, struct knit_registry **ret_registry);

uint32_t knit_registry_epoch(const struct knit_registry *registry);
uint32_t knit_registry_count(const struct knit_registry *registry);

/* NULL when there is no such task. O(1). */
const struct knit_registry_task *knit_registry_at(
    const struct knit_registry *registry, uint32_t id);
const struct knit_registry_task *knit_registry_find(
    const struct knit_registry *registry, const char *name, size_t len);

/* The task whose name is most like `name`, for "unknown task" messages; NULL when none is near.
 * Looks at KNIT_REGISTRY_NEAREST_MAX tasks at most, so that a flood of misspelt calls stays cheap.
 * */
const struct knit_registry_task *knit_registry_nearest(
    const struct knit_registry *registry, const char *name, size_t len);
