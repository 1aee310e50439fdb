#!/usr/bin/env bash
# DPO steps of one model shape on one GPU: collimate beside PyTorch + transformers (SDPA, reference cached),
# interleaved in one run, with the device's own peaks measured in the same run.
#   benchmarks/peers/dpo_gpu.sh [CONFIG.json] [ROUNDS]
# Pairs are random tokens: half of a pair's TOKENS are the prompt, a quarter is each response. Settings by environment:
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
config=$(realpath "${1:-$root/configs/models/llama-1.5b.json}")
rounds=${2:-3}
device=${DEVICE:-cuda}     # cpu tries the script where there is no GPU, with a small shape
compute=${COMPUTE:-bf16}   # bf16 or fp32, for both
tokens=${TOKENS:-512}      # of a pair
batch=${BATCH:-64}         # pairs in an update
micro=${MICRO:-8}          # pairs in a forward pass, for both
steps=${STEPS:-10}         # counted updates a round; three more warm up
precisions=${PRECISIONS:-"autocast pure"} # of the peer: bf16 over fp32 weights as here, and bf16 weights and state
python=${PYTHON:-python3}  # has torch and transformers
collimate=${COLLIMATE:-$root/build/release/collimate}
output=${OUTPUT:-}         # a folder for all that was measured; empty: a temporary one
. "$root/jobs/env.sh"
work=${output:-$(mktemp -d)}
mkdir -p "$work"
[ -n "$output" ] || trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false
common=(model="$config" device="$device" compute="$compute" bench.tokens="$tokens" bench.repeats="$steps")
{ "$collimate" --version; uname -srm; nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv 2>&1 || true; } \
    > "$work/machine.txt"
"$collimate" bench bench.kind=ops "${common[@]}" bench.tokens=$((micro * tokens)) output="$work/ops.csv" | tee "$work/ops.txt"
for round in $(seq "$rounds"); do
    "$collimate" bench bench.kind=step "${common[@]}" train.batch="$batch" train.micro_tokens=$((micro * tokens)) \
        output="$work/step.$round.csv" > "$work/step.$round.txt" 2> "$work/step.$round.log" \
        || { tail -5 "$work/step.$round.log" >&2; exit 1; }
    for precision in $precisions; do
        "$python" "$here/dpo_gpu.py" --config "$config" --device "$device" --compute "$compute" --precision "$precision" \
            --tokens "$tokens" --batch "$batch" --micro "$micro" --steps "$steps" \
            2> "$work/peer.log" | tail -n 1 > "$work/$precision.$round.json" || { tail -5 "$work/peer.log" >&2; exit 1; }
    done
done
# shellcheck disable=SC2086 # precisions are words
"$python" "$here/dpo_gpu_table.py" "$work" "$rounds" $precisions | tee "$work/table.txt"
