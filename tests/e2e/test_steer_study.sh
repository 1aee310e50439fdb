#!/usr/bin/env bash
# jobs/steer-study.sh in little: every row of the table comes out, text is counted by the rule, a second call runs nothing
# again; and with scored responses of one's own, against brevity.
set -u
root=$PWD
. tests/common.sh
export SEEDS=1 ROWS=120 HELDOUT=60 UPDATES=6 SFT_STEPS=6 DRAWS=3 COUNTS="0 1 2" CONTEXTS=1 PROMPTS=4 AT_ONCE=1 PYTHON=/nonexistent
study() { (cd "$root" && timeout 300 bash jobs/steer-study.sh "$@") > out.txt 2>&1; }

export RUN=$PWD/run
WORLDS=two study || bad "$(tail -3 out.txt)"
for item in alone mixture "k = 0" "k = 1" "k = 2" "published k = 0" "published k = 2"; do
    for measure in kind harsh sum "text asked" "text other"; do
        grep -qE "^two,$item,$measure,1,[0-9.e+-]+,,$" run/table.csv || bad "no $measure of $item: $(grep "^two,$item" run/table.csv)"
    done
done
# On pairs on which two users differ, a policy that is told nothing has a sum of 100.
awk -F, '$3 == "sum" && ($2 == "mixture" || $2 ~ /k = 0$/) { n++; bad += $5 < 99.999 || $5 > 100.001 } END { exit bad || n != 3 }' \
    run/table.csv || bad "a sum without choices: $(grep sum run/table.csv)"
# What the table says of text is what its words say.
share=$(awk 'BEGIN { n = split("glad good sweet lovely dear fine happy bright", k, " "); while (n) v[k[n--]] = 1
                 n = split("awful bad nasty ugly cruel dull grim vile", h, " "); while (n) v[h[n--]] = -1 }
    match($0, /"text": "[^"]*/) { m = split(substr($0, RSTART + 9, RLENGTH - 9), w, /[ .?:]+/); sum = 0
                                  for (i = 1; i <= m; i++) sum += v[w[i]]; yes += sum > 0 }
    END { print 100 * yes / NR }' run/two/seed-1/generate-kind.jsonl)
awk -F, -v s="$share" '$3 == "alone" && $4 == "text kindasked" { d = $5 - s; n++; bad = d > 1e-3 || d < -1e-3 } END { exit bad || n != 1 }' \
    run/values.csv || bad "text: $share by hand, $(grep kindasked run/values.csv)"
cp run/values.csv first.csv
WORLDS=two study || bad "a second call: $(tail -3 out.txt)"
cmp -s first.csv run/values.csv || bad "a second call gives other numbers"
[ -z "$(find run -name '*.h5' -newer first.csv)" ] || bad "a second call runs something again"

# Responses of one's own, of three lengths; the shorter one is worse.
for i in {1..40}; do
    printf '{"prompt": "p%d ", "responses": [{"text": "%s \\"a\\"", "score": %s}, {"text": "%s", "score": %s}, {"text": "no", "score": 0.1}]}\n' \
        $i "$(printf 'long %.0s' {1..9})" 0.$((i % 5 + 4)) "short one" 0.3
done > own.jsonl
RUN=$PWD/own MAX_LENGTH=64 NEW_TOKENS=8 study "$PWD/own.jsonl" || bad "own records: $(tail -3 out.txt)"
grep -q '"text": "short one", "score": 0.3, "scores": {"judge": 0.3, "brevity": -9}}' own/real/seed-1/train.jsonl || bad "$(head -1 own/real/seed-1/train.jsonl)"
for measure in judge brevity sum "bytes judge" "bytes brevity"; do
    grep -qE "^real,k = 2,$measure,1,[0-9.e+-]+,,$" own/table.csv || bad "no $measure: $(grep 'k = 2' own/table.csv)"
done
finish
