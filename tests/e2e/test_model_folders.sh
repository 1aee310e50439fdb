#!/usr/bin/env bash
# Model folders as they come from elsewhere and as they go on: the type of the weights, files beside them, end ids,
# padded vocabularies, scaled positions, a pad token that is the end token; what is no model or data is named.
set -u
. tests/common.sh

write_config config.json
run 1 synth output=text.jsonl synth.rows=40 synth.length=6 seed=1
run 1 prepare input=text.jsonl output=data.h5 tokenizer=bytes
[ "$failures" -eq 0 ] || exit 1

# stored FOLDER TYPE: what most weights are, and what config.json says.
stored() {
    "$COLLIMATE" inspect input="$1" | grep -q "^parameters .*($2 [0-9]*)" || bad "$1 is not $2"
    grep -q "\"dtype\": \"$3\"" "$1/config.json" && grep -q "\"torch_dtype\": \"$3\"" "$1/config.json" ||
        bad "$1/config.json does not say $3"
}
run 1 init init.config=config.json tokenizer=bytes output=half save.dtype=bf16 seed=3
stored half bf16 bfloat16
mkdir half/additional_chat_templates
echo '{{ messages }}' > half/chat_template.jinja
echo '{{ tools }}' > half/additional_chat_templates/tools.jinja
echo 'not read here' > half/pytorch_model.bin
train="data=data.h5 train.steps=2 train.batch=8"
run 1 sft model=half $train output=kept
stored kept/model bf16 bfloat16
run 2 sft model=half $train output=wide save.dtype=fp32
stored wide/model fp32 float32
run 1 sft model=wide/model $train output=narrow save.dtype=fp16
stored narrow/model fp16 float16
run 1 sft model=narrow/model $train output=last
stored last/model fp16 float16
for name in chat_template.jinja additional_chat_templates/tools.jinja; do
    cmp -s half/$name last/model/$name || bad "$name is not there after four runs"
done
[ -e kept/model/pytorch_model.bin ] && bad "weights of another kind were carried over"
run 1 sft model=kept/checkpoints/step-2.h5 $train output=on
stored on/model bf16 bfloat16

# End ids: as many as there were. Without generation_config.json config.json's list counts.
ids=$(seq -s ', ' 0 2 40)
sed "s/\"eos_token_id\": 257/\"eos_token_id\": [257, $ids]/" half/config.json > config2.json
cp config2.json half/config.json
rm half/generation_config.json
run 1 generate data=data.h5 model=half generate.temperature=1 generate.max_new_tokens=20 output=ends.jsonl
awk -F'[][]' '{ n = split($2, t, ", "); for (i = 1; i <= n; i++) {
                    stop = t[i] == 257 || (t[i] % 2 == 0 && t[i] <= 40)
                    if (stop != (i == n) && !(i == n && n == 20)) exit 1 }
                if (n < 20) ended++ } END { exit !(ended > 0) }' ends.jsonl || bad "config.json's list does not end responses"
run 1 sft model=half $train output=listed
tr -d ' \n' < listed/model/generation_config.json | grep -q '"eos_token_id":\[257,0,2,4,.*,40\]' || bad "end ids got lost"
echo '{"eos_token_id": 7}' > half/generation_config.json
run 1 generate data=data.h5 model=half generate.max_new_tokens=2 output=other.jsonl
grep -q "id 7 of generation_config.json.*end token 257" err.txt || bad "not a word of end ids that disagree"

# A padded vocabulary: ids without a token are never drawn.
sed 's/"vocab_size": 258/"vocab_size": 400/' config.json > padded.json
run 1 init init.config=padded.json tokenizer=bytes output=padded
run 1 generate data=data.h5 model=padded generate.temperature=2 generate.max_new_tokens=20 output=padded.jsonl
grep -q "142 of the model's 400 ids have no token" err.txt || bad "not a word of ids without a token"
awk -F'[][]' '{ n = split($2, t, ", "); for (i = 1; i <= n; i++) if (t[i] > 257) exit 1 }' padded.jsonl ||
    bad "an id without a token was drawn"

