#!/bin/bash
# select by rewards: curriculum by the data's scores, by a margin, and by lines of score; filtered by lines and by a file of
# generate.save; the same view on 1 and 3 ranks; what is refused and dropped.
set -u
export OMP_NUM_THREADS=1
fixtures=$(cd "$(dirname "$0")/../fixtures/judge" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_rewarded: $1" >&2; failures=$((failures + 1)); }
select_() { timeout 60 "$COLLIMATE" --quiet select "$@"; }
refused() { # CODE TEXT ARGUMENTS…
  local code=$1 text=$2 rc
  shift 2
  select_ output=refused.h5 "$@" > out.txt 2> err.txt
  rc=$?
  [ $rc -eq "$code" ] && grep -qF -- "$text" err.txt || bad "$*: rc $rc: $(cat err.txt)"
}
# order VIEW: the prompts of its pairs, by their names.
order() { "$COLLIMATE" --quiet inspect input="$1" inspect.rows=20 | grep -o 'name[0-9]' | tr -d '\n'; }
# Score differences: 1, 5, 3, none (a margin of 2), 3; the sixth has no scores and no margin.
cat > pairs.jsonl <<'J'
{"prompt": "name0", "chosen": " ab", "rejected": " ac", "chosen_score": 2, "rejected_score": 1}
{"prompt": "name1", "chosen": " bb", "rejected": " bc", "chosen_score": 4, "rejected_score": -1}
{"prompt": "name2", "chosen": " cb", "rejected": " cc", "chosen_score": 3, "rejected_score": 0}
{"prompt": "name3", "chosen": " db", "rejected": " dc", "margin": 2}
{"prompt": "name4", "chosen": " eb", "rejected": " ec", "chosen_score": 1, "rejected_score": -2}
{"prompt": "name5", "chosen": " fb", "rejected": " fc"}
J
"$COLLIMATE" --quiet prepare input=pairs.jsonl tokenizer="$fixtures/model" output=data.h5 || bad "prepare"

select_ data=data.h5 select.strategy=curriculum output=easy.h5 || bad "curriculum"
[ "$(order easy.h5)" = name1name2name4name3name0 ] || bad "easy to hard: $(order easy.h5)"
grep -q '"candidates": 6, "selected": 5, .*"no reward, score or margin": 1, .*"margin": {"first": 5, "middle": 3, "last": 1}' easy.json || bad "$(cat easy.json)"
select_ data=data.h5 select.strategy=curriculum select.count=2 output=two.h5 && [ "$(order two.h5)" = name1name2 ] || bad "the easiest two"
select_ data=data.h5 select.strategy=curriculum select.fraction=0.8 output=some.h5 && [ "$(order some.h5)" = name1name2name4name3 ] || bad "a share"
timeout 60 mpirun -q -n 3 "$COLLIMATE" --quiet select data=data.h5 select.strategy=curriculum output=ranks.h5 select.report=easy2.json || bad "3 ranks"
[ "$(order ranks.h5)" = "$(order easy.h5)" ] && cmp easy.json easy2.json || bad "3 ranks: $(order ranks.h5)"

# Of one split alone.
for i in 1 2 3 4 5 6 7 8 9; do
  echo "{\"prompt\": \"name$i\", \"responses\": [{\"text\": \" a\", \"scores\": {\"x\": $i, \"y\": 0}}, {\"text\": \" b\", \"scores\": {\"x\": 0, \"y\": 1}}]}"
done > users.jsonl
"$COLLIMATE" --quiet prepare input=users.jsonl tokenizer="$fixtures/model" output=users.h5 prepare.objectives=x,y || bad "objectives"
train=$("$COLLIMATE" inspect input=users.x.h5 | awk '$1 == "splits" { print $3 + 0 }')
select_ data=users.x.h5 split=train select.strategy=curriculum output=part.h5 && grep -q "\"candidates\": $train, \"selected\": $train," part.json &&
  [ "$train" -lt 9 ] || bad "a split: $train, $(cat part.json)"

# By a reward model: what score says of the pairs.
"$COLLIMATE" --quiet score data=data.h5 model="$fixtures/reward" output=scores.jsonl || bad "score"
select_ data=data.h5 select.strategy=curriculum select.rewards=scores.jsonl output=learned.h5 || bad "by a reward model"
sed 's/.*"row": \([0-9]*\), "side": "\([a-z]*\)".*"reward": \([^}]*\)}/\1 \2 \3/' scores.jsonl |
  awk '$2 == "chosen" { c[$1] = $3 } $2 == "rejected" { print c[$1] - $3, "name" $1 }' | sort -k1,1gr -s | awk '{ printf "%s", $2 }' > expected.txt
[ "$(order learned.h5)" = "$(cat expected.txt)" ] || bad "by a reward model: $(order learned.h5), not $(cat expected.txt)"

# Filtered: name1 and name4 are beaten, name3 and name5 have no score, name2 has no sample.
cat > samples.jsonl <<'J'
{"row": 0, "sample": 0, "tokens": [], "reward": 1.5}
{"row": 1, "sample": 0, "tokens": [], "reward": 3}
{"row": 1, "sample": 1, "tokens": [], "reward": 4.5}
{"row": 4, "sample": 0, "tokens": [], "reward": 1.25}
J
select_ data=data.h5 select.strategy=filtered select.samples=samples.jsonl output=kept.h5 || bad "filtered"
[ "$(order kept.h5)" = name0name2 ] || bad "filtered: $(order kept.h5)"
grep -q '"no reward, score or margin": 2, "a sample has a higher reward": 2}, "without_sample": 1' kept.json || bad "$(cat kept.json)"
timeout 60 mpirun -q -n 3 "$COLLIMATE" --quiet select data=data.h5 select.strategy=filtered select.samples=samples.jsonl output=ranks.h5 \
  select.report=kept2.json && [ "$(order ranks.h5)" = "$(order kept.h5)" ] && cmp kept.json kept2.json || bad "filtered on 3 ranks"

# The whole way: sample, score, filter; lines and the saved file agree, and a training takes the view.
"$COLLIMATE" --quiet prepare input=pairs.jsonl tokenizer="$fixtures/model" tokenize.end=false output=open.h5 &&
  "$COLLIMATE" --quiet score data=open.h5 model="$fixtures/reward" output=open.jsonl || bad "score without end tokens"
"$COLLIMATE" --quiet generate data=open.h5 model="$fixtures/model" generate.max_new_tokens=2 generate.temperature=1 seed=2 \
  reward_model="$fixtures/reward" output=drawn.jsonl generate.save=drawn.h5 || bad "generate"
for from in jsonl h5; do
  select_ data=open.h5 select.strategy=filtered select.rewards=open.jsonl select.samples=drawn.$from output=$from.h5 || bad "samples of $from"
done
[ -n "$(order jsonl.h5)" ] && [ "$(order jsonl.h5)" = "$(order h5.h5)" ] || bad "lines: $(order jsonl.h5), saved: $(order h5.h5)"
"$COLLIMATE" --quiet dpo data=easy.h5 model="$fixtures/model" train.shuffle=false train.steps=1 train.batch=2 output=run || bad "dpo on the view"

refused 2 'set select.samples' data=data.h5 select.strategy=filtered
refused 2 'select.samples' data=data.h5 select.strategy=easy select.samples=samples.jsonl
refused 2 'embeddings: has no effect' data=data.h5 select.strategy=curriculum embeddings=easy.h5
refused 2 "among the file's pairs" data=data.h5 select.strategy=curriculum select.scope=prompts
refused 65 'a line of score' data=data.h5 select.strategy=filtered select.samples=scores.jsonl
sed 's/"tokens": [0-9]*/"tokens": 99/' scores.jsonl > longer.jsonl
refused 65 '99 tokens, the data' data=data.h5 select.strategy=curriculum select.rewards=longer.jsonl
refused 2 'of the 5 pairs that are left' data=data.h5 select.strategy=curriculum select.count=6
echo '{"row": 9, "reward": 1}' > far.jsonl
refused 65 "far.jsonl, line 1: \"row\" is missing, or none of the data's 6" data=data.h5 select.strategy=filtered select.samples=far.jsonl
echo '{"row": 1, "logp": 1}' > none.jsonl
refused 65 'none.jsonl, line 1: "reward" is missing' data=data.h5 select.strategy=filtered select.samples=none.jsonl
sed 's/name1/other/' pairs.jsonl > other.jsonl
"$COLLIMATE" --quiet prepare input=other.jsonl tokenizer="$fixtures/model" output=other.h5
refused 65 'prompt 1 of drawn.h5 is not that of other.h5' data=other.h5 select.strategy=filtered select.samples=drawn.h5
for i in 0 1 2 3 4 5; do echo "{\"row\": $i, \"reward\": 99}"; done > high.jsonl
refused 65 'no pair is left' data=data.h5 select.strategy=filtered select.samples=high.jsonl
[ "$failures" -eq 0 ]
