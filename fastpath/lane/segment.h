/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory as an object of the kernel: create, hand over, check, map.
 *
 * A segment is a memfd. The kernel creates it with mode 0777; fchmod to 0600 at once keeps a
 * process of another uid with a read-only descriptor from re-opening it writable through /proc. It
 * is sized once, then sealed against shrinking, growing and further seals, so that no peer can make
 * an access fault.
 *
 * These seals do not keep a writer from punching pages out, and while the kernel frees the pages,
 * each access of another process to them sleeps. A segment that an untrusted peer writes is
 * therefore created unsealed: its writer maps it, then seals it, and from then on existing mappings
 * go on storing, while no page can be punched out and no further mapping can be writable. Readers
 * map the segment only then. The writer adds these seals and not the reader, because adding waits
 * for a punch in progress and checking does not.
 *
 * Threads: any. Nothing blocks but knit_segment_seal(). Errors are -errno, or a KNIT_SEGMENT_E_* of
 * a peer's descriptor. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

enum {
    KNIT_SEGMENT_E_UNSEALED = 1, /* it could shrink while it is mapped */
    KNIT_SEGMENT_E_SIZE = 2,     /* not the size its geometry asks for */
};

struct knit_mapping {
    void *base; /* NULL: nothing mapped */
    size_t bytes;
};

/* bytes: whole pages. The descriptor is close-on-exec and read-write. */
KNIT_MUST_CHECK int knit_segment_create(const char *name, uint64_t bytes, int *ret_fd);

/* The same, to be sealed by its writer. */
KNIT_MUST_CHECK int knit_segment_create_unsealed(const char *name, uint64_t bytes, int *ret_fd);

/* By the writer, after its own writable mapping; fd: read-write. Blocks while another process
 * punches pages out. Returns 0 or -errno: a peer's descriptor may be no memfd. */
KNIT_MUST_CHECK int knit_segment_seal(int fd);
KNIT_MUST_CHECK bool knit_segment_is_sealed(int fd);

/* A second descriptor of the same memory through which nothing can be written. Needs /proc. */
KNIT_MUST_CHECK int knit_segment_reopen_readonly(int fd, int *ret_fd);
/* The same, read-write; fd: read-write, its file's mode allows it. The kernel counts descriptors
 * that were opened in this way, and not the one of memfd_create(): host/departed.c asks for the
 * count. */
KNIT_MUST_CHECK int knit_segment_reopen(int fd, int *ret_fd);

/* Checks seals and size, then maps; not inherited by forked children, not in core dumps. A segment
 * that is not sealed yet can be mapped writable only. */
KNIT_MUST_CHECK int knit_segment_map(
    int fd, uint64_t bytes, bool writable, struct knit_mapping *ret);
void knit_segment_unmap(struct knit_mapping *mapping);
