#!/bin/bash
# jobs/real-study.sh in little: every file comes out, a second call runs
# nothing again and gives the same table, and changed settings are refused. Real records take the other way in.
set -u
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STUDY=quick SEEDS=1 ROWS=200 HELDOUT=40 SFT_STEPS=12 BATCH=20 AT_ONCE=1 PYTHON=/nonexistent
bad() { echo "test_real_study: $1" >&2; exit 1; }
study() { timeout 600 bash "$root/jobs/real-study.sh" "$@" > "$work/out" 2>&1; }

export RUN=$work/run
WORLDS=lists study || bad "$(tail -3 "$work/out")"
for file in table.txt table.csv curves.csv final.csv labels.csv drift.csv; do
    [ "$(wc -l < "$RUN/$file")" -gt 8 ] || bad "$file: $(cat "$RUN/$file")"
done
# Three evaluations at least for each of four subsets, the first of them log 2; intervals need more seeds.
awk -F, 'NR > 1 { n[$3]++ } $4 == 0 { zero += $5 > .6931471 && $5 < .6931472 && $7 == 0 }
    END { exit !(zero == 4 && n["easy"] >= 3 && n["centroid"] == n["hard"]) }' "$RUN/curves.csv" || bad "$(cat "$RUN/curves.csv")"
# Evaluated after training and by evaluate itself: the same loss on the same pairs.
awk -F, 'FNR == 1 { next } FILENAME ~ /curves/ { if ($3 == "easy") last = $5 }
    $3 == "easy" && $4 == "truth loss" { d = $5 - last; exit !(d < 1e-6 && d > -1e-6) }' "$RUN/curves.csv" "$RUN/final.csv" ||
    bad "evaluate and training differ"
share() { awk -F, -v s="$1" '$3 == s && $4 == "labels/agree_with_truth" { print $5 }' "$RUN/labels.csv"; }
awk -v e="$(share easy)" -v h="$(share hard)" 'BEGIN { exit !(e > .6 && e < 1 && h > .6 && h < 1) }' ||
    bad "labels agree with the truth in $(share easy) of easy, $(share hard) of hard"
awk -F, 'NR > 1 && !($6 > 0 && $7 < 1) { exit 1 }' "$RUN/drift.csv" || bad "$(cat "$RUN/drift.csv")"
# Labels until random's last margin: all of its own at most; where another reaches it, its curve is at the margin there.
awk -F, 'FNR == 1 { next } FILENAME ~ /curves/ { n[$3]++; step[$3, n[$3]] = $4; margin[$3, n[$3]] = $7; next }
    { rows++ } $5 == "" { for (i = 1; i <= n[$3]; i++) if (margin[$3, i] >= $4) bad = 1; next }
    { if ($5 < 0 || $5 > $6 || $6 != 20 * step[$3, n[$3]]) bad = 1
      for (i = 2; 20 * step[$3, i] < $5 - 1e-4; i++);
      at = margin[$3, i - 1] + (margin[$3, i] - margin[$3, i - 1]) * ($5 / 20 - step[$3, i - 1]) / (step[$3, i] - step[$3, i - 1])
      if (at - $4 > 1e-4 || $4 - at > 1e-4) bad = 1 }
    END { exit bad || rows != 4 }' "$RUN/curves.csv" "$RUN/budget.csv" || bad "$(cat "$RUN/budget.csv" "$RUN/curves.csv")"
grep -q 'labels until the held-out margin' "$RUN/table.txt" || bad "no budget: $(cat "$RUN/table.txt")"

# Again: nothing is run; the same table. With other settings: refused.
cp "$RUN/table.csv" "$work/first.csv"
WORLDS=lists study || bad "a second call fails: $(tail -3 "$work/out")"
cmp -s "$RUN/table.csv" "$work/first.csv" || bad "a second call gives another table"
[ -z "$(find "$RUN" -newer "$work/first.csv" -path '*seed-1*' -name '*.h5')" ] || bad "a second call computes again"
DPO_RATE=1e-3 WORLDS=lists study && bad "other settings go on from old results"
grep -q 'made with other settings' "$work/out" || bad "$(cat "$work/out")"

# A file of records, pairs; the intervals of two numbers by hand: 2 +- 12.706 * 1.41421 / sqrt(2).
"$COLLIMATE" --quiet synth synth.rows=200 synth.length=6 output="$work/own.jsonl"
RUN=$work/own SUBSETS="random easy" study "$work/own.jsonl" || bad "records of one's own: $(tail -3 "$work/out")"
grep -q 'own,easy,heldout loss,1,' "$work/own/table.csv" && ! grep -q centroid "$work/own/table.csv" || bad "$(cat "$work/own/table.csv")"
printf 'g,s,i,m,v\nw,1,a,x,1\nw,2,a,x,3\nw,1,b,x,0\nw,2,b,x,1\n' | awk -F, -v pairs=a-b -f "$root/jobs/intervals.awk" > "$work/t"
grep -qx 'w,a,x,2,2,-10.706,14.706' "$work/t" && grep -qx 'w,a-b,x,2,1.5,-4.853,7.853' "$work/t" || bad "intervals: $(cat "$work/t")"
