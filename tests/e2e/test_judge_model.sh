#!/bin/bash
# judge by a model: probabilities that transformers and jinja2 give (make_judge_model.py), with and without a chat template; the
# same on 2 ranks; verdicts that are saved say the same again; a reward model's values; answers of generate; what it refuses.
set -u
export OMP_NUM_THREADS=1
fixtures=$(cd "$(dirname "$0")/../fixtures/judge" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_judge_model: $1" >&2; failures=$((failures + 1)); }
judge() { timeout 60 "$COLLIMATE" --quiet judge "$@"; }
refused() { # CODE TEXT ARGUMENTS…
  local code=$1 text=$2 rc
  shift 2
  judge "$@" > out.txt 2> err.txt
  rc=$?
  [ $rc -eq "$code" ] && grep -qF -- "$text" err.txt && [ "$(wc -l < err.txt)" -eq 1 ] || bad "$*: rc $rc: $(cat err.txt)"
}
# near KIND: the two numbers of each saved line, beside the fixture's
near() {
  grep "^$1 " "$fixtures/verdicts.txt" > expected.txt
  sed 's/.*"orders": \[\([^,]*\), \([^]]*\)\].*/\1 \2/' "$2" | paste -d ' ' expected.txt - |
    awk '{ for (i = 2; i < 4; i++) { d = $i - $(i + 2); if (d < 0) d = -d; if (d > 2e-5) bad = 1 } n++ } END { exit !(n == 6 && !bad) }' ||
    bad "$1: $(paste expected.txt "$2")"
}
answers="judge.answers=$fixtures/one.json,$fixtures/two.jsonl"

judge model="$fixtures/model" "$answers" judge.save=chat.jsonl output=chat.json || bad "through the chat template"
near chat chat.jsonl
grep -q '"a": "one", "b": "two", "verdicts": 6, "wins": 1, "ties": 5, "losses": 0, "win_rate": 0.58333' chat.json || bad "$(cat chat.json)"
grep -q '"orders_agree": 0.1666.*"first_place_wins": 0.58333' chat.json || bad "orders: $(cat chat.json)"
timeout 60 mpirun -q -n 2 "$COLLIMATE" --quiet judge model="$fixtures/model" "$answers" judge.save=two.jsonl output=two.json || bad "2 ranks"
cmp chat.jsonl two.jsonl && cmp chat.json two.json || bad "two ranks say something else"
judge judge.annotations=chat.jsonl output=again.json && cmp chat.json again.json || bad "saved verdicts say something else"

cp -r "$fixtures/model" plain && rm plain/chat_template.jinja
judge model=plain judge.template="$fixtures/plain.jinja" judge.choices=A,B "$answers" judge.save=plain.jsonl judge.verdict=mean > mean.json ||
  bad "without a chat template"
near plain plain.jsonl
grep -q '"wins": 6, "ties": 0, "losses": 0, "win_rate": 0.54797' mean.json || bad "mean of both orders: $(cat mean.json)"

# A reward model: transformers' values put these answers first.
judge model="$fixtures/reward" "$answers" > reward.json || bad "by a reward model"
awk '$1 == "reward" { w += $3 > $2; l += $3 < $2 } END { printf "\"wins\": %d, \"ties\": 0, \"losses\": %d\n", w, l }' "$fixtures/verdicts.txt" > expected.txt
grep -qF "$(cat expected.txt)" reward.json || bad "rewards: $(cat expected.txt reward.json)"

# What generate wrote: prompts come from the data.
"$COLLIMATE" --quiet synth synth.rows=8 output=text.jsonl && "$COLLIMATE" --quiet prepare input=text.jsonl tokenizer="$fixtures/model" output=data.h5 ||
  bad "prepare"
for seed in 1 2; do
  "$COLLIMATE" --quiet generate data=data.h5 model="$fixtures/model" generate.max_new_tokens=6 generate.temperature=1 seed=$seed \
    reward_model="$fixtures/reward" output=s$seed.jsonl || bad "generate"
done
prompts=$(wc -l < s1.jsonl)
judge model="$fixtures/model" data=data.h5 judge.answers=s1.jsonl,s2.jsonl > generated.json || bad "answers of generate"
grep -q "\"verdicts\": $prompts, .*\"orders_agree\": " generated.json || bad "$(cat generated.json)"
judge judge.answers=s1.jsonl,s2.jsonl > rewards.json && grep -q "\"verdicts\": $prompts, " rewards.json || bad "rewards of generate: $(cat rewards.json)"
judge model="$fixtures/model" judge.answers=s1.jsonl,s2.jsonl data=data.h5 --dry-run > out.txt && [ ! -s out.txt ] || bad "dry run: $(cat out.txt)"

refused 2 '" A" is 2 tokens of plain' model=plain "$answers"
refused 2 'both are the same token' model=plain "$answers" judge.choices=A,A
refused 2 'is not two texts' model=plain "$answers" judge.choices=A
refused 2 'the files do not hold the prompts' model=plain judge.choices=A,B judge.answers=s1.jsonl,s2.jsonl
refused 2 'judge.choices' model="$fixtures/reward" "$answers" judge.choices=A,B
refused 2 'model' judge.annotations=chat.jsonl model=plain
refused 65 'no prompt in common' model=plain judge.choices=A,B judge.answers=s1.jsonl,"$fixtures/two.jsonl"
printf '{{ prompt' > broken.jinja
refused 65 'broken.jinja' model=plain "$answers" judge.template=broken.jinja
cat "$fixtures/two.jsonl" "$fixtures/two.jsonl" > twice.jsonl
refused 65 'a second answer to the prompt of line' model=plain judge.choices=A,B judge.answers="$fixtures/one.json",twice.jsonl
: > empty.jinja
"$COLLIMATE" judge --help | grep -q 'win_rate are those of b against a' || bad "whose wins they are"
echo '{{ prompt }} no answers' > blind.jinja
refused 65 'blind.jinja: neither answer stands in the question' model=plain "$answers" judge.choices=A,B judge.template=blind.jinja
refused 65 'empty.jinja: neither answer stands in the question' model=plain "$answers" judge.choices=A,B judge.template=empty.jinja
refused 2 'text.jsonl' model="$fixtures/model" "$answers" judge.save=text.jsonl
[ "$failures" -eq 0 ]
