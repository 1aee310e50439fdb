#!/usr/bin/env bash
# DPO on HH-RLHF pairs: collimate beside TRL and a plain PyTorch loop, interleaved, in one run.
#   benchmarks/peers/dpo.sh PAIRS.jsonl[.gz] TOKENIZER_FOLDER [ROUNDS]
# The shape is configs/models/neox-70m.json (70M GPT-NeoX), 4 pairs a batch, AdamW, fp32, at most 512 tokens, 2 cores,
# the same pairs for all. The first two steps of each run are warm-up and not counted. PYTHON names an interpreter that
# has torch, transformers, trl and datasets (python3 -m venv; pip install torch transformers trl).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
data=$(realpath "$1") tokenizer=$(realpath "$2") rounds=${3:-3}
python=${PYTHON:-python3}
steps=${STEPS:-8}
. "$root/jobs/env.sh"
collimate=${COLLIMATE:-$root/build/release/collimate}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false
"$collimate" init init.config="$root/configs/models/neox-70m.json" tokenizer="$tokenizer" output="$work/model" --quiet
"$collimate" prepare input="$data" tokenizer="$tokenizer" tokenize.begin=false output="$work/pairs.h5" --quiet
for round in $(seq "$rounds"); do
    "$collimate" dpo data="$work/pairs.h5" model="$work/model" output="$work/run$round" train.steps="$steps" \
        train.batch=4 train.shuffle=false truncate.max_length=512 train.learning_rate=1e-6 threads=2 --quiet
    tail -n +2 "$work/run$round/metrics.jsonl" > "$work/collimate.$round.jsonl"
    "$python" "$here/dpo_trl.py" --model "$work/model" --data "$data" --steps "$steps" --output "$work/trl" \
        2> "$work/trl.log" | tail -n 1 > "$work/trl.$round.json" || { tail -5 "$work/trl.log" >&2; exit 1; }
    "$python" "$here/dpo_plain.py" --model "$work/model" --data "$data" --steps "$steps" \
        2> "$work/plain.log" | tail -n 1 > "$work/plain.$round.json" || { tail -5 "$work/plain.log" >&2; exit 1; }
done
"$python" "$here/dpo_table.py" "$work" "$rounds"
