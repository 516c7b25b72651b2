/* SPDX-License-Identifier: Apache-2.0 */
/* The shared memory of a pool: what lies where, and who may write it. LAYOUT.md draws it and holds
 * the state tables.
 *
 * Kinds of memory, each with one writing side:
 *
 *   request segment   one a session; written by its caller, mapped read-only by workers and host
 *   reply segment     one a session; written by workers and host, mapped read-only by the caller
 *   board             one a pool; written by workers and host, mapped read-only by callers
 *   pool segment      one a pool; host and workers only
 *   rights            one a pool; written by the host, mapped read-only by workers, no caller's
 *
 * Shared memory holds no addresses: each side computes offsets from a struct knit_geometry that
 * came over the control socket and is kept in private memory. The copy in a segment's first page is
 * for tools alone. What is read from the other side's segment is hostile: it is loaded once into a
 * local, checked, and only then used.
 *
 * Threads: pure functions and types. Any change here raises KNIT_LAYOUT_VERSION and changes
 * LAYOUT.md.
 */
#pragma once

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastpath/lane/words.h"

#define KNIT_LAYOUT_VERSION 2u
#define KNIT_LAYOUT_MAGIC   0x676e697474696e6bull /* "knitting" */

#define KNIT_LINE         64u
#define KNIT_PAGE         4096u
#define KNIT_LANES_MAX    256u
#define KNIT_LANE_WORDS   4u /* a bit for each lane */
#define KNIT_SLOTS_MAX    16368u
#define KNIT_TASKS        65536u /* ids that fit a cell */
#define KNIT_CLASSES_MAX  4u     /* rings of a lane in one session, enum knit_ring */
#define KNIT_INLINE_MAX   104u   /* bytes of a request or a reply that travel inside a cell */
#define KNIT_SLAB_BYTES   1024u  /* of a request or a reply that lie in the slab of its slot */
#define KNIT_CELL_WORDS   13u
#define KNIT_VALUE_MAX    112u /* bytes of a progress value */
#define KNIT_VALUE_WORDS  14u
#define KNIT_HEAD_WORDS   5u  /* of the body, in the cell's first line */
#define KNIT_CELLS_SPARE  16u /* a ring has so many cells more than slots, or more */
#define KNIT_HEAD_LAG_MAX 15u /* `head` is at most so many positions behind the claims */
#define KNIT_ARENA_MAX    (1ull << 40)
#define KNIT_ARENA_ALIGN  64u

#define KNIT_SLOTS_DEFAULT 1008u
#define KNIT_ARENA_DEFAULT (64ull << 20)

#define KNIT_NO_BLOCK UINT64_MAX
#define KNIT_NO_SLOT  UINT32_MAX

/* Owners of a claim: 24 bits, a new one for each worker process, not reused while a claim bears
 * it. */
#define KNIT_OWNER_NONE 0u
#define KNIT_OWNER_HOST 1u
#define KNIT_OWNER_MAX  0xffffffu

/* What a session's segments measure. Plain numbers, private, checked by knit_geometry_check(). */
struct knit_geometry {
    uint32_t version;             /* KNIT_LAYOUT_VERSION */
    uint32_t lanes;               /* 1..KNIT_LANES_MAX */
    uint32_t slots;               /* 1..KNIT_SLOTS_MAX */
    uint32_t cells;               /* of a ring: a power of two, >= slots + KNIT_CELLS_SPARE */
    uint32_t features;            /* bits of KNIT_FEATURES that were granted */
    uint32_t classes;             /* rings of each lane: 1..KNIT_CLASSES_MAX */
    uint32_t streams;             /* slots whose calls answer in pieces: 0 */
    uint32_t reserved;            /* 0 */
    uint64_t request_arena_bytes; /* whole pages, up to KNIT_ARENA_MAX */
    uint64_t reply_arena_bytes;   /* of each lane; whole pages, up to KNIT_ARENA_MAX */
};

/* ---- cells ---------------------------------------------------------------------------------- */

/* A call as its caller published it: head line and spill line. With KNIT_CELL_IN_ARENA, body[0] is
 * the offset of the argument's bytes in the request arena; without it, what is longer than the body
 * lies in the slot's slab. */
