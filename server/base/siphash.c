/* SPDX-License-Identifier: Apache-2.0 */
/* As its authors have it (Aumasson, Bernstein: "SipHash: a fast short-input PRF"). */
#include "server/base/siphash.h"

#include <string.h>

enum { ROUNDS = 2, LAST_ROUNDS = 4 };

static inline uint64_t rotate(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void mix(uint64_t v[4], int rounds)
{
    for (int i = 0; i < rounds; i++) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

static inline void take(struct knit_siphash *hash, uint64_t word)
{
    hash->v[3] ^= word;
    mix(hash->v, ROUNDS);
    hash->v[0] ^= word;
}

void knit_siphash_begin(struct knit_siphash *hash, const uint64_t key[2])
{
    *hash = (struct knit_siphash){
        .v = {UINT64_C(0x736f6d6570736575) ^ key[0], UINT64_C(0x646f72616e646f6d) ^ key[1] ^ 0xee,
            UINT64_C(0x6c7967656e657261) ^ key[0], UINT64_C(0x7465646279746573) ^ key[1]}};
}

void knit_siphash_add(struct knit_siphash *hash, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint64_t word;

    while (len > 0 && (hash->len % 8 != 0 || len < 8)) {
        hash->tail |= (uint64_t)*at++ << 8 * (hash->len % 8);
        hash->len++;
        len--;
        if (hash->len % 8 == 0) {
            take(hash, hash->tail);
            hash->tail = 0;
        }
    }
    for (; len >= 8; len -= 8, at += 8) {
        memcpy(&word, at, sizeof(word));
        take(hash, word);
        hash->len += 8;
    }
    for (; len > 0; len--, hash->len++)
        hash->tail |= (uint64_t)*at++ << 8 * (hash->len % 8);
}

static uint64_t fold(struct knit_siphash *hash)
{
    mix(hash->v, LAST_ROUNDS);
    return hash->v[0] ^ hash->v[1] ^ hash->v[2] ^ hash->v[3];
}

struct knit_digest knit_siphash_end(struct knit_siphash *hash)
{
    struct knit_digest digest;

    take(hash, hash->tail | hash->len << 56);
    hash->v[2] ^= 0xee;
    digest.word[0] = fold(hash);
    hash->v[1] ^= 0xdd;
    digest.word[1] = fold(hash);
    return digest;
}
