/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rings of one lane in one session: which of them a worker looks at, in which order it serves them, which a thief
 * takes.
 *
 * A caller publishes N calls, each into a ring of its choice: NORMAL, URGENT or PINNED. The lane's worker knows of an
 * idle session only one word: the ctrl of the cell that is next in NORMAL, as it was when nothing was found last. A
 * call of NORMAL changes it; behind a call of another ring the caller stirs it. Rings but NORMAL are read only if their
 * bit in `classes` is set. A worker that finds nothing announces that it parks, looks once more, and sleeps until a flush
 * that has seen the announcement wakes it. The thief takes what may be stolen at any time; it never sleeps here.
 *
 * Each ring is a counter of what was published and one of what was claimed: lane.pml has the cells, the tags and the
 * claim word of one ring, and what a claimer makes of a cell that was stirred.
 *
 * With -DDEATHS the worker may die before or behind any claim; its lane is VACANT then. With -DHANGS a call may never end.
 *
 * Checked: 6 every READY call is answered while the host and one worker live, but what is pinned to a worker that hangs;
 * 7 the worker does not sleep while there is a call for it; 16 a call that is next in its ring is passed by at most AGE
 * calls of earlier rings, by one of each that is as late, and by one more that was chosen before it was READY; 17 no
 * other worker claims what is pinned to one that lives.
 *
 * Steps take effect in the order of the program: the fence between publish and the load of `park`, and that of the
 * worker, are those of park.pml.
 */

#ifndef N
#define N 3 /* calls published */
#endif
#ifndef AGE
#define AGE 1
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef HANGS
#define HANGS 0
#endif

/* In the order in which they are served. */
#define URGENT 0
#define NORMAL 1
#define PINNED 2
#define R 3

#define READY(r) (claimed[r] != sent[r])
#define ALL_SENT (sent[URGENT] + sent[NORMAL] + sent[PINNED] == N)

/* Request segment. */
byte sent[R];
bool classes[R]; /* of NORMAL it means nothing */
byte ctrl;       /* of the next cell in NORMAL, by how often it has changed */

/* Reply segment and board. */
byte claimed[R];
bool parked, vacant;
bool woken; /* the bell was changed and the kernel told */

/* Read by the checks only. */
byte done; /* calls answered */
bool hung;
byte passed_by[R];
bool dead;

inline publish(r)
{
	if
	:: r == NORMAL -> d_step { sent[NORMAL]++; ctrl++ }
	:: else ->
#ifdef MUTANT_STIR_BEFORE_CALL
		classes[r] = true;
		ctrl++;
		sent[r]++
#elif defined(MUTANT_CLASS_AFTER_STIR)
		sent[r]++;
		ctrl++;
		classes[r] = true
#elif defined(MUTANT_NOT_STIRRED)
		classes[r] = true;
		sent[r]++
#else
		classes[r] = true;
		sent[r]++;
		ctrl++
#endif
	fi
}

proctype caller()
{
	byte r;

	do
	:: !ALL_SENT ->
		if
		:: r = URGENT
		:: r = NORMAL
		:: r = PINNED
		fi;
		publish(r);
		/* flush */
		if
		:: parked -> woken = true
		:: !parked
		fi
	:: ALL_SENT -> break
	od
}

/* The rings that have something, if the session is looked at. */
inline look()
{
	d_step {
		has[URGENT] = false;
		has[NORMAL] = false;
		has[PINNED] = false
	};
#ifdef MUTANT_CLASSES_READ_FIRST
	d_step { may[URGENT] = classes[URGENT]; may[PINNED] = classes[PINNED] };
#endif
	word = ctrl;
	if
	:: !hot && word == seen
	:: hot || word != seen ->
		hot = true;
		has[NORMAL] = READY(NORMAL);
#ifndef MUTANT_CLASSES_READ_FIRST
		d_step { may[URGENT] = classes[URGENT]; may[PINNED] = classes[PINNED] };
#endif
		has[URGENT] = may[URGENT] && READY(URGENT);
		has[PINNED] = may[PINNED] && READY(PINNED);
		if
		:: !has[URGENT] && !has[NORMAL] && !has[PINNED] ->
			hot = false;
#ifdef MUTANT_SEEN_LATE
			seen = ctrl
#else
			seen = word
#endif
		:: else
		fi
	fi;
	word = 0
}

