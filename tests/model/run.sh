#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks the models of the lane protocol: each clean model must have no error, each mutant must have one.
#
#   run.sh [--full] [MODEL...]     MODEL is a name such as park; none means all
#
# $KNIT_TEST_LONG asks for --full as well.
#
# A line of the tables is a model and the options it is checked with. Exit status: 0 all are as expected, 1 one is not,
# 77 spin or a C compiler is missing (Meson reports the test as skipped).

set -u

# Clean models: "name, options". The full bounds are checked on top of the short ones.
short_bounds='
lane -DN=6 -DDEATHS=0 -DSTOPS=0
lane -DN=4 -DDEATHS=1 -DSTOPS=0
lane -DN=4 -DDEATHS=0 -DSTOPS=1
lane -DN=5 -DDEATHS=0 -DSTOPS=0 -DSTIRS=2
class -DN=3
class -DN=3 -DTHIEF
class -DN=3 -DTHIEF -DDEATHS=1
class -DN=3 -DTHIEF -DHANGS=1
park -DSPREAD
park -DNO_STEAL
park -DHANGS=1
park -DP=1 -DDEATHS=1
park -DDEATHS=1 -DNO_STEAL
park -DDEATHS=1 -DNO_STEAL -DREPLACE
park -DP=1 -DSTOPS=1
park -DTHIRD -DHANGS=1 -DP=3
park -DTHIRD -DHANGS=1 -DNO_STEAL
park -DTHIRD -DP=1 -DDEATHS=2 -DNO_STEAL -DREPLACE
park -DVIA_HOST -DNO_STEAL
park -DVIA_HOST -DNO_STEAL -DSPREAD
park -DVIA_HOST -DDEATHS=1 -DNO_STEAL -DREPLACE
wait -DN=3
wait -DN=2 -DLOOP -DLAPS=1
wait -DN=3 -DLOOP -DSTRAYS
wait -DN=2 -DLOOP -DLAPS=1 -DSTRAYS
wait -DN=2 -DDEATHS=1 -DLOOP -DSTRAYS
wait -DN=2 -DDEATHS=1
wait -DN=2 -DDEATHS=1 -DLOOP
abort -DG=3
abort -DG=2 -DQUEUE
abort -DG=2 -DDEATHS=1
abort -DG=1 -DDEATHS=1 -DQUEUE
recovery -DN=3 -DDEATHS=1
recovery -DN=2 -DDEATHS=2 -DRETRIES=0
recovery -DN=2 -DDEATHS=0 -DSHUTDOWN
recovery -DN=2 -DCALLER_DIES
recovery -DN=2 -DRETRIES=0 -DHOST_DIES
hostile -DN=1
arena -DN=4
arena -DN=3 -DDEATHS=1
arena -DN=4 -DDEATHS=1 -DBLOCKS=2
visit -DS=2
progress -DG=2 -DV=2
defer -DN=2
rights -DV=4
stop -DA=2
stop -DS=1 -DG=3 -DA=3
flow -DN=3
flow -DN=10 -DBACKLOG
flow -DN=5 -DA=4 -DBACKLOG
flow -DN=2 -DA=1
flow -DN=8 -DF=3 -DPLACES -DBACKLOG
reserve -DC=1
reserve -DC=2
reserve -DT=2
reserve -DT=2 -DSTOPS
reserve -DW=2 -DL=1 -DT=2
reserve -DL=2 -DC=2
'
full_bounds='
lane -DN=6 -DDEATHS=1 -DSTOPS=0
lane -DN=6 -DDEATHS=0 -DSTOPS=1
lane -DN=6 -DDEATHS=1 -DSTOPS=1
lane -DN=10 -DDEATHS=0 -DSTOPS=0
lane -DN=8 -DDEATHS=1 -DSTOPS=0
lane -DN=6 -DDEATHS=1 -DSTOPS=0 -DSTIRS=2
class -DN=5 -DAGE=2
class -DN=5 -DTHIEF -DDEATHS=1
class -DN=5 -DTHIEF -DHANGS=1
park -DDEATHS=1
park -DSTOPS=1
park -DSTOPS=1 -DSPREAD
park -DDEATHS=1 -DREPLACE -DSPREAD
park -DDEATHS=2 -DREPLACE -DNO_STEAL
park -DP=3 -DSPREAD
park -DVIA_HOST -DSPREAD
park -DVIA_HOST -DP=1 -DDEATHS=1
park -DVIA_HOST -DP=1 -DSTOPS=1
park -DVIA_HOST -DDEATHS=1 -DREPLACE
park -DVIA_HOST -DTHIRD -DHANGS=1 -DNO_STEAL
park -DP=3 -DDEATHS=1 -DHANGS=1 -DREPLACE
wait -DN=4
wait -DN=3 -DLOOP
wait -DN=3 -DDEATHS=1
wait -DN=3 -DDEATHS=1 -DLOOP
abort -DG=5
abort -DG=3 -DQUEUE
abort -DG=4 -DDEATHS=1
abort -DG=2 -DDEATHS=1 -DQUEUE
recovery -DN=3 -DDEATHS=2 -DRETRIES=2
recovery -DN=3 -DRETRIES=0 -DSHUTDOWN
recovery -DN=3 -DCALLER_DIES
recovery -DN=3 -DHOST_DIES
hostile -DN=1 -DS=2
hostile -DN=3 -DTURN=4
arena -DN=4 -DDEATHS=2
arena -DN=6 -DDEATHS=3
visit -DS=3
progress -DG=3 -DV=3
defer -DN=2 -DT=3
rights -DV=8 -DD=4
stop -DA=3
flow -DN=4
flow -DN=2 -DF=3
flow -DN=6 -DF=3 -DBACKLOG
flow -DN=6 -DA=5 -DBACKLOG
flow -DN=2 -DA=2
flow -DN=10 -DF=3 -DPLACES -DBACKLOG
reserve -DW=4 -DC=2
reserve -DT=3 -DC=2
reserve -DW=4 -DT=2 -DSTOPS
reserve -DL=2 -DC=2 -DSTOPS
'

