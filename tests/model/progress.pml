/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values under a sequence lock: workers write them over each other, a caller copies the last one, and any writer may
 * die anywhere.
 *
 * One slot carries G calls, one after the other; each is owned by a worker of its own, which writes up to V values and
 * ends, or dies in the middle of one. A value is two words and a length, here three words with the same number in them.
 * The caller looks at any time, also at a slot whose call has ended, and tries as often as the code allows.
 *
 * On x86 loads pass no loads and stores no stores; what the fences of the code forbid on other machines is forbidden
 * here: the mutants that swap steps are what happens without them.
 *
 * Checked: 14 no value is seen in part, none of another call, and never an older one after a newer; the last value of a
 * call that has ended is seen at the next look.
 */

#ifndef G
#define G 2 /* calls of the slot */
#endif
#ifndef V
#define V 2 /* values of each */
#endif
#define SEQ 8 /* numbers wrap */
#define TRIES 3

byte seq_gen, seq; /* one word */
byte word[3];

/* Of the call that runs, which its caller knows, and whether its answer is there. */
byte gen;
bool answered;

/* Read by the checks only. */
byte written; /* last value of this call that is complete */

#ifdef MUTANT_SEQ_FROM_ZERO
#define ODD (1)
#else
#define ODD (((seq + 1) | 1) % SEQ)
#endif

inline write(value)
{
	d_step { odd = ODD; even = (odd + 1) % SEQ };
#ifndef MUTANT_NO_ODD
	d_step { seq_gen = gen; seq = odd };
#endif
	word[0] = value;
#ifdef MUTANT_EVEN_EARLY
	d_step { seq_gen = gen; seq = even };
#endif
	word[1] = value;
	word[2] = value;
#ifndef MUTANT_EVEN_EARLY
	d_step { seq_gen = gen; seq = even };
#endif
	written = value
}

proctype workers()
{
	byte odd, even, n, value;

	do
	:: gen < G ->
		/* The caller has collected the last answer, and publishes. */
		d_step { gen++; answered = false; written = 0; n = 0 };
		do
		:: n < V -> n++; value = gen * 4 + n; write(value)
		:: n < V -> /* The worker dies: anywhere in the next value, of which a part is written. */
			d_step { odd = ODD };
			if
			:: true -> d_step { seq_gen = gen; seq = odd };
				if
				:: true -> word[0] = 99
				:: true -> skip
				fi
			:: true -> skip
			fi;
			break
		:: true -> break
		od;
		skip;
		d_step { n = 0; answered = true }
	:: gen == G -> break
	od
}

proctype caller()
{
	byte mine, a, first_gen, first, copy0, copy1, copy2, last, tries, seen_gen, had;
	bool knew;

	do
	:: gen > 0 ->
		/* A look. `had`: what was complete before it began, if the call had ended. */
		d_step {
			if
			:: mine != gen -> mine = gen; last = 0
			:: else
			fi;
			knew = answered;
			had = written;
			tries = 0
		};
		do
		:: tries < TRIES ->
			tries++;
			d_step { first_gen = seq_gen; first = seq };
			if
#ifndef MUTANT_GEN_IGNORED
			:: first_gen != mine -> break
			:: first_gen == mine && first % 2 == 1
#else
			:: first % 2 == 1
#endif
#ifndef MUTANT_GEN_IGNORED
			:: first_gen == mine && first % 2 == 0 ->
#else
			:: first % 2 == 0 && first_gen != 0 ->
#endif
				copy0 = word[0];
				copy1 = word[1];
				copy2 = word[2];
#ifndef MUTANT_NOT_LOADED_AGAIN
				if
				:: seq != first || seq_gen != first_gen
				:: seq == first && seq_gen == first_gen ->
#endif
					d_step {
						assert(copy0 == copy1 && copy1 == copy2);
						assert(copy0 / 4 == mine);
						assert(copy0 >= last);
						last = copy0
					};
					break
#ifndef MUTANT_NOT_LOADED_AGAIN
				fi
#endif
#ifdef MUTANT_GEN_IGNORED
			:: first_gen == 0 -> break
#endif
			fi
		:: tries == TRIES -> break
		od;
		skip;
		/* A dead writer may have begun one more: then that look sees none. */
		d_step {
			if
			:: knew && mine == gen && answered && had != 0 && seq % 2 == 0 ->
				assert(last == had)
			:: else
			fi;
			a = 0; first = 0; first_gen = 0; copy0 = 0; copy1 = 0; copy2 = 0; tries = 0; had = 0; knew = false
		}
	:: gen == G && answered -> break
	od
}

init {
	atomic {
		run workers();
		run caller()
	}
}
