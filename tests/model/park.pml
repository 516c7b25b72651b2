/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker parks while callers, its sibling and the host have reasons to wake it.
 *
 * Two lanes, each with its worker; one caller that publishes P calls to lanes of its choice, flushes, and waits. A
 * lane is reduced to two counters: what was published to it and what was claimed; READY is the difference. `fate`
 * stops or kills a worker between any two steps. The lane of a dead one becomes VACANT and may get a replacement. The
 * caller's look every 50 ms is left out, so nothing here depends on a timeout. With -DTHIRD all calls go to a third
 * lane, which has no worker.
 *
 * Spin executes one step after the other, which no processor does. Therefore the stores that matter (ctrl, bell,
 * park) go through a store buffer of their party. It drains one store at a time, at any moment, in order; fences,
 * locked operations and system calls drain it completely. That is the memory order of x86, in which a missing fence
 * shows. The kernel behaves as it documents itself: futex_waitv compares and falls asleep in one step.
 *
 * Two words are reduced to the questions that are asked of them. The values of `bell` and `lane_bell` only rise, and
 * a worker asks whether either moved since it loaded them: one flag, `moved`. The epochs in `park` only rise, and a
 * caller asks whether it notified this PARKED word before: one flag, `notified_park`, which a new PARKED word clears.
 * So the epochs need no bound.
 *
 * With -DVIA_HOST workers sleep on lane_bell alone. A caller that finds one PARKED stores its bell as always, then adds
 * to an eventfd; the host, a process between, takes the event and compares park and bell of each lane. A write to the
 * eventfd is a system call and drains. Two more words are reduced: `bell_named`, the caller's bell is the PARKED word
 * that memory holds, and `relayed`, the host has relayed that word; a new park word clears both.
 *
 * Of other lanes a worker looks only at those that the caller says are `occupied`: it has published calls there whose
 * answers it has not collected. Its own lane it always looks at. The caller may collect at any time.
 *
 * Whoever searches for any parked worker looks at the lanes whose bit is set in `parked`. A worker sets the bit of its
 * lane behind its park word and before its last look, and clears it behind the next one; the host does for a dead one.
 * In the code these are locked operations; here they go through the store buffer, so that the fence is what counts. To
 * wake the lane that a call was published to, nobody reads the bit.
 *
 * Checked: 7 no worker sleeps while there is a READY call of which no party will notify it, and with it 6: otherwise
 * the model ends while the caller waits, which Spin reports.
 */

#ifndef P
#define P 2 /* calls published */
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef STOPS
#define STOPS 0
#endif

#ifndef HANGS
#define HANGS 0
#endif

#ifdef THIRD
#define L 3
#else
#define L 2
#endif
#define AWAKE 0
#define PARKED 1
#define VACANT 2

/* Shared words written by plain stores: what memory holds, and what is still in the store buffer of a party. */
#define PUB(l) (l)
#define BELL(l) (L + (l))
#define PARK(l) (2 * L + (l))
#define OCCUPIED(l) (3 * L + (l))
#define BIT(l) (4 * L + (l))
#define CALLER L /* parties below it are the workers */
#define DEPTH 2
#define IS_BELL(word) ((word) / L == 1)
#define IS_PARK(word) ((word) / L == 2)
#define LANE_OF(word) ((word) % L)
byte mem[5 * L];
byte buffered_word[(L + 1) * DEPTH], buffered_value[(L + 1) * DEPTH];
byte buffered[L + 1];

bool moved[L];         /* bell or lane_bell changed since the worker loaded them */
bool notified_park[L]; /* the caller notified the PARKED word that memory holds */

#ifdef VIA_HOST
bool bell_named[L];
bool relayed[L];
bool asked;        /* the caller wrote to the eventfd, and the host has not taken it */
byte look_lane;    /* between the two loads of the host's look at a lane */
bool look_parked;
#endif

byte claimed[L]; /* written by locked operations only */
byte answered[L]; /* of the calls that were published to the lane */
byte from[L]; /* the lane whose call a worker has claimed */

/* The wait queues of the kernel, one a lane. */
bool asleep[L];

