/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker asks whether a call may run while the host reloads the policy.
 *
 * One session has a right: a word that names a row and was written once. The host makes V policies, one after the
 * other. For each it fills a row that the word does not name and stores the word; rows that the word does not name may
 * be filled for other sessions at any time, also while the worker is stopped between two of its loads. What the worker
 * finds in a row is the number of the policy that filled it, or FOREIGN: the bits of somebody else.
 *
 * Loads and stores take effect in their order: R1 and R2 of rights.h are the fences that make it so.
 *
 * Checked: 18 a decision is by a policy that the session had between the claim and the decision; one of a call that was
 * published after a reload had returned is not by an earlier policy.
 */

#ifndef V
#define V 3 /* reloads */
#endif
#ifndef D
#define D 2 /* decisions */
#endif
#define ROWS 2
#define FOREIGN 100

#ifdef MUTANT_SERIAL_LEFT_OUT
#define WORD(policy, class) (class)
#else
#define WORD(policy, class) ((policy) * ROWS + (class))
#endif
#define CLASS(word) ((word) % ROWS)

byte row[ROWS];
byte word;

/* Read by the checks only. */
byte held;     /* the newest policy of the session, */
byte returned; /* and of a reload that has returned */

proctype host()
{
	byte policy = 1, class;

	do
	:: policy <= V ->
		/* Others get the rows that this session does not have. */
		if
		:: row[1 - CLASS(word)] = FOREIGN
		:: skip
		fi;
		class = 1 - CLASS(word);
#ifdef MUTANT_WORD_BEFORE_ROW
		d_step { word = WORD(policy, class); held = policy };
		row[class] = policy;
#else
		row[class] = policy;
		d_step { word = WORD(policy, class); held = policy };
#endif
		returned = policy;
		d_step { policy++; class = 0 }
	:: policy > V -> break
	od;
	/* And once more. */
	row[1 - CLASS(word)] = FOREIGN
}

proctype worker()
{
	byte left = D, published, claimed, first, bits, second;

	do
	:: left > 0 ->
		d_step { published = returned; claimed = held };
		first = word;
		do
		:: true ->
#ifdef MUTANT_BIT_READ_LAST
			second = word;
			bits = row[CLASS(first)];
#else
			bits = row[CLASS(first)];
			second = word;
#endif
#ifdef MUTANT_READ_ONCE
			break
#else
			if
			:: second == first -> break
			:: else -> first = second
			fi
#endif
		od;
		skip;
		d_step {
			assert(bits != FOREIGN);
			assert(bits >= claimed && bits <= held);
			assert(bits >= published);
			left--;
			published = 0; claimed = 0; first = 0; bits = 0; second = 0
		}
	:: left == 0 -> break
	od
}

init {
	atomic {
		word = WORD(0, 0);
		run host();
		run worker()
	}
}
