#!/usr/bin/env bash
# Adapters: sft, dpo and reward train them beside a frozen base, with the same bits on 1, 2 and 4 ranks, sharded or not, with
# dropout, across a resume; what they write is read by score, evaluate, generate and embed, trained further, and merged; the
# reference is the base with the adapter off, from the same side-car, and a loss that does not begin at log 2 is refused.
set -u
. tests/common.sh
tiny_world
common=(--quiet data=train.h5 model=init train.steps=4 train.batch=16 train.slots=8 train.micro_tokens=64
    train.learning_rate=1e-2 train.weight_decay=0.1)
lora=(lora.rank=2 lora.targets=all-linear lora.dropout=0.2 lora.alpha=8)
exact=("${common[@]}" "${lora[@]}" train.deterministic=true eval_data=train.h5 evaluate.rows=20)
sharded=train.shard_optimizer=true
# same_adapter RUN1 RUN2
same_adapter() {
    cmp -s <(numbers "$1") <(numbers "$2") || {
        bad "metrics of $1 and $2 differ"
        diff <(numbers "$1") <(numbers "$2") | head -4
    }
    cmp -s "$1/adapter/adapter_model.safetensors" "$2/adapter/adapter_model.safetensors" || bad "adapters of $1 and $2 differ"
}

# The reference of the whole model's DPO is that of the adapters': nothing is computed twice.
run 1 dpo "${common[@]}" output=whole
run 1 dpo "${exact[@]}" output=dpo1
run 1 dpo "${exact[@]:1}" output=dpo0
grep -q "reference scores: 0 rows computed, 45 were there" err.txt || bad "the side-car was not that of the base"
grep -q '"step": 1, "loss": 0.69314718' dpo1/metrics.jsonl || bad "the loss does not begin at log 2"
[ -e dpo1/model ] && bad "a whole model beside adapters"
run 2 dpo "${exact[@]}" output=dpo2 $sharded threads=2
run 4 dpo "${exact[@]}" output=dpo4 train.recompute=layers device=check:cpu # its memory is not the host's
for n in 2 4 0; do same_adapter dpo1 dpo$n; done
run 1 dpo "${exact[@]/lora.dropout=0.2/lora.dropout=0}" output=undropped
cmp -s dpo1/adapter/adapter_model.safetensors undropped/adapter/adapter_model.safetensors && bad "nothing was dropped"
run 1 reward "${exact[@]}" output=reward1
run 2 reward "${exact[@]}" output=reward2 $sharded
same_adapter reward1 reward2

# A checkpoint holds what is trained alone, and goes on on other ranks; on another base it does not.
run 4 dpo "${exact[@]}" output=moved train.steps=1 $sharded
[ "$(stat -c %s moved/checkpoints/step-1.h5)" -lt "$(($(stat -c %s whole/checkpoints/step-4.h5) * 2 / 3))" ] ||
    bad "a checkpoint of adapters is as large as one of the model"
run 1 dpo "${exact[@]}" output=moved train.steps=2
run 2 dpo "${exact[@]}" output=moved $sharded
cmp -s dpo1/adapter/adapter_model.safetensors moved/adapter/adapter_model.safetensors || bad "a resumed run has other adapters"
run 1 init --quiet init.config=config.json output=other tokenizer=bytes seed=4
refuses 2 "model contents" dpo "${exact[@]}" model=other output=moved train.steps=5
refuses 2 "lora.rank (was 2, is 3)" dpo "${exact[@]}" lora.rank=3 output=moved train.steps=5

