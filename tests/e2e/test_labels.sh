#!/bin/bash
# Label agreement: the share of pairs whose label the responses' scores, the known truth or a reward model agrees
# with, for data and for views of it, against counts by hand and by awk; the same numbers on 1, 2 and 4 ranks.
set -u
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_labels: $1" >&2; failures=$((failures + 1)); }
run() { timeout 60 "$COLLIMATE" --quiet "$@" || bad "failed: $*"; }
# value KEY FILE: a top-level number; low and high ends of its interval.
value() { sed -E 's/, "intervals".*//' "$2" | grep -oE "\"$1\": [-0-9.e]+" | head -1 | grep -oE '[-0-9.e]+$'; }
interval() { grep -oE "\"$1\": \[[^]]*\]" "$2" | grep -oE '[-0-9.e]+, [-0-9.e]+' | tr -d ,; }
# is A B: equal numbers
is() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a - b < 1e-9 && b - a < 1e-9) }'; }

# By hand. Scores: (a, b), (a, c), (b, c) all agree by their making. Truth: b before a, a and c equal, b before c.
# Then a pair whose scores disagree with its label, one that has no scores, and one that is really the other way.
cat > hand.jsonl <<'J'
{"prompt": "q", "responses": [{"text": "a", "score": 3, "worth": 1}, {"text": "b", "score": 2, "worth": 2}, {"text": "c", "score": 1, "worth": 1}]}
J
cat > pairs.jsonl <<'J'
{"prompt": "q", "chosen": "a", "rejected": "b", "chosen_score": 1, "rejected_score": 2, "worth": [1, 0]}
{"prompt": "r", "chosen": "a", "rejected": "b"}
{"prompt": "s", "chosen": "a", "rejected": "b", "worth": [-1, -0.5]}
{"prompt": "t", "chosen": "a", "rejected": "b", "chosen_score": 2, "rejected_score": 2, "worth": [3, -0.5]}
J
for name in hand pairs; do
  run prepare input=$name.jsonl output=$name.h5 tokenizer=bytes
  run evaluate data=$name.h5 output=$name.json
done
is "$(value labels/agree_with_scores hand.json)" 1 && is "$(value labels/agree_with_scores/pairs hand.json)" 3 || bad "scores by hand: $(cat hand.json)"
is "$(value labels/agree_with_truth hand.json)" 0.5 && is "$(value labels/agree_with_truth/pairs hand.json)" 2 || bad "truth by hand: $(cat hand.json)"
is "$(value labels/agree_with_scores pairs.json)" 0 && is "$(value labels/agree_with_scores/pairs pairs.json)" 1 || bad "scores of pairs: $(cat pairs.json)"
is "$(value labels/agree_with_truth pairs.json)" 0.66666666666666667 && is "$(value labels/agree_with_truth/pairs pairs.json)" 3 || bad "truth of pairs: $(cat pairs.json)"

# A noisy world: what is said is what was written, for all of it and for its halves.
cat > config.json <<'J'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 258, "hidden_size": 16,
 "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu"}
J
run init init.config=config.json tokenizer=bytes output=model
run synth synth.rows=300 synth.noise=0.1 synth.noise_similarity=1 seed=3 output=noisy.jsonl
run prepare input=noisy.jsonl output=noisy.h5 tokenizer=bytes
share=$(awk '/"truth": "chosen"/ { n++ } END { printf "%.17g", n / NR }' noisy.jsonl)
for n in 1 2 4; do
  timeout 60 mpirun -q -n $n "$COLLIMATE" --quiet evaluate data=noisy.h5 output=noisy$n.json || bad "$n ranks"
  cmp -s noisy1.json noisy$n.json || bad "another agreement on $n ranks: $(cat noisy$n.json)"