/* Read by the checks only. */
byte done;       /* calls answered */
bool busy[L];    /* the worker has claimed a call and not answered it */
bool runs[L];    /* that call runs, and the worker has notified its sibling of the calls behind it */
bool dead[L], stopped[L];
bool over;
#ifdef MUTANT_BIT_OF_DEAD_CLEARED_LATE
bool late[L];
#endif

#ifdef VIA_HOST
/* Memory gets another park word. What named the old one, a bell in the caller's store buffer too, names none now. */
inline new_park(l)
{
	bell_named[l] = false;
#ifndef MUTANT_RELAYED_KEPT
	relayed[l] = false;
#endif
	look_parked = (look_lane == (l) -> false : look_parked);
	buffered_value[CALLER * DEPTH] =
		(buffered_word[CALLER * DEPTH] == BELL(l) -> 0 : buffered_value[CALLER * DEPTH]);
	buffered_value[CALLER * DEPTH + 1] =
		(buffered_word[CALLER * DEPTH + 1] == BELL(l) -> 0 : buffered_value[CALLER * DEPTH + 1])
}
#endif

inline drain_one(p)
{
	if
#ifdef VIA_HOST
	:: IS_BELL(buffered_word[(p) * DEPTH]) ->
		bell_named[LANE_OF(buffered_word[(p) * DEPTH])] = buffered_value[(p) * DEPTH]
#else
	:: IS_BELL(buffered_word[(p) * DEPTH]) -> moved[LANE_OF(buffered_word[(p) * DEPTH])] = true
#endif
	:: IS_PARK(buffered_word[(p) * DEPTH]) ->
#ifdef VIA_HOST
		new_park(LANE_OF(buffered_word[(p) * DEPTH]));
#endif
#ifndef MUTANT_NOTIFIED_PARK_KEPT
		notified_park[LANE_OF(buffered_word[(p) * DEPTH])] = false;
#endif
		mem[buffered_word[(p) * DEPTH]] = buffered_value[(p) * DEPTH]
	:: else -> mem[buffered_word[(p) * DEPTH]] = buffered_value[(p) * DEPTH]
	fi;
	buffered_word[(p) * DEPTH] = buffered_word[(p) * DEPTH + 1];
	buffered_value[(p) * DEPTH] = buffered_value[(p) * DEPTH + 1];
	buffered_word[(p) * DEPTH + 1] = 0;
	buffered_value[(p) * DEPTH + 1] = 0;
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
	d_step { drain(p) }
}

/* fetch_add on lane_bell, then FUTEX_WAKE. */
inline notify_lane_bell(l)
{
	moved[l] = true;
	asleep[l] = false
}

proctype buffers()
{
end:
	do
	:: d_step { buffered[0] > 0 -> drain_one(0) }
	:: d_step { buffered[1] > 0 -> drain_one(1) } /* the third lane has no worker */
	:: d_step { buffered[CALLER] > 0 -> drain_one(CALLER) }
	od
}

#define READY(l) (mem[PUB(l)] > claimed[l])

/* From another lane a worker may claim the READY calls of a VACANT one. With stealing on it may claim those of a lane
 * with a worker too, once they were READY at two looks; one look stands for both. */
#define OF_VACANT(l) (READY(l) && mem[PARK(l)] == VACANT)
#ifdef NO_STEAL
#define MAY_CLAIM(l) OF_VACANT(l)
#else
#define MAY_CLAIM(l) READY(l)
#endif
/* The worker looks there, and finds one. */
#define SEES(l) (mem[OCCUPIED(l)] && MAY_CLAIM(l))
#ifdef MUTANT_PARK_CHECKS_VACANT_ONLY
#define KEEPS_AWAKE(l) (mem[OCCUPIED(l)] && OF_VACANT(l))
#else
#define KEEPS_AWAKE(l) SEES(l)
#endif

/* wake_lane() of the code: a lane that is PARKED and was not notified since gets bell = v and FUTEX_WAKE. The system
 * call drains. */
