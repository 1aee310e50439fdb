#!/usr/bin/env bash
# prepare beside the Rust `tokenizers` package, in one run on the same file, machine and number of cores.
# usage: prepare.sh PAIRS.jsonl[.gz] TOKENIZER_FOLDER [COPIES [CORES]]
# PAIRS (HH transcripts) is repeated COPIES times (20) into a scratch file. PYTHON names an interpreter that has
# `tokenizers` and `numpy`; COLLIMATE the program.
set -eu
pairs=$1 tokenizer=$2 copies=${3:-20} cores=${4:-2}
here=$(cd "$(dirname "$0")" && pwd)
COLLIMATE=${COLLIMATE:-$here/../../build/release/collimate}
PYTHON=${PYTHON:-python3}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl=self,vader,tcp
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_io=romio321
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
case $pairs in *.gz) gzip -dc "$pairs" ;; *) cat "$pairs" ;; esac > "$scratch/once.jsonl"
for _ in $(seq "$copies"); do cat "$scratch/once.jsonl"; done > "$scratch/pairs.jsonl"
records=$(wc -l < "$scratch/pairs.jsonl")
echo "records: $records; load before: $(cut -d' ' -f1-3 /proc/loadavg); $(nproc) cores, $cores used"
run() { # LABEL COMMAND...: wall and CPU seconds of the whole command; CPU seconds hold on a busy machine too
    local label=$1 TIMEFORMAT='%R %U %S'
    shift
    { time "$@" 2>&3; } 3>&2 2> "$scratch/time"
    awk -v n="$records" -v l="$label" '{ printf "%s: %.2f s = %.0f pairs/min; %.2f CPU s = %.0f pairs per CPU minute\n",
        l, $1, 60 * n / $1, $2 + $3, 60 * n / ($2 + $3) }' "$scratch/time"
}
for round in 1 2; do # in turn, so that a neighbor's load hits both
    echo "round $round"
    run "collimate, $cores ranks" mpirun -q -n "$cores" "$COLLIMATE" --quiet prepare input="$scratch/pairs.jsonl" \
        tokenizer="$tokenizer" output="$scratch/pairs.h5" threads=1
    run "collimate, 1 rank, $cores threads" "$COLLIMATE" --quiet prepare input="$scratch/pairs.jsonl" \
        tokenizer="$tokenizer" output="$scratch/pairs.h5" threads="$cores"
    RAYON_NUM_THREADS=$cores TOKENIZERS_PARALLELISM=true \
        run "tokenizers, both ways of encoding" "$PYTHON" "$here/prepare.py" "$scratch/pairs.jsonl" \
        "$tokenizer/tokenizer.json" "$scratch/pairs.npz"
done
"$COLLIMATE" --quiet inspect input="$scratch/pairs.h5" | grep -E '^(prompts|responses|pairs)'
