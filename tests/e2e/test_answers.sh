#!/bin/bash
# generate with voices, rules, samples and rewards: what it says is what score says, to the bit; the same bytes
# for any rank count and batch; what is saved is scored, selected and trained on.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
bad() { echo "test_answers: $1" >&2; exit 1; }
list() { grep -o "\"$1\": \[[^]]*\]" "$2" | cut -d: -f2; }
number() { grep -o "\"$1\": [^,}]*" "$2" | cut -d' ' -f2 | tr -d '}'; }

"$COLLIMATE" --quiet synth synth.rows=14 output=text.jsonl || bad "synth"
"$COLLIMATE" --quiet prepare input=text.jsonl tokenizer=bytes output=data.h5 || bad "prepare"
cat > config.json <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 48, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 258,
 "max_position_embeddings": 256, "rms_norm_eps": 1e-06, "hidden_act": "silu", "tie_word_embeddings": false,
 "initializer_range": 0.3}
JSON
sed 's/258/300/' config.json > larger.json
for i in 1 2 3; do
    "$COLLIMATE" --quiet init init.config=config.json tokenizer=bytes output=model$i seed=$i || bad "init"
done
"$COLLIMATE" --quiet init init.config=larger.json tokenizer=bytes output=larger || bad "init"
"$COLLIMATE" --quiet reward data=data.h5 model=model1 output=rm train.steps=1 train.batch=4 || bad "reward"
generate="$COLLIMATE --quiet generate data=data.h5 model=model1 generate.max_new_tokens=8 generate.temperature=1"

# The drawn, the scored and the reference's probabilities are the same numbers.
$generate generate.samples=3 generate.reference=model2 generate.per_token=true generate.save=drawn.h5 \
    output=drawn.jsonl || bad "generate"
"$COLLIMATE" --quiet score data=drawn.h5 model=model1 reference=model2 score.per_token=true output=scores.jsonl ||
    bad "score of what was saved"
list token_logp drawn.jsonl > drawn; list token_logps scores.jsonl > scored
cmp drawn scored || bad "score gives other log-probabilities than were drawn with"
for name in logp reference_logp; do
    number $name drawn.jsonl > drawn; number $name scores.jsonl > scored
    cmp drawn scored || bad "score gives another $name"
done
[ "$(wc -l < drawn.jsonl)" -eq $((3 * $($COLLIMATE inspect input=data.h5 | awk '$1 == "prompts" { print $2 + 0; exit }'))) ] ||
    bad "not three lines a prompt"
cmp <(number logp drawn.jsonl) <(number drawn_logp drawn.jsonl) || bad "temperature 1 draws from something else"

# KL by position: of responses that are given, here those that were drawn, and of the same drawn again.
"$COLLIMATE" --quiet evaluate data=drawn.h5 model=model1 reference=model2 evaluate.kl_positions=8 \
    evaluate.kl_samples=3 evaluate.bootstrap=50 output=kl.json || bad "evaluate"
mpirun -q -n 3 "$COLLIMATE" --quiet evaluate data=drawn.h5 model=model1 reference=model2 evaluate.kl_positions=8 \
    evaluate.kl_samples=3 evaluate.bootstrap=50 output=ranks.json || bad "evaluate on 3 ranks"
cmp kl.json ranks.json || bad "another KL by position on 3 ranks"
list token_kl drawn.jsonl | tr -d '[]' |
    awk -F, '{ for (i = 1; i <= NF; i++) { sum[i] += $i; n[i]++ } }
        END { for (i = 1; i <= 8; i++) printf "%.9f %d\n", sum[i] / n[i], n[i] }' > want
for name in kl_given kl_sampled; do
    grep -o "\"$name\": {.*" kl.json | grep -o '"kl": [^,]*, "responses": [0-9]*' | head -8 |
        sed 's/"[a-z]*"//g; s/[:,]/ /g' | awk '{ printf "%.9f %d\n", $(NF - 1), $NF }' | cmp - want ||
        bad "$name is not the mean of token_kl: $(cat kl.json want)"
done

