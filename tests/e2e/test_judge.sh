#!/bin/bash
# judge: from annotations and from rewards that stand with answers, on 1 and 2 ranks; what it refuses.
set -u
export OMP_NUM_THREADS=1
fixtures=$(cd "$(dirname "$0")/../fixtures/judge" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_judge: $1" >&2; failures=$((failures + 1)); }
# refused CODE TEXT ARGUMENTS…
refused() {
  local code=$1 text=$2 rc
  shift 2
  timeout 60 "$COLLIMATE" --quiet judge "$@" > out.txt 2> err.txt
  rc=$?
  [ $rc -eq "$code" ] && grep -qF -- "$text" err.txt && [ "$(wc -l < err.txt)" -eq 1 ] ||
    bad "$*: rc $rc, expected $code and \"$text\": $(cat err.txt)"
}

"$COLLIMATE" --quiet judge judge.annotations="$fixtures/annotations.json" judge.gamed="$fixtures/gamed.csv" output=one.json || bad "from annotations"
timeout 60 mpirun -n 2 "$COLLIMATE" --quiet judge judge.annotations="$fixtures/annotations.json" judge.gamed="$fixtures/gamed.csv" \
  output=two.json || bad "from annotations on 2 ranks"
cmp one.json two.json || bad "two ranks say something else"
grep -q '"a": "base", "b": "long", "verdicts": 80' one.json && grep -q '"length_controlled_win_rate": 0.693' one.json || bad "$(cat one.json)"
"$COLLIMATE" --quiet judge judge.annotations="$fixtures/annotations.json" output=one.json || bad "its own result is replaced"

# Rewards: rows 0, 2, 3 are in both; b wins, ties, loses.
for i in 0 1 2 3; do echo "{\"row\": $i, \"tokens\": [], \"response\": \"short\", \"reward\": $((i + 1))}"; done > a.jsonl
for i in 0 2 3 4; do echo "{\"row\": $i, \"tokens\": [], \"response\": \"rather long\", \"reward\": 3}"; done > b.jsonl
"$COLLIMATE" --quiet judge judge.answers=a.jsonl,b.jsonl > answers.json || bad "from rewards"
grep -q '"a": "a", "b": "b", "verdicts": 3, "wins": 1, "ties": 1, "losses": 1, "win_rate": 0.5,' answers.json || bad "$(cat answers.json)"

cat > marks.jsonl <<'J'
{"row": 0, "a": "x", "b": "y", "preference": "b"}

{"row": 0, "a": "y", "b": "x", "preference": "a"}
{"row": 1, "a": "x", "b": "y", "preference": null}
{"row": 2, "a": "x", "b": "y", "preference": 0.25}
J
"$COLLIMATE" judge judge.annotations=marks.jsonl judge.sensitivity=0.9 judge.specificity=0.8 > marks.json 2> err.txt || bad "from marks"
grep -q '"verdicts": 3, "without_preference": 1' marks.json && grep -q '1 records without a preference' err.txt || bad "$(cat marks.json err.txt)"
grep -q '"win_rate": 0.75,.*"corrected_win_rate": 0.78571428571428' marks.json && grep -q '"orders_agree": 1,' marks.json || bad "$(cat marks.json)"

refused 2 "judge: set judge.annotations" judge.sensitivity=0.9
refused 2 "knows nothing" judge.annotations=marks.jsonl judge.sensitivity=0.5 judge.specificity=0.5
refused 2 "is one file" judge.answers=a.jsonl
refused 66 "nothing.jsonl" judge.annotations=nothing.jsonl
echo '{"row": 3, "a": "x", "b": "y", "preference": "c"}' >> marks.jsonl
refused 65 'marks.jsonl, line 6: preference is neither' judge.annotations=marks.jsonl
echo '{"row": 3, "a": "x", "b": "x", "preference": "a"}' > same.jsonl
refused 65 'same.jsonl, line 1: both answers are of x' judge.annotations=same.jsonl
echo '{"row": 0, "response": "no reward"}' > c.jsonl
refused 65 'c.jsonl, line 1: the answer has no "reward"' judge.answers=a.jsonl,c.jsonl
echo 'index,preference' > columns.csv
refused 65 'columns.csv, line 1: no column instruction_difficulty' judge.annotations="$fixtures/annotations.json" judge.gamed=columns.csv
refused 2 "a.jsonl" judge.answers=a.jsonl,b.jsonl output=a.jsonl
[ "$failures" -eq 0 ]
