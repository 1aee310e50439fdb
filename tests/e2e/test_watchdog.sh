#!/usr/bin/env bash
# A stopped rank, which Open MPI does not notice, in training and in the other long commands: after 25 s of silence everything
# ends with code 75 and a line that says who waited where for what, since when. Its neighbor names the stopped rank; on a busy
# machine another rank may come first or two may speak, so the verdict does not depend on who spoke.
set -u
. tests/e2e/faults.sh
"$COLLIMATE" --quiet synth output=big.jsonl synth.rows=6000 synth.length=20 seed=1 &&
    "$COLLIMATE" --quiet prepare input=big.jsonl output=big.h5 tokenizer=bytes || exit 1

begin 4 sft.err --quiet "${training[@]}" output=sft train.steps=100000000 train.checkpoint_every=100000000
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
    ended "${launchers[i]}" $((120 - (SECONDS - began)))
    took=$((SECONDS - began))
    [ $rc -eq 75 ] || bad "$name: rc $rc, not 75, after $took s"
    [ $took -ge 20 ] || bad "$name: ended after $took s of at least 25 s"
    who='rank [0-9] of [24] on [^ ]+: (no sign of rank [0-9] on [^ ]+ for|nothing for) [0-9]+ s'
    since='\(since 2[0-9-]{9}T[0-9:]{8}Z(, when it was [^)]+)?\)'
    doing='while [a-z][^;]*'
    [ "$name" = sft ] && doing='while [^;]* in step [0-9]+ \(for [0-9.]+ s\), waiting for the others in [^;]* since [0-9.]+ s ago'
    lines=$(grep -c '^collimate: watchdog: ' "$name.err")
    whole=$(grep -cE "^collimate: watchdog: $who $since $doing; before that: [a-z].*; a rank, the network or a disk is lost" "$name.err")
    if [ "$lines" -lt 1 ] || [ "$lines" -gt 3 ] || [ "$whole" -ne "$lines" ]; then
        bad "$name: $(cat "$name.err")"
    fi
    for pid in ${processes[i]}; do
        for _ in $(seq 300); do # a zombie is no process any more
            grep -qs '^State:.[^Z]' "/proc/$pid/status" || continue 2
            sleep 0.1
        done
        bad "$name: process $pid stays"
    done
    echo "$name: ended after $took s: $(grep -o 'watchdog: rank.*' "$name.err" | cut -c -150)"
done
finish
