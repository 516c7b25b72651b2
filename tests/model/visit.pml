/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions come and go while a worker's thread is in a long call.
 *
 * The worker's thread serves one session. Another thread (control) hands over the others, one after the other, and at
 * any time the end of each. Around a call the worker's thread leaves the list of sessions and returns to it.
 * Meanwhile control may visit: it applies what it handed over. Any call may never end. Even then everything that was
 * handed over must be applied, except the end of the session whose call runs, which waits for that call.
 *
 * What a mutex guards is one step. Only one store here can pass a later load: when the worker's thread leaves, that of
 * `where` the load of has_handover. All others are followed by a locked operation. So only this one has a store buffer,
 * `leaving`.
 *
 * Checked: 12 two threads never use the list of sessions at once; no session is removed while a call of it runs, nor
 * used after it was removed; what was handed over is applied, in its order, whatever call runs (otherwise the model
 * ends while control waits, which Spin reports).
 */

#ifndef S
#define S 2 /* sessions */
#endif
#define H (2 * S - 1) /* handovers: all come but the first, all end */

#define HERE 0
#define AWAY 1
#define VISITED 2
#define WORKER 1
#define CONTROL 2

/* A handover: session * 2, and 1 more for its end. */
#define OF(handover) ((handover) / 2)
#define IS_END(handover) ((handover) % 2 == 1)

byte where = HERE;
bool leaving; /* where = AWAY is still in the store buffer of the worker's thread */
bool has_handover;
chan handovers = [H] of { byte };
bool was_visited;

/* The sessions that the worker serves, and the one whose call runs: session + 1. */
bool sessions[S];
byte current;

/* Read by the checks only. */
byte user; /* the thread that uses the list of sessions; 0 = none */
byte given, applied;
bool hangs, over;

inline use_sessions(me)
{
	d_step { assert(user == 0); user = me }
}

inline drain()
{
	where = (leaving -> AWAY : where);
	leaving = false
}

inline apply(me)
{
	/* Under the mutex: all of them. */
	d_step {
		do
		:: handovers ? handover -> mine ! handover
		:: empty(handovers) -> break
		od;
#ifndef MUTANT_FLAG_CLEARED_LATE
		has_handover = false;
#endif
		handover = 0
	};
	do
	:: mine ? handover ->
		if
#ifndef MUTANT_CURRENT_REMOVED
		:: IS_END(handover) && current == OF(handover) + 1 -> postponed = handover
		:: IS_END(handover) && current != OF(handover) + 1 ->
#else
		:: IS_END(handover) ->
#endif
			d_step { assert(sessions[OF(handover)]); sessions[OF(handover)] = false; applied++ }
		:: !IS_END(handover) ->
			d_step { assert(!sessions[OF(handover)]); sessions[OF(handover)] = true; applied++ }
		fi;
		handover = 0
	:: empty(mine) -> break
	od;
#ifdef MUTANT_FLAG_CLEARED_LATE
	has_handover = false;
#endif
	if
	:: postponed != 0 ->
		d_step {
			handovers ! postponed;
#ifndef MUTANT_POSTPONED_NOT_FLAGGED
			has_handover = true;
#endif
			postponed = 0
		}
	:: else
	fi
}

/* A locked operation; it drains the worker's own store buffer. A thread that finds a visit in progress waits for its
 * end: that visit may have taken the handovers before this thread added its own. */
inline visit(me)
{
	do
	:: atomic { me == WORKER && leaving -> drain() }
	:: atomic { (me != WORKER || !leaving) && where == AWAY -> where = VISITED };
		use_sessions(me);
		apply(me);
		was_visited = true;
		user = 0;
		where = AWAY;
		break
	:: (me != WORKER || !leaving) && where == HERE -> break
#ifdef MUTANT_VISITED_NOT_WAITED_FOR
	:: (me != WORKER || !leaving) && where == VISITED -> break
#endif
	od
}

/* A call that is not short. */
inline call(s)
{
	current = s + 1;
	/* leave */
#ifdef MUTANT_LEAVE_NO_FENCE
	d_step { user = 0; leaving = true };
#else
	d_step { user = 0; where = AWAY };
#endif
#ifndef MUTANT_LEAVE_NO_CHECK
	if
	:: has_handover -> visit(WORKER)
	:: !has_handover
	fi;
#endif
	if
	:: true
	:: hangs = true;
end_hangs:
		false
	fi;
	/* return: a locked operation */
#ifdef MUTANT_RETURN_STORED
	d_step { drain(); where = HERE };
#else
	d_step { drain(); skip };
	atomic { where == AWAY -> where = HERE };
#endif
	use_sessions(WORKER);
	assert(sessions[s]);
	current = 0
}

proctype worker()
{
	byte handover, postponed, s;
	byte other; /* noted when the turn began: another session of the list, + 1 */
	chan mine = [H] of { byte };

	do
	:: has_handover -> apply(WORKER)
	:: !has_handover ->
		/* A turn. */
		d_step { s = 0; other = 0 };
		do
		:: sessions[s] -> call(s); break
		:: s < S - 1 -> d_step { other = (sessions[s] -> s + 1 : other); s++ }
		:: s == S - 1 -> (has_handover || over); break
		od;
#ifndef MUTANT_TURN_GOES_ON
		/* A visit ends the turn: a session that it noted may be gone. */
		assert(was_visited || other == 0 || sessions[other - 1]);
#else
		assert(other == 0 || sessions[other - 1]);
#endif
		d_step { was_visited = false; other = 0; s = 0 }
	:: over && !has_handover -> break
	od
}

inline hand_over(handover_given)
{
	d_step { handovers ! handover_given; has_handover = true; given++ };
	visit(CONTROL)
}

proctype buffer()
{
end:
	do
	:: d_step { leaving -> drain() }
	od
}

proctype control()
{
	byte handover, postponed, s, came = 1;
	bool ended[S];
	chan mine = [H] of { byte };

	do
	:: came < S -> came++; hand_over(2 * (came - 1))
	:: given < H ->
		/* The end of a session that has come. */
		select(s : 0 .. S - 1);
		if
		:: s < came && !ended[s] -> ended[s] = true; hand_over(2 * s + 1)
		:: else
		fi
	:: given == H -> break
	od;
	/* The host waits until all handovers are applied, except the end of a session whose call hangs. */
	(applied == H || hangs && applied == H - 1);
	over = true
}

init {
	atomic {
		sessions[0] = true;
		user = WORKER;
		run worker();
		run control();
		run buffer()
	}
}
