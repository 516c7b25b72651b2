/* SPDX-License-Identifier: Apache-2.0 */
/* Flows of a lane: deficit round robin in time between them (fastpath/lane/lane_flows.c).
 *
 * Calls of two or three flows come at any moment and take one unit of time or M. A flow is served while it has credit; when
 * all that have calls are in debt, so many rounds pass at once as pay the first of them, each of Q times its weight. What
 * rounds gave is taken when a flow is looked at next, and credit ends at one round's: who had no calls has saved nothing.
 * When no flow has calls the worker forgets all debts and sleeps, whatever they are.
 *
 * The worker is a thief too: A calls of each flow lie in other lanes. Beside calls of its home rings it may take one of a
 * flow with credit there at any moment; with none at home it takes one of such a flow first, else any, and rounds pass as
 * pay that one. All of them are charged.
 *
 * With PLACES flows 0 and 2 are of one principal, which calls through a loop and through shared memory: while both have
 * calls each weighs half, and what they got counts together.
 *
 * Checked: a worker that finds calls serves one; over each stretch of time in which flows 0 and 1 have calls at each look,
 * what they got differs, each by its weight, by no more than 2 Q and a call of each, or of each place; and no call waits for a worker that
 * sleeps. With BACKLOG flows 0 and 1 have all their calls from the beginning.
 */

#ifndef F
#define F 2 /* flows, of the weights 1, 2, 1 */
#endif
#ifndef N
#define N 4 /* calls of each */
#endif
#ifndef A
#define A 0 /* calls of each that lie in other lanes, all from the beginning */
#endif
#define Q 2
#define M 5
#define DEBT_MAX 12
#define FORGET (DEBT_MAX / Q + 2) /* rounds */
#define WEIGHT(i) (1 + ((i) == 1))
#ifdef PLACES
#define BOTH (queued[0] > 0 && queued[1] > 0 && queued[2] > 0)
#define PRINCIPAL(i) ((i) % 2)
#define SLACK (4 * Q + 5 * M)
#else
#define BOTH (queued[0] > 0 && queued[1] > 0)
#define PRINCIPAL(i) (i)
#define SLACK (4 * Q + 3 * M)
#endif
#ifndef PLACES
#define PART(i) 1
#else
#ifdef MUTANT_SHARE_A_PLACE
#define PART(i) 1
#else
#define PART(i) ((i) != 1 && queued[0] > 0 && queued[2] > 0 -> 2 : 1)
#endif
#endif
#define QUANTUM(i) (Q * WEIGHT(i) / PART(i))

byte queued[F], away[F];
short credit[F];
byte taken[F]; /* as far as which round */
byte round;
bool asleep;
byte left;

/* Read by the checks only. */
short got[2];
bool both;

proctype caller(byte i)
{
	byte n = N;

	do
	:: n > 0 && queued[i] < 2 -> d_step { queued[i]++; n--; asleep = 0 }
	:: n == 0 -> break
	od
}

/* 256 rounds never pass between two looks of a search. */
inline renew(i)
{
	rounds = round - taken[i];
	taken[i] = round;
#ifdef MUTANT_ONE_ROUND_A_LOOK
	if
	:: rounds > 1 -> rounds = 1
	:: else
	fi;
#endif
	credit[i] = credit[i] + rounds * QUANTUM(i);
#ifdef MUTANT_CREDIT_SAVED
	skip;
#else
	if
	:: credit[i] > QUANTUM(i) -> credit[i] = QUANTUM(i)
	:: else
	fi;
#endif
	rounds = 0
}

/* All that have calls are in debt. */
inline begin_round()
{
	due = 255;
	i = 0;
	do
	:: i < F && queued[i] == 0 -> i++
	:: i < F && queued[i] > 0 ->
		if
		:: credit[i] > 0 -> due = 0
		:: credit[i] <= 0 && -credit[i] / QUANTUM(i) + 1 < due ->
#ifdef MUTANT_ROUND_TOO_FEW
			due = -credit[i] / QUANTUM(i)
#else
			due = -credit[i] / QUANTUM(i) + 1
#endif
		:: else
		fi;
		i++
	:: else -> break
	od;
	round = round + due;
	i = 0;
	do
	:: i < F ->
		if
		:: queued[i] > 0 ->
#ifdef MUTANT_ROUND_FOR_ONE
			if
			:: due > 0 && credit[i] + due * QUANTUM(i) <= 0 -> taken[i] = round
			:: else
			fi;
#endif
			renew(i)
		:: else
		fi;
		i++
	:: else -> break
	od;
	due = 0
}

