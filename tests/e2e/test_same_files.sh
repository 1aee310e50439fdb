#!/bin/bash
# What prepare, evaluate (language and reward models), score and generate write is the same file, byte for byte, on
# 1, 2, 3 and 4 ranks, on ragged rows and with forests of other sizes.
set -u
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_same_files: $1" >&2; failures=$((failures + 1)); }
run() { timeout 60 "$COLLIMATE" --quiet "$@" || bad "failed: $*"; }
# same NAME ARGUMENTS...: runs with output=NAME on 1 to 4 ranks and compares NAME; side-cars are made anew each time.
same() {
    local name=$1 n
    shift
    for n in 1 2 3 4; do
        rm -f ./*.reference.h5
        timeout 60 mpirun -q -n $n "$COLLIMATE" --quiet "$@" output="$name" || bad "$name: failed on $n ranks"
        mv "$name" "$name.$n"
        cmp "$name.1" "$name.$n" || bad "$name differs on $n ranks"
    done
}
cat > config.json <<'J'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 258, "hidden_size": 32,
 "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu",
 "initializer_range": 0.1}
J
run synth synth.rows=3001 synth.noise=0.1 output=many.jsonl
head -n 101 many.jsonl > pairs.jsonl
run synth synth.rows=53 synth.responses=5 seed=2 output=lists.jsonl
same many.h5 prepare input=many.jsonl tokenizer=bytes
same pairs.h5 prepare input=pairs.jsonl tokenizer=bytes
same lists.h5 prepare input=lists.jsonl tokenizer=bytes
cp pairs.h5.1 pairs.h5
cp lists.h5.1 lists.h5
run init init.config=config.json tokenizer=bytes output=policy seed=1
run init init.config=config.json tokenizer=bytes output=before seed=2
run reward data=lists.h5 model=policy output=judge train.steps=3 train.batch=16 train.learning_rate=1e-2

same language.json evaluate data=pairs.h5 model=policy reference=before 'dpo.loss=sigmoid+0.3*sft'
same alone.json evaluate data=lists.h5 model=policy evaluate.bootstrap=50
same judged.json evaluate data=lists.h5 model=judge/model reward.centering=0.01
for bytes in 100 700; do # other forests, the same numbers
    run evaluate data=pairs.h5 model=policy reference=before 'dpo.loss=sigmoid+0.3*sft' train.micro_tokens=$bytes output=packed.json
    cmp packed.json language.json.1 || bad "evaluate differs with train.micro_tokens=$bytes"
done
same scores.jsonl score data=pairs.h5 model=policy reference=before score.per_token=true
same values.jsonl score data=lists.h5 model=judge/model
same greedy.jsonl generate data=pairs.h5 model=policy generate.max_new_tokens=12
same sampled.jsonl generate data=pairs.h5 model=policy generate.max_new_tokens=12 generate.temperature=1 generate.top_k=50
[ "$failures" = 0 ]