inline wake_lane(l)
{
	d_step {
		v = mem[PARK(l)];
		woke = (v == PARKED && !notified_park[l]);
		notified_park[l] = (notified_park[l] || v == PARKED)
	};
	if
	:: woke ->
#ifdef VIA_HOST
		/* notified_park: the word that was read is still in memory, so that the bell names it. */
#ifdef MUTANT_ASK_BEFORE_BELL
		d_step { drain(CALLER); asked = true };
		d_step { store(CALLER, BELL(l), notified_park[l]) }
#else
		d_step { store(CALLER, BELL(l), notified_park[l]) };
		d_step { drain(CALLER); asked = true }
#endif
#else
#ifdef MUTANT_WAKE_BEFORE_BELL
		d_step { drain(CALLER); asleep[l] = false };
		d_step { store(CALLER, BELL(l), 0) }
#else
		d_step { store(CALLER, BELL(l), 0) };
		d_step { drain(CALLER); asleep[l] = false }
#endif
#endif
	:: else
	fi
}

/* The same of a lane that a search finds. */
inline wake_found(l)
{
	if
	:: mem[BIT(l)] -> wake_lane(l)
	:: else
	fi
}

/* The first lane that is PARKED and was not notified since. */
inline wake_other()
{
	wake_found(0);
	if
	:: !woke -> wake_found(1)
	:: else
	fi;
	d_step { v = 0; woke = false }
}

/* FREE -> READY */
inline publish(l)
{
	d_step {
#ifndef MUTANT_OCCUPIED_AFTER_FLUSH
		if
#ifdef MUTANT_OCCUPIED_ONCE
		:: sent[l] == 0 -> occupied[l] = true; store(CALLER, OCCUPIED(l), 1)
#else
		:: !dirty[l] -> occupied[l] = true; store(CALLER, OCCUPIED(l), 1)
#endif
		:: else
		fi;
#endif
		store(CALLER, PUB(l), sent[l] + 1);
		sent[l]++;
		dirty[l] = true;
		left--
	}
}

/* The answers of all that was published to the lane are taken: it is not occupied, unless the next call may come before
 * the flush, which does not say so again. */
inline collect(l)
{
	d_step {
#ifdef MUTANT_COLLECTED_ONE
		occupied[l] && answered[l] > 0 && !dirty[l] ->
#elif defined(MUTANT_COLLECTED_DIRTY)
		occupied[l] && answered[l] == sent[l] ->
#else
		occupied[l] && answered[l] == sent[l] && !dirty[l] ->
#endif
		occupied[l] = false;
		store(CALLER, OCCUPIED(l), 0)
	}
}

inline collect_any()
{
	if
	:: collect(0)
#ifdef SPREAD
	:: collect(1)
#endif
#ifdef THIRD
	:: collect(2)
#endif
	fi
}

inline flush_lane(l)
{
	if
	:: dirty[l] ->
#ifdef MUTANT_OCCUPIED_AFTER_FLUSH
		d_step { occupied[l] = true; store(CALLER, OCCUPIED(l), 1) };
#endif
		wake_lane(l);
		if
		:: !woke ->
			if
#ifndef MUTANT_FLUSH_NO_HELP
			:: mem[PARK(l)] == VACANT -> help = true
#endif
#ifndef NO_STEAL
			/* Two or more are queued: another lane is woken at some of the flushes only, as that serves speed alone. */
			:: mem[PARK(l)] != VACANT && sent[l] >= 2 -> help = true
			:: mem[PARK(l)] != VACANT && sent[l] >= 2
#endif
			:: else
			fi
		:: woke
		fi;
		d_step { v = 0; woke = false; dirty[l] = false }
	:: else
	fi
}

/* As it is about to sleep, or to do something else. */
inline wake_for_unclaimed()
{
#ifdef THIRD
	if
#ifndef NO_STEAL
	:: claimed[2] < sent[2] -> wake_other()
#endif
	:: else
	fi;
#endif
#ifndef NO_STEAL
	/* An unclaimed call: notify a PARKED lane, but not the lane of the call. Its worker may have seen the call in
	 * its last look, then have claimed another call first, which does not end. */
#ifdef MUTANT_WAIT_WAKES_ANY
	if
	:: claimed[0] < sent[0] || claimed[1] < sent[1] -> wake_other()
	:: else
	fi;
#else
	if
	:: claimed[0] < sent[0] -> wake_found(1)
	:: else
	fi;
	if
	:: !woke && claimed[1] < sent[1] -> wake_found(0)
	:: else
	fi;
	d_step { v = 0; woke = false };
#endif
#endif
	skip
}

