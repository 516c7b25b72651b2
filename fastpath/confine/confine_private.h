/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of confining a process, for confine.c and nobody else: Landlock, which knows files,
 * TCP ports and scopes, and seccomp, which knows system calls and the numbers in their arguments.
 *
 * One plan is made from the policy and from what Landlock of this kernel can do, and both follow
 * it: what Landlock does not know here is closed as a call, or named as missing.
 */
#pragma once

#include "fastpath/confine/confine.h"

/* The first version of Landlock's ABI that knows each. */
enum {
    KNIT_LANDLOCK_REFER = 2,
    KNIT_LANDLOCK_TRUNCATE = 3,
    KNIT_LANDLOCK_PORTS = 4,
    KNIT_LANDLOCK_IOCTL = 5,
    KNIT_LANDLOCK_SCOPES = 6,
};

struct knit_confine_plan {
    const struct knit_confine_policy *policy;
    const char *const *modules;
    int abi;         /* of Landlock; 0 = none */
    int abi_error;   /* errno that asking for it gave */
    bool may_tcp;    /* make TCP sockets at all */
    bool limits_tcp; /* Landlock has to tell ports apart */
    bool may_connect;
    bool may_bind;
};

/* The ABI of this kernel's Landlock, or 0 and why. */
int knit_confine_files_abi(int *ret_error);

/* Landlock: rules and domain. Returns 0, KNIT_CONFINE_E_REFUSED with a sentence, or -errno. */
int knit_confine_files(const struct knit_confine_plan *plan, struct knit_sentence *ret_why);

/* seccomp: the calls a worker may make. Returns 0 or -errno. */
int knit_confine_calls(const struct knit_confine_plan *plan);

/* seccomp: the calls a host does not make. */
int knit_confine_calls_of_host(void);
