#!/bin/bash
# bench: every kind runs on the tiny shape, collectives give right sums, the CSV has a row per line of the table,
# and the step's loss does not depend on the rank count.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad() { echo "test_bench: $1" >&2; exit 1; }
shape=configs/models/llama-tiny.json
common="--quiet bench model=$shape device=cpu bench.repeats=3 threads=1"

"$COLLIMATE" $common bench.kind=ops bench.tokens=64 output="$work/ops.csv" > "$work/ops" || bad "ops"
[ "$(grep -vc '^#' "$work/ops")" -eq "$(wc -l < "$work/ops.csv")" ] || bad "ops: table and CSV differ in rows"
grep -q '^gemm forward' "$work/ops" && grep -q '^adamw' "$work/ops" || bad "ops: rows are missing"
awk -F, 'NR > 1 && !($4 > 0) { exit 1 }' "$work/ops.csv" || bad "ops: a time is not positive"

mpirun -q -n 2 "$COLLIMATE" $common bench.kind=comm output="$work/comm.csv" > "$work/comm" || bad "comm"
awk -F, 'NR > 1 { n++; if ($NF != 0) exit 1 } END { exit n < 20 }' "$work/comm.csv" || bad "comm: wrong sums"

step="bench.kind=step bench.tokens=32 train.batch=8 train.slots=4 train.deterministic=true"
for n in 1 2; do
    mpirun -q -n $n "$COLLIMATE" $common $step output="$work/step$n.csv" > "$work/step" || bad "step on $n ranks"
done
one=$(tail -1 "$work/step1.csv" | sed 's/.*,//') two=$(tail -1 "$work/step2.csv" | sed 's/.*,//')
[ "$one" = "$two" ] || bad "step: loss $one on one rank, $two on two"
awk -v l="$one" 'BEGIN { exit !(l > 0.01 && l < 5) }' || bad "step: loss $one"
exit 0
