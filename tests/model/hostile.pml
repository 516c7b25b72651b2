/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A caller of another uid that may write anything into its request segment at any time.
 *
 * The strongest such caller needs no process of its own: every load from its segment yields any value, and two loads
 * of one word yield two values. Two workers serve it and an honest session in turn. The pool's own words (claim,
 * reply, head) lie where the caller cannot write. The word of the honest session lies directly behind those of the
 * hostile one: a slot out of range would hit it first.
 *
 * Checked for every value that is read: 2 reply.gen is claim.gen or one behind and moved by its owner; 11 the words
 * of the honest session change by its own calls only; 5 it is not evicted and its calls are answered; a turn spent on
 * the hostile session ends after TURN cells; what is used is what was checked; the claims of an evicted session are
 * still answered.
 */

#ifndef N
#define N 2 /* calls of the honest session */
#endif

#ifndef S
#define S 1 /* slots of the hostile session */
#endif
#ifndef TURN
#define TURN 2 /* cells read of a session's ring in one turn */
#endif
#define HONEST S /* the only slot of the honest session lies behind them */
#define W 2
#define GEN_MAX 3
#define SIZE_MAX 1

byte claim_gen[S + 1], claim_owner[S + 1];
byte reply[S + 1];
byte honest_ctrl; /* generation published by the honest caller */
bool over;

inline any_ctrl()
{
	atomic { select(slot : 0 .. S); select(gen : 0 .. GEN_MAX) }
}

inline check_slot(i)
{
	assert(claim_gen[i] == reply[i] || claim_gen[i] - 1 == reply[i])
}

/* Reads one cell of the hostile ring. Its tag always matches, as that keeps a worker busy for longest. */
inline serve_hostile()
{
	any_ctrl();
#ifndef MUTANT_SLOT_UNCHECKED
	if
	:: slot >= S -> goto suspect
	:: slot < S
	fi;
#endif
#ifdef MUTANT_SLOT_READ_TWICE
	atomic { select(slot : 0 .. S) };
#endif
	r = reply[slot];
	d_step { cgen = claim_gen[slot]; cowner = claim_owner[slot] };
	if
	:: cgen >= gen /* claimed already: the cursor steps over it */
#ifdef MUTANT_REPLY_NOT_READ
	:: cgen == gen - 1 ->
#else
	:: cgen == gen - 1 && r == gen - 1 ->
#endif
		/* The copy that was made before the claim is checked, and then the copy is used. It may hold any value. */
		atomic { select(size : 0 .. SIZE_MAX + 1) };
#ifndef MUTANT_SIZE_UNCHECKED
		if
		:: size > SIZE_MAX -> goto suspect
		:: size <= SIZE_MAX
		fi;
#endif
		/* READY -> CLAIMED, if the claim is still as it was read */
		d_step {
			won = (claim_gen[slot] == cgen && claim_owner[slot] == cowner);
			if
			:: won ->
				assert(slot < S);
				claim_gen[slot] = gen;
				claim_owner[slot] = me + 1;
				check_slot(slot)
			:: else
			fi
		};
		if
		:: won ->
#ifdef MUTANT_SIZE_READ_TWICE
			atomic { select(size : 0 .. SIZE_MAX + 1) };
#endif
			assert(size <= SIZE_MAX);
			/* CLAIMED -> ANSWERED */
			d_step {
				assert(claim_gen[slot] == gen && claim_owner[slot] == me + 1);
				assert(reply[slot] == gen - 1);
				reply[slot] = gen
			}
		:: !won
		fi
	:: else -> goto suspect
	fi
}

proctype worker(byte me)
{
	byte slot, gen, size, r, cgen, cowner, steps;
	byte spent; /* read by the check only: cells that were read */
	bool won, evicted;

	do
	:: !over ->
		/* The hostile session's turn. */
		d_step { steps = 0; spent = 0 };
		do
		:: steps < TURN && !evicted ->
			d_step { steps++; spent++; assert(spent <= TURN) };
			serve_hostile();
			goto next;
suspect:
			/* ctrl is loaded again: unchanged, the session is evicted; changed, the cell is read again; that counts. */
			if
			:: evicted = true
#ifdef MUTANT_RETRIES_UNCOUNTED
			:: steps--
#else
			:: true
#endif
			fi;
next:
			atomic { slot = 0; gen = 0; size = 0; r = 0; cgen = 0; cowner = 0; won = false }
		:: else -> break
		od;

		/* The honest session's turn. */
		gen = honest_ctrl;
		r = reply[HONEST];
		d_step { cgen = claim_gen[HONEST]; cowner = claim_owner[HONEST] };
		if
		:: cgen >= gen
		:: cgen == gen - 1 && r == gen - 1 ->
			if
			:: d_step { claim_gen[HONEST] == cgen && claim_owner[HONEST] == cowner ->
				claim_gen[HONEST] = gen;
				claim_owner[HONEST] = me + 1 };
				d_step {
					assert(claim_gen[HONEST] == gen && claim_owner[HONEST] == me + 1);
					assert(reply[HONEST] == gen - 1);
					reply[HONEST] = gen
				}
			:: d_step { else -> skip }
			fi
		:: else -> assert(false) /* evicted */
		fi;
		d_step { gen = 0; r = 0; cgen = 0; cowner = 0 }
	:: over -> break
	od
}

proctype honest()
{
	do
	:: honest_ctrl < N && reply[HONEST] == honest_ctrl -> honest_ctrl++
	:: honest_ctrl == N && reply[HONEST] == N -> break
	od;
	over = true
}

init {
	atomic {
		run honest();
		run worker(0);
		run worker(1)
	}
}
