/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls whose task has returned and whose outcome comes later, from any thread of their worker.
 *
 * The worker's thread runs N calls, each in a slot of its own; each is deferred, and its task returns at once. T threads
 * race for each outcome; another may end the session at any time; a watching thread ends calls whose time is over. The
 * table of deferred calls has one place fewer than there are calls, so places are used again. Outcomes go to the lane by a
 * list under a mutex; its thread writes them at its next turn, or, while it is away in a long call that may never end,
 * the thread that brings them does (visit.pml has that in more detail: here a visit is one step under `lists`).
 *
 * What a mutex guards is one step. That the host answers what a dead worker had claimed is recovery.pml's: a deferred call
 * is claimed as any other.
 *
 * Checked: 15 a call that was claimed gets exactly one outcome while its session lives, also while a task hangs; an outcome is written for the call whose token was used, and for no later one of its place; no
 * memory of a session is touched after it was given back.
 */

#ifndef N
#define N 2 /* calls */
#endif
#ifndef T
#define T 2 /* threads that race for each */
#endif
#define PLACES 1

#define NONE 255

/* Of each call: its claim, its answer, and who gave it. */
bool claimed[N], answered[N];
byte outcomes[N];

/* The table, under its mutex. */
byte place_call[PLACES]; /* call + 1; 0 = free */
byte use[PLACES];
bool is_open[PLACES], is_over[PLACES], is_done[PLACES], has_returned[PLACES], has_session[PLACES];

/* Tokens: place and use of each call. */
byte token_place[N], token_use[N];
bool deferred[N];

/* Finished outcomes on their way: call + 1 and place. */
chan finished = [N] of { byte, byte };

bool attached = true, mapped = true;
bool dead, reaped;
bool away; /* the worker's thread is in a long call */
bool hangs;

inline leave_if_done(p)
{
	if
	:: place_call[p] != 0 && is_over[p] && is_done[p] && has_returned[p] && !is_open[p] ->
		place_call[p] = 0;
		use[p]++
	:: else
	fi
}

/* The lane takes what is finished: in one step, for `where` lets one thread do it at a time. */
inline write_finished()
{
	do
	:: finished ? c, at ->
		if
		:: attached ->
			assert(mapped);
			assert(claimed[c - 1] && !answered[c - 1]);
			answered[c - 1] = true;
			outcomes[c - 1]++
		:: else
		fi;
		is_done[at] = true;
		leave_if_done(at);
		c = 0; at = 0
	:: len(finished) == 0 -> break
	od
}

proctype worker()
{
	byte i, p, c, at;

	do
	:: i < N && attached ->
		/* A claim, and knit_defer() within its task. */
		atomic {
			claimed[i] = true;
			if
			:: place_call[0] == 0 ->
				place_call[0] = i + 1;
				is_open[0] = false; is_over[0] = false; is_done[0] = false; has_returned[0] = false;
				has_session[0] = true;
				token_place[i] = 0;
				token_use[i] = use[0];
				deferred[i] = true
			:: else ->
				/* Too many: the task ends the call itself. */
				answered[i] = true;
				outcomes[i]++
			fi
		};
		/* The task returns: what has its outcome already goes to the lane now. */
		if
		:: deferred[i] ->
			atomic {
				p = token_place[i];
				has_returned[p] = true;
				if
#ifndef MUTANT_RETURN_NOT_LOOKED_AT
				:: is_over[p] && !is_done[p] -> finished ! i + 1, p
#endif
				:: else
				fi;
				leave_if_done(p)
			}
		:: else
		fi;
		i++
	:: len(finished) > 0 -> atomic { write_finished() }
	:: true ->
		/* A long call; it may never end. */
		away = true;
		if
#ifndef MUTANT_LEAVE_NO_CHECK
		:: len(finished) > 0 -> atomic { write_finished() }
#endif
		:: else
		fi;
		if
		:: true
		:: hangs = true; end_hangs: false
		fi;
		away = false
	:: i == N && len(finished) == 0 -> break
	:: !attached && len(finished) == 0 -> break
	od;
	/* Then it sleeps on its bell. */
end_sleeps:
	do
	:: len(finished) > 0 -> atomic { write_finished() }
	od
}

