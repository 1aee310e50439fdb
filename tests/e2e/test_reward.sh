#!/usr/bin/env bash
# Reward models: init -> reward -> score and evaluate, on 1, 2 and 4 ranks, on pairs and on prompts with several
# compared responses. Sizes are ragged: 61 prompts in updates of 12.
set -u
. tests/common.sh

write_config config.json

run 1 synth output=many.jsonl synth.rows=2000 synth.length=6 seed=1
run 1 synth output=lists.jsonl synth.rows=61 synth.responses=5 synth.length=6 seed=4
run 1 synth output=eval.jsonl synth.rows=203 synth.length=6 seed=2
for name in many lists eval; do
    run 2 prepare input=$name.jsonl output=$name.h5 tokenizer=bytes
done
run 1 init init.config=config.json output=init tokenizer=bytes seed=3
[ "$failures" -eq 0 ] || exit 1

# It learns the world's rule.
run 2 reward model=init data=many.h5 eval_data=eval.h5 output=learned train.epochs=2 train.batch=32 \
    train.learning_rate=3e-3
column learned/metrics.jsonl eval_accuracy | awk 'NR == 1 { first = $2 } { last = $2 }
    END { exit !(first < 0.65 && last > 0.9) }' || bad "held-out accuracy does not pass 0.9"
grep '"eval_' learned/metrics.jsonl | tail -1 | grep -q '"eval_accuracy_low": 0\.[89].*"eval_accuracy_high": ' || bad "no interval"
grep -q "before the first update: loss 0\.[67]" learned/log.txt || bad "no statistics before the first update"
for name in min_reward mean_reward max_reward accuracy margin num_tokens; do # TRL's names
    grep '"step": 3,' learned/metrics.jsonl | grep -q "\"$name\": [-0-9]" || bad "metrics.jsonl has no $name"
done

# Any rank count gives the same numbers to rounding; prompts with five responses, each computed once.
lists="reward model=init data=lists.h5 eval_data=eval.h5 train.steps=18 train.batch=12 train.learning_rate=1e-3
    reward.centering=0.01"
for n in 1 2 4; do
    run $n $lists output=lists$n train.micro_tokens=$((600 * n))
done
for key in loss grad_norm mean_reward min_reward max_reward margin; do
    near lists1/metrics.jsonl lists2/metrics.jsonl $key 1e-2 1e-2
    near lists1/metrics.jsonl lists4/metrics.jsonl $key 1e-2 1e-2
done
# 59 of the 61 prompts have labels: 5 updates an epoch.
awk '/"step": 5,/' lists1/metrics.jsonl | grep -q '"epoch": 1,' || bad "an epoch is not 5 updates"

# Deterministic mode: the same bits on 1 rank and on 2, then 4 after an interruption.
exact="$lists train.deterministic=true train.slots=4 train.checkpoint_every=5"
run 1 $exact output=exact1
run 2 $exact output=halves train.steps=7
run 4 $exact output=halves
for key in parameters_hash loss min_reward; do
    cmp -s <(column exact1/metrics.jsonl $key) <(column halves/metrics.jsonl $key) || bad "$key differs on other ranks"
done
cmp -s exact1/model/model.safetensors halves/model/model.safetensors || bad "a resumed run's model differs"
refuses 2 "reward.centering (was 0.01, is 0.02)" $exact output=halves reward.centering=0.02

