#!/usr/bin/env bash
# Does an installation work? Seconds, no network, nothing left behind: pairs of its own through prepare, sft, dpo, evaluate and
# generate, on one rank and on two where there is an mpirun. Says "smoke: ok", or what failed (code 1).
#   bash smoke.sh [PROGRAM]        PROGRAM: as jobs/env.sh finds it
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
COLLIMATE=${1:-${COLLIMATE:-}}
[ -n "$COLLIMATE" ] || unset COLLIMATE
. "$here/env.sh"
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

step() { # [-n RANKS] COMMAND...
    local launch=()
    if [ "$1" = -n ]; then
        launch=(mpirun -q -n "$2")
        shift 2
    fi
    "${launch[@]}" "$COLLIMATE" --quiet "$@" > out 2> err < /dev/null || {
        echo "smoke: FAILED, code $?: ${launch[*]} $COLLIMATE $*" >&2
        tail -n 5 err >&2
        exit 1
    }
}

cat > config.json << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32, "vocab_size": 258,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-06, "hidden_act": "silu", "tie_word_embeddings": true,
 "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32"}
JSON
step synth output=pairs.jsonl synth.rows=16 synth.length=4 seed=1
step prepare input=pairs.jsonl tokenizer=bytes output=pairs.h5
step init init.config=config.json tokenizer=bytes output=init
step sft data=pairs.h5 model=init output=sft train.batch=8 train.steps=2
dpo() { # OUTPUT [-n RANKS]
    step "${@:2}" dpo data=pairs.h5 model=sft/model output="$1" train.batch=8 train.steps=2
    # A policy that is its own reference has a loss of log 2.
    grep -q '^{"step": 1, "loss": 0\.69314[67]' "$1/metrics.jsonl" || {
        echo "smoke: FAILED: the first loss is not log 2: $(tail -n +2 "$1/metrics.jsonl" | head -n 1 | cut -c1-40)" >&2
        exit 1
    }
}
dpo dpo
ranks='one rank; no mpirun is here'
if command -v mpirun > /dev/null; then
    dpo dpo-2 -n 2
    ranks='one rank and two'
fi
step evaluate data=pairs.h5 model=dpo/model reference=sft/model evaluate.bootstrap=0 output=evaluate.json
step generate data=pairs.h5 model=dpo/model output=answers.jsonl generate.limit=2 generate.max_new_tokens=4
[ "$(wc -l < answers.jsonl)" -eq 2 ] || { echo "smoke: FAILED: not one answer per prompt" >&2; exit 1; }
echo "smoke: ok, $("$COLLIMATE" --version | head -n 1 | tr -s ' '), on $ranks"