struct knit_request_cell {
    _Atomic uint64_t ctrl;     /* stored last, release: publishes the rest */
    _Atomic uint64_t deadline; /* ns of the host's CLOCK_MONOTONIC; 0 = none */
    _Atomic uint64_t meta;
    _Atomic uint64_t body[KNIT_CELL_WORDS];
};

/* The outcome of a slot's last answered call; without KNIT_CELL_IN_ARENA, what is longer than the
 * body lies in the slot's slab. */
struct knit_reply_cell {
    _Atomic uint64_t word;  /* stored last, release: publishes the rest */
    _Atomic uint64_t meta;  /* lane that answered, in whose arena a block lies; length */
    _Atomic uint64_t block; /* with KNIT_CELL_IN_ARENA: offset in that lane's arena */
    _Atomic uint64_t body[KNIT_CELL_WORDS];
};

static_assert(sizeof(struct knit_request_cell) == 2 * KNIT_LINE, "a cell is two lines");
static_assert(sizeof(struct knit_reply_cell) == 2 * KNIT_LINE, "a cell is two lines");
static_assert(KNIT_CELL_WORDS * 8 == KNIT_INLINE_MAX, "INLINE is the body of a cell");
static_assert(offsetof(struct knit_request_cell, body[KNIT_HEAD_WORDS]) == KNIT_LINE,
    "40 bytes of body lie in the head line");
static_assert(KNIT_VALUE_WORDS * 8 == KNIT_VALUE_MAX, "a value is the body of its cell");
static_assert(KNIT_LANE_WORDS * 64 == KNIT_LANES_MAX && KNIT_LANE_WORDS * 8 <= KNIT_LINE,
    "bits for all lanes lie in one line");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
    "words shared between processes are lock-free");

/* ---- lines ---------------------------------------------------------------------------------- */

/* A 32-bit word with a cache line of its own. */
struct knit_line32 {
    _Alignas(KNIT_LINE) _Atomic uint32_t value;
};

/* Board: whether a lane's worker sleeps, and on which core it looked last. */
struct knit_park_line {
    _Alignas(KNIT_LINE) _Atomic uint32_t value; /* the park word, words.h */
    _Atomic uint32_t core;                      /* counted from 1; 0 = not known */
};

/* Reply segment: of each ring of a lane, how far it is consumed. */
struct knit_head_line {
    _Alignas(KNIT_LINE) _Atomic uint64_t value[KNIT_CLASSES_MAX];
};

/* Reply segment: the session's state, written by the host. */
struct knit_state_line {
    _Alignas(KNIT_LINE) _Atomic uint32_t state; /* enum knit_session_state, KNIT_STATE_STOPS */
    _Atomic uint32_t rescan; /* rises after a recovery: answers may have no completion */
};

enum knit_session_state {
    KNIT_STATE_OPEN = 0,
    KNIT_STATE_DRAINING = 1, /* nothing more is published; what is published is served */
    KNIT_STATE_CLOSED = 2,   /* the caller left or the pool closes: nothing more is claimed */
    KNIT_STATE_EVICTED = 3,  /* its request memory broke the protocol: nothing more is claimed */
};

/* A bit of that word, beside the state: the host asks calls of the session to stop. */
#define KNIT_STATE_STOPS 0x80000000u

/* Reply segment: a lane's own words for one session. A replacement worker continues with them. The
 * first is stored in each turn with answers; the caller reads the last with each release. */
struct knit_lane_line {
    _Alignas(KNIT_LINE) _Atomic uint64_t completion_tail; /* of the next turn's completions */
    _Alignas(KNIT_LINE) _Atomic uint64_t touched;         /* arena bytes this lane ever used here */
    _Atomic uint32_t blocked_on_arena; /* 1: a deferred reply waits until blocks are released */
};

/* Reply segment: the value that a slot's call emitted last. Request segment: why its caller aborted
 * it. emit.h reads and writes both. */
