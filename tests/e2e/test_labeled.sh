#!/usr/bin/env bash
# Labelled responses: records {prompt, completion, label}; kto and apo_zero_unpaired have the same bits on 1, 2 and 4 ranks
# and after a resume; a file of pairs is unpaired as TRL does it; SFT takes what is desirable.
set -u
. tests/common.sh

write_config config.json
run 1 synth output=pairs.jsonl synth.rows=24 synth.length=6 seed=6
# side KEY LABEL: that side of each pair as an unpaired record.
side() {
    sed -nE 's/.*("prompt": "[^"]*").*"'"$1"'": ("[^"]*").*/{\1, "completion": \2, "label": '"$2"'}/p' pairs.jsonl
}
{ side chosen true; side rejected 0; } > labels.jsonl
side chosen true > desirable.jsonl
{ cat labels.jsonl; printf '%s\n' '{"prompt": "p", "completion": " c"}' '{"prompt": "p", "completion": "", "label": 1}'; } > ragged.jsonl
for name in pairs labels desirable; do
    run 1 prepare input=$name.jsonl output=$name.h5 tokenizer=bytes
done
run 1 prepare input=ragged.jsonl output=ragged.h5 tokenizer=bytes prepare.format=unpaired
grep -q "dropped 1: no label" err.txt && grep -q "dropped 1: empty response" err.txt || bad "what has no label is not counted"
grep -q "50 records (unpaired): 48 prompts, 48 responses, 0 pairs" err.txt || bad "ragged: not said to be unpaired"
run 2 prepare input=labels.jsonl output=two.h5 tokenizer=bytes
contents() {
    run 1 inspect input="$1"
    grep "^contents" out.txt
}
[ "$(contents labels.h5)" = "$(contents two.h5)" ] || bad "2 ranks prepare another file"
run 1 inspect input=labels.h5
grep -q "labelled: desirable or not" out.txt || bad "inspect does not say that responses are labelled"
run 1 init init.config=config.json output=init tokenizer=bytes seed=3
run 1 init init.config=config.json output=other tokenizer=bytes seed=4
[ "$failures" -eq 0 ] || exit 1

# same_bits NAME OPTIONS...: on 1 rank, and on 2 and then 4.
same_bits() {
    local name=$1 key
    shift
    local exact="dpo model=init reference=other train.steps=4 train.batch=12 train.learning_rate=1e-3 train.deterministic=true
        train.slots=4 train.checkpoint_every=2"
    run 1 $exact output="one-$name" "$@"
    run 2 $exact output="halves-$name" "$@" train.steps=2
    run 4 $exact output="halves-$name" "$@"
    for key in parameters_hash loss kl eval_kl eval_loss; do
        cmp -s <(column "one-$name/metrics.jsonl" $key) <(column "halves-$name/metrics.jsonl" $key) ||
            bad "$name: $key differs on other ranks"
    done
    [ "$(column "one-$name/metrics.jsonl" kl | wc -l)" -ge 4 ] || bad "$name: not 4 steps"
}
same_bits kto data=labels.h5 eval_data=labels.h5 train.evaluate_every=2 dpo.loss=kto+0.1*sft dpo.desirable_weight=1.5
column one-kto/metrics.jsonl eval_kl | grep -q . || bad "kto: no eval_kl"
same_bits apo data=labels.h5 dpo.loss=apo_zero_unpaired
column one-apo/metrics.jsonl kl | grep -qvE " 0$" && bad "apo_zero_unpaired compares with the batch"

# Pairs become the chosen ones, then the rejected ones.
for data in labels pairs; do
    run 1 dpo model=init reference=other data=$data.h5 train.steps=8 train.batch=7 train.learning_rate=1e-3 dpo.loss=kto \
        output=from-$data truncate.max_length=28
done
same from-labels from-pairs

# SFT reads the desirable ones alone.
for data in labels desirable; do
    run 1 sft model=init data=$data.h5 train.steps=4 train.batch=7 train.learning_rate=1e-3 output=sft-$data
    [ $data = desirable ] || grep -q "24 of 48 responses are desirable; the others are left out" err.txt ||
        bad "sft does not say what it leaves out"
done
same sft-labels sft-desirable

# evaluate says what training says of the same rows as one batch, of labels and of pairs.
judges() {
    local model=$1 loss=$2 key said ranks=1 keys="loss rewards/chosen rewards/rejected rewards/margins logps/chosen logps/rejected"
    [ "$loss" = kto ] && keys+=" kl"
    run 1 dpo model="$model" reference=init data=labels.h5 eval_data=labels.h5 train.steps=1 train.batch=48 train.evaluate_every=1 \
        dpo.loss="$loss" dpo.undesirable_weight=1.5 output="judged-$loss"
    for data in labels pairs; do
        run $((ranks++)) evaluate model="$model" reference=init data=$data.h5 dpo.loss="$loss" dpo.undesirable_weight=1.5 \
            output=judged.json
        for key in $keys; do
            said=$(grep -o "\"eval_$key\": [^,]*" "judged-$loss/metrics.jsonl" | head -n 1)
            [ -n "$said" ] && grep -qF "\"${said#*eval_}," judged.json || bad "$model $loss $data: $said, but $(cat judged.json)"
        done
    done
}
judges sft-labels/model kto
grep -q '"kl": [0-9.]*[1-9]' judged.json || bad "a trained model is no further than the one before: $(cat judged.json)"
judges other apo_zero_unpaired+0.1*sft
! grep -q '"kl"' judged.json || bad "apo_zero_unpaired computes no kl: $(cat judged.json)"
run 1 evaluate model=init data=labels.h5 dpo.loss=kto evaluate.rows=1 output=judged.json
grep -q '"rows": 1,' judged.json && ! grep -q '"kl"\|"loss"' judged.json || bad "no reference: $(cat judged.json)"
run 1 evaluate model=init reference=other data=desirable.h5 dpo.loss=kto output=judged.json
grep -q '"rows": 24,.*"loss": .*"desirable": 24,' judged.json && ! grep -q "rejected\|margins" judged.json || bad "one side: $(cat judged.json)"

job="dpo model=init output=no"
refuses 2 "train.batch=1: dpo.loss=kto" $job data=labels.h5 dpo.loss=kto train.batch=1
refuses 2 "one row: dpo.loss=kto" evaluate model=init reference=other data=labels.h5 dpo.loss=kto evaluate.rows=1
refuses 2 "dpo.desirable_weight has no effect" $job data=pairs.h5 dpo.desirable_weight=2
refuses 2 "kto single labelled responses" $job data=pairs.h5 dpo.loss=sigmoid+kto
refuses 65 "has no pairs" $job data=labels.h5
refuses 2 "reads pairs or labelled responses" evaluate model=init data=labels.h5 dpo.loss=bt_list
echo '{"prompt": "p"}' > prompts.jsonl
run 1 prepare input=prompts.jsonl output=prompts.h5 tokenizer=bytes
refuses 65 "has no labelled responses and no pairs" $job data=prompts.h5 dpo.loss=kto
refuses 65 "has no labelled responses and no pairs" evaluate model=init data=prompts.h5 dpo.loss=kto
echo '{"prompt": "p", "completion": " c", "label": "yes"}' > wrong.jsonl
refuses 65 "\"label\" must be true or false" prepare input=wrong.jsonl output=wrong.h5 tokenizer=bytes

finish
