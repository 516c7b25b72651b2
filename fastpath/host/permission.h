/* SPDX-License-Identifier: Apache-2.0 */
/* What workers may touch, as it is asked for: by the settings of a daemon and by the options of a
 * program's pool, in the same words. It becomes the policy that workers are started with.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/confine/confine.h"
#include "proto/sentence.h"

enum {
    KNIT_PERMISSION_E_REFUSED = 1, /* the sentence says why */
};

/* Lists end with NULL; NULL = nothing. Of the four limits KNIT_CONFINE_NO_LIMIT is none. */
struct knit_permission {
    const char *owner; /* what stands before each name in a sentence: "worker.", "" */
    enum knit_confine_profile profile;
    bool is_required; /* workers do not start where a part of it cannot be enforced */
    const char *const *read_paths, *const *write_paths, *const *connect_ports, *const *listen_ports;
    bool udp_sockets, unix_sockets, exec_programs;
    uint64_t memory_max_bytes, files_max, core_max_bytes, file_max_bytes;
};

/* files_max unless it is given: a part of what this process may have. */
uint64_t knit_permission_files_preset(void);

/* Whether it goes together: ports are ports, limits in their range, and nothing is opened that the
 * profile closes. Returns 0 or KNIT_PERMISSION_E_REFUSED. */
KNIT_MUST_CHECK int knit_permission_check(
    const struct knit_permission *permission, struct knit_sentence *ret_why);

/* The policy, of what was checked. Paths are made real, so they have to be there. Returns 0,
 * KNIT_PERMISSION_E_REFUSED or -ENOMEM; free it in any case. */
KNIT_MUST_CHECK int knit_permission_policy(const struct knit_permission *permission,
    struct knit_confine_policy *ret_policy, struct knit_sentence *ret_why);
void knit_permission_policy_free(struct knit_confine_policy *policy);