# Lists of parameters; ranks and batches change nothing.
rules="generate.rule=kl_threshold generate.mix=0,0.5 generate.threshold=0.5,100 generate.reference=model2 \
    generate.samples=2 reward_model=rm/model"
$generate $rules generate.save=one.h5 generate.report=one.report output=one.jsonl || bad "generate with $rules"
[ "$(wc -l < one.report)" -eq 4 ] || bad "not a line for each value: $(cat one.report)"
"$COLLIMATE" inspect input=one.h5 | grep -v '^made by' | sed 's/one.h5//' > one.inspect
for n in 2 4; do
    mpirun -q -n $n $generate $rules generate.save=more.h5 generate.report=more.report output=more.jsonl \
        generate.batch=$((2 * n + 1)) overwrite=true || bad "generate on $n ranks"
    cmp one.jsonl more.jsonl || bad "another text on $n ranks"
    cmp one.report more.report || bad "another report on $n ranks"
    "$COLLIMATE" inspect input=more.h5 | grep -v '^made by' | sed 's/more.h5//' | cmp - one.inspect ||
        bad "another file on $n ranks"
done
awk -F'"kl": ' '{ split($2, kl, ","); if (kl[1] + 0 < 0) exit 1 }' one.jsonl || bad "a KL below 0"
# Threshold 100 and mix 0: the reference alone.
[ "$(grep '"threshold": 100, "mix": 0}' one.report | grep -c '"kl": 0, "kl_mc": 0,')" -eq 1 ] ||
    bad "the reference has a KL against itself: $(cat one.report)"

# Proxy with an expert that is the antiexpert is the base; length control 0 the reference.
$generate output=base.jsonl; list tokens base.jsonl > want
$generate generate.rule=proxy generate.expert=model2 generate.antiexpert=model2 output=same.jsonl || bad "proxy"
list tokens same.jsonl | cmp - want || bad "expert - expert is not nothing"
number kl same.jsonl | awk '$1 > 1e-9 { exit 1 }' || bad "expert - expert has a KL"
$generate generate.rule=proxy generate.expert=model2 generate.antiexpert=model3 generate.mix=0.5 output=more.jsonl \
    overwrite=true || bad "proxy"
list tokens more.jsonl | cmp -s - want && bad "an expert changes nothing"
"$COLLIMATE" --quiet generate data=data.h5 model=model2 generate.max_new_tokens=8 generate.temperature=1 \
    output=reference.jsonl || bad "generate"
$generate generate.rule=length_control generate.tokens=0 generate.reference=model2 output=more.jsonl || bad "length"
cmp <(list tokens more.jsonl) <(list tokens reference.jsonl) || bad "length control 0 is not the reference"

# Adapters are voices on one base: what they say, and against whom, is what merged models say.
"$COLLIMATE" --quiet sft data=data.h5 model=model1 lora.rank=2 output=tuned train.steps=3 train.batch=4 \
    train.learning_rate=0.05 || bad "sft"
"$COLLIMATE" --quiet merge model=model1 adapter=tuned/adapter output=merged data=data.h5 || bad "merge"
for voices in "adapter=tuned/adapter generate.reference=model1|model=merged generate.reference=model1" \
    "generate.reference=tuned/adapter|generate.reference=merged" \
    "adapter=tuned/adapter generate.rule=proxy generate.expert=tuned/adapter generate.antiexpert=model1|\
model=merged generate.rule=proxy generate.expert=merged generate.antiexpert=model1"; do
    for side in adapters models; do
        [ $side = adapters ] && how=${voices%|*} || how=${voices#*|}
        "$COLLIMATE" --quiet generate data=data.h5 model=model1 $how generate.temperature=1 generate.limit=5 \
            generate.max_new_tokens=6 output=$side.jsonl || bad "generate $how"
    done
    cmp <(list tokens adapters.jsonl) <(list tokens models.jsonl) || bad "other tokens with adapters ($voices)"
    paste <(number kl adapters.jsonl) <(number kl models.jsonl) |
        awk '{ d = $1 - $2 } d > 1e-3 || d < -1e-3 || $1 < 0.1 { exit 1 }' || bad "another KL with adapters ($voices)"
done

# The best of n is the one with the highest reward among n.
$generate generate.samples=4 reward_model=rm/model output=all.jsonl || bad "rewards"
$generate generate.best_of=4 reward_model=rm/model output=best.jsonl || bad "best of"
awk -F'"reward": ' 'FILENAME == "all.jsonl" { r = int((FNR - 1) / 4); x = $2 + 0
        if (!(r in best) || x > best[r]) best[r] = x; next }
    best[FNR - 1] != $2 + 0 { exit 1 }' all.jsonl best.jsonl || bad "the best of 4 is not the best"

