/* SPDX-License-Identifier: Apache-2.0 */
/* Part of <knitting/knitting.h>: the token by which a caller says who it is.
 *
 * `knit token` makes one, and the daemon knows its digest by the setting `tokens`. It is said to
 * the daemon alone, and where nobody can read it on its way: by knits://, unix:// and shm://; by
 * knit:// only to an address of this machine.
 *
 * The structure is read by knit_open() alone, which copies it. The file is read there and again
 * for each later connection of the session, so that a token that was replaced is used from then on.
 */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One of the two. */
struct knit_token_options {
    const char *file; /* holds the token; blanks and ends of lines round it do not count */
    const char *text; /* the token itself, of 16 to 1024 bytes */
    uint64_t reserved[4];
};

#ifdef __cplusplus
}
#endif