# Mutants: "name, mistake, options: reason". Each is one realistic mistake. The reason is a part of Spin's message: which
# assertion does not hold, or that the model ends while a party waits (invalid end state).
mutants='
lane RING_AS_SLOTS -DN=4 -DDEATHS=0 -DSTOPS=0: tail<(head+
lane HEAD_STORED -DN=6 -DDEATHS=0 -DSTOPS=0: tail<(head+
lane HEAD_BEFORE_CLAIM -DN=4: q==next_claim
lane COUNT_CLAIMS -DN=5 -DSTOPS=0: tail<(head+
lane COPY_AFTER_CLAIM -DN=6 -DDEATHS=0 -DSTOPS=0: copy==body_of
lane CLAIM_BEFORE_REPLY -DN=4 -DDEATHS=0 -DSTOPS=0: !(evicted)
lane CLAIM_STORED -DN=4 -DDEATHS=0 -DSTOPS=0: !(ran[slot])
lane GEN_REUSED -DN=4 -DDEATHS=0 -DSTOPS=0: head<=next_claim
lane CTRL_BEFORE_BODY -DN=4 -DDEATHS=0 -DSTOPS=0: copy==body_of
lane STIRRED_FORWARD -DN=5 -DDEATHS=0 -DSTOPS=0 -DSTIRS=2: copy==body_of
class NOT_STIRRED -DN=2: invalid end state
class STIR_BEFORE_CALL -DN=2: invalid end state
class CLASS_AFTER_STIR -DN=2: invalid end state
class CLASSES_READ_FIRST -DN=2: invalid end state
class SEEN_LATE -DN=2: invalid end state
class NOT_COUNTED -DN=5: passed_by[
class PINNED_STOLEN -DN=2 -DTHIEF: (2!=2)||vacant
class PINNED_LEFT_IN_VACANT -DN=2 -DTHIEF -DDEATHS=1: invalid end state
class PINNED_IN_THE_WAY -DN=3 -DTHIEF -DHANGS=1: invalid end state
park FLUSH_NO_FENCE -DNO_STEAL: invalid end state
park PARK_NO_FENCE -DNO_STEAL: invalid end state
park PARK_NO_CHECK -DNO_STEAL: invalid end state
park WAKE_BEFORE_BELL -DNO_STEAL: invalid end state
park BELL_AFTER_ANNOUNCEMENT -DNO_STEAL: invalid end state
park NOTIFIED_PARK_KEPT -DNO_STEAL: invalid end state
park FLUSH_NO_HELP -DDEATHS=1 -DNO_STEAL: invalid end state
park VACANT_NOT_ANNOUNCED -DDEATHS=1 -DNO_STEAL: invalid end state
park PARK_CHECKS_VACANT_ONLY -DHANGS=1: invalid end state
park WAIT_WAKES_ANY -DHANGS=1: invalid end state
park SIBLING_NOT_WOKEN -DTHIRD -DHANGS=1 -DP=3: invalid end state
park SIBLING_NOT_WOKEN -DTHIRD -DHANGS=1 -DNO_STEAL: invalid end state
park COLLECTED_ONE -DDEATHS=1 -DNO_STEAL: invalid end state
park COLLECTED_DIRTY -DDEATHS=1 -DNO_STEAL: invalid end state
park OCCUPIED_ONCE -DTHIRD -DNO_STEAL: invalid end state
park OCCUPIED_AFTER_FLUSH -DHANGS=1: invalid end state
park BIT_AFTER_LOOK -DDEATHS=1 -DNO_STEAL: invalid end state
park BIT_CLEARED_BY_WAKER -DTHIRD -DHANGS=1 -DP=3: invalid end state
park BIT_OF_DEAD_CLEARED_LATE -DTHIRD -DP=1 -DDEATHS=2 -DNO_STEAL -DREPLACE: invalid end state
park FLUSH_NO_FENCE -DVIA_HOST -DNO_STEAL: invalid end state
park PARK_NO_FENCE -DVIA_HOST -DNO_STEAL: invalid end state
park BELL_AFTER_ANNOUNCEMENT -DVIA_HOST -DNO_STEAL: invalid end state
park ASK_BEFORE_BELL -DVIA_HOST -DNO_STEAL: invalid end state
park EVENT_TAKEN_LAST -DVIA_HOST -DNO_STEAL: invalid end state
park ONE_LANE_AN_EVENT -DVIA_HOST -DNO_STEAL -DSPREAD: invalid end state
park RELAYED_KEPT -DVIA_HOST -DNO_STEAL: invalid end state
wait ANSWER_NO_FENCE -DN=2: invalid end state
wait WAIT_NO_FENCE -DN=2: invalid end state
wait NOTIFIED_LOADED_LATE -DN=2: invalid end state
wait NOTIFIED_EXCHANGED -DN=3: invalid end state
wait NOT_REARMED -DN=2: invalid end state
wait WAKE_BEFORE_RAISE -DN=2: invalid end state
wait COMPLETION_BEFORE_REPLY -DN=2 -DLOOP: invalid end state
wait SKIP_NO_SCAN -DN=2 -DLOOP -DLAPS=1: invalid end state
wait SKIP_SCANS_FIRST -DN=2 -DLOOP -DLAPS=1: invalid end state
wait STRAY_BEFORE_COMPLETION -DN=2 -DLOOP -DSTRAYS: invalid end state
wait STRAY_AFTER_WAKE -DN=2 -DLOOP -DSTRAYS: invalid end state
wait STRAYS_NOTED_LATE -DN=2 -DLOOP -DSTRAYS: invalid end state
wait STRAYS_STORED -DN=2 -DLOOP -DSTRAYS: invalid end state
wait RECOVERY_WAKES_IF_RAISED -DN=2 -DDEATHS=1: invalid end state
wait RECOVERY_WAKES_NONE -DN=2 -DDEATHS=1: invalid end state
wait RESCAN_NOT_BUMPED -DN=2 -DDEATHS=1 -DLOOP: invalid end state
wait RESCAN_NOT_READ -DN=2 -DDEATHS=1 -DLOOP: invalid end state
abort ABORT_A_FLAG -DG=2: aborted[q]||overdue[q]
abort ABORT_LOADED_BEFORE_CLAIM -DG=2: !(ran[g])
abort SETTLE_NO_FENCE -DG=2: !(ran[g])
abort OVERDUE_LOADS_FIRST -DG=1 -DQUEUE: !(ran[g])
abort OVERDUE_SETTLES_STARTED -DG=1 -DQUEUE: !(ran[g])
abort OVERDUE_OVER_ABORT -DG=1 -DQUEUE: ==aborted[q]
abort BIT_IGNORED -DG=1 -DQUEUE: ==aborted[q]
abort ZOMBIE_REUSED -DG=2: reply==(g-1)
abort CLAIMED_CALLED_STARTED -DG=2: !(started[q])||ran[q]
abort DEAD_CALLED_NOT_STARTED -DG=2 -DDEATHS=1: !(ran[g])
abort ZOMBIE_FREED_AT_DEATH -DG=2 -DDEATHS=1: reply==(g-1)
abort ZOMBIE_NOT_ANSWERED -DG=2 -DDEATHS=1: invalid end state
recovery ANSWER_BEFORE_REAP -DN=2: reply[
recovery OWNER_REUSED -DN=2: reply[
recovery QUEUED_ANSWERED -DN=2: claim_gen[s]==
recovery RECOVERY_BLIND -DN=2: claim_gen[s]==
recovery RECOVERY_IF_UNEQUAL -DN=3: reply[s]==(g-1)
recovery REQUEUED -DN=2: !(ran[q])
recovery UNTIL_UNNAMED -DN=2: slots_read<
recovery SLOT_READ_AGAIN -DN=3: slots_read<
recovery SWEEP_CLAIM_STORED -DN=2 -DDEATHS=0 -DSHUTDOWN: claim_owner[
recovery FREED_BEFORE_UNMAPPED -DN=2 -DCALLER_DIES: !(freed)
hostile REPLY_NOT_READ -DN=1: claim_gen[slot]==reply[slot]
hostile RETRIES_UNCOUNTED -DN=1: spent<=
hostile SIZE_UNCHECKED -DN=1: size<=
hostile SIZE_READ_TWICE -DN=1: size<=
hostile SLOT_READ_TWICE -DN=1: slot<
hostile SLOT_UNCHECKED -DN=1: slot<
arena RELEASE_NO_FENCE -DN=3: invalid end state
arena BLOCKED_AFTER_CHECK -DN=3: invalid end state
arena DROPPED_NOT_RELEASED -DN=3: invalid end state
arena RELEASED_ALONE -DN=3: invalid end state
arena CLAIM_ALONE -DN=3: invalid end state
arena REBUILD_ALL_FREE -DN=3 -DDEATHS=1: content[place
arena BLOCK_FLAG_APART -DN=3 -DDEATHS=1: content[place
arena HOST_KEEPS_FLAGS -DN=3 -DDEATHS=1: content[place
arena REBUILD_NO_CLAIM -DN=4 -DDEATHS=1 -DBLOCKS=2: content[place
visit LEAVE_NO_FENCE -DS=2: invalid end state
visit LEAVE_NO_CHECK -DS=2: invalid end state
visit VISITED_NOT_WAITED_FOR -DS=2: invalid end state
visit FLAG_CLEARED_LATE -DS=2: invalid end state
visit POSTPONED_NOT_FLAGGED -DS=2: invalid end state
visit CURRENT_REMOVED -DS=2: sessions[s]
visit RETURN_STORED -DS=2: user==0
visit TURN_GOES_ON -DS=2: sessions[(other-1)]
progress NO_ODD -DG=2: copy0==copy1
progress EVEN_EARLY -DG=2: copy0==copy1
progress NOT_LOADED_AGAIN -DG=2: copy0==copy1
progress SEQ_FROM_ZERO -DG=2: copy0==copy1
progress GEN_IGNORED -DG=2: (copy0/4)==mine
defer RETURN_NOT_LOOKED_AT -DN=2: answered[i]
defer LEAVE_NO_CHECK -DN=2: len(finished)==0
defer NOT_VISITED -DN=2: len(finished)==0
defer TOKEN_WITHOUT_USE -DN=2: place_call[p]==(call+1)
defer BEFORE_RETURN -DN=2: answered[(c-1)]
defer LIMIT_FREES_OPEN -DN=2: answered[(c-1)]
defer UNMAPPED_FIRST -DN=2: mapped
rights WORD_BEFORE_ROW -DV=2: bits
rights READ_ONCE -DV=2: bits
rights BIT_READ_LAST -DV=2: bits
rights SERIAL_LEFT_OUT -DV=3: bits
stop STOP_A_FLAG -DA=2: asked_begun[
stop LOOKED_BEFORE_CLAIM -DA=2: !(was_asked)
stop BIT_OF_ONE -DA=2: !(was_asked)
stop STALE_TAKEN -DA=2: !(was_asked)
stop FORGOTTEN_AT_CLAIM -DA=2: !(was_asked)
stop KILL_BY_SLOT -DA=2: (k==s)
stop KILLED_UNHALTED -DA=2: (k==s)
flow CALLS_COUNTED -DN=10 -DBACKLOG: 2*got[0]
flow ROUND_FOR_ONE -DN=10 -DBACKLOG: 2*got[0]
flow CREDIT_SAVED -DN=3: 2*got[0]
flow DEBT_LEFT_BEHIND -DN=4: 2*got[0]
flow ROUND_TOO_FEW -DN=3: i<2
flow ONE_ROUND_A_LOOK -DN=3: i<2
flow LAST_LOOK_MINDS_DEBT -DN=3: invalid end state
flow HELP_FOR_DEBTORS -DN=5 -DA=4 -DBACKLOG: 2*got[0]
flow SHARE_A_PLACE -DN=10 -DF=3 -DPLACES -DBACKLOG: 2*got[0]
flow THEFT_IS_FREE -DN=5 -DA=4 -DBACKLOG: 2*got[0]
reserve FENCE_LEFT_OUT -DT=1: now<=1
reserve LOWER_NOT_COUNTED -DT=1: now<=1
reserve HIGHER_NOT_AWAITED -DT=1: now<=1
reserve GIVEN_NOT_COUNTED -DW=2 -DL=1: now<=1
reserve LOOKED_FIRST -DW=2 -DL=1: now<=1
reserve BOTH_GIVE_WAY -DT=1: over<3
'

here=$(cd "$(dirname "$0")" && pwd)
full=0
[ -z "${KNIT_TEST_LONG:-}" ] || full=1
only=
for argument; do
	case $argument in
	--full) full=1 ;;
	-*) echo "usage: run.sh [--full] [MODEL...]" >&2; exit 2 ;;
	*) only="$only $argument " ;;
	esac
done

cc=${CC:-gcc}
for tool in spin "${cc%% *}"; do
	if ! command -v "$tool" >/dev/null; then
		echo "skipped: $tool is not installed (Debian package spin)"
		exit 77
	fi
done

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failed=0
checked=0

# check NAME OPTION...: sets errors, states and reason, or fails with the reason in $scratch/log. $search: options of the
# search itself.
check() {
	local name=$1
	shift
	rm -rf "$scratch/pan" && mkdir "$scratch/pan" && cd "$scratch/pan" || return 1
	spin -a "$@" "$here/$name.pml" >"$scratch/log" 2>&1 || return 1
	# Safety only: a party that waits forever is an invalid end state, so no search for cycles is needed.
	$cc $optimize -w -DSAFETY -DMEMLIM=8000 -o pan pan.c >>"$scratch/log" 2>&1 || return 1
	./pan -m200000 $hash $search >"$scratch/log" 2>&1
	grep -q 'errors:' "$scratch/log" || return 1
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$scratch/log")
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$scratch/log")
	# A search that ran out of memory or depth has seen only a part of the states.
	if [ "$errors" = 0 ] && grep -q -e 'Search not completed' -e 'search depth too small' "$scratch/log"; then
		return 1
	fi
	reason=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' "$scratch/log")
}

wanted() {
	[ -z "$only" ] || case $only in *" $1 "*) ;; *) return 1 ;; esac
	checked=$((checked + 1))
}

expect_clean() {
	local name options search=
	while read -r name options; do
		[ -n "$name" ] && wanted "$name" || continue
		# shellcheck disable=SC2086 # options are a list
		if ! check "$name" $options; then
			echo "FAIL   $name $options: not checked"
			cat "$scratch/log"
			failed=1
		elif [ "$errors" != 0 ]; then
			echo "FAIL   $name $options: $reason"
			(cd "$scratch/pan" && spin -k "$name.pml.trail" -t -p $options "$here/$name.pml" | tail -60)
			failed=1
		else
			echo "clean  $name $options: $states states"
		fi
	done <<<"$1"
}

expect_caught() {
	local name mistake options expected search
	while read -r name mistake options; do
		[ -n "$name" ] && wanted "$name" || continue
		expected=${options#*: }
		options=${options%%: *}
		# Most mistakes break more than one property. Invalid end states and assertions are searched for separately.
		if [ "$expected" = 'invalid end state' ]; then search=-A; else search=-E; fi
		# shellcheck disable=SC2086
		if ! check "$name" "-DMUTANT_$mistake" $options; then
			echo "FAIL   $name $mistake: not checked"
			cat "$scratch/log"
			failed=1
		elif [ "$errors" = 0 ]; then
			echo "FAIL   $name $mistake $options: not caught in $states states"
			failed=1
		elif [[ $reason != *"$expected"* ]]; then
			echo "FAIL   $name $mistake $options: caught by $reason, not by $expected"
			failed=1
		else
			echo "caught $name $mistake: $reason"
		fi
	done <<<"$1"
}

# Small searches: compiling takes longer than searching.
hash=-w20
optimize=-O1
expect_clean "$short_bounds"
optimize=-O0
expect_caught "$mutants"
if [ $full = 1 ]; then
	hash=-w24
	optimize=-O2
	expect_clean "$full_bounds"
fi

# A mutant that no line names would never be checked.
for mutant in $(grep -ho 'MUTANT_[A-Z_]*' "$here"/*.pml | sort -u); do
	if ! grep -q " ${mutant#MUTANT_} " <<<"$mutants"; then
		echo "FAIL   $mutant is in no line of run.sh"
		failed=1
	fi
done
if [ $checked = 0 ]; then
	echo "FAIL   no such model:$only"
	failed=1
fi
exit $failed
