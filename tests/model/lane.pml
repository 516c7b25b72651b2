/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ring of one session: publish, claim, steal, answer and collect.
 *
 * A caller publishes N calls through S slots into a ring of K cells. Two claimers serve the ring: the worker of the
 * lane and a thief. They run the same code, since a thief claims from another lane's ring. Every access to a shared
 * word is a step of its own, so a claimer may be delayed between any two of them for any time; a thief with a stale
 * private cursor is such a case. `fate` kills or stops a claimer between any two steps. The call of a dead one is
 * answered and it is replaced at once (recovery.pml shows how the host does that); a stopped one stays stopped.
 *
 * Counters start just before their wrap: tags are counted modulo 4 here and modulo 1024 in the code, generations
 * modulo 16 here and 2^40 there. A claimer raises `head` before it claims more than R positions past it; the code has
 * R = 15. The ring is as small as the protocol allows: K = S + R + 1.
 *
 * With -DSTIRS the caller stirs the cell behind its tail so often: its ctrl, with the lap that it has, names the
 * generation before. A claimer with a stale cursor may read it as one of that lap.
 *
 * Checked: 1 one claim wins and a call runs at most once; 2 reply.gen is claim.gen or one behind, moved by its owner;
 * 3 all positions before head are claimed, tail - head <= K, claims go in ring order; 4 the body that runs is the
 * body published with that slot and generation; 5 no honest session is evicted; 6 every call is answered unless the
 * claimer that holds it is stopped (otherwise the model ends while the caller waits, which Spin reports).
 *
 * Steps take effect in the order of the program. That is enough here: this part relies on acquire and release along
 * ctrl, claim and reply.word, and the claim is a locked operation. The places where a store may pass a later load are
 * in park.pml, wait.pml and abort.pml.
 */

#ifndef N
#define N 6 /* calls published */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef STIRS
#define STIRS 0
#endif

#define S 2
#define R 1
#ifdef MUTANT_RING_AS_SLOTS
#define K S
#else
#define K 4
#endif
#define W 2

#define TAGS 4
#define GENS 16
#define P0 (2 * K) /* the first position: the tag wraps one lap later */
#define G0 14      /* the generation of a slot never used: wraps at its third call */
#define TAG(p) (((p) / K + 1) % TAGS)
#define NEXT(g) (((g) + 1) % GENS)
#define PREV(g) (((g) + GENS - 1) % GENS)
#define CHANGED (ring[q % K].gen != gen || ring[q % K].slot != slot || ring[q % K].tag != TAG(q))
#define REACHED(a, g) (((a) + GENS - (g)) % GENS < GENS / 2) /* a >= g, by signed difference */

typedef cell_t {
	byte tag, slot, gen; /* ctrl, one word */
	byte body;
}

/* Request segment. */
cell_t ring[K];
byte tail = P0; /* private to the caller */

/* Reply segment. */
byte claim_gen[S] = G0;
byte claim_owner[S];
byte reply_gen[S] = G0;
byte head = P0;

/* Read by the checks only. */
byte next_claim = P0; /* the position that has to be claimed next */
byte body_of[S];      /* body published with the slot's generation */
bit ran[S];
bool dead[W], stopped[W];
byte owner_of[W];
bool over; /* the caller has ended */
bool evicted;

/* One step: a compare-and-swap, repeated until it succeeds or head is at q or beyond. */
inline raise_head(q)
{
#ifdef MUTANT_HEAD_STORED
	head = q;
#else
	head = (q > head -> q : head);
#endif
	assert(head <= next_claim);
	seen = q;
	since = 0
}

/* Clears what was read of a cell, so that states which differ in nothing else count once. */
inline forget()
{
	slot = 0;
	gen = 0;
	copy = 0;
	rgen = 0;
	cowner = 0
}

inline check_body()
{
	assert(!ran[slot]);
	assert(copy == body_of[slot]);
	ran[slot] = 1
}

