/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers, the caller and the host die; recovery completes what they had begun.
 *
 * A caller publishes N calls through S slots of one ring, which a worker and a thief serve. `fate` kills workers
 * between any two steps. The host reaps the dead one, answers what it had claimed, makes its lane VACANT and starts a
 * replacement with a new owner id, which begins at `head`. Recovery may be interrupted anywhere and begin again,
 * while all other parties go on. When no worker lives, the host itself claims what is READY and answers NO_WORKER; a
 * replacement may serve before it has finished. With -DSHUTDOWN the host may close the session while its caller and
 * the workers live. The workers then claim no more; the host claims and answers the rest, until the caller has ended.
 *
 * With -DCALLER_DIES the caller may die anywhere: the host closes the session, waits until every living worker has
 * unmapped it, and frees it. With -DHOST_DIES the host may die anywhere, also during recovery. The kernel kills its
 * workers a while later (in the model: they take no further step), and the caller collects what is answered and
 * settles the rest.
 *
 * Call k uses slot k mod S, and its generation is k / S + 1: the order in which slots are used belongs to lane.pml,
 * wake-ups to wait.pml and park.pml. Steps take effect in the order of the program; that is enough, since claims are
 * locked operations and no party answers for a worker before it is reaped.
 *
 * Checked: 1 at most one run; 2 reply.gen is claim.gen or one behind, moved by its living owner, or by the host once
 * that owner is reaped, once a generation; 6 every call is answered (otherwise the model ends while the caller waits,
 * which Spin reports); 8 a call that was settled as not started never runs; 10 recovery ends and may be repeated; a
 * session that was freed is not accessed.
 *
 * That recovery ends is checked as a bound on the slots it reads for one death: a recovery that never ends lets all
 * other parties go on, and would be no invalid end state.
 */

#ifndef N
#define N 3
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef RETRIES
#define RETRIES 1 /* times that recovery is interrupted */
#endif

#define S 2
#define W 2
#define HOST 99
#define SLOT(k) ((k) % S)
#define GEN(k) ((k) / S + 1)

byte pub; /* calls published: READY cells 0 .. pub - 1 in the ring */
byte claim_gen[S], claim_owner[S];
byte reply[S];
byte head;
bool closed, shut; /* shut: closed with the pool */

byte owner_of[W];
bool dead[W], gone[W], reaped[W], started[W], unmapped[W];
bool caller_dead, host_dead, freed, over;
byte aborted[S]; /* generation to abort */

/* Read by the checks only. */
bool ran[N], not_started[N];
byte slots_read; /* by recovery, for one death */

inline answer(s, g)
{
	assert(!freed);
	assert(reply[s] == g - 1);
	assert(claim_gen[s] == g);
	reply[s] = g
}

/* A worker or thief: claim, run, answer. */
proctype worker(byte me)
{
	byte q, r;
	bool stop;

again:
	{
		do
		:: q < pub && !closed ->
			r = reply[SLOT(q)];
			if
			:: claim_gen[SLOT(q)] >= GEN(q) -> q++
			:: claim_gen[SLOT(q)] == GEN(q) - 1 && r == GEN(q) - 1 ->
				if
				:: d_step { claim_gen[SLOT(q)] == GEN(q) - 1 ->
					/* READY -> CLAIMED */
					assert(!freed);
					claim_gen[SLOT(q)] = GEN(q);
					claim_owner[SLOT(q)] = owner_of[me] };
					stop = (aborted[SLOT(q)] == GEN(q) || closed);
					if
					:: !stop -> d_step { assert(!ran[q]); assert(!not_started[q]); ran[q] = true }
					:: else
					fi;
					/* CLAIMED -> ANSWERED, by its owner */
					d_step {
						assert(claim_owner[SLOT(q)] == owner_of[me]);
						answer(SLOT(q), GEN(q));
						stop = false;
						q++;
						head = (q > head -> q : head)
					}
				:: d_step { claim_gen[SLOT(q)] != GEN(q) - 1 -> q++ }
				fi
			:: else -> assert(false) /* evicted */
			fi;
			r = 0
		:: closed -> unmapped[me] = true; break
		:: over -> break
		od;
end_idle:
		false
	} unless { dead[me] };

	d_step { stop = false; r = 0; q = 0; gone[me] = true };
end_dead:
	/* The host starts a replacement. */
	d_step { started[me] -> started[me] = false; dead[me] = false; q = head };
	goto again
}

/* One pass of recovery over what a dead owner had claimed. */
inline recover(o)
{
	s = 0;
	do
	:: s < S ->
		d_step { assert(slots_read < S * (1 + RETRIES)); slots_read++ };
#ifdef MUTANT_QUEUED_ANSWERED
		if
		:: s < pub && reply[s] == claim_gen[s] && reply[s] < (pub - 1 - s) / S + 1 ->
			d_step { answer(s, reply[s] + 1) }
		:: else
		fi;
#endif
		d_step { g = (claim_owner[s] == o -> claim_gen[s] : 0) };
#ifdef MUTANT_RECOVERY_BLIND
		if
		:: g != 0 -> d_step { answer(s, reply[s] + 1) }
#else
		if
#ifdef MUTANT_RECOVERY_IF_UNEQUAL
		:: g != 0 && reply[s] != g ->
#else
		/* Exactly one behind: a slot whose call o answered may have been used again since claim was loaded. */
		:: g != 0 && reply[s] == g - 1 ->
#endif
#ifdef MUTANT_REQUEUED
			/* Puts the call back into the ring, for another worker to run. */
			d_step { claim_gen[s] = g - 1; head = 0 }
#else
			/* CLAIMED -> ANSWERED, by the host: its owner is reaped */
			d_step { answer(s, g) }
#endif
#endif
		:: else
		fi;
#ifdef MUTANT_SLOT_READ_AGAIN
		/* Begins again when the slot was used again since claim was loaded. */
		d_step { s = (g != 0 && claim_gen[s] != g -> 0 : s + 1); g = 0 }
#else
		d_step { g = 0; s++ }
#endif
	:: else -> break
	od;
	s = 0
}

