/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reply blocks: allocated by the lane's worker, released by the caller, rebuilt by a replacement.
 *
 * A caller publishes N calls through two slots of one lane; each result needs a block of an arena that has but one.
 * So the worker runs out of blocks: it defers its reply, sets `blocked_on_arena`, claims nothing more and parks until
 * a release notifies it. A thief claims one call, with room in another arena. The caller releases a block once its
 * user has read it, at any time. `fate` kills the worker between any two steps; the host answers what it had claimed,
 * and the replacement rebuilds the arena from the replies.
 *
 * All other parties go on during a rebuild, so the words that it loads of a slot, one after the other, may belong to
 * two calls. -DBLOCKS=2 has the case in which that does harm: the arena has two blocks, the thief's too, and all
 * calls but the second use the first slot. Two slots then seem to have the same block, which is cut short for one of
 * them (either one, as the order of a sort of equals is open).
 *
 * ctrl, released, blocked_on_arena, park and bell go through store buffers, with `moved` and `notified_park` as in
 * park.pml. The replies do not: waiting for them belongs to wait.pml.
 *
 * Checked: 9 a block is not written again before its release, also not after a rebuild; 7 the worker does not sleep
 * while a result would fit; 6 every call is answered (both show as an end of the model in which a party waits).
 */

#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 0
#endif

#ifndef BLOCKS
#define BLOCKS 1
#endif

#define S 2
#if BLOCKS == 1
#define SLOT(k) ((k) % S)
#define GEN(k) ((k) / S + 1)
#define CALL(s, g) (((g) - 1) * S + (s))
#else
#define SLOT(k) ((k) == 1 -> 1 : 0)
#define GEN(k) ((k) < 2 -> 1 : (k))
#define CALL(s, g) ((s) == 1 -> 1 : ((g) == 1 -> 0 : (g)))
#endif
#define AWAKE 0
#define PARKED 1

/* Words in store buffers. */
#define PUB 0
#define RELEASED(s) (1 + (s))
#define BELL 3
#define BLOCKED_ON_ARENA 4
#define PARK 5
#define WORKER 0
#define CALLER 1
#define DEPTH 3
byte mem[6];
byte buffered_word[2 * DEPTH], buffered_value[2 * DEPTH];
byte buffered[2];
bool moved, notified_park, asleep;

byte claimed; /* calls claimed: claims go in ring order */
byte held_by_worker = N; /* what the claim words say: the call that the worker claimed and did not answer */
byte claim[S]; /* generations */
byte reply[S];
bool elsewhere[S]; /* reply.meta, the lane: the block lies in the thief's arena */
byte place[S];     /* reply.block: which block of that arena */
bool in_block[S];  /* a flag in reply.word: the payload is the block, else it is inline */

/* Read by the checks only. */
byte content[BLOCKS]; /* what a block holds: call number + 1 */
bool dead, gone, started, over;

inline drain_one(p)
{
	if
	:: buffered_word[(p) * DEPTH] == BELL -> moved = true
	:: buffered_word[(p) * DEPTH] == PARK -> mem[PARK] = buffered_value[(p) * DEPTH]; notified_park = false
	:: else -> mem[buffered_word[(p) * DEPTH]] = buffered_value[(p) * DEPTH]
	fi;
	buffered_word[(p) * DEPTH] = buffered_word[(p) * DEPTH + 1];
	buffered_value[(p) * DEPTH] = buffered_value[(p) * DEPTH + 1];
	buffered_word[(p) * DEPTH + 1] = buffered_word[(p) * DEPTH + 2];
	buffered_value[(p) * DEPTH + 1] = buffered_value[(p) * DEPTH + 2];
	buffered_word[(p) * DEPTH + 2] = 0;
	buffered_value[(p) * DEPTH + 2] = 0;
	buffered[p]--
}

inline drain(p)
{
	do
	:: buffered[p] > 0 -> drain_one(p)
	:: else -> break
	od
}

inline store(p, word, value)
{
	if
	:: buffered[p] == DEPTH -> drain_one(p)
	:: else
	fi;
	buffered_word[(p) * DEPTH + buffered[p]] = word;
	buffered_value[(p) * DEPTH + buffered[p]] = value;
	buffered[p]++
}

proctype buffers()
{
end:
	do
	:: d_step { buffered[WORKER] > 0 -> drain_one(WORKER) }
	:: d_step { buffered[CALLER] > 0 -> drain_one(CALLER) }
	od
}

