#!/usr/bin/env bash
# Where the time of a DPO step goes, by operation: train.profile of short runs, as tables (Markdown).
#   benchmarks/step_profile.sh PAIRS.jsonl[.gz] TOKENIZER_FOLDER [ROUNDS]
# Shapes, pairs and settings as in peers/dpo.sh: AdamW, at most 512 tokens, the reference's log-probabilities computed before the
# clock starts. Rounds are interleaved; a number is the median over them. Each is the difference of two runs, one of WARM_UP steps, one
# of so many more: the first step alone touches pages for the first time. Settings by environment, here and in dpo_settings.sh:
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
data=$(realpath "$1") tokenizer=$(realpath "$2") rounds=${3:-1}
# Of configs/models, with the compute type, pairs in a batch and steps that count. On 2 cores these take some two minutes a round, and 10 GB.
runs=${RUNS:-neox-70m:fp32:4:6 neox-70m:bf16:4:6 qwen2-0.5b:fp32:1:3}
warm_up=${WARM_UP:-1}
. "$root/benchmarks/dpo_settings.sh"

measure() { # STEPS FILE
    rm -rf "$work/run"
    # shellcheck disable=SC2086 # words
    $under "$COLLIMATE" dpo data="$work/pairs.h5" model="$work/$shape" output="$work/run" train.steps="$1" train.batch="$batch" \
        train.shuffle=false truncate.max_length=512 train.learning_rate=1e-6 compute="$type" train.checkpoint_every=0 \
        train.profile=true threads="$threads" --quiet 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
    mv "$work/run/metrics.jsonl" "$2"
}
prepare_pairs "$data" "$tokenizer"
for round in $(seq "$rounds"); do
    for run in $runs; do
        IFS=: read -r shape type batch steps <<< "$run"
        [ -e "$work/$shape" ] || make_model "$shape" "$tokenizer"
        measure "$warm_up" "$output/$shape.$type.$round.warm.jsonl"
        measure $((warm_up + steps)) "$output/$shape.$type.$round.jsonl"
    done
done
"$python" "$here/step_profile_table.py" "$output"