# What reads an adapter says what the merged model says.
adapter=dpo1/adapter
run 2 merge --quiet model=init adapter=$adapter output=merged data=train.h5
grep -q '"responses": 90, "worst_difference": [0-9.]*\(e-0[5-9]\|0000\)' out.txt || bad "merge: $(cat out.txt)"
run 1 merge --quiet model=init adapter=$adapter output=merged data=train.h5 # its own result is replaced
refuses 2 "is the input" merge --quiet model=init adapter=$adapter output=init data=train.h5
run 1 score --quiet data=train.h5 model=init adapter=$adapter output=with.jsonl
run 1 score --quiet data=train.h5 model=init output=without.jsonl
run 1 score --quiet data=train.h5 model=merged output=merged.jsonl
logps() { sed -E 's/.*"logp": ([-0-9.e]+).*/\1/' "$1"; }
paste <(logps with.jsonl) <(logps merged.jsonl) <(logps without.jsonl) | awk '
    function abs(x) { return x < 0 ? -x : x }
    { bad = bad || abs($1 - $2) > 1e-4 * (1 + abs($1)); far += abs($1 - $3) > 1e-3 } END { exit bad || far < 40 }' ||
    bad "score: adapter, merged and base"
for command in generate embed; do
    run 1 $command --quiet data=train.h5 model=init adapter=$adapter output=$command.adapter
    run 1 $command --quiet data=train.h5 model=merged output=$command.merged
    run 1 $command --quiet data=train.h5 model=init output=$command.init
done
tokens() { sed -E 's/.*"tokens": (\[[^]]*\]).*/\1/' "generate.$1"; }
cmp -s <(tokens adapter) <(tokens merged) || bad "generate: adapter and merged differ"
cmp -s <(tokens init) <(tokens merged) && bad "generate: the adapter changes nothing"
run 1 inspect --quiet input=embed.adapter inspect.against=embed.merged inspect.report=drift.jsonl
run 1 inspect --quiet input=embed.adapter inspect.against=embed.init inspect.report=far.jsonl
drift() { sed -E 's/.*"l2": \{"mean": ([-0-9.e]+).*/\1/' "$1"; }
awk -v near="$(drift drift.jsonl)" -v far="$(drift far.jsonl)" 'BEGIN { exit !(near < 1e-4 && far > 1e-2) }' ||
    bad "embed: $(drift drift.jsonl) from the merged, $(drift far.jsonl) from the base"
run 1 evaluate --quiet data=train.h5 model=init adapter=$adapter reference=init output=evaluated.json
run 1 evaluate --quiet data=train.h5 model=merged reference=init output=evaluated.merged.json
margin() { sed -E 's/.*"rewards\/margins": \{?[^-0-9]*([-0-9.e]+).*/\1/' "$1" | cut -c1-6; }
[ "$(margin evaluated.json)" = "$(margin evaluated.merged.json)" ] || bad "evaluate: adapter and merged differ"
run 1 evaluate --quiet data=train.h5 model=init adapter=reward1/adapter output=reward.json
refuses 2 "adapter of a reward model" dpo "${common[@]}" adapter=reward1/adapter reference.adapter=none output=no
grep -q '"accuracy"' reward.json || bad "evaluate: no accuracy of a reward adapter"

# Trained further: the reference has to be said, and where it is the policy as it begins the loss is log 2.
further=("${common[@]}" adapter=$adapter train.steps=2)
refuses 2 "reference.adapter" dpo "${further[@]}" output=further
run 1 dpo "${further[@]}" output=further reference.adapter=none
grep -q '"step": 1, "loss": 0.69314' further/metrics.jsonl && bad "an adapter that does nothing"
sed -i 's/"lora_dropout": 0.2/"lora_dropout": 0.0/' $adapter/adapter_config.json
run 1 dpo "${further[@]}" output=further2 reference.adapter=$adapter
grep -q '"step": 1, "loss": 0.69314718' further2/metrics.jsonl || bad "further: the loss does not begin at log 2"
run 1 sft "${further[@]}" output=further3
refuses 2 "lora.rank" sft "${further[@]}" output=no lora.rank=2