# Stop texts end a response and are left out; what was said is not said again; min-p leaves the likeliest.
some=$(grep -o '"text": "[^"\\]*[a-zA-Z]' drawn.jsonl | head -1 | grep -o '[a-zA-Z]$')
$generate generate.stop="[\"$some\", \"never this\"]" output=stopped.jsonl || bad "stop"
grep -o '"text": "[^"]*' stopped.jsonl | cut -c10- | sed 's/\\u[0-9a-f]\{4\}//g; s/\\.//g' |
    grep -q "$some" && bad "a stop text stays"
list tokens stopped.jsonl | awk -F, '{ short += NF < 8 } END { exit !short }' || bad "no response was stopped at $some"
"$COLLIMATE" --quiet generate data=data.h5 model=model1 generate.max_new_tokens=30 \
    generate.repetition_penalty=100 output=more.jsonl overwrite=true || bad "penalty"
list tokens more.jsonl | tr -d '[]' | awk -F', ' '{ split("", seen)
    for (i = 1; i <= NF; i++) { if ($i + 0 in seen) exit 1; seen[$i + 0] = 1 } }' || bad "a token came twice"
"$COLLIMATE" --quiet generate data=data.h5 model=model1 generate.max_new_tokens=8 output=greedy.jsonl || bad "greedy"
$generate generate.min_p=1 output=more.jsonl || bad "min-p"
cmp <(list tokens more.jsonl) <(list tokens greedy.jsonl) || bad "min-p 1 is not greedy"

# Sample, choose, train.
$generate generate.samples=4 reward_model=rm/model generate.save=ranked.h5 output=ranked.jsonl || bad "save"
"$COLLIMATE" --quiet score data=ranked.h5 model=rm/model output=rewards.jsonl || bad "score of rewards"
cmp <(number reward ranked.jsonl | sort) <(number reward rewards.jsonl | sort) ||
    bad "score gives other rewards"
"$COLLIMATE" --quiet embed data=ranked.h5 model=model1 output=embedded.h5 || bad "embed"
"$COLLIMATE" --quiet select data=ranked.h5 embeddings=embedded.h5 output=easy.h5 select.strategy=easy \
    select.fraction=0.5 || bad "select"
"$COLLIMATE" --quiet dpo data=easy.h5 model=model1 output=dpo train.steps=2 train.batch=4 || bad "dpo"
"$COLLIMATE" --quiet reward data=ranked.h5 model=model1 output=again train.steps=1 train.batch=4 || bad "reward"

expect=$(dirname "$FIXTURES")/expect.sh
bash "$expect" 2 'generate.reference' 60 $generate generate.rule=mix || exit 1
bash "$expect" 2 'vocabulary of 300' 60 $generate generate.rule=mix generate.reference=larger || exit 1
bash "$expect" 2 'generate.mix' 60 $generate generate.rule=mix generate.reference=model2 generate.mix=1,x || exit 1
bash "$expect" 2 'generate.samples' 60 "$COLLIMATE" generate data=data.h5 model=model1 generate.samples=2 || exit 1
bash "$expect" 2 'generate.best_of' 60 $generate generate.best_of=2 || exit 1
bash "$expect" 2 'reward model' 60 $generate reward_model=model2 || exit 1
# What the reward model cannot read is refused before anything is drawn.
bash "$expect" 2 "the reward model's 256 positions" 60 $generate reward_model=rm/model generate.max_new_tokens=256 || exit 1
bash "$expect" 2 'is the input data.h5' 60 $generate generate.save=data.h5 output=x.jsonl || exit 1
ls ./*.tmp 2> /dev/null && bad "temporary files stay"
exit 0
