/* SPDX-License-Identifier: Apache-2.0 */
/* What the admin face shows, without who asks for it: its pages, and as they were made last.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"
#include "server/admin/face.h"

struct knit_face_page {
    const char *path, *type;
    int (*put)(struct knit_face *face, struct knit_buffer *text);
    const char *(*why_not)(const struct knit_face *face); /* of a probe, which has no put */
    const char *policy; /* of what a browser may do with it; NULL: nothing */
    bool lists_calls;   /* they are to be asked for, unless it is fresh */
};

/* Shared by all connections that it is sent to. */
struct knit_face_body {
    uint32_t users;
    uint64_t made_ns;
    struct knit_buffer text;
};

/* NULL: there is none. */
const struct knit_face_page *knit_face_pages_find(struct knit_span path);

/* Whether it was made a moment ago. */
bool knit_face_pages_is_fresh(struct knit_face *face, const struct knit_face_page *page);

/* As it was made a moment ago, or anew; to be left. NULL: there is no memory. */
struct knit_face_body *knit_face_pages_body(
    struct knit_face *face, const struct knit_face_page *page);

/* Accepts NULL. */
void knit_face_pages_leave(struct knit_face_body *body);

/* Those with calls are out of date. */
void knit_face_pages_forget_calls(struct knit_face *face);

void knit_face_pages_fini(struct knit_face *face);