/* wake_lane() of park.pml. */
inline wake_worker()
{
	d_step {
		park = mem[PARK];
		woke = (park == PARKED && !notified_park);
		notified_park = (notified_park || park == PARKED);
		park = 0
	};
	if
	:: woke ->
		d_step { store(CALLER, BELL, 0) };
		d_step { drain(CALLER); asleep = false; woke = false }
	:: else
	fi
}

inline release(s)
{
	d_step {
		assert(elsewhere[s] || content[place[s]] == held[s]);
		held[s] = 0;
		store(CALLER, RELEASED(s), reply[s])
	};
#ifndef MUTANT_RELEASE_NO_FENCE
	d_step { drain(CALLER); skip };
#endif
	if
	:: !elsewhere[s] && mem[BLOCKED_ON_ARENA] == 1 -> wake_worker()
	:: elsewhere[s] || mem[BLOCKED_ON_ARENA] == 0
	fi
}

/* ANSWERED -> FREE */
inline collect(s)
{
	d_step {
		gen[s] < sent[s] && reply[s] == sent[s] ->
		gen[s] = reply[s];
		if
		:: in_block[s] ->
			held[s] = CALL(s, reply[s]) + 1;
			assert(elsewhere[s] || content[place[s]] == held[s])
		:: else
		fi
	}
}

proctype caller()
{
	byte pub, park;
	byte gen[S], sent[S]; /* collected, published */
	byte held[S];         /* call number + 1 of a block that the user still reads */
	bool woke;

	do
	:: pub < N && gen[SLOT(pub)] == GEN(pub) - 1 && held[SLOT(pub)] == 0 ->
		d_step { sent[SLOT(pub)] = GEN(pub); pub++; store(CALLER, PUB, pub) };
		d_step { drain(CALLER); skip };
		wake_worker()
	:: collect(0)
	:: collect(1)
	:: held[0] != 0 -> release(0)
	:: held[1] != 0 -> release(1)
#ifdef MUTANT_DROPPED_NOT_RELEASED
	/* The answer of a call that was settled before is dropped. */
	:: held[0] != 0 -> held[0] = 0
#endif
	:: pub == N && gen[0] == sent[0] && gen[1] == sent[1] && held[0] == 0 && held[1] == 0 -> break
	od;
	over = true
}

/* Is the block free? The worker notes privately whose it is: slot + 1, and generation. It is free when `released` names
 * it, or when the slot was claimed for a later call: the thief may have got that call, and `released` have gone on with
 * it. */
#define RELEASED_NAMES(b) (mem[RELEASED(block_slot[b] - 1)] == block_gen[b])
#ifdef MUTANT_RELEASED_ALONE
#define IS_FREE(b) (block_slot[b] == 0 || RELEASED_NAMES(b))
#else
#ifdef MUTANT_CLAIM_ALONE
#define IS_FREE(b) (block_slot[b] == 0 || claim[block_slot[b] - 1] != block_gen[b])
#else
#define IS_FREE(b) (block_slot[b] == 0 || RELEASED_NAMES(b) || claim[block_slot[b] - 1] != block_gen[b])
#endif
#endif
#if BLOCKS == 1
#define FITS IS_FREE(0)
#else
#define FITS (IS_FREE(0) || IS_FREE(1))
#endif
#define KEEPS_AWAKE (unanswered < N && FITS || unanswered == N && mem[PUB] > claimed)

