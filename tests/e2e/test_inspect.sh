#!/bin/bash
# inspect: a run folder, its checkpoint, its side-car and its model say what was done (preference files are in
# test_prepare.sh).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
bad() { echo "test_inspect: $1" >&2; exit 1; }
cat > config.json << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 258, "hidden_size": 16,
 "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
 "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32", "initializer_range": 0.02}
JSON
"$COLLIMATE" --quiet synth synth.rows=16 output=pairs.jsonl
"$COLLIMATE" --quiet prepare input=pairs.jsonl tokenizer=bytes output=pairs.h5
"$COLLIMATE" --quiet init init.config=config.json tokenizer=bytes output=model
"$COLLIMATE" --quiet dpo model=model data=pairs.h5 output=run train.batch=8 train.steps=3 train.slots=1 threads=1
"$COLLIMATE" --quiet inspect input=run,run/checkpoints/step-3.h5,"$(echo pairs.*reference.h5)",run/model,pairs.jsonl > report
# 258 x 16 embedding (tied), 4 x 16 x 16 attention, 3 x 16 x 32 feed-forward, 3 norms of 16
parameters=$((258 * 16 + 4 * 256 + 3 * 512 + 3 * 16))
for line in 'run: run folder' ' +step +3 +1 +3 +1 +3' ' +loss +3 +0.69314[78]' 'checkpoints +1, newest of step 3' \
  'final model +model/' 'run/checkpoints/step-3.h5: checkpoint' "array +parameters, $parameters elements of 4 bytes" \
  'state +\{"step": 3' 'pairs.*reference.h5: reference' 'responses +32, 32 computed' 'run/model: model folder' \
  'architecture +LlamaForCausalLM' 'layers +1 of width 16' "parameters +$parameters in .* tensors \(fp32 $parameters\)" \
  'pairs.jsonl: 16 JSON records' 'first record +prompt chosen rejected truth'; do
  grep -qE "^$line" report || bad "no line '$line' in: $(cat report)"
done

# A checkpoint stands for a model, with or without the run's final model beside it, and embeddings of two of them
# show the drift between.
"$COLLIMATE" --quiet score data=pairs.h5 model=run/model > final
"$COLLIMATE" --quiet score data=pairs.h5 model=run/checkpoints/step-3.h5 > checkpoint
cmp -s final checkpoint || bad "the last checkpoint scores otherwise than the final model"
mv run/model hidden
"$COLLIMATE" --quiet score data=pairs.h5 model=run/checkpoints/step-3.h5 reference=run/checkpoints/step-3.h5 > checkpoint
[ "$(grep -c '"reward": 0[,}]' checkpoint)" = 32 ] || bad "a checkpoint is not its own reference: $(head -1 checkpoint)"
"$COLLIMATE" --quiet generate data=pairs.h5 model=run/checkpoints/step-3.h5 generate.limit=1 generate.max_new_tokens=2 > said
[ -s said ] || bad "a checkpoint generates nothing"
"$COLLIMATE" --quiet dpo model=run/checkpoints/step-3.h5 data=pairs.h5 output=next train.batch=8 train.steps=1 train.slots=1
[ -s next/model/tokenizer_config.json ] || [ -s next/model/tokenizer.json ] || bad "the tokenizer is lost: $(ls next/model)"
mv run/config.yaml kept
"$COLLIMATE" --quiet score data=pairs.h5 model=run/checkpoints/step-3.h5 2> no.err && bad "a lone checkpoint is taken"
grep -q 'neither model/ nor config.yaml' no.err || bad "$(cat no.err)"
mv kept run/config.yaml
"$COLLIMATE" --quiet embed data=pairs.h5 model=model output=before.h5
"$COLLIMATE" --quiet embed data=pairs.h5 model=run/checkpoints/step-3.h5 output=after.h5
"$COLLIMATE" --quiet inspect input=before.h5,after.h5 inspect.against=before.h5 inspect.report=drift.jsonl > report
[ "$(grep -c '^drift .*: 32 responses, 0 empty' report)" = 2 ] || bad "no drift in: $(cat report)"
head -1 drift.jsonl | grep -q '"l2": {"mean": 0,' || bad "embeddings drift from themselves: $(head -1 drift.jsonl)"
sed -n 2p drift.jsonl | grep -q '"l2": {"mean": 0\.0*[1-9]' || bad "training moved nothing: $(sed -n 2p drift.jsonl)"
"$COLLIMATE" --quiet inspect input=pairs.h5 inspect.against=before.h5 > report 2> no.err && bad "a preference file drifts"
grep -q 'preferences where embeddings' no.err || bad "$(cat no.err)"