# Positions: what is trained on, times the factor of the scaling.
sed 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 24/' config.json > short.json
sed 's/"max_position_embeddings": 24/&, "rope_scaling": {"rope_type": "yarn", "factor": 16}/' short.json > long.json
run 1 init init.config=short.json tokenizer=bytes output=short
run 1 init init.config=long.json tokenizer=bytes output=long
refuses 65 "the model has 24 positions" score data=data.h5 model=short
run 1 score data=data.h5 model=long output=long.jsonl

# A reward model whose pad token is its end token: as if the end tokens were not there.
run 1 prepare input=text.jsonl output=open.h5 tokenizer=bytes tokenize.end=false
run 1 reward model=wide/model data=data.h5 train.steps=3 train.batch=8 output=judge train.learning_rate=1e-2
run 1 score model=judge/model data=data.h5 output=at_end.jsonl
sed -i 's/"pad_token_id": [0-9]*/"pad_token_id": 257/' judge/model/config.json
run 1 score model=judge/model data=open.h5 output=open.jsonl
run 1 score model=judge/model data=data.h5 output=before_end.jsonl
grep -q "pad_token_id is the end token 257" err.txt || bad "not a word of a pad token that ends texts"
values() { sed -n 's/.*"\(reward\|value\)": \([-0-9.e]*\).*/\2/p' "$1"; }
[ "$(values open.jsonl | wc -l)" -eq "$(wc -l < open.jsonl)" ] || bad "no values in $(head -1 open.jsonl)"
paste <(values open.jsonl) <(values before_end.jsonl) | awk '{ d = $1 - $2; if (d * d > 1e-10) exit 1 }' ||
    bad "values are not those before the end token"
cmp -s <(values at_end.jsonl) <(values before_end.jsonl) && bad "the end token makes no difference"
run 1 reward model=judge/model data=data.h5 train.steps=1 train.batch=8 output=judge2
grep -q '"pad_token_id": 257' judge2/model/config.json || bad "training on changes where values are read"
# One that begins with a language model reads at the end token whatever that folder's pad token is, and so do its checkpoints.
sed 's/"pad_token_id": null/"pad_token_id": 257/' wide/model/config.json > padded_config.json
cp padded_config.json wide/model/config.json
grep -q '"pad_token_id": 257' wide/model/config.json || bad "no pad token to change"
run 1 reward model=wide/model data=data.h5 train.steps=2 train.batch=8 output=fresh train.checkpoint_every=2
run 1 score model=fresh/model data=data.h5 output=fresh.jsonl
rm -r fresh/model
run 1 score model=fresh/checkpoints/step-2.h5 data=data.h5 output=step.jsonl
cmp -s <(values fresh.jsonl) <(values step.jsonl) || bad "a reward run's checkpoint has other values than its model"

# What is something else is named, with what to do.
printf 'PAR1\x15' > table.parquet
printf '\x28\xb5\x2f\xfd\x24' > text.jsonl.zst
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' > pointer
refuses 65 "is a Parquet table; write it as JSON Lines" prepare input=table.parquet tokenizer=bytes output=no.h5
refuses 65 "compressed with zstd; unpack it" prepare input=text.jsonl.zst tokenizer=bytes output=no.h5
refuses 65 "Git LFS pointer.*git lfs pull" prepare input=pointer tokenizer=bytes output=no.h5
refuses 65 "Git LFS pointer.*git lfs pull" score data=pointer model=long
for name in adapter_config.json pytorch_model.bin model.safetensors; do
    mkdir -p "only-$name" && cp long/config.json "only-$name" && cp pointer "only-$name/$name"
done
refuses 66 "PEFT adapter.*merge_and_unload" score data=data.h5 model=only-adapter_config.json
refuses 66 "pytorch_model.bin.*save_pretrained" score data=data.h5 model=only-pytorch_model.bin
refuses 65 "Git LFS pointer.*git lfs pull" score data=data.h5 model=only-model.safetensors
cp pointer only-model.safetensors/config.json
refuses 65 "Git LFS pointer.*git lfs pull" score data=data.h5 model=only-model.safetensors
finish
