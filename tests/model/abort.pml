/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A caller aborts or settles a call while claimers may be claiming it.
 *
 * One slot, used for G calls one after the other, and two claimers (worker and thief). At any moment the caller may
 * set the abort flag, or settle: give the call an outcome of its own (deadline, abort with reason), which is "not
 * started" only if that is certain. The slot of a settled call is a zombie until it is ANSWERED; that answer is
 * dropped. When the call's time in the queue is over, the caller stores the flag with the bit IF_QUEUED, which refuses
 * the call if it has not started and does nothing to one that runs; it settles only a call that is not claimed.
 * `fate` kills a claimer between any two steps. The host answers what it had claimed, whether or not it was settled,
 * and the other one goes on.
 *
 * Whether "not started" is certain depends on an order between the caller's store to `abort` and its load of `claim`
 * on one side, the claim and the claimer's load of `abort` on the other. So `abort` and `ctrl` go through the
 * caller's store buffer (see park.pml); the claim is a locked operation.
 *
 * Checked: 1 at most one run; 8 a call that was settled as not started never runs; each call gets one outcome; a call
 * that was not aborted is not cancelled, so an old flag does not affect the next call of the slot; 13 a call that runs
 * sees its abort flag if and only if it was aborted, and the end of its time in the queue is no abort; 5 no honest
 * session is evicted.
 */

#ifndef G
#define G 3
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#define W 2
#define DEPTH 3

/* Words in the caller's buffer. Generations are counted from 1; a ring cell per generation. */
#define ABORT 0
#define CTRL(g) (g)
#define IF_QUEUED 128 /* the bit in `abort` */
byte mem[G + 1];
byte buffered_word[DEPTH], buffered_value[DEPTH];
byte buffered;

byte claim, reply; /* generations */
byte claim_owner;
bool dead[W], over;

/* Read by the checks only. */
bool ran[G + 1], aborted[G + 1], overdue[G + 1], not_started[G + 1], started[G + 1];

inline drain_one()
{
	mem[buffered_word[0]] = buffered_value[0];
	buffered_word[0] = buffered_word[1];
	buffered_value[0] = buffered_value[1];
	buffered_word[1] = buffered_word[2];
	buffered_value[1] = buffered_value[2];
	buffered_word[2] = 0;
	buffered_value[2] = 0;
	buffered--
}

inline drain()
{
	do
	:: buffered > 0 -> drain_one()
	:: else -> break
	od
}

inline store(word, value)
{
	if
	:: buffered == DEPTH -> drain_one()
	:: else
	fi;
	buffered_word[buffered] = word;
	buffered_value[buffered] = value;
	buffered++
}

proctype buffer()
{
end:
	do
	:: d_step { buffered > 0 -> drain_one() }
	od
}

/* abort = g, seq_cst. */
inline set_abort()
{
	d_step {
#ifdef MUTANT_ABORT_A_FLAG
		store(ABORT, 1);
#else
		store(ABORT, g);
#endif
		aborted[g] = true;
#ifndef MUTANT_SETTLE_NO_FENCE
		drain();
#endif
		skip
	}
}

/* abort = g | IF_QUEUED, seq_cst. An abort that was stored before stays. */
inline set_overdue()
{
	d_step {
#ifndef MUTANT_OVERDUE_OVER_ABORT
		if
		:: !aborted[g] -> store(ABORT, g + IF_QUEUED)
		:: else
		fi;
#else
		store(ABORT, g + IF_QUEUED);
#endif
		overdue[g] = true;
		drain()
	}
}

/* The call's time in the queue is over: store abort, then load claim. Only what is not claimed is settled. */
inline withdraw()
{
#ifdef MUTANT_OVERDUE_LOADS_FIRST
	seen = claim;
	set_overdue();
#else
	set_overdue();
	seen = claim;
#endif
	if
	:: seen != g -> d_step { assert(!ran[g]); not_started[g] = true; settled = true }
#ifdef MUTANT_OVERDUE_SETTLES_STARTED
	:: seen == g -> d_step { started[g] = true; settled = true; assert(!ran[g]) }
#else
	:: seen == g
#endif
	fi;
	seen = 0
}

