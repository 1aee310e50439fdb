#!/usr/bin/env bash
# A run that has to end before it is done checkpoints in time, says so in one line and ends with 85; the same command goes on
# to the undisturbed run's bits: a time budget, the end of a Slurm job, SIGUSR1; and SIGUSR1 in a command that only goes on.
set -u
. tests/e2e/faults.sh
"$COLLIMATE" --quiet "${training[@]}" output=whole train.steps=300 || bad "the undisturbed run"

# stopped NAME WORDS: it ended with 85 and one such line, and the checkpoint is of the step that it names.
stopped() {
    [ $rc -eq 85 ] || bad "$1: rc $rc, not 85"
    local step
    step=$(sed -nE "s/^collimate: .*$2 after step ([0-9]+); the checkpoint is of step \1; run the same command again.*/\1/p" "$1.err")
    [ -n "$step" ] && [ "$(cat "$1/checkpoints/latest")" = "step-$step.h5" ] || bad "$1: $(tail -n 2 "$1.err")"
    [ "$(grep -c "stopped" "$1.err")" -eq 1 ] && [ ! -e "$1/model" ] || bad "$1: not one line"
}
# goes_on NAME: with no limit, on another rank count.
goes_on() {
    mpirun -q -n 4 "$COLLIMATE" --quiet "${training[@]}" output="$1" train.steps=300 2> "$1.err" || bad "$1: does not go on"
    same whole "$1"
}
# A budget of seconds for a run of years.
began=$SECONDS
begin 2 budget.err "${training[@]}" output=budget train.steps=100000000 train.stop_before=6s
ended "$launched" 20
[ $((SECONDS - began)) -le 8 ] || bad "budget: ended after $((SECONDS - began)) s"
stopped budget 'stopped before the time limit'
grep -q 'checkpoint budget/checkpoints/step-' budget.err || bad "budget: no checkpoint to measure one"

# The end of a job, which comes before the budget; then on from there.
SLURM_JOB_END_TIME=$(($(date +%s) + 5)) begin 2 job.err "${training[@]}" output=job train.steps=100000000 train.stop_before=1h
ended "$launched" 20
stopped job 'stopped before the time limit'

# SIGUSR1: mpirun passes it on.
begin 2 usr1.err "${training[@]}" output=usr1 train.steps=300
until_step 20 usr1
kill -USR1 "$launched"
ended "$launched" 20
stopped usr1 'stopped on SIGUSR1'
goes_on usr1

# A limit that has passed: one step, a checkpoint, 85; again and again, to the end of the same run.
for _ in 1 2 3; do
    begin 2 passed.err "${training[@]}" output=passed train.steps=4 train.stop_before=2020-01-01T00:00:00Z
    ended "$launched" 20
    stopped passed 'stopped before the time limit'
done
begin 2 passed.err "${training[@]}" output=passed train.steps=4 train.stop_before=2020-01-01T00:00:00Z
ended "$launched" 20
[ $rc -eq 0 ] || bad "the last step is not stopped: rc $rc"

# What cannot go on from a checkpoint is not ended by USR1; embed, which can, ends with 85 and goes on.
"$COLLIMATE" --quiet synth output=big.jsonl synth.rows=6000 synth.length=20 seed=1 || exit 1
begin 2 prepare.err prepare input=big.jsonl output=big.h5 tokenizer=bytes
# The rank itself, as soon as it listens (bit 9 of the caught signals): mpirun is not ready to pass it on yet.
until pid=$(rank_process 1 "$launched") && [ -n "$pid" ] &&
    ((0x$(awk '/^SigCgt/ { print $2 }' "/proc/$pid/status") & 0x200)); do
    sleep 0.02
done
for _ in $(seq 10); do
    kill -USR1 "$pid" 2> /dev/null
    sleep 0.1
done
ended "$launched" 60
[ $rc -eq 0 ] || bad "prepare: rc $rc after USR1"
begin 2 embed.err embed data=big.h5 model=init output=parts.h5
for _ in $(seq 200); do
    [ -e parts.h5 ] && break
    sleep 0.05
done
kill -USR1 "$launched"
ended "$launched" 60
[ $rc -eq 85 ] && grep -q 'stopped on SIGUSR1 after response [0-9]* of' embed.err || bad "embed: rc $rc: $(tail -n 2 embed.err)"
mpirun -q -n 2 "$COLLIMATE" embed data=big.h5 model=init output=parts.h5 2> embed.err || bad "embed does not go on"
grep -qE ' [1-9][0-9]* were there' embed.err || bad "embed began anew: $(tail -n 2 embed.err)"

refuses 2 'train.stop_before: "soon" is neither' "${training[@]}" output=soon train.stop_before=soon
finish