# The model is a classifier's folder that goes on from where it is.
grep -q '"LlamaForSequenceClassification"' exact1/model/config.json || bad "config.json names no classifier"
grep -q '"num_labels": 1' exact1/model/config.json || bad "config.json has no num_labels"
grep -q '"pad_token_id": 256' exact1/model/config.json || bad "the padding id is not one that no response ends with"
# Texts are padded elsewhere with what the tokenizer pads with, and a value is found by that: where it can be, it is the padding id.
sed 's/"vocab_size": 258/"vocab_size": 1769/; s/"bos_token_id": 256, "eos_token_id": 257/"bos_token_id": 2, "eos_token_id": 0/' config.json > neox.json
run 1 init init.config=neox.json output=neox tokenizer="$FIXTURES/tokenizers/neox"
run 1 prepare input=eval.jsonl output=neox.h5 tokenizer="$FIXTURES/tokenizers/neox"
for pad in padding:1 endoftext:2; do
    echo "{\"pad_token\": \"<|${pad%:*}|>\"}" > neox/tokenizer_config.json
    run 2 reward model=neox data=neox.h5 output=pads-$pad train.steps=1 train.batch=8
    grep -q "\"pad_token_id\": ${pad#*:}," pads-$pad/model/config.json || bad "$pad: $(grep pad_token_id pads-$pad/model/config.json)"
    run 1 score model=pads-$pad/checkpoints/step-1.h5 data=neox.h5 output=pads-$pad.jsonl
    run 1 score model=pads-$pad/model data=neox.h5 output=padded-$pad.jsonl
    cmp -s pads-$pad.jsonl padded-$pad.jsonl || bad "$pad: a checkpoint's values are not its model's"
done
grep -q 'its tokenizer pads with id 0, which can be no pad_token_id' pads-endoftext:2/log.txt || bad "a padding token that ends texts is not said"
run 1 reward model=learned/model data=eval.h5 output=again train.steps=1 train.batch=203
column again/metrics.jsonl accuracy | awk '{ exit !($2 > 0.9) }' || bad "a trained model does not go on"

# score: the same bytes on any rank count; its rewards give the accuracy that training reported.
for n in 1 2 4; do
    run $n score model=learned/model data=eval.h5 output=score$n.jsonl
done
cmp -s score1.jsonl score2.jsonl || bad "score differs on 2 ranks"
cmp -s score1.jsonl score4.jsonl || bad "score differs on 4 ranks"
accuracy=$(column learned/metrics.jsonl eval_accuracy | tail -1 | cut -d' ' -f2)
awk -v a="$accuracy" '
    { match($0, /"reward": [^,}]*/); r = substr($0, RSTART + 10, RLENGTH - 10) }
    /"chosen"/ { chosen = r } /"rejected"/ { n++; right += chosen + 0 > r + 0 }
    END { d = right / n - a; exit !(n == 203 && d < 1e-9 && d > -1e-9) }' score1.jsonl ||
    bad "score's accuracy is not training's $accuracy"

# evaluate: the same accuracy; groups that add up to all pairs; the best of k rises with k up to the oracle.
run 2 evaluate model=learned/model data=eval.h5 output=pairs.json
grep -q "\"accuracy\": $accuracy," pairs.json || bad "evaluate's accuracy is not training's $accuracy"
run 1 evaluate model=learned/model data=lists.h5 output=lists.json
pairs=$(sed -nE 's/.*"pairs": ([0-9]+), "responses".*/\1/p' lists.json)
# Each of n responses once, n (n - 1) / 2 pairs less those of equal scores.
awk '{ n = split($0, part, /"score": /) - 1; own = 0
    for (i = 1; i <= n; i++) for (j = 1; j < i; j++) own += part[i + 1] + 0 != part[j + 1] + 0
    pairs += own; if (own) responses += n }
    END { printf "\"pairs\": %d, \"responses\": %d\n", pairs, responses }' lists.jsonl > expected.txt
grep -qFf expected.txt lists.json || bad "not $(cat expected.txt) in lists.json"
for group in by_length by_length_difference by_score_gap; do
    sed -E "s/.*\"$group\": \{(([^{}]*\{[^}]*\})+)\}.*/\1/" lists.json | grep -oE '"pairs": [0-9]+' |
        awk -v n="$pairs" '{ sum += $2 } END { exit !(sum == n && n > 100) }' || bad "$group does not add up to $pairs"
done
sed -E 's/.*"best_of": \{(.*)\}, "picks_the_best.*/\1/' lists.json | grep -oE '"score": [-0-9.e]+' | awk '
    NR > 1 && $2 < last { bad = 1 } { last = $2 } END { exit bad || NR != 4 }' || bad "best_of does not rise"