proctype caller()
{
	byte g, seen;
	bool settled;

	do
	:: g < G ->
		g++;
		/* The slot of a zombie is not used again before its answer. */
		assert(reply == g - 1);
		d_step { store(CTRL(g), 1) };
		settled = false;
		do
		:: reply == g ->
			/* collect; or drop the answer of a zombie */
			break
		:: !aborted[g] && !settled -> set_abort()
#ifdef QUEUE
		:: !overdue[g] && !settled && reply != g -> withdraw()
#endif
		:: !settled && reply != g ->
			/* settle: store abort, then load claim. An answer that comes meanwhile is dropped. */
			set_abort();
			seen = claim;
			if
			:: seen != g -> d_step { assert(!ran[g]); not_started[g] = true }
#ifdef MUTANT_DEAD_CALLED_NOT_STARTED
			:: seen == g && dead[claim_owner] -> d_step { assert(!ran[g]); not_started[g] = true }
			:: seen == g && !dead[claim_owner] -> started[g] = true
#else
			:: seen == g -> started[g] = true
#endif
			fi;
			settled = true;
			seen = 0;
#ifdef MUTANT_ZOMBIE_REUSED
			break
#endif
#ifdef MUTANT_ZOMBIE_FREED_AT_DEATH
		/* Its owner is dead, so this mutant expects no answer. */
		:: settled && claim == g && dead[claim_owner] -> break
#endif
		od
	:: else -> break
	od;
	over = true
}

#ifdef MUTANT_ABORT_A_FLAG
#define ABORTED(flag) (flag != 0)
#else
#define ABORTED(flag) (flag == q || flag == q + IF_QUEUED)
#endif

/* knit_aborted() */
#ifdef MUTANT_ABORT_A_FLAG
#define SEEN_BY_TASK(flag) aborted[q] /* that mistake shows at the claim */
#elif defined(MUTANT_BIT_IGNORED)
#define SEEN_BY_TASK(flag) (flag == q || flag == q + IF_QUEUED)
#else
#define SEEN_BY_TASK(flag) (flag == q)
#endif

/* q is both the ring position and the generation, as there is one slot. */
proctype claimer(byte me)
{
	byte q = 1, flag, r;
	bool won;

	{
		do
		:: q <= G && mem[CTRL(q)] == 1 ->
#ifdef MUTANT_ABORT_LOADED_BEFORE_CLAIM
			flag = mem[ABORT];
#endif
			r = reply;
			if
			:: claim >= q -> q++
			:: claim == q - 1 && r == q - 1 ->
				/* READY -> CLAIMED */
				d_step { won = (claim == q - 1);
					claim_owner = (won -> me : claim_owner);
					claim = (won -> q : claim) };
				if
				:: won ->
#ifndef MUTANT_ABORT_LOADED_BEFORE_CLAIM
					flag = mem[ABORT];
#endif
					if
					:: ABORTED(flag) -> assert(aborted[q] || overdue[q])
					:: !ABORTED(flag) ->
						d_step { assert(!ran[q]); assert(!not_started[q]); ran[q] = true };
						/* The task looks whether it is aborted, once, at any moment of its run. */
						d_step { assert(buffered > 0 || SEEN_BY_TASK(mem[ABORT]) == aborted[q]) }
					fi;
					/* CLAIMED -> ANSWERED */
#ifdef MUTANT_CLAIMED_CALLED_STARTED
					assert(!started[q] || ran[q]);
#endif
					d_step { assert(reply == q - 1); reply = q; flag = 0; won = false; q++ }
				:: !won -> q++
				fi
			:: else -> assert(false) /* evicted */
			fi;
			r = 0
		:: over -> break
		od
	} unless { dead[me] };

	if
	:: dead[me] ->
		/* Reaped. CLAIMED -> ANSWERED, by the host. */
		d_step { won = false; flag = 0; r = 0; q = 0 };
		if
#ifdef MUTANT_ZOMBIE_NOT_ANSWERED
		:: claim_owner == me && reply == claim - 1 && mem[ABORT] != claim ->
#else
		:: claim_owner == me && reply == claim - 1 ->
#endif
			d_step { assert(claim_owner == me); assert(reply == claim - 1); reply = claim }
		:: else
		fi
	:: else
	fi
}

proctype fate()
{
end:
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
		run claimer(0);
		run claimer(1);
		run buffer();
		run fate()
	}
}
