#!/usr/bin/env bash
# What Open MPI does not notice: a stopped rank, in training and in the other long commands; a collective write that one rank
# has left and the others wait in, because the disk was full for it alone; a disk that does not answer, to one rank of two, to
# the only one, and where the configuration lies. After 25 s everything
# ends with code 75 and a line that says who waited where for what, since when. Of a stopped rank its neighbor speaks; on a busy
# machine another rank may come first or two may speak, so the verdict does not depend on who spoke.
set -u
. tests/e2e/faults.sh
"$COLLIMATE" --quiet synth output=big.jsonl synth.rows=6000 synth.length=20 seed=1 &&
    "$COLLIMATE" --quiet prepare input=big.jsonl output=big.h5 tokenizer=bytes || exit 1

names=() fates=() processes=()
# start NAME FATE RANKS ARGUMENT...: a run that will be `stopped` at work by this script, that `stops` by itself, whose disk is
# `full` for one rank, or whose disk `hangs`.
start() {
    begin "$3" "$1.err" "${@:4}" watchdog_s=25
    names+=("$1")
    fates+=("$2")
}
all=(model=init data=big.h5)
start sft stopped 4 --quiet "${training[@]}" output=sft train.steps=100000000 train.checkpoint_every=100000000
until_step 5 sft
start score stopped 2 score "${all[@]}" output=score.jsonl
start evaluate stopped 2 evaluate "${all[@]}" output=evaluate.json
start embed stopped 2 embed "${all[@]}" output=embed.h5
start generate stopped 2 generate "${all[@]}" output=generate.jsonl generate.max_new_tokens=500
with_disk STOPS_RANK=1 AT_FILE=big.jsonl
start prepare stops 2 prepare input=big.jsonl output=stops.h5 tokenizer=bytes
with_disk FULL_RANK=1
start prepare_full full 2 prepare input=big.jsonl output=full.h5 tokenizer=bytes
start sft_full full 2 "${training[@]}" output=sft_full train.steps=2 train.checkpoint_every=1
with_disk HANGS_RANK=1 AT_FILE=model.safetensors
start score_hangs hangs 2 score "${all[@]}" output=hangs.jsonl
with_disk HANGS_RANK=0 AT_FILE=model.safetensors
start alone_hangs hangs 1 embed "${all[@]}" output=alone.h5
echo 'output: late.h5' > late.yaml
with_disk HANGS_RANK=1 AT_FILE=late.yaml
COLLIMATE_WATCHDOG=25 start late_hangs hangs 2 embed "${all[@]}" late.yaml

# All of them wait at the same time, so that the test takes the 25 s once.
for i in "${!names[@]}"; do
    while kill -0 "${launchers[i]}" 2> /dev/null; do # until the ranks are there, and at work
        processes[i]=$(pgrep -P "${launchers[i]}" -x collimate)
        [ -n "${processes[i]}" ] && { [ "${names[i]}" = sft ] || [ "${fates[i]}" != stopped ] || [ -s "${names[i]}.err" ]; } && break
        sleep 0.02
    done
    if [ "${fates[i]}" = stopped ]; then
        kill -STOP "$(rank_process 1 "${launchers[i]}")" || bad "${names[i]}: not running"
        # The ranks that wait poll: others have the cores first. The other runs still have their way to go to where they wait.
        # shellcheck disable=SC2086
        renice -n 19 -p ${processes[i]} > /dev/null 2>&1
    fi
done
began=$SECONDS
seconds='(2[4-9]|[3-9][0-9]|[0-9]{3,}) s' # at least, to rounding
since='since 2[0-9-]{9}T[0-9:]{8}Z'
for i in "${!names[@]}"; do
    name=${names[i]}
    left=$((300 - (SECONDS - began)))
    ended "${launchers[i]}" $((left > 1 ? left : 1))
    took=$((SECONDS - began))
    [ $rc -eq 75 ] || bad "$name: rc $rc, not 75, after $took s"
    most=1
    case ${fates[i]} in
    full) # the line names the rank that left the write, and why; in closing none leaves
        who="rank 0 of 2 on [^ ]+: all 2 ranks wait for each other for $seconds \\($since"
        [ "$name" = prepare_full ] && who+=', rank 1 on [^ ]+ in agree while writing full.h5 after: full.h5: [^;]*'
        who+='\)'
        doing='while [^;]*, waiting for the others in [^;]* an? (array|file) since [0-9.]+ s ago'
        ;;
    hangs)
        who="rank 1 of 2 on [^ ]+: nothing for $seconds \\($since\\)"
        [ "$name" = alone_hangs ] && who=${who/1 of 2/0 of 1}
        doing='while reading the model \(for [^;]*'
        [ "$name" = late_hangs ] && doing='while starting \(for [^;]*'
        ;;
    *)
        # A rank that was stopped before its neighbor had its first pulse: its host is not known.
        who="rank [0-9] of [24] on [^ ]+: (no sign of rank [0-9] on [^ ]+ for|nothing for) $seconds \\($since(, when it was [^)]+)?\\)"
        who="($who|rank [0-9] of [24] on [^ ]+: no sign of rank [0-9] for $seconds \\(at all, from ${since#since }\\))"
        doing='while [a-z][^;]*'
        [ "$name" = sft ] &&
            doing='while [^;]* in step [0-9]+ \(for [0-9.]+ s\), waiting for the others in [^;]* since [0-9.]+ s ago'
        most=3
        ;;
    esac
    before='; before that: [a-z].*'
    [ "$name" = late_hangs ] && before='(; before that: [a-z].*)?'
    lines=$(grep -c '^collimate: watchdog: ' "$name.err")
    whole=$(grep -cE "^collimate: watchdog: $who $doing$before; a rank, the network or a disk is lost" "$name.err")
    if [ "$lines" -lt 1 ] || [ "$lines" -gt $most ] || [ "$whole" -ne "$lines" ]; then
        bad "$name: $(cat "$name.err")"
    fi
    for pid in ${processes[i]}; do
        for _ in $(seq 300); do # a zombie is no process any more
            grep -qs '^State:.[^Z]' "/proc/$pid/status" || continue 2
            sleep 0.1
        done
        bad "$name: process $pid stays"
    done
    echo "$name: ended after $took s: $(grep -o 'watchdog: rank.*' "$name.err" | cut -c -400)"
done
finish