struct knit_progress_cell {
    _Alignas(KNIT_LINE) _Atomic uint64_t seq; /* gen40 | seq24; odd: it is being written */
    _Atomic uint64_t meta;                    /* count32 | len32 */
    _Atomic uint64_t body[KNIT_VALUE_WORDS];
};

/* Board: what a lane is doing; board.h reads and writes it. */
struct knit_busy_line {
    _Alignas(KNIT_LINE) _Atomic uint64_t calls; /* begun; stored once a turn */
    _Atomic uint64_t running; /* the call that runs, packed as in words.h; 0 = none */
    _Atomic uint64_t stolen;  /* calls claimed from other lanes' rings */
    _Atomic uint64_t parks;
    _Atomic uint64_t deadline_ns; /* of the call that was begun last, CLOCK_MONOTONIC; 0 = none */
    _Atomic uint64_t busy_ns;     /* spent in tasks, of short ones as runs.h estimates it */
    _Atomic uint64_t hard_ns; /* when the running call must be over, CLOCK_MONOTONIC; 0 = never */
    _Atomic uint32_t owner;   /* of the worker that serves the lane */
    _Atomic uint32_t task;    /* id of the task that was begun last: a crash is recorded for it */
};

/* Pool segment: what a worker noted of the signal that ends it, and whether it has answered a call;
 * note.h reads and writes it. */
struct knit_note_line {
    _Alignas(KNIT_LINE) _Atomic uint32_t owner; /* of that worker; stored last, release */
    _Atomic uint32_t signal;
    _Atomic uint32_t code;        /* si_code */
    _Atomic uint32_t answered_by; /* of the lane's worker that answered a call last */
    _Atomic uint64_t address;
    _Atomic uint64_t late;   /* deferred calls that were completed in vain, by all workers */
    _Atomic uint64_t denied; /* calls that their callers may not run, by the lane's workers */
    /* Hints for the other workers, see lane_reserve.h. */
    _Atomic uint64_t served[2]; /* mark32 | ms32 of the flows that were served last */
    _Atomic uint64_t long_call; /* mark32 | ms30 | state2 of the long call that runs, or is held */
};

static_assert(
    sizeof(struct knit_line32) == KNIT_LINE && sizeof(struct knit_head_line) == KNIT_LINE &&
        sizeof(struct knit_park_line) == KNIT_LINE && sizeof(struct knit_state_line) == KNIT_LINE &&
        sizeof(struct knit_lane_line) == 2 * KNIT_LINE &&
        sizeof(struct knit_progress_cell) == 2 * KNIT_LINE &&
        sizeof(struct knit_busy_line) == KNIT_LINE && sizeof(struct knit_note_line) == KNIT_LINE,
    "lines");

/* First page of each segment, for tools and as a last check that two programs mean the same. */
struct knit_segment_header {
    uint64_t magic;
    uint32_t version;
    uint32_t kind; /* enum knit_segment_kind */
    uint64_t total_bytes;
    uint64_t session; /* id, 0 for board and pool segment */
    struct knit_geometry geometry;
};

enum knit_segment_kind {
    KNIT_SEGMENT_REQUEST = 1,
    KNIT_SEGMENT_REPLY = 2,
    KNIT_SEGMENT_BOARD = 3,
    KNIT_SEGMENT_POOL = 4,
    KNIT_SEGMENT_RIGHTS = 5, /* rights.h */
};

static_assert(sizeof(struct knit_segment_header) == 80, "no padding: it is compared byte for byte");

/* ---- where things lie ----------------------------------------------------------------------- */

/* Pointers into one mapped request segment, which workers and host map read-only. */
struct knit_request_view {
    struct knit_segment_header *header;
    _Atomic uint32_t *waiting;     /* 0 = awake, else arm * 2 + kind (1: futex, 0: event loop) */
    _Atomic uint32_t *core;        /* that the caller waited on last, from 1; in the same line */
    _Atomic uint32_t *classes;     /* bits of the rings ever used, but NORMAL; in the same line */
    _Atomic uint64_t *occupied;    /* [KNIT_LANE_WORDS]; a bit for each lane with calls */
    _Atomic uint32_t *bell;        /* [lanes]; last park word notified */
    _Atomic uint64_t *abort;       /* [slots]; generation to abort, perhaps only if queued */
    _Atomic uint64_t *released;    /* [slots]; generation whose reply block is released */
    struct knit_trace_cell *trace; /* [slots], trace.h; of calls that are traced */
    struct knit_progress_cell *reason; /* [slots]; a text, of an abort that has one */
    struct knit_request_cell *ring;    /* [classes][lanes][cells] */
    unsigned char *slab;               /* [slots][KNIT_SLAB_BYTES] */
    unsigned char *arena;
};