/* READY -> CLAIMED -> ANSWERED */
proctype claimer(byte me)
{
	byte q = P0, seen = P0, slot, gen, copy, rgen, cowner, since;

start:
	{
		do
		:: !over ->
		   /* q = max(private, head) */
		   d_step {
			seen = (head > seen -> head : seen);
			q = (head > q -> head : q)
		   };
		   if
		   :: ring[q % K].tag != TAG(q) ->
			/* Empty. The host, which claims while no worker lives, then raises head; a worker does not. */
			if
			:: d_step { q > head -> raise_head(q) }
			:: true
			fi;
			(head > q || ring[q % K].tag == TAG(q) || over)
		   :: d_step { ring[q % K].tag == TAG(q) ->
			slot = ring[q % K].slot;
			gen = ring[q % K].gen };
#ifdef MUTANT_CLAIM_BEFORE_REPLY
			d_step { cowner = claim_owner[slot]; rgen = claim_gen[slot] };
			d_step {
				if
				:: REACHED(rgen, gen) -> q++; forget()
				:: !REACHED(rgen, gen) && reply_gen[slot] == PREV(gen)
				:: else -> evicted = !CHANGED; assert(!evicted); forget()
				fi
			};
#else
			/* reply.word is loaded before claim: in this order, both one behind means READY. */
			rgen = reply_gen[slot];
			d_step {
				if
				:: REACHED(claim_gen[slot], gen) -> q++; forget()
				:: claim_gen[slot] == PREV(gen) && rgen == PREV(gen) -> cowner = claim_owner[slot]
				:: else -> evicted = !CHANGED; assert(!evicted); forget()
				fi;
				rgen = 0
			};
#endif
			if
			:: cowner == 0
			:: cowner != 0 ->
#ifndef MUTANT_COPY_AFTER_CLAIM
				copy = ring[q % K].body;
#endif
#ifdef MUTANT_COUNT_CLAIMS
				if
				:: d_step { since >= R -> raise_head(q) }
				:: since < R
				fi;
#else
				if
				:: d_step { q - seen >= R -> raise_head(q) }
				:: q - seen < R
				fi;
#endif
#ifdef MUTANT_HEAD_BEFORE_CLAIM
				head = (q + 1 > head -> q + 1 : head);
#endif
				/* READY -> CLAIMED(g, o) */
				if
#ifdef MUTANT_CLAIM_STORED
				:: d_step { true ->
#else
				:: d_step { claim_gen[slot] == PREV(gen) && claim_owner[slot] == cowner ->
#endif
					claim_gen[slot] = gen;
					claim_owner[slot] = owner_of[me];
#ifndef MUTANT_COPY_AFTER_CLAIM
					check_body();
#endif
					assert(q == next_claim);
					next_claim++;
#ifdef MUTANT_COUNT_CLAIMS
					since++;
#endif
					copy = 0;
					cowner = 0;
					q++ };
#ifdef MUTANT_COPY_AFTER_CLAIM
					copy = ring[(q - 1) % K].body;
					d_step { check_body(); copy = 0 };
#endif
					/* CLAIMED -> ANSWERED(g) */
					d_step {
						assert(claim_owner[slot] == owner_of[me] && claim_gen[slot] == gen);
						assert(reply_gen[slot] == PREV(gen));
						reply_gen[slot] = gen;
						forget()
					}
				:: d_step { else -> q++; forget() }
				fi
			fi
		   fi
		:: else -> break
		od
	} unless { dead[me] || stopped[me] };

	if
	:: d_step { dead[me] ->
		/* Reaped: the host answers what it had claimed; a replacement with a new owner id begins at head. */
		slot = 0;
		do
		:: slot < S ->
			if
			:: claim_owner[slot] == owner_of[me] && reply_gen[slot] != claim_gen[slot] ->
				reply_gen[slot] = claim_gen[slot];
				ran[slot] = 1
			:: else
			fi;
			slot++
		:: else -> break
		od;
		owner_of[me] = owner_of[me] + W;
		forget();
		q = head;
		seen = head;
		since = 0;
		dead[me] = false };
		goto start
	:: stopped[me] ->
end_stopped:
		false
	:: else
	fi
}

/* Kills or stops a claimer between any two steps, as often as the bounds say. */
proctype fate()
{
	byte deaths = DEATHS, stops = STOPS;

end:
	do
	:: d_step { deaths > 0 && !stopped[0] && !dead[0] -> deaths--; dead[0] = true }
	:: d_step { deaths > 0 && !stopped[1] && !dead[1] -> deaths--; dead[1] = true }
	:: d_step { stops > 0 && !dead[0] -> stops--; stopped[0] = true }
	:: d_step { stops > 0 && !dead[1] -> stops--; stopped[1] = true }
	od
}

/* HELD: claimed by a stopped claimer, so never answered. */
#define FREE(s) (reply_gen[s] == gen_of[s])
#define HELD(s) (claim_gen[s] == gen_of[s] && \
	(stopped[0] && claim_owner[s] == owner_of[0] || stopped[1] && claim_owner[s] == owner_of[1]))

/* Reads reply.word when it needs a slot; slots are used in turn. */
proctype caller()
{
	byte gen_of[S] = G0;
	byte s, stirs;

	do
	:: d_step { stirs < STIRS && tail < P0 + N ->
#ifdef MUTANT_STIRRED_FORWARD
		ring[tail % K].gen = NEXT(ring[tail % K].gen);
#else
		ring[tail % K].gen = PREV(ring[tail % K].gen);
#endif
		stirs++ }
	:: tail < P0 + N && (FREE(0) || FREE(1)) ->
		/* ANSWERED(g-1) -> FREE(g-1) -> READY(g) */
		d_step {
			if
			:: !FREE(s) -> s = 1 - s
			:: else
			fi;
			assert(tail < head + K);
			assert(tail < next_claim + K);
			assert(gen_of[s] == G0 || ran[s]);
#ifdef MUTANT_GEN_REUSED
			gen_of[s] = NEXT(G0);
#else
			gen_of[s] = NEXT(gen_of[s]);
#endif
			body_of[s] = tail;
			ran[s] = 0;
#ifdef MUTANT_CTRL_BEFORE_BODY
			ring[tail % K].tag = TAG(tail);
			ring[tail % K].slot = s;
			ring[tail % K].gen = gen_of[s]
#else
			ring[tail % K].body = tail
#endif
		};
		d_step {
#ifdef MUTANT_CTRL_BEFORE_BODY
			ring[tail % K].body = tail;
#else
			ring[tail % K].tag = TAG(tail);
			ring[tail % K].slot = s;
			ring[tail % K].gen = gen_of[s];
#endif
			s = 1 - s;
			tail++
		}
	:: (FREE(0) || HELD(0)) && (FREE(1) || HELD(1)) && (tail == P0 + N || (HELD(0) && HELD(1))) ->
		/* All calls are answered, or held by a stopped claimer. */
		over = true;
		break
	od
}

init {
	byte i;

	d_step {
		do
		:: i < K -> ring[i].tag = TAG(P0 - K + i); ring[i].gen = G0; i++
		:: else -> break
		od;
		claim_owner[0] = 9;
		claim_owner[1] = 9;
		owner_of[0] = 1;
		owner_of[1] = 2;
		i = 0
	};
	atomic {
		run caller();
		run claimer(0);
		run claimer(1);
		run fate()
	}
}