done
is "$(value labels/agree_with_truth noisy1.json)" "$share" || bad "truth is $share, not $(cat noisy1.json)"
# The binomial's interval: 1.96 standard errors to each side, to a tenth of an error at either end.
interval labels/agree_with_truth noisy1.json | awk -v p="$share" '{ e = sqrt(p * (1 - p) / 300)
  exit !((($1 - p) / e + 1.96) ^ 2 < 0.09 && (($2 - p) / e - 1.96) ^ 2 < 0.09) }' || bad "interval: $(cat noisy1.json)"
run embed data=noisy.h5 model=model output=e.h5
halves=0
for strategy in easy hard; do
  run select data=noisy.h5 embeddings=e.h5 select.strategy=$strategy output=$strategy.h5
  run evaluate data=$strategy.h5 output=$strategy.json overwrite=true evaluate.bootstrap=0 # where the report was
  halves=$(awk -v a="$halves" -v b="$(value labels/agree_with_truth $strategy.json)" 'BEGIN { printf "%.17g", a + b / 2 }')
done
is "$halves" "$share" || bad "the halves of $share agree in $halves"

# With a model in between: a language model's evaluation says it too, a reward model is compared with labels and truth.
run evaluate data=noisy.h5 model=model output=language.json evaluate.bootstrap=0
is "$(value labels/agree_with_truth language.json)" "$share" || bad "language model: $(cat language.json)"
run reward data=noisy.h5 model=model output=judge train.batch=60 train.steps=2 train.slots=2
run evaluate data=noisy.h5 model=judge/model output=judge.json evaluate.bootstrap=50
run score data=noisy.h5 model=judge/model output=rewards.jsonl
is "$(value labels/agree_with_truth judge.json)" "$share" || bad "reward model: $(cat judge.json)"
grep -oE '"reward": [-0-9.e]+' rewards.jsonl | grep -oE '[-0-9.e]+$' | paste - - > rewards
grep -oE '"truth": "[a-z]*"' noisy.jsonl | paste - rewards | awk '{ prefers = $3 > $4; says += prefers
  truth += $2 == "\"chosen\"" ? prefers : $3 < $4 } END { printf "%.17g %.17g\n", says / NR, truth / NR }' > counted
read -r says truth < counted
is "$(value accuracy judge.json)" "$says" || bad "the reward model agrees with $says of the labels: $(cat judge.json)"
is "$(value truth_accuracy judge.json)" "$truth" || bad "the reward model agrees with $truth of the truth: $(cat judge.json)"

# What a reward model would leave to annotators, and how right it is about the rest.
run evaluate data=noisy.h5 model=judge/model output=budget.json evaluate.bootstrap=0 evaluate.label_margin=0.01
awk '{ d = $1 - $2; left += d < 0.01 && d > -0.01; above += d >= 0.01; below += d <= -0.01 }
  END { printf "%.17g %.17g\n", left / NR, above / (above + below) }' rewards > counted
read -r left agree < counted
is "$(value labels/below_margin budget.json)" "$left" && awk -v l="$left" 'BEGIN { exit !(l > 0 && l < 1) }' ||
  bad "$left of the pairs are left to annotators: $(cat budget.json)"
is "$(value labels/agree_above_margin budget.json)" "$agree" || bad "of the others it agrees in $agree: $(cat budget.json)"

# Refusals.
"$COLLIMATE" evaluate data=noisy.h5 dpo.beta=0.2 2> no.err && bad "a model's key is taken without a model"
grep -q 'needs model' no.err || bad "$(cat no.err)"
sed -E 's/, "worth.*/}/' noisy.jsonl > bare.jsonl
run prepare input=bare.jsonl output=bare.h5 tokenizer=bytes
"$COLLIMATE" evaluate data=bare.h5 2> no.err && bad "labels are compared with nothing"
grep -q 'neither' no.err || bad "$(cat no.err)"
echo '{"prompt": "q", "chosen": "a", "rejected": "b", "worth": [1]}' > short.jsonl
"$COLLIMATE" prepare input=short.jsonl output=no.h5 tokenizer=bytes 2> no.err
[ $? = 65 ] && grep -q 'list of two numbers' no.err || bad "$(cat no.err)"
exit $((failures > 0))
