/* SPDX-License-Identifier: Apache-2.0 */
/* The two mechanisms, for confine_process.c: Landlock, which decides on files, TCP ports and
 * scopes, and seccomp, which decides on system calls and the numbers in their arguments.
 *
 * A plan is made from the policy and from the version of Landlock that the kernel has, and both
 * follow it: what Landlock does not know here is closed as a system call, or reported as missing.
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
    int abi_error;   /* why there is none: errno */
    bool may_tcp;    /* it may make TCP sockets */
    bool limits_tcp; /* only some ports are open, which only Landlock can tell apart */
    bool may_connect;
    bool may_bind;
};

/* The version of this kernel's Landlock, or 0 and its errno. */
int knit_confine_files_abi(int *ret_error);

/* Makes the rules of Landlock and enforces them. Returns 0, KNIT_CONFINE_E_REFUSED with a sentence,
 * or -errno. */
KNIT_MUST_CHECK int knit_confine_files(
    const struct knit_confine_plan *plan, struct knit_sentence *ret_why);

/* Restricts a worker to the system calls that it may make. Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_confine_calls(const struct knit_confine_plan *plan);

/* Closes the system calls that no host makes. Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_confine_calls_of_host(void);
