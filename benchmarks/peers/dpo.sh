#!/usr/bin/env bash
# DPO on HH-RLHF pairs: collimate beside TRL and a plain PyTorch loop, interleaved, in one run.
#   benchmarks/peers/dpo.sh PAIRS.jsonl[.gz] TOKENIZER_FOLDER [ROUNDS]
# The same pairs in the same order for all, AdamW, at most 512 tokens, the reference's log-probabilities computed before the clock
# starts; weights and state are fp32, bf16 is what each computes in (compute=bf16, autocast). TRL's head is its own fused one, which
# it always has. Settings by environment, here and in ../dpo_settings.sh:
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
data=$(realpath "$1") tokenizer=$(realpath "$2") rounds=${3:-1}
# Of configs/models, with pairs in a batch and steps. On 2 cores these take a quarter of an hour a round, and some 10 GB.
shapes=${SHAPES:-neox-70m:4:4 neox-160m:2:3 qwen2-0.5b:1:2}
types=${TYPES:-fp32 bf16}
programs=${PROGRAMS:-collimate trl plain}
warm_up=${WARM_UP:-1}          # first steps of each run that are not counted
. "$root/benchmarks/dpo_settings.sh"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false

# run_collimate SHAPE TYPE, run_peer NAME SHAPE TYPE: one JSON object with the seconds of each step.
run_collimate() {
    rm -rf "$work/run"
    # shellcheck disable=SC2086 # words
    $under "$COLLIMATE" dpo data="$work/pairs.h5" model="$work/$1" output="$work/run" train.steps="$steps" \
        train.batch="$batch" train.shuffle=false truncate.max_length=512 train.learning_rate=1e-6 compute="$2" \
        train.checkpoint_every=0 threads="$threads" --quiet 2> "$work/log" || return 1
    "$python" "$here/dpo_table.py" steps "$work/run/metrics.jsonl" "$batch"
}
run_peer() {
    # shellcheck disable=SC2086 # words
    $under "$python" "$here/dpo_$1.py" --model "$work/$2" --data "$data" --type "$3" --batch "$batch" --steps "$steps" \
        --threads "$threads" --output "$work/peer" 2> "$work/log" | tail -n 1
}

prepare_pairs "$data" "$tokenizer"
failed=
for item in $shapes; do
    IFS=: read -r shape batch steps <<< "$item"
    make_model "$shape" "$tokenizer"
    for round in $(seq "$rounds"); do
        for type in $types; do
            for program in $programs; do
                call=(run_peer "$program")
                [ "$program" != collimate ] || call=(run_collimate)
                if "${call[@]}" "$shape" "$type" > "$work/one.json"; then
                    mv "$work/one.json" "$output/$shape.$type.$program.$round.json"
                else # what was measured is not lost with it
                    failed="$failed $program on $shape in $type (round $round);"
                    tail -n 5 "$work/log" >&2
                fi
            done
        done
    done
    rm -rf "${work:?}/$shape"
done
"$python" "$here/dpo_table.py" table "$output" "$warm_up"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
