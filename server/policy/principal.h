/* SPDX-License-Identifier: Apache-2.0 */
/* Who calls, and what is charged for the calls.
 *
 * A principal is anonymous, which is everybody who comes by TCP, or a local user, whose credentials
 * the kernel vouches for. What a principal may do is asked in two places: by the router before it
 * publishes a call (knit_principal_refuses_call()) and by `$/attach` before it hands out a session
 * (knit_access_may_attach(), access.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum knit_principal_kind {
    KNIT_PRINCIPAL_ANONYMOUS,
    KNIT_PRINCIPAL_LOCAL,
};

struct knit_principal {
    enum knit_principal_kind kind;
    /* Of a local one. An anonymous one has -1, which is the id of no user and no group. */
    uid_t uid;
    gid_t gid;
    pid_t pid; /* for people; never a key, it may be another process by now */
    int fd;    /* borrowed: the socket that knows the supplementary groups; -1 = none does */
};

/* What the calls of a caller take. A slot counts until it is free, whatever the caller has been
 * told meanwhile. */
struct knit_account {
    uint32_t slots;
    size_t argument_bytes; /* in the request arena */
};

#define KNIT_PRINCIPAL_NAME_MAX 32

/* "anonymous", or "uid:1000". */
void knit_principal_name(
    const struct knit_principal *principal, char ret_name[KNIT_PRINCIPAL_NAME_MAX]);

/* Root, or the daemon's own user: whoever could end the daemon anyway. */
bool knit_principal_is_operator(const struct knit_principal *principal);

/* NULL, or why the principal may not run the task. All who reach a socket of the daemon may run
 * every task: the address that it listens on and the mode of its unix socket say who that is. */
static inline const char *knit_principal_refuses_call(
    const struct knit_principal *principal, uint32_t task)
{
    (void)principal, (void)task;
    return NULL;
}
