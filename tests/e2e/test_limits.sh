#!/usr/bin/env bash
# A run that has to end before it is done checkpoints in time, says so in one line and ends with 85; the same command goes on
# to the undisturbed run's bits: a time budget, the end of a Slurm job, SIGUSR1; and SIGUSR1 in a command that only goes on.
set -u
. tests/e2e/faults.sh
preload_disk
"$COLLIMATE" --quiet "${training[@]}" output=whole train.steps=60 || bad "the undisturbed run"

# stopped NAME WORDS: it ended with 85 and one such line, and the checkpoint is of the step that it names.
stopped() {
    [ $rc -eq 85 ] || bad "$1: rc $rc, not 85"
    local step
    step=$(sed -nE "s/^collimate: .*$2 after step ([0-9]+); the checkpoint is of step \1; run the same command again.*/\1/p" "$1.err")
    [ -n "$step" ] && [ "$(cat "$1/checkpoints/latest")" = "step-$step.h5" ] || bad "$1: $(tail -n 2 "$1.err")"
    [ "$(grep -c "stopped" "$1.err")" -eq 1 ] && [ ! -e "$1/model" ] || bad "$1: not one line"
    grep -q '"exit_code": 85' "$1/environment.json" || bad "$1: environment.json does not say how it ended"
}
# goes_on NAME: with no limit, on another rank count.
goes_on() {
    mpirun -q -n 4 "$COLLIMATE" --quiet "${training[@]}" output="$1" train.steps=60 2> "$1.err" || bad "$1: does not go on"
    same whole "$1"
}
# A budget of seconds for a run of years, with a disk that needs 1 s for a checkpoint: the run finds that out at half time and
# leaves room for two of them and a second, so that the last one is there in time. Not on a machine so busy that there was no
# such room after the first one, or that the last one took all of it; and half of the time is more than a start takes here and now.
budget() {
    local half late limit began=$SECONDS
    begin 2 start.err --quiet "${training[@]}" output=start train.steps=6
    ended "$launched" 100
    half=$((4 * ${PATIENCE:-1} + 3 * (SECONDS - began)))
    with_disk SLOW_DISK_MS=1000
    limit=$(($(date +%s) + 2 * half))
    begin 2 budget.err "${training[@]}" output=budget train.steps=100000000 train.checkpoint_every=100000000 \
        train.stop_before="$(date -u -d "@$limit" +%Y-%m-%dT%H:%M:%SZ)"
    ended "$launched" $((2 * half + 100))
    late=$(($(stat -c %Y budget/checkpoints/latest) - limit))
    # shellcheck disable=SC2046
    [ $late -le 0 ] || stat -c '%.3W %.3Z' $(ls -v budget/checkpoints/step-*.h5) | awk -v limit=$limit '
        { began[NR] = $1; ended[NR] = $2; took = $2 - $1; room = NR == 1 ? 2 * took + 1 : room }
        END { exit !(NR == 2 && began[1] > 0 && (ended[1] + room > limit || took > room)) }' ||
        bad "budget: the checkpoint came $late s late: $(stat -c '%n from %w to %z' budget/checkpoints/step-*.h5)"
    stopped budget 'stopped before the time limit'
    [ "$(grep -c 'checkpoint budget/checkpoints/step-' budget.err)" -ge 2 ] || bad "budget: no checkpoint to measure one"
}

# The end of a job, which comes before the budget, and after a start, however busy the machine.
job() {
    local began=$SECONDS
    begin 2 first.err --quiet "${training[@]}" output=first train.steps=1
    ended "$launched" 100
    SLURM_JOB_END_TIME=$(($(date +%s) + 10 + 3 * (SECONDS - began))) begin 2 job.err "${training[@]}" output=job train.steps=100000000 train.stop_before=1h
    ended "$launched" 100
    stopped job 'stopped before the time limit'
}

# SIGUSR1: mpirun passes it on; all ranks end after the same step.
usr1() {
    held_at_step 20
    begin 2 usr1.err "${training[@]}" output=usr1 train.steps=60
    until_step 20 usr1
    kill -USR1 "$launched"
    ended "$launched" 100
    stopped usr1 'stopped on SIGUSR1'
    goes_on usr1
}

