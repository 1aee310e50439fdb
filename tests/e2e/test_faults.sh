#!/usr/bin/env bash
# What Open MPI leaves little time for, or does not show: SIGTERM to the launcher leaves a checkpoint that the same command
# goes on from; a rank that is late again and again is named.
set -u
. tests/e2e/faults.sh

# SIGTERM: the ranks have 2 s. Code 85 where the step and the checkpoint fit, else the launcher's; the file is good anyway.
"$COLLIMATE" --quiet "${training[@]}" output=whole train.steps=300 || bad "the undisturbed run"
for _ in 1 2 3; do # a run that was done before it was told
    rm -rf term
    begin 4 term.err --quiet "${training[@]}" output=term train.steps=300 train.checkpoint_every=10
    until_step 12 term
    kill -TERM "$launched"
    ended "$launched" 60
    [ $rc -ne 0 ] && break
done
[ $rc -ne 0 ] && [ ! -e term/model ] || bad "SIGTERM: rc $rc"
[ -s term/checkpoints/latest ] || bad "SIGTERM: no checkpoint"
mpirun -q -n 2 "$COLLIMATE" --quiet "${training[@]}" output=term train.steps=300 2> term.err || bad "the run after SIGTERM"
same whole term

# A rank that is held up again and again is named at the end, with what it cost, and every step says what it waited.
begin 2 late.err "${training[@]}" output=late train.steps=150 train.batch=45 # mostly computing
until_step 10 late
victim=$(rank_process 1 "$launched")
for _ in 1 2 3 4 5 6 7 8; do # some of them while it sums with the others, which is no lateness
    kill -STOP "$victim" && sleep 0.3 && kill -CONT "$victim" || break
    sleep 0.1
done 2> /dev/null
ended "$launched" 60
[ $rc -eq 0 ] || bad "the run with a late rank: rc $rc"
grep -qE 'slowest rank took [0-9.]+ % of the time: .*rank 1 on [^;]* last in [0-9]+ of 150 steps, by .* ms at worst' late.err ||
    bad "the late rank is not named: $(tail -n 3 late.err)"
held=$(sed -n 's/.*"time\/wait_rank": \([0-9.e-]*\).*"time\/straggler": 1,.*/\1/p' late/metrics.jsonl | awk '$1 > 0.1' | wc -l)
[ "$held" -ge 1 ] || bad "no step shows that it waited for the late rank"
finish