inline look()
{
	i = 0;
	any = 0;
	do
	:: i < F ->
		if
		:: queued[i] > 0 -> any = 1; renew(i)
		:: else
		fi;
		i++
	:: else -> break
	od;
	if
	:: BOTH && !both -> both = 1; got[0] = 0; got[1] = 0
	:: !BOTH -> both = 0; got[0] = 0; got[1] = 0
	:: else
	fi;
	i = 0
}

/* By turns, from behind the one that was served last. */
inline choose()
{
	i = 0;
	do
	:: i < F && !(queued[at] > 0 && credit[at] > 0) -> at = (at + 1) % F; i++
	:: else -> break
	od;
	assert(i < F);
	i = 0
}

inline pay()
{
#ifdef MUTANT_CALLS_COUNTED
	credit[at] = credit[at] - 1;
#else
#ifdef MUTANT_THEFT_IS_FREE
	if
	:: !stolen -> credit[at] = credit[at] - cost
	:: else
	fi;
#else
	credit[at] = credit[at] - cost;
#endif
#endif
	if
	:: credit[at] < -DEBT_MAX -> credit[at] = -DEBT_MAX
	:: else
	fi;
#ifdef MUTANT_DEBT_LEFT_BEHIND
	if
	:: queued[at] == 0 && credit[at] < 0 -> credit[at] = 0
	:: else
	fi;
#endif
	if
	:: both && PRINCIPAL(at) < 2 -> got[PRINCIPAL(at)] = got[PRINCIPAL(at)] + cost
	:: else
	fi;
	/* got[0] / 1 and got[1] / 2. */
	assert(2 * got[0] - got[1] <= SLACK && got[1] - 2 * got[0] <= SLACK)
}

/* A call of another lane: of a flow with credit, or with `any_flow` of any, if there is none such. Its place stands in
 * `prey`, F = none. */
inline find_prey(any_flow)
{
	prey = F;
	i = 0;
	do
	:: i < F ->
		if
		:: away[i] > 0 -> renew(i)
		:: else
		fi;
		if
		:: away[i] > 0 && (credit[i] > 0 || (any_flow && prey == F)) -> prey = i
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* The flow at `prey`, in debt, is the one that has calls. */
inline begin_round_of_prey()
{
	if
	:: credit[prey] <= 0 ->
		round = round - credit[prey] / QUANTUM(prey) + 1;
		renew2()
	:: else
	fi
}

inline renew2()
{
	i = prey;
	renew(i);
	i = 0
}

inline steal()
{
	if
	:: cost = 1
	:: cost = M
	fi;
	d_step {
		begin_round_of_prey();
		next = at;
		at = prey;
		stolen = 1;
		away[prey]--;
		pay();
		stolen = 0;
		at = next;
		next = 0;
		prey = F;
		cost = 0;
		left--
	}
}

proctype worker()
{
	byte at, i, due, rounds, cost, prey = F, next;
	bool any, stolen;

again:
	do
	:: left == 0 -> break
	:: left > 0 ->
		d_step { look() };
		if
		:: any ->
			d_step { begin_round(); choose(); queued[at]-- };
			if
			:: cost = 1
			:: cost = M
			fi;
			d_step { pay(); at = (at + 1) % F; cost = 0; left-- };
			/* Help for others. */
			if
			:: d_step {
#ifdef MUTANT_HELP_FOR_DEBTORS
				find_prey(1)
#else
				find_prey(0)
#endif
			};
				if
				:: prey < F -> steal()
				:: else
				fi
			:: skip
			fi
		:: else ->
			d_step { find_prey(1) };
			if
			:: prey < F -> steal(); goto again
			:: else
			fi;
			d_step {
#ifdef MUTANT_LAST_LOOK_MINDS_DEBT
				do
				:: i < F && (queued[i] == 0 || credit[i] <= 0) -> i++
				:: else -> break
				od;
#else
				do
				:: i < F && queued[i] == 0 -> i++
				:: else -> break
				od;
#endif
				if
				:: i == F -> asleep = 1; round = round + FORGET
				:: else
				fi;
				i = 0
			};
			!asleep
		fi
	od
}

init {
	atomic {
		left = F * (N + A);
		away[0] = A;
		away[1] = A;
#if F > 2
		away[2] = A;
#endif
		round = 1;
#ifdef BACKLOG
		queued[0] = N;
		queued[1] = N;
#ifdef PLACES
		queued[2] = N;
#endif
#else
		run caller(0);
		run caller(1);
#endif
#if F > 2 && !defined(PLACES)
		run caller(2);
#endif
		run worker()
	}
}