/* Hands an outcome over; a worker that is away is visited. */
inline hand_over(call_given, p_given)
{
	atomic {
		finished ! call_given + 1, p_given;
#ifndef MUTANT_NOT_VISITED
		if
		:: away -> write_finished()
		:: else
		fi
#endif
	}
}

/* One that races for the outcome of a call, or comes long after it. */
proctype completer(byte call)
{
	byte p, c, at;
	bool is_due, is_mine;

end_waits:
	deferred[call];
	atomic {
		p = token_place[call];
#ifdef MUTANT_TOKEN_WITHOUT_USE
		is_mine = place_call[p] != 0 && !is_over[p] && !is_open[p];
#else
		is_mine = place_call[p] != 0 && use[p] == token_use[call] && !is_over[p] && !is_open[p];
#endif
		if
		:: is_mine && !has_session[p] ->
			is_over[p] = true; is_done[p] = true; leave_if_done(p); is_mine = false
		:: is_mine && has_session[p] -> is_open[p] = true
		:: else
		fi
	};
	if
	:: is_mine ->
		/* It gives the outcome, and closes. */
		atomic {
#ifdef MUTANT_TOKEN_WITHOUT_USE
			assert(place_call[p] == call + 1);
#endif
			is_open[p] = false;
			if
			:: is_over[p] || !has_session[p] ->
				if
				:: !is_over[p] -> is_done[p] = true
				:: else
				fi;
				is_over[p] = true;
				leave_if_done(p)
			:: else ->
				is_over[p] = true;
#ifdef MUTANT_BEFORE_RETURN
				is_due = true
#else
				is_due = has_returned[p]
#endif
			fi
		};
		if
		:: is_due -> hand_over(call, p)
		:: else
		fi
	:: else
	fi
}

/* Ends calls whose time is over, whoever has them open. */
proctype watcher()
{
	byte call, c, at;
	bool is_due;

end_watches:
	do
	:: atomic {
		place_call[0] != 0 && has_returned[0] && !is_over[0] ->
			call = place_call[0] - 1;
			is_over[0] = true;
#ifdef MUTANT_LIMIT_FREES_OPEN
			is_open[0] = false;
#endif
			is_due = has_session[0];
			if
			:: !is_due -> is_done[0] = true
			:: else
			fi;
			leave_if_done(0)
	   };
		if
		:: is_due -> hand_over(call, 0)
		:: else
		fi
	od
}

/* The session ends: the lane lets it go, then it is unmapped. */
proctype control()
{
	byte p;

end_stays:
	if
	:: true ->
#ifdef MUTANT_UNMAPPED_FIRST
		mapped = false;
		atomic { attached = false; has_session[0] = false }
#else
		atomic { attached = false; has_session[0] = false };
		mapped = false
#endif
	:: true
	fi
}

/* All that run in the worker stop at once; what is left of it is answered by the host. */
proctype host()
{
	byte i;

	/* A model ends here where nobody else can go on. */
	timeout ->
	/* Nothing waits for a task that hangs. */
	assert(len(finished) == 0);
	do
	:: i < N ->
		if
		:: claimed[i] && attached ->
			if
			:: hangs && !answered[i] -> answered[i] = true; outcomes[i]++
			:: else
			fi;
			assert(!answered[i] || outcomes[i] == 1);
			assert(answered[i])
		:: else
		fi;
		i++
	:: i == N -> break
	od
}

init {
	byte i, j;

	atomic {
		run worker();
		i = 0;
		do
		:: i < N ->
			j = 0;
			do
			:: j < T -> run completer(i); j++
			:: j == T -> break
			od;
			i++
		:: i == N -> break
		od;
		run watcher();
		run control();
		run host()
	}
}
