#!/bin/bash
# evaluate on prompts with right and wrong answers: what transformers says (make_closed_sets.py) of choices under a language model
# and of RewardBench 2 under a reward model; the same on 2 ranks; what is refused and dropped.
set -u
export OMP_NUM_THREADS=1
fixtures=$(cd "$(dirname "$0")/../fixtures" && pwd)
sets=$fixtures/closed_sets
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_closed_sets: $1" >&2; failures=$((failures + 1)); }
# near WHAT FOUND EXPECTED
near() { awk -v a="$2" -v b="$3" 'BEGIN { d = a - b; exit !(a != "" && d < 1e-5 && d > -1e-5) }' || bad "$1: $2, not $3"; }

"$COLLIMATE" --quiet prepare input="$sets/choices.jsonl" tokenizer="$fixtures/judge/model" output=choices.h5 || bad "prepare"
"$COLLIMATE" --quiet evaluate data=choices.h5 model="$fixtures/judge/model" output=choices.json || bad "evaluate"
while read -r set name value; do
  case $set in
  all) near "$name" "$(sed "s/\"subsets\".*//; s/.*\"$name\": \([^,}]*\).*/\1/" choices.json)" "$value" ;;
  arc | truthful) near "$set $name" "$(sed "s/.*\"$set\": {//; s/}},.*//; s/.*\"$name\": {\"value\": \([^,}]*\).*/\1/" choices.json)" "$value" ;;
  esac
done < "$sets/expected.txt"
grep -q '^{"rows": 24, "choices": 79, .*"intervals": {"acc": \[0\.3[0-9]*, 0\.6' choices.json || bad "$(cat choices.json)"
timeout 60 mpirun -q -n 2 "$COLLIMATE" --quiet evaluate data=choices.h5 model="$fixtures/judge/model" output=two.json && cmp choices.json two.json || bad "2 ranks"

"$COLLIMATE" --quiet prepare input="$sets/bench2.jsonl" tokenizer="$fixtures/judge/model" prepare.strings_as_chat=true output=bench.h5 || bad "prepare bench2"
"$COLLIMATE" --quiet evaluate data=bench.h5 model="$fixtures/judge/reward" output=bench.json || bad "evaluate bench2"
sed 's/.*"reward_bench_2": {\(.*\), "confidence".*/\1/' bench.json > sections.txt
while read -r set name value; do
  name=${name//_/ }
  [ "$set" = bench ] && near "$name" "$(sed "s/.*\"$name\": \({\"score\": \)\{0,1\}\([^,}]*\).*/\2/" sections.txt)" "$value"
done < "$sets/expected.txt"
grep -q '"Ties ref' bench.json && bad "prompts of Ties among the subsets"
timeout 60 mpirun -q -n 2 "$COLLIMATE" --quiet evaluate data=bench.h5 model="$fixtures/judge/reward" output=two.json && cmp bench.json two.json || bad "bench2 on 2 ranks"

"$COLLIMATE" --quiet evaluate data=choices.h5 model="$fixtures/judge/model" reference="$fixtures/judge/model" 2> err.txt && bad "with a reference"
grep -q 'choices are compared under the model alone' err.txt || bad "reference: $(cat err.txt)"
cat > odd.jsonl <<'J'
{"prompt": "a", "choices": ["b", "c"], "answer": 0}
{"prompt": "a", "choices": ["b", "c"], "answer": 2}
{"prompt": "a", "choices": ["b", "c"], "answer": [0, "c"]}
{"prompt": "a", "choices": ["b", ""], "answer": 0}
{"prompt": "a", "choices": ["b", 3], "answer": 0}
J
"$COLLIMATE" prepare input=odd.jsonl tokenizer=bytes output=odd.h5 2> err.txt || bad "prepare odd.jsonl"
grep -q '5 records (choices): 1 prompts, 2 responses, 1 pairs' err.txt && grep -q 'no wrong choice' err.txt && grep -q 'empty choice' err.txt &&
  grep -q "\"answer\" is neither a choice's number, from 0, nor its text; the first" err.txt && grep -q '"choices" must be a list of strings' err.txt || bad "drops: $(cat err.txt)"
printf '{"prompt": "p%s", "chosen": ["a"], "rejected": ["b"], "subset": "Ties", "id": "%s"}\n' 1 ref:1 2 7 3 tied: 4 tied:1 > ties.jsonl
"$COLLIMATE" prepare input=ties.jsonl tokenizer=bytes output=ties.h5 2> err.txt || bad "prepare ties.jsonl"
grep -q 'dropped 2: "id" of Ties is neither ref:NUMBER nor tied:NUMBER; the first: ties.jsonl, line 2' err.txt || bad "ties: $(cat err.txt)"
[ "$failures" -eq 0 ]
