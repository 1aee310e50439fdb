#!/usr/bin/env bash
# The whole line on the suspicious back end: nothing looks at device memory from the host, reads what was never
# written, writes outside its outputs or uses what it gave back; and the numbers are the CPU's, bit for bit.
set -u
. tests/common.sh

# sound RANKS ARGUMENTS...: must succeed, and the back end must have no complaint.
sound() {
    run "$@"
    grep "check:" err.txt | grep -v "under suspicion" && bad "a complaint in: $*"
}
hashes() {
    sed -nE 's|.*"parameters_hash": "([^"]*)".*|\1|p' "$1"
}

run 1 synth output=train.jsonl synth.rows=18 synth.length=5 seed=1
run 1 prepare input=train.jsonl output=train.h5 tokenizer=bytes

# One model per way through the layers: Llama (grouped queries), GPT-NeoX (parallel, biases), GPT-2 (positions).
cat > llama.json << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 258,
 "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": true, "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257}
JSON
cat > neox.json << 'JSON'
{"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": 32, "num_hidden_layers": 2,
 "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 258, "max_position_embeddings": 1024,
 "rotary_pct": 0.25, "rotary_emb_base": 10000, "layer_norm_eps": 1e-05, "hidden_act": "gelu",
 "use_parallel_residual": true, "tie_word_embeddings": false, "initializer_range": 0.08, "bos_token_id": 256,
 "eos_token_id": 257}
JSON
cat > gpt2.json << 'JSON'
{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2,
 "n_positions": 1024, "vocab_size": 258, "layer_norm_epsilon": 1e-05, "activation_function": "gelu_new",
 "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257}
JSON
for family in llama neox gpt2; do
    sound 1 init init.config=$family.json output=$family tokenizer=bytes seed=3
    common="model=$family data=train.h5 train.steps=4 train.batch=6 train.deterministic=true train.slots=2 train.clip=1"
    for device in cpu check:cpu; do
        ranks=$([ $device = cpu ] && echo 1 || echo 2)
        out=$family-${device%%:*}
        recompute=$([ $device = cpu ] && echo none || echo layers)
        sound "$ranks" dpo $common eval_data=train.h5 train.learning_rate=2e-3 output="$out" device=$device \
            train.recompute=$recompute
        sound 1 score model="$out/model" reference=$family data=train.h5 output="$out.jsonl" device=$device
        sound 1 generate model="$out/model" data=train.h5 output="$out.text" generate.max_new_tokens=12 \
            generate.temperature=1 seed=4 device=$device
    done
    [ "$(hashes $family-cpu/metrics.jsonl | wc -l)" -eq 4 ] || bad "$family: no hash in every step"
    cmp -s <(hashes $family-cpu/metrics.jsonl) <(hashes $family-check/metrics.jsonl) || bad "$family: other parameters"
    cmp -s $family-cpu.jsonl $family-check.jsonl || bad "$family: other scores"
    cmp -s $family-cpu.text $family-check.text || bad "$family: other text"
done

finish
