/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host asks calls to stop, and kills a worker whose call does not.
 *
 * S slots, each used for G calls one after the other, one worker, and a host that A times is given the address of a
 * call: slot and generation of one that was published, perhaps long ago. It stores stop[slot] = generation, and then
 * the bit STOPS in the session's state, which all slots have in common. While a call is waited for it looks again:
 * when the call is answered it is forgotten, and with the last one the bit is taken back. A call that does not stop
 * (any call may go on for ever) may be killed: the worker is halted, looked at, and killed or continued, as for a
 * hard timeout; what follows a kill is a recovery.
 *
 * The host's two stores become visible in their order on any machine that has release stores, and nothing depends on
 * when: a worker that claims before it sees them starts the call, and the task sees them at a later look. So the model
 * has no store buffer. One worker is enough, since a claim is one step: a thief's is another worker's.
 *
 * Checked: 1 a call runs at most once; 21 a call that was asked to stop before its claim is not started, one that runs
 * and was asked sees it, none is stopped or killed that nobody asked; each call gets one outcome; 10 recovery ends.
 */

#ifndef S
#define S 2
#endif
#ifndef G
#define G 2
#endif
#ifndef A
#define A 2
#endif

/* Calls are counted from 1: those of slot s are s * G + 1 to s * G + G. */
#define CALL(s, g) ((s) * G + (g))

byte published[S], claim[S], reply[S]; /* generations */
byte stop[S];
bool stops; /* the bit in the state */
byte running; /* what the board says: slot + 1; 0 = none */
bool halted, dead, reaped, over;

bool waited_for[S * G + 1];

/* Read by the checks only. */
bool asked[S * G + 1];       /* both words are stored */
bool asked_begun[S * G + 1];
bool ran[S * G + 1];

#ifdef MUTANT_STOP_A_FLAG
#define STOPPED(s, g) (stops && stop[s] != 0)
#else
#define STOPPED(s, g) (stops && stop[s] == (g))
#endif

/* ---- caller ---- */

proctype caller()
{
	byte s;

	do
	:: atomic { over == false && published[0] == reply[0] && published[0] < G -> published[0] = published[0] + 1 }
#if S > 1
	:: atomic { over == false && published[1] == reply[1] && published[1] < G -> published[1] = published[1] + 1 }
	:: atomic { reply[0] == G && reply[1] == G -> over = true; break }
#else
	:: atomic { reply[0] == G -> over = true; break }
#endif
	od
}

/* ---- worker ---- */

/* Takes no step while it is halted, but the one in which it ends. */
proctype worker() provided (!halted)
{
	byte s, g;
	bool refuse, was_asked;

again:
	{
		do
		:: over -> goto done
		:: !over && (published[0] > claim[0]) -> s = 0; goto take
#if S > 1
		:: !over && (published[1] > claim[1]) -> s = 1; goto take
#endif
		od;
take:
		g = claim[s] + 1;
#ifdef MUTANT_LOOKED_BEFORE_CLAIM
		refuse = STOPPED(s, g);
#endif
		/* READY -> CLAIMED */
		atomic { claim[s] = g; was_asked = asked[CALL(s, g)] };
		running = s + 1;
#ifndef MUTANT_LOOKED_BEFORE_CLAIM
		refuse = STOPPED(s, g);
#endif
		if
		:: refuse ->
			assert(asked_begun[CALL(s, g)])
		:: !refuse ->
			d_step {
				assert(!was_asked);
				assert(!ran[CALL(s, g)]);
				ran[CALL(s, g)] = true
			};
			do
			/* knit_aborted() */
			:: d_step {
				assert(!asked[CALL(s, g)] || STOPPED(s, g));
				assert(!STOPPED(s, g) || asked_begun[CALL(s, g)]);
				skip
			   };
			   break
			:: break
			/* It goes on until it is killed, if it is. */
			:: asked[CALL(s, g)] && !dead -> dead
			od
		fi;
		/* CLAIMED -> ANSWERED */
		atomic { assert(reply[s] == g - 1); reply[s] = g; refuse = false; was_asked = false };
		running = 0;
		goto again
	} unless { dead };

	/* Its replacement begins when the host has recovered. */
	d_step { s = 0; g = 0; refuse = false; was_asked = false; reaped = true };
	!dead;
	goto again;
done:
	skip
}

/* ---- host ---- */

inline find_running()
{
	seen = running
}

/* Whether the worker runs that call, as it was when the host looked. */
#ifdef MUTANT_KILL_BY_SLOT
#define RUNS(s, g) (seen == (s) + 1 && claim[s] == reply[s] + 1)
#else
#define RUNS(s, g) (seen == (s) + 1 && claim[s] == (g) && reply[s] == (g) - 1)
#endif

#ifdef MUTANT_FORGOTTEN_AT_CLAIM
#define IS_NEXT(s, g) (reply[s] == (g) - 1 && claim[s] != (g))
#else
#define IS_NEXT(s, g) (reply[s] == (g) - 1)
#endif

/* The worker is dead: what it had claimed is answered. */
inline recover()
{
	halted = false;
	reaped;
	d_step {
		reaped = false;
		k = 0;
		do
		:: k < S ->
			if
			:: claim[k] == reply[k] + 1 ->
				/* 21: the call that was meant, and no other. */
				assert(k == s && claim[k] == g);
				reply[k] = claim[k]
			:: else
			fi;
			k++
		:: else -> break
		od;
		k = 0;
		running = 0;
		dead = false
	}
}

inline ask()
{
	if
#ifdef MUTANT_STALE_TAKEN
	:: published[s] >= g ->
#else
	:: published[s] >= g && reply[s] == g - 1 ->
#endif
		asked_begun[CALL(s, g)] = true;
		stop[s] = g;
		atomic { stops = true; asked[CALL(s, g)] = (reply[s] == g - 1) };
		waited_for[CALL(s, g)] = true
	:: else
	fi
}

inline forget()
{
	waited_for[CALL(s, g)] = false;
#ifndef MUTANT_BIT_OF_ONE
	d_step {
		seen = 0;
		k = 1;
		do
		:: k <= S * G -> seen = seen + waited_for[k]; k++
		:: else -> break
		od;
		k = 0
	};
	if
	:: seen == 0 -> stops = false
	:: else
	fi;
	seen = 0
#else
	stops = false
#endif
}

inline kill()
{
	find_running();
	if
	:: RUNS(s, g) ->
#ifdef MUTANT_KILLED_UNHALTED
		/* It goes on between the look and the signal. */
		dead = true;
		recover()
#else
		halted = true;
		find_running();
		if
		:: RUNS(s, g) -> dead = true; recover()
		:: else -> halted = false
		fi
#endif
	:: else
	fi;
	seen = 0
}

proctype host()
{
	byte s, g = 1, left = A, seen, k;

	do
	:: atomic { over && !dead -> break }
	:: !over ->
		/* An address, of any call that there ever was. */
		if
		:: s = 0
#if S > 1
		:: s = 1
#endif
		fi;
		if
		:: g = 1
#if G > 1
		:: g = 2
#endif
#if G > 2
		:: g = 3
#endif
		fi;
		if
		:: left > 0 && published[s] >= g -> left--; ask()
		:: waited_for[CALL(s, g)] && !IS_NEXT(s, g) -> forget()
		:: waited_for[CALL(s, g)] && IS_NEXT(s, g) -> kill()
		:: else
		fi;
		d_step { s = 0; g = 1 }
	od
}

init {
	atomic {
		run caller();
		run worker();
		run host()
	}
}
