#!/usr/bin/env bash
# Losses without a reference, as dpo takes them: rrhf on prompts with five scored responses, slic on pairs; on 1, 2 and 4
# ranks, interrupted, and refused where a key has no effect.
set -u
. tests/common.sh

write_config config.json

run 1 synth output=lists.jsonl synth.rows=400 synth.responses=5 synth.length=6 seed=4
run 1 synth output=held.jsonl synth.rows=60 synth.responses=5 synth.length=6 seed=5
run 1 synth output=pairs.jsonl synth.rows=400 synth.length=6 seed=6
for name in lists held pairs; do
    run 2 prepare input=$name.jsonl output=$name.h5 tokenizer=bytes
done
run 1 init init.config=config.json output=init tokenizer=bytes seed=3
[ "$failures" -eq 0 ] || exit 1

# It learns the world's rule: of the held-out ranked pairs more are in order, and the best responses become more probable.
run 2 dpo model=init data=lists.h5 eval_data=held.h5 output=learned dpo.loss=rrhf+sft train.epochs=4 train.batch=16 \
    train.learning_rate=3e-3
column learned/metrics.jsonl eval_accuracy | awk 'NR == 1 { first = $2 } { last = $2 }
    END { exit !(first < 0.65 && last > 0.75) }' || bad "held-out accuracy does not rise to 0.75"
column learned/metrics.jsonl eval_nll_loss | awk 'NR == 1 { first = $2 } { last = $2 } END { exit !(last < first) }' ||
    bad "SFT beside it raises nothing"
for name in loss nll_loss accuracy logps/chosen entropy mean_token_accuracy prompts_per_s; do
    grep '"step": 3,' learned/metrics.jsonl | grep -q "\"$name\": [-0-9]" || bad "metrics.jsonl has no $name"
done
grep '"step": 3,' learned/metrics.jsonl | grep -q "rewards/" && bad "rewards without a reference"
ls ./*.reference.h5 2> /dev/null && bad "reference scores that nobody reads"

# Deterministic: the same bits on 1 rank and on 2, then 4 after an interruption.
exact="dpo model=init data=lists.h5 train.steps=12 train.batch=12 train.learning_rate=1e-3 train.deterministic=true
    train.slots=4 train.checkpoint_every=5"
for loss in 10*rrhf+sft rrhf; do
    run 1 $exact "dpo.loss=$loss" output="one-$loss"
    run 2 $exact "dpo.loss=$loss" output="halves-$loss" train.steps=7
    run 4 $exact "dpo.loss=$loss" output="halves-$loss"
    for key in parameters_hash loss accuracy; do
        cmp -s <(column "one-$loss/metrics.jsonl" $key) <(column "halves-$loss/metrics.jsonl" $key) ||
            bad "$loss: $key differs on other ranks"
    done
done

# SLiC: the first loss is delta minus what the policy's own log-probabilities differ by, and it falls.
slic="dpo model=init data=pairs.h5 train.batch=400 train.learning_rate=1e-3 train.epochs=6"
run 2 $slic output=slic dpo.loss=slic+0.1*sft dpo.margin=2
run 1 evaluate model=init data=pairs.h5 dpo.loss=slic dpo.margin=2 output=slic.json
paste <(column slic/metrics.jsonl loss | head -1) <(column slic/metrics.jsonl nll_loss | head -1) \
    <(sed -E 's/.*"loss": ([0-9.]+).*/\1/' slic.json) | awk '{ d = $2 - 0.1 * $4 - $5; exit !(d * d < 1e-8) }' ||
    bad "evaluate gives another loss than the first step"
column slic/metrics.jsonl loss | awk 'NR == 1 { first = $2 } { last = $2 } END { exit !(last < first) }' ||
    bad "slic does not fall"

refuses 2 "reads a reference" $slic output=no dpo.loss=slic reference=init
refuses 2 "takes beta" $slic output=no dpo.loss=rrhf dpo.beta=0.2
refuses 2 "dpo.margin has no effect" $slic output=no dpo.margin=2
refuses 2 "not in one sum" $slic output=no dpo.loss=sigmoid+rrhf
refuses 2 "known: sigmoid" $slic output=no dpo.loss=reward
refuses 2 "reads pairs or labelled responses" evaluate model=init data=pairs.h5 dpo.loss=rrhf

finish
