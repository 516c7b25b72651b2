/* SPDX-License-Identifier: Apache-2.0 */
/* The reserve: workers begin long calls of one principal, at most C at a time (fastpath/lane/lane_reserve.c).
 *
 * Each of W workers wants to begin one, and again when it has ended it or had to wait, T times in all. It says that it
 * tries, reads the words of the others one by one, and then says that it runs, or waits. It counts who runs, and of those
 * who try the lower lanes; of the higher ones it waits until they have decided. With STOPS a worker may stop before any
 * step, and is counted as one that runs by whoever waits for it.
 *
 * With L as many loops of the daemon give calls of that principal to workers, T times each. A loop counts one if fewer than C
 * are counted, then reads the words of the workers one by one and the count again, and gives it back if all of these are
 * more than C. A worker adds the count to those it sees.
 *
 * Checked: never do more than C run or are given. Without STOPS and L: where nobody ends, and all have tried, min(C, W) run.
 */

#ifndef W
#define W 3
#endif
#ifndef C
#define C 1
#endif
#ifndef T
#define T 1
#endif

#ifndef L
#define L 0
#endif

#define NOTHING 0
#define WAITING 1
#define TRYING 2
#define RUNNING 3

byte said[W];
bool halted[W];
byte given; /* by loops */

/* Read by the checks only. */
byte now;
byte over;

inline may_stop()
{
#ifdef STOPS
	if
	:: halted[i] = 1; goto end
	:: skip
	fi
#else
	skip
#endif
}

proctype worker(byte i)
{
	byte j, count, tries = T;

again:
	may_stop();
#ifndef MUTANT_FENCE_LEFT_OUT
	said[i] = TRYING;
#endif
	j = 0;
	count = 0;
	do
	:: j < W && j == i -> j++
	:: j < W && j < i ->
		atomic {
#ifdef MUTANT_LOWER_NOT_COUNTED
			count = count + (said[j] == RUNNING);
#else
			count = count + (said[j] >= TRYING);
#endif
			j++
		}
	:: j < W && j > i ->
#ifdef MUTANT_BOTH_GIVE_WAY
		atomic { count = count + (said[j] >= TRYING); j++ }
#else
#ifdef MUTANT_HIGHER_NOT_AWAITED
		atomic { count = count + (said[j] == RUNNING); j++ }
#else
		atomic { said[j] != TRYING || halted[j]; count = count + (said[j] >= TRYING); j++ }
#endif
#endif
	:: j == W -> break
	od;
#ifndef MUTANT_GIVEN_NOT_COUNTED
	count = count + given;
#endif
	may_stop();
#ifdef MUTANT_FENCE_LEFT_OUT
	said[i] = TRYING;
#endif
	atomic {
		j = 0;
		if
		:: count < C -> said[i] = RUNNING; now++; assert(now <= C)
		:: else -> said[i] = WAITING
		fi;
		count = 0;
		tries--
	};
	if
	:: tries == 0 -> goto done
	:: else
	fi;
	if
	:: said[i] == RUNNING -> atomic { said[i] = NOTHING; now-- }
	:: else
	fi;
	goto again;
done:
	atomic {
		over++;
#if T == 1 && L == 0
#ifndef STOPS
		assert(over < W || now == (C < W -> C : W))
#endif
#endif
	}
end:
	skip
}

proctype loop()
{
	byte j, count, tries = T;

again:
#ifndef MUTANT_LOOKED_FIRST
	/* One step: a compare and swap. */
	atomic {
		if
		:: given < C -> given++
		:: else -> goto next
		fi
	};
#endif
	j = 0;
	count = 0;
	do
	:: j < W -> atomic { count = count + (said[j] >= TRYING); j++ }
	:: j == W -> break
	od;
#ifdef MUTANT_LOOKED_FIRST
	atomic {
		if
		:: given + count < C -> given++
		:: else -> goto next
		fi
	};
	count = 0;
#endif
	count = count + given;
	if
	:: count <= C ->
		atomic { now++; assert(now <= C) };
		atomic { now--; given-- }
	:: else -> given--
	fi;
next:
	tries--;
	if
	:: tries > 0 -> goto again
	:: else
	fi
}

init {
	atomic {
		byte n = 0;

		do
		:: n < W -> run worker(n); n++
		:: else -> break
		od;
		n = 0;
		do
		:: n < L -> run loop(); n++
		:: else -> break
		od
	}
}
