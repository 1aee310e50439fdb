#!/usr/bin/env bash
# What Open MPI leaves little time for, or does not show: SIGTERM to the launcher leaves a checkpoint that the same command
# goes on from; a file system that becomes read-only in the midst of a run, and a disk that loses what one rank wrote, end it with
# one message; a rank that is late again and again is named.
set -u
expect=$PWD/tests/expect.sh
. tests/e2e/faults.sh

preload_disk
"$COLLIMATE" --quiet "${training[@]}" output=whole train.steps=40 || bad "the undisturbed run"

# SIGTERM: the ranks have 2 s. Code 85 where the step and the checkpoint fit, else the launcher's; the file is good anyway.
term() {
    held_at_step 12
    begin 4 run.err --quiet "${training[@]}" output=run train.steps=40 train.checkpoint_every=10
    until_step 12 run
    kill -TERM "$launched"
    ended "$launched" 200
    [ $rc -ne 0 ] && [ ! -e run/model ] || bad "SIGTERM: rc $rc"
    [ -s run/checkpoints/latest ] || bad "SIGTERM: no checkpoint"
    mpirun -q -n 2 "$COLLIMATE" --quiet "${training[@]}" output=run train.steps=40 2> run.err || bad "the run after SIGTERM"
    same whole run
}

# read_only RANKS WORDS: in the midst of the run its folder becomes read-only, as the kernel makes it after an error of the disk.
# Every rank ends with 73, one of them says why, the last checkpoint is good and the same command goes on from it.
read_only() {
    # shellcheck disable=SC2016
    timeout 100 mpirun -q "${disk[@]}" -n "$1" bash -c '"$@"; echo $? > "rc.$OMPI_COMM_WORLD_RANK"' rank \
        "$COLLIMATE" --quiet "${training[@]}" output="$PWD/run" train.steps=40 train.checkpoint_every=10 2> run.err
    [ "$(cat rc.*)" = "$(for _ in $(seq "$1"); do echo 73; done)" ] || bad "codes $(cat rc.*)"
    [ "$(grep -c '^collimate: ' run.err)" -eq 1 ] && grep -qE "$PWD/run/$2.*[Rr]ead.only" run.err || bad "$(cat run.err)"
    [ -s "run/checkpoints/$(cat run/checkpoints/latest)" ] && [ ! -e run/model ] || bad "$(ls run/checkpoints)"
    mpirun -q -n $((4 / $1)) "$COLLIMATE" --quiet "${training[@]}" output="$PWD/run" train.steps=40 2> run.err ||
        bad "does not go on: $(cat run.err)"
    same whole run
}
# When a checkpoint is in place but not yet the latest one; when the next one is begun; between two.
placed() {
    with_disk READ_ONLY="$PWD/run" READ_ONLY_SINCE="$PWD/run/checkpoints/step-20.h5"
    read_only 4 'checkpoints/latest'
}
begun() {
    with_disk READ_ONLY="$PWD/run" READ_ONLY_SINCE="$PWD/run/checkpoints/*.step-20.h5.tmp"
    read_only 2 'checkpoints/step-20.h5'
}
between() {
    with_disk READ_ONLY="$PWD/run" READ_ONLY_SINCE="$PWD/now" READ_ONLY_LINES=25
    read_only 4 'metrics.jsonl'
}

# What one rank makes durable is lost: no rank waits for it in vain.
lost() {
    with_disk LOST_RANK=1
    bash "$expect" 73 'rank 1 of 2 .*parts.h5: fsync: Input/output error' 60 \
        mpirun -q "${disk[@]}" -n 2 "$COLLIMATE" embed data=train.h5 model=init output=parts.h5 || bad "embed on a disk that loses"
    run 2 embed data=train.h5 model=init output=parts.h5
}
together term placed begun between lost

# A rank that is held up again and again is named at the end, with what it cost, and every step says what it waited.
begin 2 late.err "${training[@]}" output=late train.steps=100000000 train.batch=45 # mostly computing
until_step 10 late
victim=$(rank_process 1 "$launched")
# waited: the steps that say that they waited for rank 1.
waited() {
    sed -n 's/.*"time\/wait_rank": \([0-9.e-]*\).*"time\/straggler": 1,.*/\1/p' late/metrics.jsonl | awk '$1 > 0.1 { n++ } END { print n + 0 }'
}
for _ in $(seq 100); do # sometimes while it sums with the others: no lateness
    kill -STOP "$victim" && sleep 0.3 && kill -CONT "$victim" || break
    sleep 0.1
    [ "$(waited)" -lt 2 ] || break
done
[ "$(waited)" -ge 2 ] || bad "no step shows that it waited for the late rank"
kill -USR1 "$launched"
ended "$launched" 200
[ $rc -eq 85 ] || bad "the run with a late rank: rc $rc"
grep -qE 'slowest rank took [0-9.]+ % of the time: .*rank 1 on [^;]* last in [0-9]+ of [0-9]+ steps, by .* ms at worst' late.err ||
    bad "the late rank is not named: $(tail -n 3 late.err)"
finish
