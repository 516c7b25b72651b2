/* SPDX-License-Identifier: Apache-2.0 */
/* What references.c and kept.c share: outcomes that are kept or expected, and the requests that
 * wait for them. See references.h. */
#pragma once

#include "proto/buffer.h"
#include "server/base/due.h"
#include "server/rpc/references.h"

/* The outcome of a request, there or expected. */
struct knit_kept {
    LIST_ENTRY(knit_kept) entry;
    TAILQ_ENTRY(knit_kept) in_until;
    struct knit_references *references;
    uint32_t msgid;
    uint32_t holes;    /* that refer to it */
    uint64_t uses;     /* further ones that may */
    uint64_t until_ns; /* of these, once it is there; 0: it is not, or for none */
    bool is_done, is_error;
    struct knit_buffer bytes; /* the result, or the error in full */
};

/* A request that waits for results. */
struct knit_bound {
    TAILQ_ENTRY(knit_bound) entry;
    struct knit_due due; /* its deadline; ns 0: it may not wait */
    struct knit_references *references;
    bool is_ready;
    bool has_late; /* its caller gets something else than TIMEOUT at the deadline */
    uint8_t priority;
    uint8_t passed; /* so many of earlier priorities have become ready since it has */
    uint32_t missing;
    uint32_t count;
    uint64_t since_ns;
    size_t size;
    struct {
        uint32_t index; /* of the argument */
        struct knit_kept *kept;
    } hole[KNIT_REFERENCES_MAX];
    struct knit_message message; /* it points to the bytes */
    uint8_t bytes[];
};

TAILQ_HEAD(knit_bound_list, knit_bound);

struct knit_references {
    TAILQ_ENTRY(knit_references) in_router;
    TAILQ_ENTRY(knit_references) in_due;
    struct knit_caller *caller;
    bool is_due;
    struct knit_bound_list waiting, ready;
    LIST_HEAD(, knit_kept) kept;
    uint32_t kept_count;
    size_t bytes; /* of requests and outcomes */
};

/* Of a caller, made if there are none. NULL: out of memory. */
struct knit_references *knit_kept_begin(struct knit_caller *caller);

/* The caller keeps so many bytes more; or, if it is less than nothing, fewer. */
static inline void knit_kept_count(const struct knit_caller *caller, size_t more)
{
    caller->router->referenced_bytes += more;
    if (caller->kept_by_tenant != NULL)
        *caller->kept_by_tenant += more;
}

/* What is kept for nobody yet makes room, the oldest first. False: that is too much. */
bool knit_kept_charge(struct knit_references *references, size_t bytes);

void knit_kept_uncharge(struct knit_references *references, size_t bytes);

/* NULL: there is none. */
struct knit_kept *knit_kept_find(
    const struct knit_references *references, uint32_t msgid, bool is_done);

/* That of a request in flight. NULL: there are too many, or there is no memory. */
struct knit_kept *knit_kept_expect(struct knit_references *references, uint32_t msgid);

void knit_kept_free(struct knit_references *references, struct knit_kept *kept);
void knit_kept_free_if_unused(struct knit_references *references, struct knit_kept *kept);

/* Nobody else refers to it from now on. */
void knit_kept_end_uses(struct knit_kept *kept);

/* The next turn brings what is ready of them. */
void knit_references_make_due(struct knit_references *references);

/* It waits no more. */
void knit_bound_make_ready(struct knit_references *references, struct knit_bound *bound);

static inline void knit_bound_leave_list(
    struct knit_references *references, struct knit_bound *bound)
{
    TAILQ_REMOVE(bound->is_ready ? &references->ready : &references->waiting, bound, entry);
}
