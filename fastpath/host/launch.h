/* SPDX-License-Identifier: Apache-2.0 */
/* What each worker of a pool is started with: copied once from the pool's options, the bytes of
 * program and modules included.
 *
 * Threads: immutable between init and fini.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/control/image.h"
#include "fastpath/host/options.h"

struct knit_launch {
    const char **argv;       /* the prefix, then the worker's path; NULL-ended */
    const char *worker_path; /* the last of argv */
    bool has_prefix;         /* the worker may be a child of the started process */
    const char **environment;
    char *mark;       /* the last of environment (kin.h); NULL = none is set */
    char *start_text; /* bootstrap text, modules, how each is loaded, paths to read, paths to write,
                         each with its NUL */
    size_t start_bytes;
    uint32_t modules, read_paths, write_paths; /* how many of each in it */
    const char *const *module_paths;           /* [modules] */
    struct knit_image *images;                 /* that of the program, then [modules] */
    int *fds;                                  /* the modules', then the program's */
    char program[KNIT_IMAGE_NAME_SIZE];        /* what the child executes; "" = argv[0] */
};

/* Returns 0, KNIT_HOST_E_STARTUP with a sentence, -errno, for which there may be one;
 * knit_launch_fini() is needed in all cases. */
KNIT_MUST_CHECK int knit_launch_init(struct knit_launch *launch,
    const struct knit_host_options *options, struct knit_sentence *ret_why);

/* Whether a worker can be started as the first one was. Returns 0; or not 0 with the sentence. */
KNIT_MUST_CHECK int knit_launch_check(
    const struct knit_launch *launch, struct knit_sentence *ret_why);

void knit_launch_fini(struct knit_launch *launch);

/* The next process that is started is that worker. */
void knit_launch_mark(struct knit_launch *launch, uint32_t serial);