proctype worker()
{
	byte unanswered = N; /* the call that it claimed and did not answer; a deferred reply while nothing fits */
	byte block_slot[BLOCKS], block_gen[BLOCKS];
	byte s, g, b;
	bool ours;

again:
	{
		do
		:: d_step { unanswered == N && mem[PUB] > claimed ->
			/* READY -> CLAIMED: a locked operation */
			drain(WORKER);
			unanswered = claimed;
			held_by_worker = unanswered;
			claim[SLOT(unanswered)] = GEN(unanswered);
			claimed++ }
		/* CLAIMED -> ANSWERED, in a block that was released when it was checked. */
		:: atomic { unanswered < N && FITS ->
			if
			:: IS_FREE(0) -> b = 0
#if BLOCKS > 1
			:: IS_FREE(1) -> b = 1
#endif
			fi };
			d_step {
				block_slot[b] = SLOT(unanswered) + 1;
				block_gen[b] = GEN(unanswered);
				content[b] = unanswered + 1;
				place[SLOT(unanswered)] = b;
				elsewhere[SLOT(unanswered)] = false;
				b = 0
			};
#ifdef MUTANT_BLOCK_FLAG_APART
			in_block[SLOT(unanswered)] = true;
#endif
			d_step {
				reply[SLOT(unanswered)] = GEN(unanswered);
				in_block[SLOT(unanswered)] = true;
				unanswered = N;
				held_by_worker = N
			};
			d_step { store(WORKER, BLOCKED_ON_ARENA, 0) }
		:: (unanswered < N && !FITS) || (unanswered == N && mem[PUB] <= claimed) ->
			if
#ifndef MUTANT_BLOCKED_AFTER_CHECK
			:: unanswered < N -> d_step { store(WORKER, BLOCKED_ON_ARENA, 1) }
#endif
			:: else
			fi;
			/* park */
			d_step { moved = false; store(WORKER, PARK, PARKED) };
			d_step { drain(WORKER); skip };
			if
			:: KEEPS_AWAKE
			:: !KEEPS_AWAKE ->
#ifdef MUTANT_BLOCKED_AFTER_CHECK
				d_step { store(WORKER, BLOCKED_ON_ARENA, (unanswered < N -> 1 : 0)) };
#endif
				d_step { drain(WORKER); asleep = !moved };
				(!asleep || over)
			fi;
			if
			:: over -> break
			:: else
			fi;
			d_step { store(WORKER, PARK, AWAKE) }
		od;
end_idle:
		false
	} unless { dead };

	/* Reaped. The host answers what it had claimed, inline; then the replacement may start. */
	d_step {
		drain(WORKER);
		asleep = false;
		block_slot[0] = 0; block_gen[0] = 0;
#if BLOCKS > 1
		block_slot[1] = 0; block_gen[1] = 0;
#endif
		s = 0; g = 0; b = 0;
		gone = true
	};
end_dead:
	d_step { started -> started = false; dead = false };
#ifndef MUTANT_REBUILD_ALL_FREE
	/* Rebuild: live is what a reply names and `released` does not. word, meta, released and block are loaded in this
	 * order, then claim: if it names the same generation, they all belong to one call. */
	do
	:: s < S ->
		d_step { g = (in_block[s] -> reply[s] : 0) };
		ours = !elsewhere[s];
		if
		:: g != 0 && ours && mem[RELEASED(s)] != g ->
			b = place[s];
#ifndef MUTANT_REBUILD_NO_CLAIM
			if
			:: claim[s] == g ->
#else
			if
			:: true ->
#endif
				if
				:: d_step { block_slot[b] = s + 1; block_gen[b] = g }
				:: block_slot[b] != 0
				fi
#ifndef MUTANT_REBUILD_NO_CLAIM
			:: claim[s] != g
#endif
			fi
		:: else
		fi;
		d_step { ours = false; g = 0; b = 0; s++ }
	:: else -> break
	od;
#endif
	s = 0;
	unanswered = N;
	d_step { store(WORKER, PARK, AWAKE) };
	goto again
}

/* The thief claims at most one call, and has room for its result in an arena of its own. */
proctype thief()
{
	byte call;

end:
	d_step { mem[PUB] > claimed -> call = claimed; claim[SLOT(call)] = GEN(call); claimed++ };
	if
	:: place[SLOT(call)] = 0
#if BLOCKS > 1
	:: place[SLOT(call)] = 1
#endif
	fi;
	elsewhere[SLOT(call)] = true;
	d_step { reply[SLOT(call)] = GEN(call); in_block[SLOT(call)] = true }
}

proctype host()
{
end:
	do
	:: gone ->
		if
		:: held_by_worker < N ->
			d_step {
#ifndef MUTANT_BLOCK_FLAG_APART
#ifndef MUTANT_HOST_KEEPS_FLAGS
				in_block[SLOT(held_by_worker)] = false;
#endif
#endif
				elsewhere[SLOT(held_by_worker)] = false;
				reply[SLOT(held_by_worker)] = GEN(held_by_worker);
				held_by_worker = N
			}
		:: else
		fi;
		/* Its deferred reply is lost with it. */
		mem[BLOCKED_ON_ARENA] = 0;
		d_step { gone = false; started = true }
	od
}

proctype fate()
{
	byte deaths = DEATHS;

end:
	do
	:: d_step { deaths > 0 && !dead -> deaths--; dead = true }
	od
}

init {
	atomic {
		run caller();
		run worker();
		run thief();
		run host();
		run buffers();
		run fate()
	}
}
