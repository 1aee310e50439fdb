#!/bin/bash
# jobs/online-study.sh in little: the reward of texts by hand, every file comes out, rewards at equal KL by straight lines; a
# second call runs nothing again and gives the same table, and changed settings are refused.
set -u
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STUDY=quick SEEDS=1 ROWS=60 SFT_STEPS=6 UPDATES=4 HELDOUT=6 LABELS=32 AT_ONCE=1 PYTHON=/nonexistent PROMPTS=3
bad() { echo "test_online_study: $1" >&2; exit 1; }
study() { timeout 600 bash "$root/jobs/online-study.sh" "$@" > "$work/out" 2>&1; }

cat > "$work/texts" << 'END'
{"row": 0, "text": " glad dear fine."}
{"text": " glad awful it."}
{"text": " glad it", "left": 3}
{"text": ""}
{"text": " it * zz."}
{"text": " many \"good."}
{"text": " vile."}
END
bash "$root/jobs/online-study.sh" reward < "$work/texts" | paste -sd' ' > "$work/rewards"
[ "$(< "$work/rewards")" = "1.0000 0.0000 -1.0000 -1.0000 -0.6666 -0.5000 -1.0000" ] || bad "rewards: $(< "$work/rewards")"

export RUN=$work/run METHODS='dpo grpo ppo'
study || bad "$(tail -3 "$work/out")"
# Two points of each method and the SFT policy's, by both rewards; what DPO has does not hang on the reward.
awk -F, 'NR > 1 { n[$1]++; if ($3 == "dpo") dpo[$1, $4] = $5 "," $6
             if ($3 == "sft" && !($6 < 1e-9)) bad = 1; if (!($5 >= -1 && $5 <= 1) || $6 < -1e-9) bad = 1 }
    END { exit bad || n["truth"] != 7 || n["learned"] != 7 || dpo["truth", 4] == "" || dpo["truth", 4] != dpo["learned", 4] }' \
    "$RUN/points.csv" || bad "$(< "$RUN/points.csv")"
# At the smallest of the methods' largest KLs one of them stands at a point of its own.
awk -F, 'FILENAME ~ /points/ { if ($1 == "truth" && $3 != "sft" && $6 > most[$3]) { most[$3] = $6; reward[$3] = $5 } next }
    $1 == "truth" && $4 == "at_equal_kl" { at[$3] = $5 }
    END { for (m in most) if (least == "" || most[m] < most[least]) least = m
          d = at[least] - reward[least]; exit !(d < 1e-5 && d > -1e-5) }' "$RUN/points.csv" "$RUN/values.csv" || bad "$(< "$RUN/values.csv")"
grep -q 'trained by the learned reward' "$RUN/table.txt" || bad "$(< "$RUN/table.txt")"

cp "$RUN/table.csv" "$work/first.csv"
study || bad "a second call fails: $(tail -3 "$work/out")"
cmp -s "$RUN/table.csv" "$work/first.csv" || bad "a second call gives another table"
[ -z "$(find "$RUN" -newer "$work/first.csv" -name '*.h5')" ] || bad "a second call computes again"
RATE=1e-3 study && bad "other settings go on from old results"
grep -q 'made with other settings' "$work/out" || bad "$(< "$work/out")"
echo ok