# SIGTERM leaves 2 s, which end after one. What the ranks get from srun, at once; all of them end with 85.
told() { # NAME [VARIABLE=VALUE ...]: SIGTERM to the ranks of such a disk after step 30, and the end
    held_at_step 30 "${@:2}"
    begin 2 "$1.err" "${training[@]}" output="$1" train.steps=60 train.checkpoint_every=20
    until_step 30 "$1"
    # shellcheck disable=SC2046
    kill -TERM $(pgrep -P "$launched" -x collimate) && ended "$launched" 100
    [ $rc -eq 85 ] || bad "$1: rc $rc: $(tail -n 2 "$1.err")"
}
term() {
    told term
    grep -qE 'stopped on SIGTERM.* after step [0-9]+; the checkpoint is of step [0-9]+;' term.err || bad "term: $(tail -n 2 term.err)"
    goes_on term
}
# Where the last checkpoint took longer than 2 s, none is begun and the last one counts.
tight() {
    told tight SLOW_DISK_MS=2500
    grep -qE 'stopped on SIGTERM, which leaves too little time for a checkpoint, after step [0-9]+; the checkpoint is of step 20;' \
        tight.err || bad "tight: $(tail -n 2 tight.err)"
    # mpirun kills after 2 s: in the midst of a write, which the disk does not end before; what was there before stays.
    with_disk SLOW_DISK_MS=1000000 HELD_FILE=.step-40.h5.tmp HELD_AT=1
    begin 2 tight.err "${training[@]}" output=tight train.steps=60 train.checkpoint_every=20
    until_there "tight/checkpoints/*.step-40.h5.tmp" || bad "no write to disturb: $(tail -n 2 tight.err)"
    kill -TERM "$launched"
    ended "$launched" 100
    [ $rc -ne 0 ] || bad "SIGTERM in a write: rc $rc"
    [ -s tight/checkpoints/step-20.h5 ] && [ ! -e tight/checkpoints/step-40.h5 ] || bad "SIGTERM in a write: no checkpoint is left"
    with_disk
    goes_on tight
}

# A limit that has passed is told before any work.
passed() {
    begin 2 passed.err "${training[@]}" output=passed train.steps=4 train.stop_before=2020-01-01T00:00:00Z
    ended "$launched" 100
    [ $rc -eq 2 ] && grep -q 'train.stop_before: 2020-01-01T00:00:00Z is past' passed.err || bad "passed: rc $rc: $(tail -n 2 passed.err)"
    [ ! -e passed ] || bad "passed: a refused run leaves a folder"
}

# What cannot go on from a checkpoint is not ended by USR1; embed, which can, ends with 85 and goes on.
others() {
    local _ pid
    "$COLLIMATE" --quiet synth output=big.jsonl synth.rows=6000 synth.length=20 seed=1 || exit 1
    begin 2 prepare.err prepare input=big.jsonl output=big.h5 tokenizer=bytes
    # The rank itself, as soon as it listens (bit 9 of the caught signals): mpirun is not ready to pass it on yet.
    listens() {
        pid=$(rank_process 1 "$launched") && [ -n "$pid" ] &&
            ((0x$(awk '/^SigCgt/ { print $2 }' "/proc/$pid/status" 2> /dev/null || echo 0) & 0x200))
    }
    until listens || ! kill -0 "$launched" 2> /dev/null; do
        sleep 0.02
    done
    for _ in $(seq 10); do
        kill -USR1 "$pid" 2> /dev/null
        sleep 0.1
    done
    ended "$launched" 100
    [ $rc -eq 0 ] || bad "prepare: rc $rc after USR1"
    with_disk HELD_FILE=/parts.h5 HELD_AT=20
    begin 2 embed.err embed data=big.h5 model=init output=parts.h5
    until_there parts.h5
    kill -USR1 "$launched"
    ended "$launched" 100
    [ $rc -eq 85 ] && grep -q 'stopped on SIGUSR1 after response [0-9]* of' embed.err || bad "embed: rc $rc: $(tail -n 2 embed.err)"
    mpirun -q -n 2 "$COLLIMATE" embed data=big.h5 model=init output=parts.h5 2> embed.err || bad "embed does not go on"
    grep -qE ' [1-9][0-9]* were there' embed.err || bad "embed began anew: $(tail -n 2 embed.err)"
}

together budget job usr1 term tight passed others
refuses 2 'train.stop_before: "soon" is neither' "${training[@]}" output=soon train.stop_before=soon
finish