#define VACANT(w) (reaped[w] && !gone[w] && !unmapped[w])

/* A replacement, unless the session is closed. */
inline replace(w)
{
	if
	:: !closed ->
		d_step {
#ifndef MUTANT_OWNER_REUSED
			owner_of[w] = owner_of[w] + W;
#endif
			reaped[w] = false;
			started[w] = true
		}
	:: closed -> unmapped[w] = true
	fi
#ifdef MUTANT_OWNER_REUSED
	/* The second pass comes late. */
	; slots_read = 0;
	recover(owner_of[w]);
	slots_read = 0
#endif
}

proctype host()
{
	byte w, s, g, retries = RETRIES;

	{
end:
		do
		:: (gone[0] && !reaped[0]) || (gone[1] && !reaped[1]) ->
			w = (gone[0] && !reaped[0] -> 0 : 1);
			d_step { slots_read = 0; reaped[w] = true };
again:
			recover(owner_of[w]);
			if
			:: retries > 0 -> retries--; goto again
#ifdef MUTANT_UNTIL_UNNAMED
			/* Until no claim names it: an answered one still does while its slot is not used again. */
			:: claim_owner[0] == owner_of[w] || claim_owner[1] == owner_of[w] -> goto again
			:: claim_owner[0] != owner_of[w] && claim_owner[1] != owner_of[w]
#else
			:: true
#endif
			fi;
			d_step { gone[w] = false; slots_read = 0; w = 0 }
		:: VACANT(0) -> replace(0)
		:: VACANT(1) -> replace(1)
#ifdef MUTANT_ANSWER_BEFORE_REAP
		/* A worker that the host has asked to end, and that still runs. */
		:: retries > 0 -> d_step { retries--; slots_read = 0 }; recover(owner_of[0])
#endif
		:: caller_dead && !closed -> closed = true
#ifdef SHUTDOWN
		:: !closed && !over -> d_step { closed = true; shut = true }
#endif
		:: closed && caller_dead && !freed &&
#ifdef MUTANT_FREED_BEFORE_UNMAPPED
		   true ->
#else
		   unmapped[0] && unmapped[1] ->
#endif
			freed = true
		od
	} unless { host_dead }
}

/* While no worker lives, or at the end of the pool, the host claims as HOST and answers. */
proctype sweeper()
{
	byte q, r;
	{
end:
		do
		:: q < pub && (reaped[0] && reaped[1] && !closed || shut) ->
			/* To the end of the ring, even when a worker serves again meanwhile. */
			do
			:: q < pub ->
				r = reply[SLOT(q)];
				if
				:: claim_gen[SLOT(q)] >= GEN(q) -> q++
				:: claim_gen[SLOT(q)] == GEN(q) - 1 && r == GEN(q) - 1 ->
					if
#ifdef MUTANT_SWEEP_CLAIM_STORED
					:: d_step { true ->
#else
					:: d_step { claim_gen[SLOT(q)] == GEN(q) - 1 ->
#endif
						claim_gen[SLOT(q)] = GEN(q);
						claim_owner[SLOT(q)] = HOST };
						d_step { answer(SLOT(q), GEN(q)); q++ }
					:: d_step { claim_gen[SLOT(q)] != GEN(q) - 1 -> q++ }
					fi
				fi;
				r = 0
			:: else -> break
			od
		od
	} unless { host_dead }
}

proctype caller()
{
	byte k, s;

	{
		do
		/* A publish may have begun before the session was closed. */
		:: pub < N && reply[SLOT(pub)] == GEN(pub) - 1 -> pub++
		:: pub == N && reply[SLOT(N - 1)] == GEN(N - 1) && (N < 2 || reply[SLOT(N - 2)] == GEN(N - 2)) -> break
		od;
		over = true
	} unless { caller_dead || host_dead };

	if
	:: host_dead && !over ->
		/* DISCONNECTED: each call that is not answered is settled; it is "not started" if that is certain. */
		do
		:: k < pub ->
			if
			:: reply[SLOT(k)] < GEN(k) ->
				aborted[SLOT(k)] = GEN(k);
				if
				:: claim_gen[SLOT(k)] < GEN(k) -> not_started[k] = true
				:: else
				fi
			:: else
			fi;
			k++
		:: else -> break
		od;
		over = true
	:: else
	fi
}

proctype fate()
{
	byte deaths = DEATHS;

end:
	do
	:: d_step { deaths > 0 && !dead[0] && !host_dead -> deaths--; dead[0] = true }
	:: d_step { deaths > 0 && !dead[1] && !host_dead -> deaths--; dead[1] = true }
#ifdef CALLER_DIES
	:: d_step { !caller_dead && !over -> caller_dead = true }
#endif
#ifdef HOST_DIES
	:: d_step { !host_dead && !over -> host_dead = true }
#endif
	od
}

#ifdef CALLER_DIES
/* The session of a dead caller is freed; otherwise the model ends while this process waits. */
proctype session_is_freed()
{
	(over || freed)
}
#endif

init {
	atomic {
		owner_of[0] = 1;
		owner_of[1] = 2;
		run worker(0);
		run worker(1);
		run host();
		run sweeper();
		run caller();
#ifdef CALLER_DIES
		run session_is_freed();
#endif
		run fate()
	}
}