inline flush()
{
#ifndef MUTANT_FLUSH_NO_FENCE
	fence(CALLER);
#endif
	flush_lane(0);
	flush_lane(1);
#ifdef THIRD
	flush_lane(2);
#endif
	if
	:: help -> wake_other(); help = false
	:: !help
	fi;
#ifndef NO_STEAL
	/* Where the caller does something else then, and no worker claims the call for a moment. */
	if
	:: wake_for_unclaimed()
	:: true
	fi
#endif
}

#define EXCUSED ((stopped[0] && busy[0] -> 1 : 0) + (stopped[1] && busy[1] -> 1 : 0))

proctype caller()
{
	byte sent[L], v, left = P, last;
	bool dirty[L], occupied[L], woke, help;

	do
	:: left > 0 ->
#ifdef SPREAD
		if
		:: publish(0)
		:: publish(1)
		fi;
#else
#ifdef THIRD
		publish(2);
#else
		publish(0);
#endif
#endif
		if
		:: flush()
		:: left > 0 /* one flush may follow several calls */
		fi
	:: collect_any()
	:: else -> break
	od;

	/* The caller waits; each answer wakes it, and it looks again. */
	do
	:: done + EXCUSED < P ->
		last = done;
		wake_for_unclaimed();
		(done > last || done + EXCUSED == P)
	:: collect_any()
	:: else -> break
	od;
	atomic { last = 0; over = true }
}

#ifdef VIA_HOST
/* One event, then a look at each lane. Between its two loads the lane may get another park word. */
proctype host()
{
	byte l;

end:
	do
#ifdef MUTANT_EVENT_TAKEN_LAST
	:: asked ->
#else
	:: d_step { asked -> asked = false };
#endif
		do
		:: l < L ->
			d_step { look_lane = l; look_parked = (mem[PARK(l)] == PARKED) };
			d_step {
				if
				:: look_parked && bell_named[l] && !relayed[l] ->
					relayed[l] = true;
					notify_lane_bell(l);
#ifdef MUTANT_ONE_LANE_AN_EVENT
					l = L - 1;
#endif
				:: else
				fi;
				l++;
				look_lane = 0;
				look_parked = false
			}
		:: else -> break
		od;
#ifdef MUTANT_EVENT_TAKEN_LAST
		asked = false;
#endif
		l = 0
	od
}
#endif

/* READY -> CLAIMED -> ANSWERED, of a call of lane l. */
inline serve(l)
{
	/* The claim is a locked operation: it drains. */
	if
	:: d_step { READY(l) -> drain(me); claimed[l]++; from[me] = l; busy[me] = true }
	:: !READY(l) -> goto again
	fi;
	/* There is a READY call behind it that the sibling may claim, and the sibling is PARKED: wake it. */
	d_step {
		if
#ifndef MUTANT_SIBLING_NOT_WOKEN
		:: MAY_CLAIM(l) && mem[BIT(1 - me)] && mem[PARK(1 - me)] == PARKED ->
#ifdef MUTANT_BIT_CLEARED_BY_WAKER
			cleared = 1 - me;
#endif
			notify_lane_bell(1 - me)
#endif
		:: else
		fi;
		runs[me] = true
	};
#ifdef MUTANT_BIT_CLEARED_BY_WAKER
	d_step { mem[BIT(cleared)] = (cleared < L -> 0 : mem[BIT(cleared)]); cleared = L };
#endif
	d_step { busy[me] = false; runs[me] = false; answered[l]++; from[me] = 0; done++ }
}

