/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory as an object of the kernel: create, hand over, check, map.
 *
 * A segment is a memfd: born mode 0777, therefore fchmod to 0600 at once, so that nobody of another
 * uid who holds a read-only descriptor can re-open it writable through /proc; sized once, then
 * sealed against shrinking, growing and further seals, so that no peer can make an access fault.
 *
 * That does not keep whoever may write from punching pages out, and while they go, each access of
 * anybody else to them sleeps in the kernel. A segment that a stranger writes is therefore born
 * loose: its writer maps it, then seals it, and from then on the mappings that there are go on
 * storing, while no page is taken out and no further mapping is writable. Whoever reads looks only
 * then. It is the writer who adds these seals: adding waits for a punch that is under way, while a
 * look whether they are there waits for nothing.
 *
 * Threads: any. Nothing blocks but knit_segment_seal(). Errors are -errno, or a KNIT_SEGMENT_E_*
 * of a peer's descriptor.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

enum {
    KNIT_SEGMENT_E_UNSEALED = 1, /* could shrink under us */
    KNIT_SEGMENT_E_SIZE = 2,     /* not the size its geometry asks for */
};

struct knit_mapping {
    void *base; /* NULL: nothing mapped */
    size_t bytes;
};

/* bytes: whole pages. The descriptor is close-on-exec and read-write. */
KNIT_MUST_CHECK int knit_segment_create(const char *name, uint64_t bytes, int *ret_fd);

/* The same, to be sealed by whoever will write. */
KNIT_MUST_CHECK int knit_segment_create_unsealed(const char *name, uint64_t bytes, int *ret_fd);

/* After one's own writable mapping; fd: read-write. Blocks while another holder punches. Returns 0
 * or -errno: a peer's descriptor may be of anything. */
KNIT_MUST_CHECK int knit_segment_seal(int fd);
KNIT_MUST_CHECK bool knit_segment_is_sealed(int fd);

/* A second descriptor of the same memory through which nothing can be written. Needs /proc. */
KNIT_MUST_CHECK int knit_segment_reopen_readonly(int fd, int *ret_fd);

/* Checks seals and size, then maps; not inherited by forked children, not in core dumps. Writable,
 * a loose one will do. */
KNIT_MUST_CHECK int knit_segment_map(
    int fd, uint64_t bytes, bool writable, struct knit_mapping *ret);
void knit_segment_unmap(struct knit_mapping *mapping);