# Best of k against all choices of 2 and of 4 among a prompt's 5 responses, from what score says of each.
run 1 score model=learned/model data=lists.h5 output=lists_scores.jsonl
awk 'FNR == NR { match($0, /"response": [0-9]+/); i = substr($0, RSTART + 12, RLENGTH - 12)
        match($0, /"reward": [^,}]*/); reward[i] = substr($0, RSTART + 10, RLENGTH - 10) + 0; next }
    (first = 5 * (FNR - 1)) in reward {
        n = split($0, part, /"score": /) - 1
        for (i = distinct = 0; i < n; i++) distinct += (score[i] = part[i + 2] + 0) != score[0]
        if (!distinct) next # no pair, so nothing that evaluate reads
        prompts++
        for (set = 0; set < 32; set++) {
            members = 0; best = -1
            for (i = 0; i < n; i++) if (int(set / 2 ^ i) % 2) {
                members++
                if (best < 0 || reward[first + i] > reward[first + best]) best = i
            }
            if (members == 2) two += score[best] / 10
            if (members == 4) four += score[best] / 5
        } }
    END { printf "%.9f\n%.9f\n", two / prompts, four / prompts }' lists_scores.jsonl lists.jsonl > expected.txt
for k in 2 4; do
    sed -nE "s/.*\"best_of\": .*\"$k\": \{\"score\": ([-0-9.e]+),.*/\1/p" lists.json | awk '{ printf "%.9f\n", $1 }'
done | cmp - expected.txt || bad "best of k is not the mean over all choices: $(cat expected.txt)"
refuses 2 "needs none" evaluate model=learned/model reference=init data=eval.h5

# RewardBench's arithmetic: subsets by the input's records, sections weighted by RewardBench's counts.
awk '{ sub(/}$/, ", \"subset\": \"" (NR % 3 ? "math-prm" : "hep-go") "\"}"); print }' eval.jsonl > bench.jsonl
run 4 prepare input=bench.jsonl output=bench.h5 tokenizer=bytes threads=2
mv bench.h5 bench4.h5
run 1 prepare input=bench.jsonl output=bench.h5 tokenizer=bytes threads=1
"$COLLIMATE" inspect input=bench.h5 | grep -q '^subsets *math-prm, hep-go$' || bad "the file does not name its subsets"
for file in bench bench4; do
    "$COLLIMATE" --quiet evaluate model=learned/model data=$file.h5 output=$file.json evaluate.bootstrap=0 || bad "$file.h5"
done
cmp -s bench.json bench4.json || bad "subsets differ between rank counts of prepare"
run 1 reward model=init data=bench.h5 output=young train.steps=3 train.batch=32 train.learning_rate=2e-3
run 2 score model=young/model data=bench.h5 output=bench_scores.jsonl
run 2 evaluate model=young/model data=bench.h5 output=bench.json
awk '{ match($0, /"reward": [^,}]*/); r = substr($0, RSTART + 10, RLENGTH - 10) }
    /"chosen"/ { chosen = r } /"rejected"/ { n++; s = n % 3 ? "math" : "hep"; all[s]++; right[s] += chosen + 0 > r + 0 }
    END { printf "%.9f\n", (984 * right["math"] / all["math"] + 164 * right["hep"] / all["hep"]) / 1148 }' \
    bench_scores.jsonl > expected.txt
sed -nE 's/.*"Reasoning": ([0-9.]+).*/\1/p' bench.json | awk '{ printf "%.9f\n", $1 }' | cmp -s - expected.txt ||
    bad "sections are not RewardBench's"
