/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A caller sleeps until its calls are answered; two workers answer and wake it.
 *
 * Each worker answers calls, sometimes several before it looks at `waiting`, as at the end of a turn. The caller arms
 * `waiting`, looks at its replies, and sleeps on `notified`. A worker that finds `waiting` armed raises `notified` to
 * that arm, and wakes the caller if it was the one that raised it. With -DLOOP the caller is an event loop: it reads
 * `completions` instead of every reply, and sleeps on its bell socket, in which a byte stays until it is read. At any
 * time it may find that completions were overwritten unread: it continues at their tail and scans all replies. `fate`
 * kills one of the workers between any two steps; the host then answers what it had claimed, raises `rescan` and
 * `notified`, and wakes the caller.
 *
 * With -DSTRAYS both workers are thieves: an event loop reads their completions only when `strays` has risen since its
 * last look at all lanes. Each of them raises it, by a locked operation, behind a completion and before its fence.
 *
 * The caller's look every 50 ms is left out. It is needed when a worker is stopped between its raise and its wake, or
 * before the end of its turn; these two cases are left out with it.
 *
 * `waiting`, the replies and the completions go through store buffers (see park.pml); `notified` is written by locked
 * operations only. The futex compares and sleeps in one step.
 *
 * Checked: 7 the caller does not sleep while there is an answer of which no party will notify it (otherwise the model
 * ends while the caller is asleep, which Spin reports).
 */

#ifndef N
#define N 3 /* calls in flight */
#endif
#ifndef DEATHS
#define DEATHS 0
#endif

#ifndef LAPS
#define LAPS 0 /* times that completions were overwritten unread */
#endif

#define W 2
#define CALLER W /* parties 0 .. W - 1 are the workers */

/* Words that go through store buffers: replies, then completion_tail of either worker, then waiting. */
#define REPLY(i) (i)
#define COMPLETION_TAIL(w) (N + (w)) /* how many completions it wrote */
#define WAITING (N + W)
#define WORDS (N + W + 1)
#define DEPTH 3

byte mem[WORDS];
byte buffered_word[(W + 1) * DEPTH], buffered_value[(W + 1) * DEPTH];
byte buffered[W + 1];

byte notified, rescan, strays;
byte completion[W * N]; /* the call that each completion names */

/* Kernel: the caller is asleep on notified; a byte is in the bell socket. */
bool asleep, byte_there;

byte next; /* the call to be claimed next */
bool dead[W];

