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

mpirun -q -n 2 "$COLLIMATE" $common bench.kind=comm bench.largest=4194304 output="$work/comm.csv" > "$work/comm" || bad "comm"
awk -F, 'NR > 1 { n++; if ($NF != 0) exit 1 } END { exit n < 20 }' "$work/comm.csv" || bad "comm: wrong sums"

step="bench.kind=step bench.tokens=32 train.batch=8 train.slots=4 train.deterministic=true"
for n in 1 2; do
    mpirun -q -n $n "$COLLIMATE" $common $step output="$work/step$n.csv" > "$work/step" || bad "step on $n ranks"
done
one=$(tail -1 "$work/step1.csv" | sed 's/.*,//') two=$(tail -1 "$work/step2.csv" | sed 's/.*,//')
[ "$one" = "$two" ] || bad "step: loss $one on one rank, $two on two"
"$COLLIMATE" $common bench.kind=decode bench.tokens=9 output="$work/decode.csv" > "$work/decode" || bad "decode"
awk -F, 'NR > 1 { n++; for (i = 1; i <= NF; i++) if (!($i > 0) && (i <= 3 || $4 != "")) exit 1 } END { exit n < 3 }' "$work/decode.csv" ||
    bad "decode: $(cat "$work/decode.csv")"
"$COLLIMATE" $common bench.kind=decode bench.tokens=9 bench.sequences=3 output="$work/decode.csv" > "$work/decode" || bad "decode"
[ "$(cut -d, -f1 "$work/decode.csv" | tr '\n' ' ')" = "batch 3 " ] || bad "decode of three: $(cat "$work/decode.csv")"
# k-means and a balanced half: the same numbers on 1 and 2 ranks, with the rows in memory or in a file.
small="bench.kind=kmeans bench.rows=5000 bench.width=24 bench.clusters=20 bench.iterations=40 threads=1"
for n in 1 2; do
    mpirun -q -n $n "$COLLIMATE" --quiet bench $small bench.memory_mib=$((3 - n)) output="$work/kmeans$n.csv" > "$work/kmeans" ||
        bad "kmeans on $n ranks"
    tail -1 "$work/kmeans$n.csv" | cut -d, -f6,9,10 > "$work/kmeans.$n"
done
"$COLLIMATE" --quiet bench $small bench.pruning=none bench.memory_mib=2 output="$work/plain.csv" > "$work/kmeans" || bad "plain kmeans"
[ "$(tail -1 "$work/plain.csv" | cut -d, -f6,9)" = "$(cut -d, -f1,2 "$work/kmeans.1")" ] || bad "kmeans, plain: another result"
[ "$(tail -1 "$work/plain.csv" | cut -d, -f10)" = 0.0000 ] || bad "kmeans, plain: distances spared: $(cat "$work/plain.csv")"
"$COLLIMATE" --quiet bench $small bench.rows=50000 bench.iterations=2 bench.memory_mib=1 > "$work/kmeans" || bad "kmeans from a file"
cmp -s "$work/kmeans.1" "$work/kmeans.2" || bad "kmeans: $(cat "$work"/kmeans.?)"
awk -F, '{ exit !($2 > 0 && $3 > 0) }' "$work/kmeans.1" || bad "kmeans: no objective, or nothing pruned: $(cat "$work/kmeans.1")"
awk -v l="$one" 'BEGIN { exit !(l > 0.01 && l < 5) }' || bad "step: loss $one"
exit 0