# score and evaluate: the base as the reference, without a second model, alone or with an adapter on it.
run 1 score --quiet data=train.h5 model=init adapter=$adapter reference=init output=own.jsonl
run 1 score --quiet data=train.h5 model=init adapter=$adapter reference=./init output=second.jsonl
cmp -s own.jsonl second.jsonl || bad "score: the base with its adapter off is not the base"
run 1 score --quiet data=train.h5 model=init adapter=$adapter reference=init reference.adapter=$adapter output=zero.jsonl
grep -v '"reward": 0}' zero.jsonl && bad "score: a policy that is its reference"
run 1 score --quiet data=train.h5 model=init reference=init reference.adapter=$adapter output=turned.jsonl
rewards() { sed -E 's/.*"reward": ([-0-9.e]+).*/\1/' "$1"; }
paste <(rewards own.jsonl) <(rewards turned.jsonl) | awk '{ bad = bad || $1 != -$2 } END { exit bad || NR != 90 }' ||
    bad "score: policy and reference the other way round"
run 1 evaluate --quiet data=train.h5 model=init adapter=$adapter reference=init reference.adapter=$adapter output=equal.json
grep -q '"loss": 0.69314718' equal.json || bad "evaluate: a policy that is its reference"
refuses 2 "reference to be set" evaluate --quiet data=train.h5 model=init reference.adapter=$adapter

# Forms that are not read, by name.
forms() {
    cp -r $adapter broken
    sed -i -E "s/$1/$2/" broken/adapter_config.json
    refuses 65 "$3" score --quiet data=train.h5 model=init adapter=broken
    rm -r broken
}
forms '"bias": "none"' '"bias": "all"' '"bias": "all" is not supported'
forms '"use_dora": false' '"use_dora": true' '"use_dora" is not supported'
forms '"peft_type": "LORA"' '"peft_type": "IA3"' '"peft_type": "IA3"'
forms '"init_lora_weights": true' '"init_lora_weights": "pissa"' 'pissa'
forms '"use_dora": false' '"layers_to_transform": [0]' 'layers_to_transform'
forms '"r": 2' '"r": 3' 'lora_A.weight has 2 dimensions'
forms '"target_modules": "all-linear"' '"target_modules": ["q_proj"]' 'has no place'
forms '"target_modules": "all-linear"' '"target_modules": "("' 'no expression'
forms '"target_modules": "all-linear"' '"target_modules": ["embed_tokens"]' 'embed_tokens'
refuses 66 "adapter_config.json" score --quiet data=train.h5 model=init adapter=init
refuses 66 "give it as adapter=" score --quiet data=train.h5 model=$adapter
run 1 sft "${common[@]}" lora.rank=2 lora.targets=q_proj,v_proj lora.layers=1 train.steps=1 output=one_block
grep -q '"layers_to_transform": \[1\]' <(tr -s ' \n' ' ' < one_block/adapter/adapter_config.json | sed 's/\[ /[/; s/ \]/]/') ||
    bad "lora.layers is not in the adapter's file: $(cat one_block/adapter/adapter_config.json)"
refuses 2 "0 to 1, with commas" sft "${common[@]}" lora.rank=2 lora.targets=q_proj lora.layers=2 output=no
refuses 2 "not with all-linear" sft "${common[@]}" lora.rank=2 lora.targets=all-linear lora.layers=0 output=no
refuses 2 "no module of a LlamaForCausalLM is named wrong" sft "${common[@]}" lora.rank=2 lora.targets=q_proj,wrong output=no

refuses 2 "cannot follow adapters" dpo "${common[@]}" lora.rank=2 dpo.sync_reference=true output=no
refuses 2 "reference.adapter has no effect" dpo "${common[@]}" lora.rank=2 dpo.loss=tdpo1 reference.adapter=$adapter output=no

# A checkpoint of adapters is no model.
refuses 65 "adapter=RUN/adapter" score --quiet data=train.h5 model=dpo1/checkpoints/step-4.h5

# --dry-run and preflight count it.
run 1 sft "${common[@]}" lora.rank=2 output=dry --dry-run
grep -q "frozen base" out.txt && grep -q "adapters save" out.txt || bad "--dry-run says nothing of a frozen base"
run 1 preflight dpo.beta=0.1 "${common[@]:1}" lora.rank=2 output=dry
grep -q "adapter .*4 modules beside a frozen base" out.txt || bad "preflight says nothing of adapters"
finish
