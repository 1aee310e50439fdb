#!/usr/bin/env bash
# Fine-tuning on long rows: collimate beside a plain PyTorch loop, by turns, a row a step, the same random weights and tokens, but for the
# last of a row, which in a response that is cut stays its end.
#   benchmarks/peers/long_rows.sh TRANSCRIPTS.jsonl[.gz] TOKENIZER_FOLDER [ROUNDS]
# Settings by environment, here and in ../dpo_settings.sh:
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
data=$(realpath "$1") tokenizer=$(realpath "$2") rounds=${3:-1}
shape=${SHAPE:-llama-51m} # of configs/models
tokens=${TOKENS:-4096}    # of a row
steps=${STEPS:-2}         # the first is not counted
types=${TYPES:-fp32 bf16}
programs=${PROGRAMS:-ours peer} # python has h5py, too
. "$root/benchmarks/dpo_settings.sh"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
"$python" "$here/long_rows.py" texts "$data" "$tokens" "$steps" > "$work/rows.jsonl"
"$COLLIMATE" --quiet prepare input="$work/rows.jsonl" tokenizer="$tokenizer" output="$work/rows.h5"
make_model "$shape" "$tokenizer"
ours() { # TYPE: "SECONDS LOSS" of each counted step
    rm -rf "$work/run"
    # shellcheck disable=SC2086 # words
    $under "$COLLIMATE" --quiet sft data="$work/rows.h5" model="$work/$shape" output="$work/run" train.steps="$steps" train.batch=1 \
        train.shuffle=false truncate.max_length="$tokens" train.learning_rate=1e-6 train.checkpoint_every=0 compute="$1" threads="$threads" || return 1
    sed -nE 's/.*"loss": ([0-9.]+),.*"time\/step": ([0-9.]+),.*/\2 \1/p' "$work/run/metrics.jsonl" | tail -n +2
}
peer() {
    # shellcheck disable=SC2086 # words
    $under "$python" "$here/long_rows.py" train --model "$work/$shape" --data "$work/rows.h5" --tokens "$tokens" --steps "$steps" \
        --type "$1" --threads "$threads" 2> /dev/null | "$python" -c 'import json, sys
r = json.loads(sys.stdin.read() or sys.exit(1))
for s, l in list(zip(r["seconds"], r["losses"]))[1:]: print(s, l)'
}
failed=0
for _ in $(seq "$rounds"); do
    for type in $types; do
        for program in $programs; do # what was measured is not lost with one that fails
            "$program" "$type" | sed "s/^/$type $program /" || {
                echo "failed: $program in $type" >&2
                failed=1
            }
        done
    done
done > "$work/all"
echo "$shape, rows of $tokens tokens; $threads threads; medians of all counted steps of $rounds rounds by turns; load $(cut -d' ' -f1-3 /proc/loadavg)"
printf '%-5s %-10s %8s %9s %8s\n' type program 's/step' tokens/s loss
for type in $types; do
    for program in $programs; do
        { grep "^$type $program " "$work/all" || true; } | sort -k3,3g | awk -v tokens="$tokens" -v name="$program" '{ s[NR] = $3; loss = $4 }
            END { if (NR == 0) exit
                m = (s[int((NR + 1) / 2)] + s[int(NR / 2) + 1]) / 2
                printf "%-5s %-10s %8.2f %9.0f %8.4f\n", $1, name == "ours" ? "collimate" : "PyTorch", m, tokens / m, loss }'
    done
done
exit $failed
