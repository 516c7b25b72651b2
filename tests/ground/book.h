/* SPDX-License-Identifier: Apache-2.0 */
/* What a test and the programs under it share: which call is to fail, and which ones there were.
 * The test writes it as a file and reads it back, knit_ground.py knows the offsets; each program
 * that give_way.c is loaded into maps the file named by $KNIT_GROUND.
 *
 * A place is where a call comes from: a hash of its name and of the frames above it, relative to
 * the files they lie in. So a place is the same in each run, in any order of the threads.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum {
    KNIT_GROUND_MEMORY = 1,     /* allocations */
    KNIT_GROUND_CALLS = 2,      /* system calls that allocate something */
    KNIT_GROUND_INTERRUPTS = 4, /* calls that wait, ended by EINTR */
};

enum { KNIT_GROUND_FRAMES = 24, KNIT_GROUND_ENTRIES = 65536, KNIT_GROUND_NAME_SIZE = 24 };

struct knit_ground_entry {
    uint64_t place;
    char name[KNIT_GROUND_NAME_SIZE];
};

struct knit_ground_book {
    /* Written by the test. */
    _Atomic uint32_t is_armed; /* 0: nothing is counted and nothing fails */
    uint32_t kinds;            /* which ones */
    uint32_t depth;            /* frames in a place */
    uint32_t nth;              /* the nth call from that place fails, 1 is the first; 0 = none */
    uint64_t place;
    /* Written by the programs. */
    _Atomic uint32_t passed; /* how often that place was passed */
    _Atomic uint32_t count;  /* calls that were counted */
    uint32_t pid;            /* of the one that failed; 0 = none did */
    int32_t error;           /* what it was given */
    uint32_t frames;
    char name[KNIT_GROUND_NAME_SIZE];
    char stack[KNIT_GROUND_FRAMES][64]; /* file+offset, innermost first */
    struct knit_ground_entry entries[KNIT_GROUND_ENTRIES];
};