inline drain_one(p)
{
	mem[buffered_word[(p) * DEPTH]] = buffered_value[(p) * DEPTH];
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

inline fence(p)
{
	d_step { drain(p); skip }
}

proctype buffers()
{
end:
	do
	:: d_step { buffered[0] > 0 -> drain_one(0) }
	:: d_step { buffered[1] > 0 -> drain_one(1) }
	:: d_step { buffered[CALLER] > 0 -> drain_one(CALLER) }
	od
}

/* FUTEX_WAKE on notified, or a byte into the bell socket. */
inline wake()
{
#ifdef LOOP
	byte_there = true
#else
	asleep = false
#endif
}

#ifdef LOOP
inline collect_scan()
{
	i = 0;
	do
	:: i < N ->
		if
		:: mem[REPLY(i)] != 0 && !seen[i] -> seen[i] = true; collected++
		:: else
		fi;
		i++
	:: else -> break
	od
}

/* A lap of completions is missing. The tails are loaded before the scan: an answer that the scan misses has its
 * completion behind them. */
inline skip_completions()
{
	laps--;
#ifdef MUTANT_SKIP_SCANS_FIRST
	d_step { collect_scan() };
#endif
	read[0] = mem[COMPLETION_TAIL(0)];
	read[1] = mem[COMPLETION_TAIL(1)];
#ifndef MUTANT_SKIP_SCANS_FIRST
#ifndef MUTANT_SKIP_NO_SCAN
	d_step { collect_scan() };
#endif
#endif
	i = 0
}
#endif

/* One step of collecting. i == N: there is nothing more to read. */
inline collect()
{
#ifdef LOOP
	/* Read the completions; scan all replies only if rescan moved. */
	if
#ifdef STRAYS
	:: now == last_strays -> i = N
	:: now != last_strays && read[0] < mem[COMPLETION_TAIL(0)] -> d_step { i = completion[read[0]]; read[0]++ }
	:: now != last_strays && read[1] < mem[COMPLETION_TAIL(1)] -> d_step { i = completion[N + read[1]]; read[1]++ }
	:: now != last_strays && read[0] == mem[COMPLETION_TAIL(0)] && read[1] == mem[COMPLETION_TAIL(1)] -> i = N
#else
	:: read[0] < mem[COMPLETION_TAIL(0)] -> d_step { i = completion[read[0]]; read[0]++ }
	:: read[1] < mem[COMPLETION_TAIL(1)] -> d_step { i = completion[N + read[1]]; read[1]++ }
	:: read[0] == mem[COMPLETION_TAIL(0)] && read[1] == mem[COMPLETION_TAIL(1)] -> i = N
#endif
	:: laps > 0 -> skip_completions()
	fi;
	d_step {
		if
		:: i < N && mem[REPLY(i)] != 0 && !seen[i] -> seen[i] = true; collected++
		:: else
		fi;
#ifndef MUTANT_RESCAN_NOT_READ
		if
		:: i == N && rescan != last_rescan ->
			last_rescan = rescan;
			collect_scan()
		:: else
		fi
#endif
	}
#else
	/* A blocking caller waits for one call after the other. */
	i = N;
	d_step {
		do
		:: collected < N && mem[REPLY(collected)] != 0 -> collected++
		:: else -> break
		od
	}
#endif
}

proctype caller()
{
	byte r, arm, collected;
	byte i;
#ifdef LOOP
	byte read[W], last_rescan, laps = LAPS;
#ifdef STRAYS
	byte now, last_strays;
#endif
	bool seen[N];
#endif

	do
	:: collected < N ->
#ifndef MUTANT_NOTIFIED_LOADED_LATE
		r = notified;
#endif
#ifdef MUTANT_NOT_REARMED
		d_step { arm = 1; store(CALLER, WAITING, arm) };
#else
		d_step { arm++; store(CALLER, WAITING, arm) };
#endif
#ifndef MUTANT_WAIT_NO_FENCE
		fence(CALLER);
#endif
#ifdef STRAYS
		now = strays;
#endif
		do
		:: collect();
		   if
		   :: i == N -> break
		   :: else
		   fi
		od;
#ifdef STRAYS
#ifdef MUTANT_STRAYS_NOTED_LATE
		now = strays;
#endif
		last_strays = now;
		now = 0;
#endif
		if
		:: collected == N
		:: collected < N ->
#ifdef MUTANT_NOTIFIED_LOADED_LATE
			r = notified;
#endif
#ifdef LOOP
			fence(CALLER);
			atomic { byte_there -> byte_there = false }
#else
			d_step { drain(CALLER); asleep = (notified == r) };
			!asleep
#endif
		fi;
		d_step { r = 0; store(CALLER, WAITING, 0) }
	:: else -> break
	od
}

/* After answers: fence, w = waiting, raise notified to w; the worker that raised it wakes the caller. */
inline wake_caller()
{
#ifndef MUTANT_ANSWER_NO_FENCE
	fence(me);
#endif
	w = mem[WAITING];
	if
	:: w == 0
	:: w != 0 ->
#ifdef MUTANT_WAKE_BEFORE_RAISE
		if
		:: w > notified -> wake(); d_step { drain(me); notified = (w > notified -> w : notified) }
		:: else
		fi
#else
#ifdef MUTANT_NOTIFIED_EXCHANGED
		if
		:: w > notified -> d_step { drain(me); notified = w; w = 0 }; wake()
		:: else
		fi
#else
		if
		:: d_step { w > notified -> drain(me); notified = w; w = 0 }; wake()
		:: d_step { w <= notified -> w = 0 }
		fi
#endif
#endif
	fi;
	w = 0
}

proctype worker(byte me)
{
	byte call = N, w, tail;
	bool has_answers; /* answered since it last looked at waiting */

	{
		do
		:: d_step { next < N -> call = next; next++ };
#ifdef MUTANT_COMPLETION_BEFORE_REPLY
			d_step { completion[me * N + tail] = call; tail++; store(me, COMPLETION_TAIL(me), tail) };
#endif
#ifdef MUTANT_STRAY_BEFORE_COMPLETION
			d_step { drain(me); strays++ };
#endif
			/* CLAIMED -> ANSWERED */
			d_step { store(me, REPLY(call), 1); has_answers = true };
#ifndef MUTANT_COMPLETION_BEFORE_REPLY
#ifdef LOOP
			d_step { completion[me * N + tail] = call; tail++; store(me, COMPLETION_TAIL(me), tail) };
#endif
#endif
#ifdef STRAYS
#ifdef MUTANT_STRAYS_STORED
			w = strays;
			d_step { drain(me); strays = w + 1; w = 0 };
#elif !defined(MUTANT_STRAY_BEFORE_COMPLETION) && !defined(MUTANT_STRAY_AFTER_WAKE)
			d_step { drain(me); strays++ };
#endif
#endif
			call = N;
			if
#ifdef MUTANT_STRAY_AFTER_WAKE
			:: wake_caller(); has_answers = false; strays++
#else
			:: wake_caller(); has_answers = false
#endif
			:: next < N /* the turn goes on */
			fi
		:: next == N -> break
		od;
		if
		:: has_answers -> wake_caller(); has_answers = false
		:: else
		fi
	} unless { dead[me] };

	if
	:: dead[me] ->
		/* Reaped: what it stored is in memory. The host answers what it had claimed, then wakes the waiting caller. */
		d_step {
			drain(me);
			w = 0;
			has_answers = false;
			if
			:: call < N -> mem[REPLY(call)] = 2; call = N
			:: else
			fi
		};
#ifndef MUTANT_RESCAN_NOT_BUMPED
		rescan++;
#endif
		/* The host's fence and wake. The other worker answers what is left. */
		w = mem[WAITING];
		if
#ifdef MUTANT_RECOVERY_WAKES_IF_RAISED
		:: w > notified -> d_step { notified = (w > notified -> w : notified) }; wake()
#else
#ifndef MUTANT_RECOVERY_WAKES_NONE
		:: w != 0 -> d_step { notified = (w > notified -> w : notified) }; wake()
#endif
#endif
		:: else
		fi
	:: else
	fi
}

proctype fate()
{
#if DEATHS > 0
	if
	:: true -> dead[0] = true
	:: true -> dead[1] = true
	:: true
	fi
#else
	skip
#endif
}

init {
	atomic {
		run caller();
		run worker(0);
		run worker(1);
		run buffers();
		run fate()
	}
}