# A policy's implicit rewards likewise: subsets, sections and lengths from what score says of each response; nothing is
# right where the policy is its own reference.
run 1 init init.config=config.json output=policy tokenizer=bytes seed=4
run 2 evaluate model=policy reference=init data=bench.h5 output=policy.json
run 1 score model=policy reference=init data=bench.h5 output=policy_scores.jsonl
member() { grep -oE "\"$1\": \{[^}]*\}" "$2" | grep -oE '"(accuracy|pairs)": [0-9.e-]+' | grep -oE '[0-9.e-]+$' | xargs printf '%.9f %d\n'; }
awk '{ match($0, /"reward": [^,}]*/); r = substr($0, RSTART + 10, RLENGTH - 10) + 0
        match($0, /"tokens": [0-9]+/); t = substr($0, RSTART + 10, RLENGTH - 10) + 0 }
    /"chosen"/ { chosen = r; before = t }
    /"rejected"/ { n++; right = chosen > r; s = n % 3 ? "math" : "hep"; all[s]++; hit[s] += right
        d = before - t; m = (before + t) / 2; g = d * d <= m * m / 100 ? "even" : d < 0 ? "shorter" : "longer"
        all[g]++; hit[g] += right }
    END { split("math hep shorter even longer", key, " ")
        for (i = 1; i <= 5; i++) printf "%.9f %d\n", hit[key[i]] / all[key[i]], all[key[i]]
        printf "%.9f\n", (984 * hit["math"] / all["math"] + 164 * hit["hep"] / all["hep"]) / 1148 }' \
    policy_scores.jsonl > expected.txt
{
    for name in math-prm hep-go 'chosen shorter' 'within a tenth' 'chosen longer'; do
        member "$name" policy.json
    done
    sed -nE 's/.*"Reasoning": ([0-9.]+).*/\1/p' policy.json | awk '{ printf "%.9f\n", $1 }'
} | cmp -s - expected.txt || bad "a policy's accuracies by subset and length: $(cat policy.json), not $(cat expected.txt)"
run 1 evaluate model=policy reference=policy data=bench.h5 output=same.json
[ "$(member math-prm same.json)" = "0.000000000 $(awk 'NR % 3' bench.jsonl | wc -l)" ] || bad "a tie is right: $(cat same.json)"
sed 's/math-prm/math\\nprm/' bench.jsonl > broken.jsonl
refuses 65 "line break in its name" prepare input=broken.jsonl output=no.h5 tokenizer=bytes
run 1 select data=bench.h5 select.strategy=random output=view.h5
run 1 evaluate model=young/model data=view.h5 output=view-evaluated.json
grep -q '"subsets": {"math-prm": {"accuracy": ' view-evaluated.json || bad "a view has lost its subsets: $(cat view-evaluated.json)"

# score on lists: each response once, whatever pairs it stands in.
run 2 score model=learned/model data=lists.h5 output=once.jsonl
grep -oE '"response": [0-9]+' once.jsonl | sort -u > responses.txt
[ "$(wc -l < responses.txt)" = "$(wc -l < once.jsonl)" ] || bad "score repeats responses"
"$COLLIMATE" inspect input=lists.h5 | grep -q "^responses *$(wc -l < once.jsonl)," || bad "score leaves responses out"

# Margins: the loss of a pair whose margin is the difference of its rewards is log 2, so a new margin moves it.
awk '{ sub(/}$/, ", \"margin\": 2.0}"); print }' eval.jsonl > margin.jsonl
run 1 prepare input=margin.jsonl output=margin.h5 tokenizer=bytes
for use in true false; do
    run 1 reward model=init data=margin.h5 output=margin_$use train.steps=1 train.batch=203 reward.margin=$use
done
column margin_true/metrics.jsonl loss | awk '{ exit !($2 > 1.9 && $2 < 2.3) }' || bad "margins have no effect"
column margin_false/metrics.jsonl loss | awk '{ exit !($2 > 0.6 && $2 < 0.8) }' || bad "reward.margin=false has no effect"

# What makes no sense is refused.
refuses 2 "is a reward model" dpo model=exact1/model data=eval.h5 output=no
refuses 2 "is a reward model" generate model=exact1/model data=eval.h5
refuses 2 "needs none" score model=exact1/model reference=init data=eval.h5
refuses 2 "one value a response" score model=exact1/model data=eval.h5 score.per_token=true
echo '{"prompt": "a", "completion": "b"}' > single.jsonl
run 1 prepare input=single.jsonl output=single.h5 tokenizer=bytes
refuses 65 "has no pairs" reward model=init data=single.h5 output=no

run 1 $lists output=dry --dry-run
grep -q "total" out.txt && [ ! -e dry ] || bad "--dry-run"

finish