/* Pointers into one mapped reply segment. The caller maps it read-only. */
struct knit_reply_view {
    struct knit_segment_header *header;
    struct knit_state_line *state;
    _Atomic uint32_t *notified;          /* last arm that was woken; only raised */
    _Atomic uint32_t *strays;            /* rises with answers to stolen calls; in the same line */
    _Atomic uint32_t *deferrals;         /* rises with calls that are deferred; in the same line */
    _Atomic uint64_t *claim;             /* [slots] */
    struct knit_reply_cell *reply;       /* [slots] */
    struct knit_progress_cell *progress; /* [slots] */
    struct knit_head_line *head;         /* [lanes]; consumer indices of the lane's rings */
    struct knit_lane_line *lane;         /* [lanes] */
    _Atomic uint32_t *completions;       /* [lanes][cells] */
    _Atomic uint64_t *stop;              /* [slots]; generation that the host asks to stop */
    unsigned char *slab;                 /* [slots][KNIT_SLAB_BYTES] */
    unsigned char *arena;                /* [lanes][reply_arena_bytes] */
};

struct knit_board_view {
    struct knit_segment_header *header;
    _Atomic uint64_t *parked;    /* [KNIT_LANE_WORDS]; a bit for each lane that may be PARKED */
    struct knit_park_line *park; /* [lanes] */
    struct knit_busy_line *busy; /* [lanes] */
    _Atomic uint32_t *mean_ns;   /* [KNIT_TASKS]; mean run of each task, by id; 0 = not known */
};

/* Whether a task may run (mark.h). The host writes it, workers read it before each call. */
enum knit_mark {
    KNIT_MARK_TRUSTED = 0,
    KNIT_MARK_QUARANTINED = 1, /* too many workers died in it lately: it is not run */
};

struct knit_pool_view {
    struct knit_segment_header *header;
    struct knit_line32 *lane_bell; /* [lanes]; fetch_add by host and siblings */
    struct knit_note_line *note;   /* [lanes]; by the lane's worker */
    _Atomic uint8_t *mark;         /* [KNIT_TASKS]; enum knit_mark of each task, by id */
    struct knit_run_row *run;      /* [lanes][KNIT_RUN_ROWS], runs.h; by the lane's worker */
    struct knit_moments *waited;   /* places.h; by workers */
};

/* The slot's slab, of those that begin there. */
static inline unsigned char *knit_slab(unsigned char *slabs, uint32_t slot)
{
    return slabs + (size_t)slot * KNIT_SLAB_BYTES;
}

/* 0, or a sentence that says what is wrong with the geometry. */
const char *knit_geometry_check(const struct knit_geometry *geometry);

/* The smallest ring that goes with so many slots. */
uint32_t knit_geometry_cells(uint32_t slots);

/* Bytes of each segment, whole pages. The geometry must have passed the check. */
uint64_t knit_layout_request_bytes(const struct knit_geometry *geometry);
uint64_t knit_layout_reply_bytes(const struct knit_geometry *geometry);
uint64_t knit_layout_board_bytes(uint32_t lanes);
uint64_t knit_layout_pool_bytes(uint32_t lanes);

/* Pointers into a mapping of at least those bytes. */
void knit_layout_request(
    const struct knit_geometry *geometry, void *base, struct knit_request_view *ret);
void knit_layout_reply(
    const struct knit_geometry *geometry, void *base, struct knit_reply_view *ret);
void knit_layout_board(uint32_t lanes, void *base, struct knit_board_view *ret);
void knit_layout_pool(uint32_t lanes, void *base, struct knit_pool_view *ret);
