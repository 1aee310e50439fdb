#!/bin/bash
# What prepare, evaluate (language and reward models), score, generate, embed and select write is the same file, byte for
# byte, on 1, 2 and 4 ranks (or on 3, where another test has 2 and 4), on ragged rows and with forests of other sizes.
set -u
. tests/common.sh
# same_file NAME ARGUMENTS...: runs with output=NAME on 1 and on $counts ranks and compares NAME; side-cars are made anew
# each time.
counts="2 4"
same_file() {
    local name=$1 n
    shift
    for n in 1 $counts; do
        rm -f ./*.reference.h5
        run $n --quiet "$@" output="$name"
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
run 1 --quiet synth synth.rows=3001 synth.noise=0.1 output=many.jsonl
head -n 101 many.jsonl > pairs.jsonl
run 1 --quiet synth synth.rows=53 synth.responses=5 seed=2 output=lists.jsonl
counts="2 3 4" same_file many.h5 prepare input=many.jsonl tokenizer=bytes
run 1 --quiet prepare input=pairs.jsonl tokenizer=bytes output=pairs.h5
same_file lists.h5 prepare input=lists.jsonl tokenizer=bytes
cp lists.h5.1 lists.h5
run 1 --quiet init init.config=config.json tokenizer=bytes output=policy seed=1
run 1 --quiet init init.config=config.json tokenizer=bytes output=before seed=2
run 1 --quiet reward data=lists.h5 model=policy output=judge train.steps=3 train.batch=16 train.learning_rate=1e-2

same_file language.json evaluate data=pairs.h5 model=policy reference=before 'dpo.loss=sigmoid+0.3*sft'
same_file alone.json evaluate data=lists.h5 model=policy evaluate.bootstrap=50
same_file judged.json evaluate data=lists.h5 model=judge/model reward.centering=0.01
for bytes in 100 700; do # other forests, the same numbers
    run 1 --quiet evaluate data=pairs.h5 model=policy reference=before 'dpo.loss=sigmoid+0.3*sft' train.micro_tokens=$bytes output=packed.json
    cmp packed.json language.json.1 || bad "evaluate differs with train.micro_tokens=$bytes"
done
same_file scores.jsonl score data=pairs.h5 model=policy reference=before score.per_token=true
same_file values.jsonl score data=lists.h5 model=judge/model
same_file greedy.jsonl generate data=pairs.h5 model=policy generate.max_new_tokens=12
same_file sampled.jsonl generate data=pairs.h5 model=policy generate.max_new_tokens=12 generate.temperature=1 generate.top_k=50
counts=3 same_file embeddings.h5 embed data=lists.h5 model=policy
cp embeddings.h5.1 lists.embeddings.h5
same_file mixed.h5 select data=lists.h5 embeddings=lists.embeddings.h5 select.strategy=easy:0.5,random:0.5
same_file balanced.h5 select data=lists.h5 embeddings=lists.embeddings.h5 select.strategy=balanced select.scope=pairs
finish
