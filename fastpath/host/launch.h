/* SPDX-License-Identifier: Apache-2.0 */
/* What each worker of a pool is started with: copied once from the pool's options.
 *
 * Threads: immutable between init and fini.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/host/options.h"

struct knit_launch {
    const char **argv;       /* the prefix, then the worker's path; NULL-ended */
    const char *worker_path; /* the last of argv */
    bool has_prefix;         /* the worker may be a child of the started process */
    const char **environment;
    char *mark; /* the last of environment: names the worker to what it starts; NULL = none does */
    char
        *start_text; /* bootstrap text, modules, paths to read, paths to write, each with its NUL */
    size_t start_bytes;
    uint32_t modules, read_paths, write_paths; /* how many of each in it */
};

/* Returns 0 or -ENOMEM; knit_launch_fini() is needed in both cases. */
KNIT_MUST_CHECK int knit_launch_init(
    struct knit_launch *launch, const struct knit_pool_options *options);
void knit_launch_fini(struct knit_launch *launch);

/* The variable by which what a worker starts is known as its own; serial: of the worker's
 * process. */
#define KNIT_LAUNCH_MARK_SIZE 48
void knit_launch_make_mark(char *ret_mark, uint32_t serial);

/* The next process that is started is that worker. */
void knit_launch_mark(struct knit_launch *launch, uint32_t serial);
