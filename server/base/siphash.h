/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4 with 128 bits: a digest that nobody can aim at without the key.
 *
 *     struct knit_siphash hash;
 *
 *     knit_siphash_begin(&hash, &key);
 *     knit_siphash_add(&hash, bytes, len);
 *     digest = knit_siphash_end(&hash);
 *
 * Threads: the caller's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct knit_digest {
    uint64_t word[2];
};

struct knit_siphash {
    uint64_t v[4];
    uint64_t tail; /* of the last bytes, fewer than 8 */
    uint64_t len;
};

/* key: two random words. */
void knit_siphash_begin(struct knit_siphash *hash, const uint64_t key[2]);
void knit_siphash_add(struct knit_siphash *hash, const void *bytes, size_t len);
struct knit_digest knit_siphash_end(struct knit_siphash *hash);