/* The first ring that has something, or any of those that have waited for too long: which of them has for longest is a
 * matter of time. */
inline choose()
{
	d_step {
		at = R;
		i = 0;
		do
		:: i < R ->
			if
			:: !has[i] -> passed[i] = 0
			:: has[i] && at == R -> at = i
			:: else
			fi;
			i++
		:: else -> break
		od;
		i = 0
	};
	if
	:: at != R && has[NORMAL] && passed[NORMAL] >= AGE -> at = NORMAL
	:: at != R && has[PINNED] && passed[PINNED] >= AGE -> at = PINNED
	:: !(at != R && has[NORMAL] && passed[NORMAL] >= AGE) && !(at != R && has[PINNED] && passed[PINNED] >= AGE)
	fi
}

/* READY -> CLAIMED by the lane's worker. */
inline claim_at_home()
{
	claimed[at]++;
	passed_by[at] = 0;
	i = at + 1;
	do
	:: i < R ->
		if
		:: READY(i) -> passed_by[i]++; assert(passed_by[i] <= AGE + R - 1)
		:: else -> passed_by[i] = 0
		fi;
#ifndef MUTANT_NOT_COUNTED
		passed[i] = (has[i] -> passed[i] + 1 : 0);
#endif
		i++
	:: else -> break
	od;
	passed[at] = 0;
	i = 0
}

proctype worker()
{
	bool has[R], may[R], hot, announced;
	byte passed[R];
	byte seen, word, at, i;

	{
		do
		:: done < N ->
			look();
			choose();
			if
			:: at < R ->
				/* Awake: at its next look it is, if it had announced its sleep. */
				d_step { parked = false; announced = false };
				if
				:: d_step { READY(at) -> claim_at_home() };
					if
					:: d_step { true -> done++ }
#if HANGS
					:: hung = true; break
#endif
					fi
				:: !READY(at)
				fi;
				at = 0
			:: at == R && !announced ->
				/* The last look comes behind it. */
				d_step { at = 0; parked = true; woken = false; announced = true }
			:: at == R && announced ->
				at = 0;
				(woken || done == N);
				d_step { parked = false; announced = false }
			fi
		:: done == N -> break
		od
	} unless { dead }
}

#ifdef MUTANT_PINNED_STOLEN
#define MAY_STEAL(r) READY(r)
#elif defined(MUTANT_PINNED_LEFT_IN_VACANT)
#define MAY_STEAL(r) (READY(r) && (r) != PINNED)
#elif defined(MUTANT_PINNED_IN_THE_WAY)
#define MAY_STEAL(r) (READY(r) && (vacant || !READY(PINNED)))
#else
#define MAY_STEAL(r) (READY(r) && ((r) != PINNED || vacant))
#endif

inline steal(r)
{
	d_step { MAY_STEAL(r) ->
		assert((r) != PINNED || vacant);
		claimed[r]++;
		passed_by[r] = 0;
		done++ }
}

/* All that can be answered is. */
#define OVER (done == N || (hung && ALL_SENT && done + 1 + (sent[PINNED] - claimed[PINNED]) == N))

proctype thief()
{
	do
	:: steal(URGENT)
	:: steal(NORMAL)
	:: steal(PINNED)
	:: OVER -> break
	od
}

/* The worker alone, so that nobody else takes what it overlooks. */
proctype fate()
{
	byte deaths = DEATHS;

end:
	do
	:: d_step { deaths > 0 && !hung -> deaths--; dead = true; parked = false };
		/* What it had claimed is answered by the host. */
		d_step { vacant = true; done = claimed[URGENT] + claimed[NORMAL] + claimed[PINNED] }
	od
}

init {
	atomic {
		run caller();
		run worker();
#ifdef THIEF
		run thief();
#endif
		run fate()
	}
}
