#!/usr/bin/env bash
# TDPO: updates are PyTorch's (fixtures/make_tdpo_steps.py); the same bits on 1, 2 and 4 ranks and after a resume, also where the
# reference follows.
set -u
. tests/common.sh

fixture=$FIXTURES/trl_steps
run 1 prepare input="$fixture/pairs.jsonl" output=pairs.h5 tokenizer=bytes tokenize.begin=false
# values LINE KEY: one a line.
values() {
    sed -nE 's@.*"'"$2"'": \[([^]]*)\].*@\1@p' <<< "$1" | tr -d ' ' | tr ',' '\n'
}
while read -r line; do
    name=$(sed -E 's/.*"name": "([^"]*)".*/\1/' <<< "$line")
    run 1 dpo model="$FIXTURES/dpo_steps/model" reference="$fixture/reference" data=pairs.h5 dpo.loss="$name" train.steps=8 \
        train.batch=4 train.shuffle=false train.learning_rate=1e-3 train.weight_decay=0 train.clip=1 output="$name"
    for key in loss grad_norm rewards/chosen rewards/rejected; do
        paste <(values "$line" $key) <(column "$name/metrics.jsonl" $key) | awk -v what="$name: $key" '
            function abs(x) { return x < 0 ? -x : x }
            !(abs($1 - $3) <= 2e-4 * (0.1 + abs($1))) { if (!bad++) print what ", step " NR ": PyTorch " $1 ", here " $3 }
            END { exit bad > 0 || NR != 8 }' || bad "$name: $key is not PyTorch's"
    done
done < "$fixture/tdpo.jsonl"

exact="dpo model=$FIXTURES/dpo_steps/model data=pairs.h5 eval_data=pairs.h5 train.evaluate_every=2 train.steps=4 train.batch=8
    train.learning_rate=1e-3 train.deterministic=true train.slots=4 train.checkpoint_every=2 train.micro_tokens=90"
# same_bits NAME OPTIONS...: on 1 rank, and on 2 and then 4.
same_bits() {
    local name=$1 key
    shift
    run 1 $exact output="one-$name" "$@"
    run 2 $exact output="halves-$name" "$@" train.steps=2
    run 4 $exact output="halves-$name" "$@"
    for key in parameters_hash loss rewards/margins eval_loss; do
        cmp -s <(column "one-$name/metrics.jsonl" $key) <(column "halves-$name/metrics.jsonl" $key) ||
            bad "$name: $key differs on other ranks"
    done
    [ "$(column "one-$name/metrics.jsonl" parameters_hash | wc -l)" -eq 4 ] || bad "$name: not 4 steps"
}
same_bits tdpo reference="$fixture/reference" dpo.loss=tdpo+0.1*sft dpo.tdpo_alpha=0.7
same_bits follows dpo.loss=tdpo1 dpo.sync_reference=true dpo.reference_sync_steps=2 train.recompute=layers
# The policy is its own reference at first: no divergence, and log 2.
column one-follows/metrics.jsonl loss | head -1 | awk '{ exit !($2 - log(2) < 1e-6 && log(2) - $2 < 1e-6) }' ||
    bad "the first loss is not log 2"
ls -- *.reference.h5 > /dev/null 2>&1 && bad "a side-car was written"

# evaluate says of the trained model what the run's last look at the same rows did.
run 2 evaluate model=one-tdpo/model reference="$fixture/reference" data=pairs.h5 dpo.loss=tdpo+0.1*sft dpo.tdpo_alpha=0.7 output=judged.json
for key in loss rewards/chosen rewards/rejected rewards/accuracies logps/chosen; do
    said=$(column one-tdpo/metrics.jsonl "eval_$key" | tail -n 1 | cut -d ' ' -f 2)
    [ -n "$said" ] && grep -qF "\"$key\": $said," judged.json || bad "evaluate: $key is not $said: $(cat judged.json)"
done

job="dpo model=$FIXTURES/dpo_steps/model data=pairs.h5 output=x"
refuses 2 "set reference" evaluate model="$FIXTURES/dpo_steps/model" data=pairs.h5 dpo.loss=tdpo
refuses 2 "set reference" evaluate model="$FIXTURES/dpo_steps/model" data=pairs.h5 dpo.loss=ipo
refuses 2 "dpo.reference_file has no effect" evaluate model="$FIXTURES/dpo_steps/model" reference="$fixture/reference" data=pairs.h5 \
    dpo.loss=tdpo dpo.reference_file=x.h5
refuses 2 "beside the policy" $job dpo.loss=tdpo dpo.reference_file=x.h5
refuses 2 "dpo.tdpo_alpha has no effect" $job dpo.loss=tdpo1 dpo.tdpo_alpha=1

finish
