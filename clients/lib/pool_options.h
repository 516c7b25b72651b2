/* SPDX-License-Identifier: Apache-2.0 */
/* What a program opens a pool with, as the host of the pool takes it: defaults filled in, files
 * found.
 *
 * Threads: any.
 */
#pragma once

#include <limits.h>

#include <knitting/pool.h>

#include "fastpath/host/options.h"
#include "fastpath/lane/balancer.h"
#include "fastpath/worker/inliner.h"
#include "proto/sentence.h"

struct knit_pool_setup {
    struct knit_host_options host; /* its strings lie here, and in the caller's options */
    enum knit_balancer balancer;   /* of its sessions */
    unsigned debug;                /* enum knit_debug */
    bool ends_by_hard_timeout;     /* hard_timeout_scope = pool */
    char worker[PATH_MAX];
    char **modules;
    /* The inliner; AT_NONE: there is none, and the rest counts for nothing. */
    struct knit_inliner_settings inliner;
    const struct knit_module *inline_program;
    const char **inline_modules; /* [inline_count], of `modules` */
    uint32_t inline_count;
};

/* Returns 0, or KNIT_BAD_ARGUMENT or KNIT_INTERNAL with the sentence; knit_pool_setup_fini() is
 * needed in all cases. */
KNIT_MUST_CHECK int knit_pool_setup_init(struct knit_pool_setup *setup,
    const struct knit_module *program, const struct knit_pool_options *options,
    struct knit_sentence *ret_why);
void knit_pool_setup_fini(struct knit_pool_setup *setup);