proctype worker(byte me)
{
#ifdef MUTANT_BIT_CLEARED_BY_WAKER
	byte cleared = L;
#endif

again:
	{
		do
		:: !over ->
			/* In the code home comes first, and the other lanes are read less often, but also while there are calls at
			 * home. Here either may come first. */
			if
			:: READY(me) -> serve(me); goto again
			:: SEES(1 - me) -> serve(1 - me); goto again
#ifdef THIRD
			:: SEES(2) -> serve(2); goto again
			:: !READY(me) && !SEES(1 - me) && !SEES(2)
#else
			:: !READY(me) && !SEES(1 - me)
#endif
			fi;
			/* park */
			d_step {
				store(me, PARK(me), PARKED);
#ifndef MUTANT_BIT_AFTER_LOOK
				store(me, BIT(me), 1);
#endif
				moved[me] = false
			};
#ifndef MUTANT_PARK_NO_FENCE
			fence(me);
#endif
			if
#ifndef MUTANT_PARK_NO_CHECK
			:: READY(me)
#endif
#ifdef MUTANT_PARK_NO_CHECK
			:: true ->
#else
			:: !READY(me) ->
#endif
				if
				:: KEEPS_AWAKE(1 - me)
#ifdef THIRD
				:: KEEPS_AWAKE(2)
				:: !KEEPS_AWAKE(1 - me) && !KEEPS_AWAKE(2) ->
#else
				:: !KEEPS_AWAKE(1 - me) ->
#endif
#ifdef MUTANT_BELL_AFTER_ANNOUNCEMENT
					moved[me] = false;
#endif
#ifdef MUTANT_BIT_AFTER_LOOK
					d_step { store(me, BIT(me), 1) };
#endif
					/* futex_waitv: compares and sleeps in one step; a system call drains. */
					d_step {
						drain(me);
						asleep[me] = !moved[me]
					};
					(!asleep[me] || over)
				fi
			fi;
			d_step { store(me, PARK(me), AWAKE); store(me, BIT(me), 0) }
		:: else -> break
		od
	} unless { dead[me] || stopped[me] };

	if
	:: dead[me] ->
		/* Reaped. The host makes its lane VACANT, then answers what it had claimed. */
		d_step { drain(me); asleep[me] = false };
		d_step {
			mem[PARK(me)] = VACANT;
#ifdef VIA_HOST
			new_park(me)
#endif
		};
#ifdef MUTANT_BIT_OF_DEAD_CLEARED_LATE
		late[me] = true;
#else
		mem[BIT(me)] = 0;
#endif
#ifndef MUTANT_VACANT_NOT_ANNOUNCED
		d_step { notify_lane_bell(1 - me) };
#endif
		d_step {
			if
			:: busy[me] -> done++; answered[from[me]]++; from[me] = 0
			:: else
			fi;
			busy[me] = false;
			runs[me] = false
		};
#ifdef REPLACE
		d_step { dead[me] = false; mem[PARK(me)] = AWAKE };
		goto again
#endif
	:: stopped[me] ->
end_stopped:
		false
	:: else
	fi
}

/* A call may hang before its worker notifies the sibling, as one does that was expected to be short. With a third lane
 * only the caller's look every 50 ms would help then, which is left out: the lane has two siblings, and the caller
 * notifies one of them each time it sleeps. */
#ifdef THIRD
#define MAY_HANG(w) runs[w]
#else
#define MAY_HANG(w) busy[w]
#endif

proctype fate()
{
	byte deaths = DEATHS, stops = STOPS, hangs = HANGS;

end:
	do
#ifdef MUTANT_BIT_OF_DEAD_CLEARED_LATE
	:: d_step { late[0] -> late[0] = false; mem[BIT(0)] = 0 }
	:: d_step { late[1] -> late[1] = false; mem[BIT(1)] = 0 }
#endif
	:: d_step { deaths > 0 && !stopped[0] && !dead[0] -> deaths--; dead[0] = true }
	:: d_step { deaths > 0 && !stopped[1] && !dead[1] -> deaths--; dead[1] = true }
	:: d_step { stops > 0 && !dead[0] -> stops--; stopped[0] = true }
	:: d_step { stops > 0 && !dead[1] -> stops--; stopped[1] = true }
	:: d_step { hangs > 0 && MAY_HANG(0) -> hangs--; stopped[0] = true }
	:: d_step { hangs > 0 && MAY_HANG(1) -> hangs--; stopped[1] = true }
	od
}

init {
	atomic {
#ifdef THIRD
		mem[PARK(2)] = VACANT;
#endif
		run caller();
		run worker(0);
		run worker(1);
#ifdef VIA_HOST
		run host();
#endif
		run buffers();
		run fate()
	}
}
