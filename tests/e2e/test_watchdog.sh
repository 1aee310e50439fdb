#!/usr/bin/env bash
# A stopped rank, which Open MPI does not notice, in training and in the other long commands: after 25 s of silence the next
# rank says so in one line and everything ends with code 75.
set -u
. tests/e2e/faults.sh
"$COLLIMATE" --quiet synth output=big.jsonl synth.rows=6000 synth.length=20 seed=1 &&
    "$COLLIMATE" --quiet prepare input=big.jsonl output=big.h5 tokenizer=bytes || exit 1

begin 4 sft.err --quiet "${training[@]}" output=sft train.steps=100000000
names=(sft)
for command in "score output=score.jsonl" "evaluate output=evaluate.json" "embed output=embed.h5" \
    "generate output=generate.jsonl generate.max_new_tokens=500"; do
    # shellcheck disable=SC2086
    begin 2 "${command%% *}.err" $command model=init data=big.h5 watchdog_s=25
    names+=("${command%% *}")
done
# All of them wait at the same time, so that the test takes the 25 s once. They are stopped when they are at work.
until_step 5 sft
stopped=() processes=()
for i in "${!names[@]}"; do
    [ "${names[i]}" = sft ] || for _ in $(seq 500); do
        [ -s "${names[i]}.err" ] && break
        sleep 0.02
    done
    stopped[i]=$(rank_process 1 "${launchers[i]}")
    processes[i]=$(pgrep -P "${launchers[i]}" -x collimate)
    kill -STOP "${stopped[i]}" || bad "${names[i]}: not running"
done
began=$SECONDS
for i in "${!names[@]}"; do
    name=${names[i]}
    ended "${launchers[i]}" $((60 - (SECONDS - began)))
    took=$((SECONDS - began))
    [ $rc -eq 75 ] || bad "$name: rc $rc, not 75"
    [ $took -ge 20 ] && [ $took -le 50 ] || bad "$name: ended after $took s"
    doing='while [a-z]+'
    [ "$name" = sft ] && doing='while .* in step [0-9]+ .*, waiting for the others in [a-z ]+ since'
    [ "$(grep -c 'watchdog' "$name.err")" -eq 1 ] &&
        grep -qE "^collimate: watchdog: rank [0-9] of [24] on .*: (no sign of rank 1 on .* for|nothing for) 2[0-9] s .*$doing.*before that: " \
            "$name.err" || bad "$name: $(cat "$name.err")"
    for pid in ${processes[i]}; do
        for _ in $(seq 50); do # a zombie is no process any more
            grep -qs '^State:.[^Z]' "/proc/$pid/status" || continue 2
            sleep 0.1
        done
        bad "$name: process $pid stays"
    done
done
echo "ended after $took s"
finish
