/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reply blocks: allocated by the lane's worker, released by the caller, rebuilt by a replacement.
 *
 * A caller publishes N calls through two slots of one lane; each result needs a block of an arena that has but one. So
 * the worker runs out of it: it keeps its result, sets `starved`, claims nothing more and parks until a release rings
 * it. A thief takes a call now and then, with room elsewhere. The caller releases a block whenever its user lets go. `fate` kills the worker between any two steps; the host
 * answers what it held, and the replacement rebuilds the arena from the replies.
 *
 * ctrl, rel, starved, park and bell go through store buffers, with `moved` and `rang` as in park.pml. The replies do not:
 * who waits for them is wait.pml's matter.
 *
 * Checked: 9 a block is not written again before its release, a rebuild included; 7 nobody sleeps while a result would
 * fit; 6 every call is answered (both show as an end of the model with somebody waiting).
 */

#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 0
#endif

#define S 2
#define SLOT(k) ((k) % S)
#define GEN(k) ((k) / S + 1)
#define AWAKE 0
#define PARKED 1

/* Words in store buffers. */
#define PUB 0
#define REL(s) (1 + (s))
#define BELL 3
#define STARVED 4
#define PARK 5
#define WORKER 0
#define CALLER 1
#define DEPTH 3
byte mem[6];
byte buffered_word[2 * DEPTH], buffered_value[2 * DEPTH];
byte buffered[2];
bool moved, rang, asleep;

byte claimed; /* calls claimed: claims go in ring order */
byte held_by_worker = N; /* claim words: the call that the worker claimed and did not answer */
byte reply[S];
bool elsewhere[S]; /* the lane in reply.word's cell: that block lies in the thief's arena */
bool in_block[S]; /* a flag in reply.word: the payload is the block, else it is inline */

/* What only the checks know. */
byte content; /* what the block holds: call number + 1 */
bool dead, gone, started, over;

inline drain_one(p)
{
	if
	:: buffered_word[(p) * DEPTH] == BELL -> moved = true
	:: buffered_word[(p) * DEPTH] == PARK -> mem[PARK] = buffered_value[(p) * DEPTH]; rang = false
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

/* The caller's ring: see park.pml. */
inline ring()
{
	d_step { park = mem[PARK]; ring_it = (park == PARKED && !rang); rang = (rang || park == PARKED); park = 0 };
	if
	:: ring_it ->
		d_step { store(CALLER, BELL, 0) };
		d_step { drain(CALLER); asleep = false; ring_it = false }
	:: else
	fi
}

inline release(s)
{
	d_step {
		assert(elsewhere[s] || content == held[s]);
		held[s] = 0;
		store(CALLER, REL(s), reply[s])
	};
#ifndef MUTANT_RELEASE_NO_FENCE
	d_step { drain(CALLER); skip };
#endif
	if
	:: !elsewhere[s] && mem[STARVED] == 1 -> ring()
	:: elsewhere[s] || mem[STARVED] == 0
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
			held[s] = (reply[s] - 1) * S + s + 1;
			assert(elsewhere[s] || content == held[s])
		:: else
		fi
	}
}

proctype caller()
{
	byte pub, park;
	byte gen[S], sent[S]; /* collected, published */
	byte held[S];         /* call number + 1 of a block that the user has */
	bool ring_it;

	do
	:: pub < N && gen[SLOT(pub)] == GEN(pub) - 1 && held[SLOT(pub)] == 0 ->
		d_step { sent[SLOT(pub)] = GEN(pub); pub++; store(CALLER, PUB, pub) };
		d_step { drain(CALLER); skip };
		ring()
	:: collect(0)
	:: collect(1)
	:: held[0] != 0 -> release(0)
	:: held[1] != 0 -> release(1)
#ifdef MUTANT_DROPPED_NOT_RELEASED
	/* The answer of a call that was settled before: nobody wants it. */
	:: held[0] != 0 -> held[0] = 0
#endif
	:: pub == N && gen[0] == sent[0] && gen[1] == sent[1] && held[0] == 0 && held[1] == 0 -> break
	od;
	over = true
}

/* Is the block free? Its owner is known from the worker's own notes: slot + 1, and generation. */
#ifdef MUTANT_REL_COMPARED_EQUAL
#define FITS (block_slot == 0 || mem[REL(block_slot - 1)] == block_gen)
#else
#define FITS (block_slot == 0 || mem[REL(block_slot - 1)] >= block_gen)
#endif
#define FITS_READY (keep < N && FITS || keep == N && mem[PUB] > claimed)

proctype worker()
{
	byte keep = N; /* the call claimed and not answered */
	byte block_slot, block_gen, s;

again:
	{
		do
		:: d_step { keep == N && mem[PUB] > claimed ->
			/* READY -> CLAIMED: a locked operation */
			drain(WORKER);
			keep = claimed;
			held_by_worker = keep;
			claimed++ }
		:: keep < N && FITS ->
			/* CLAIMED -> ANSWERED */
			d_step { block_slot = SLOT(keep) + 1; block_gen = GEN(keep); content = keep + 1 };
#ifdef MUTANT_BLOCK_FLAG_APART
			in_block[SLOT(keep)] = true;
#endif
			d_step { reply[SLOT(keep)] = GEN(keep); in_block[SLOT(keep)] = true; elsewhere[SLOT(keep)] = false; keep = N; held_by_worker = N };
			d_step { store(WORKER, STARVED, 0) }
		:: (keep < N && !FITS) || (keep == N && mem[PUB] <= claimed) ->
			if
#ifndef MUTANT_STARVED_AFTER_LOOK
			:: keep < N -> d_step { store(WORKER, STARVED, 1) }
#endif
			:: else
			fi;
			/* park */
			d_step { moved = false; store(WORKER, PARK, PARKED) };
			d_step { drain(WORKER); skip };
			if
			:: FITS_READY
			:: !FITS_READY ->
#ifdef MUTANT_STARVED_AFTER_LOOK
				d_step { store(WORKER, STARVED, (keep < N -> 1 : 0)) };
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

	/* Reaped. What it held is answered by the host, inline; then the replacement may start. */
	d_step { drain(WORKER); asleep = false; block_slot = 0; block_gen = 0; s = 0; gone = true };
end_dead:
	d_step { started -> started = false; dead = false };
#ifndef MUTANT_REBUILD_ALL_FREE
	/* Rebuild: live is what a reply names and rel is behind. */
	do
	:: s < S ->
		d_step {
			if
			:: in_block[s] && !elsewhere[s] && mem[REL(s)] < reply[s] -> block_slot = s + 1; block_gen = reply[s]
			:: else
			fi;
			s++
		}
	:: else -> break
	od;
#endif
	s = 0;
	keep = N;
	d_step { store(WORKER, STARVED, 0); store(WORKER, PARK, AWAKE) };
	goto again
}

/* A thief takes at most one call, and has room for its result in an arena of its own. */
proctype thief()
{
	byte call;

end:
	d_step { mem[PUB] > claimed -> call = claimed; claimed++ };
	d_step { reply[SLOT(call)] = GEN(call); in_block[SLOT(call)] = true; elsewhere[SLOT(call)] = true }
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
