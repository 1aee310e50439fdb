#!/usr/bin/env bash
# Embeddings of responses, the mean of the last hidden states: collimate beside transformers (sorted by length, padded in
# batches), the same tokens and random weights, in turns in one run.
#   benchmarks/peers/embed.sh PAIRS.jsonl[.gz] TOKENIZER_FOLDER [PAIRS_TAKEN [ROUNDS]]
# Tokens are the responses' own, without padding; the clock of both begins when the model is loaded, and that of collimate holds
# writing too. Settings by environment:
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
data=$(realpath "$1") tokenizer=$(realpath "$2") taken=${3:-200} rounds=${4:-3}
shapes=${SHAPES:-neox-70m neox-160m} # of configs/models
types=${TYPES:-fp32 bf16}
threads=${THREADS:-2}
batch=${BATCH:-16}        # responses in a batch of the peer
python=${PYTHON:-python3} # has torch, transformers, h5py and numpy
. "$root/jobs/env.sh"
collimate=${COLLIMATE:-$root/build/release/collimate}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
"$collimate" --quiet prepare input="$data" tokenizer="$tokenizer" prepare.limit="$taken" output="$work/pairs.h5"
ours() { # "TOKENS SECONDS"
    rm -f "$work/ours.h5"
    "$collimate" embed data="$work/pairs.h5" model="$work/model" compute="$1" threads="$threads" \
        output="$work/ours.h5" 2>&1 | sed -nE 's/.* ([0-9]+) tokens in ([0-9.]+) s,.*/\1 \2/p'
}
peer() { # "TOKENS SECONDS PADDING DIFFERENCE"
    "$python" "$here/embed.py" --model "$work/model" --data "$work/pairs.h5" --type "$1" --batch "$batch" \
        --threads "$threads" --beside "$work/ours.h5" | tr -d '{},' | awk '{ print $2, $4, $6, $8 }'
}
for shape in $shapes; do
    rm -rf "$work/model"
    "$collimate" --quiet init init.config="$root/configs/models/$shape.json" tokenizer="$tokenizer" output="$work/model"
    for _ in $(seq "$rounds"); do
        for type in $types; do
            echo "$shape $type collimate $(ours "$type")"
            echo "$shape $type transformers $(peer "$type")"
        done
    done
done > "$work/all"
echo "the responses of $taken pairs; $threads threads; medians of $rounds rounds in turns; load $(cut -d' ' -f1-3 /proc/loadavg)"
printf '%-10s %-5s %-13s %8s %9s %9s %10s\n' model type program tokens tokens/s padding difference
for shape in $shapes; do
    for type in $types; do
        for program in collimate transformers; do
            grep "^$shape $type $program " "$work/all" | sort -k5,5g |
                awk '{ s[NR] = $5; n = $4; p = $6; d = $7; name = sprintf("%-10s %-5s %-13s", $1, $2, $3) }
                    END { m = (s[int((NR + 1) / 2)] + s[int(NR / 2) + 1]) / 2
                        printf "%s %8d %9.0f %9s %10s\n", name, n, n / m, p == "" ? "" : sprintf("%.1f %%", 100 * p),
                            d == "" ? "" : sprintf("%.1e", d) }'
        done
    done
done
