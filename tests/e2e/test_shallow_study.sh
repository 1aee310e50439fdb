#!/bin/bash
# jobs/shallow-study.sh in little: every file comes out; rules at the ends of their parameters are the policy and the
# reference; shares by hand; a second call runs nothing again; records of one's own with a reward model.
set -u
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STUDY=quick SEEDS=1 PLAIN=60 PAIRS=60 HELDOUT=12 BATCH=20 AT_ONCE=1 PYTHON=/nonexistent LENGTH=8 MARKED=2 CUTS='100 25'
export MIXES=0,0.5,1 SFT_EPOCHS=1 REWARD_EPOCHS=1
bad() { echo "test_shallow_study: $1" >&2; exit 1; }
study() { timeout 600 bash "$root/jobs/shallow-study.sh" "$@" > "$work/out" 2>&1; }

# The worth that the study reads off a text is the one that the world gave it.
for rule in early late; do
    "$COLLIMATE" --quiet synth synth.rows=300 synth.rule=$rule synth.length=10 synth.marked=4 output="$work/$rule.jsonl"
    for side in chosen rejected; do
        sed "s/\"$side\"/\"text\"/" "$work/$rule.jsonl" | awk -v rule=$rule -v marked=4 -f "$root/jobs/worth.awk" > "$work/$side"
    done
    sed -E 's/.*"worth": \[([-0-9.]+), ([-0-9.]+)\].*/\1 \2/' "$work/$rule.jsonl" | paste -d ' ' - "$work/chosen" "$work/rejected" |
        awk '$1 != $3 || $2 != $4 { print; bad = 1 } END { exit bad || NR != 300 }' || bad "worth, rule $rule"
done

export RUN=$work/run
WORLDS=early TOKENS=1,100 THRESHOLDS=0,1e6 study || bad "$(tail -3 "$work/out")"
for file in table.txt table.csv cuts.csv curves.csv shares.csv positions.csv; do
    [ "$(wc -l < "$RUN/$file")" -gt 7 ] || bad "$file: $(cat "$RUN/$file")"
done
awk -F, '$3 == "threshold" && $4 > 0 { $4 = "most" } { v[$3, $4] = $5 "," $6; kl[$3, $4] = $5 }
    END { exit !(kl["mix", "0"] == 0 && kl["mix", "1"] > 0 && v["length", "100"] == v["mix", "1"] && v["threshold", "0"] == v["mix", "1"] &&
                 v["threshold", "most"] == v["mix", "0"] && kl["length", "1"] > 0 && kl["length", "1"] < kl["mix", "1"]) }' "$RUN/curves.csv" ||
    bad "the ends of the rules: $(cat "$RUN/curves.csv")"
# Between the reference and the policy threshold has no other value: shares are those of the straight line, where there is a gain.
awk -F, '$3 == "policy" && $4 == "reward" { high = $5 } $3 == "reference" { low = $5 } $3 == "threshold" { n++; share[$4] = $5 }
    END { exit !(n == 4 && (high == low || (share["at 1/4 of the KL"] == .25 && share["at 2/4 of the KL"] == .5))) }' "$RUN/shares.csv" ||
    bad "shares: $(cat "$RUN/shares.csv")"
awk -F, 'FILENAME ~ /curves/ { if ($3 == "length") { kl[$4] = $5; r[$4] = $6 } if ($3 == "mix" && $4 == 0) low = $6; next }
    $3 == "length" && $4 == "at 2/4 of the KL" {
        x = kl[100] / 2
        y = x < kl[1] ? low + x / kl[1] * (r[1] - low) : r[1] + (x - kl[1]) / (kl[100] - kl[1]) * (r[100] - r[1])
        d = $5 * (r[100] - low) - (y - low); seen = 1; exit !(d < 1e-3 && d > -1e-3) } END { exit !seen }' "$RUN/curves.csv" "$RUN/shares.csv" ||
    [ "$(awk -F, '$4 == "reward" { print $5 }' "$RUN/shares.csv" | sort -u | wc -l)" = 1 ] || bad "share of Length Control: $(cat "$RUN/shares.csv")"

# Again: nothing is run; the same table. With other settings: refused.
cp "$RUN/table.csv" "$work/first.csv"
WORLDS=early TOKENS=1,100 THRESHOLDS=0,1e6 study || bad "a second call fails: $(tail -3 "$work/out")"
cmp -s "$RUN/table.csv" "$work/first.csv" || bad "a second call gives another table"
[ -z "$(find "$RUN" -newer "$work/first.csv" -path '*seed-1*' -name '*.h5')" ] || bad "a second call computes again"
WORLDS=early TOKENS=1,100 THRESHOLDS=0,1 study && bad "other settings go on from old results"
grep -q 'made with other settings' "$work/out" || bad "$(cat "$work/out")"

# Records of one's own: rewards are those of a reward model.
"$COLLIMATE" --quiet synth synth.rows=60 synth.length=4 output="$work/own.jsonl"
RUN=$work/own CUTS=100 ANSWER=12 PROMPTS=3 TOKENS=1,2 THRESHOLDS=0.1 study "$work/own.jsonl" || bad "records of one's own: $(tail -3 "$work/out")"
[ "$(grep -c '^own,1,' "$work/own/curves.csv")" = 6 ] && grep -q 'reward (the reward model)' "$work/own/table.txt" ||
    bad "$(cat "$work/own/curves.csv" "$work/out")"
