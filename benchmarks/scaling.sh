#!/usr/bin/env bash
# Weak and strong scaling of SFT, DPO, reward training and embed, on one machine or over nodes under Slurm.
#   benchmarks/scaling.sh [RESULTS_FOLDER]         here: mpirun, about 8 minutes on 2 cores
#   QUICK=1 benchmarks/scaling.sh RESULTS_FOLDER   every phase once, tiny, seconds: no figures worth keeping
#   sbatch -N8 --ntasks-per-node=4 --wrap 'LAUNCH="srun --mpi=pmix -N%N -n%P" RANKS="1 4 8 16 32" RANKS_PER_NODE=4 \
#     SHAPE=configs/models/neox-70m.json ROWS=64 LENGTH=400 benchmarks/scaling.sh results'
# Strong: a fixed global batch, E(p) = T(p0) p0 / (p T(p)). Weak: a fixed batch a rank, E(p) = T(p0) / T(p); p0 is the first
# of RANKS. T is the time between the closing sums of two steps, which no rank leaves before all have come: the slowest
# rank's. Median over the steps after the warm-up; efficiencies are of the runs of one round, medians over the rounds, which
# are interleaved because a machine's speed drifts. `valid`: the loss after VALID_STEPS steps is that of one rank with the same
# batch. Writes scaling.csv, table.txt, environment.json and, where PYTHON has matplotlib, scaling.png.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
. "$root/jobs/env.sh"

# Settings; the environment wins.
TASKS=${TASKS:-sft dpo reward embed}
RANKS=${RANKS:-1 2 4}              # the first is p0
THREADS=${THREADS:-1}              # of a rank
BESIDE=${BESIDE:-2}                # one rank with so many threads, beside as many ranks of one; 0: not
ROUNDS=${ROUNDS:-3}
STEPS=${STEPS:-20}                 # counted
WARMUP=${WARMUP:-5}                # not counted
VALID_STEPS=${VALID_STEPS:-5}
ROWS=${ROWS:-8}                    # pairs (dpo, reward) of a step: of all ranks (strong), of a rank (weak); sft has twice as many
EMBED_ROWS=${EMBED_ROWS:-400}      # pairs that are embedded, likewise
LENGTH=${LENGTH:-10}               # words of a response
MICRO_TOKENS=${MICRO_TOKENS:-4096} # of a forest
EMBED_TOKENS=${EMBED_TOKENS:-1024} # of embed's
SHAPE=${SHAPE:-}                   # config.json of a model whose vocabulary holds the bytes; none: 3 million parameters
LAUNCH=${LAUNCH:-mpirun -q -n %P}  # %P ranks, %N nodes
RANKS_PER_NODE=${RANKS_PER_NODE:-1000000}
PYTHON=${PYTHON:-python3}
if [ "${QUICK:-0}" = 1 ]; then
    RANKS="1 2" ROUNDS=1 STEPS=3 WARMUP=1 VALID_STEPS=2 EMBED_ROWS=4 LENGTH=4
fi
results=$(realpath -m "${1:-$here/results/$(bash "$here/machine.sh")}")
# WORK keeps data and runs: a benchmark that was broken off goes on there.
work=${WORK:-}
[ -n "$work" ] || { work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT; }
mkdir -p "$results" "$work/raw"

collimate() { "$COLLIMATE" --quiet "$@"; }
# launch RANKS ARGUMENTS...
launch() {
    local words=$LAUNCH ranks=$1
    words=${words//%P/$ranks}
    words=${words//%N/$(((ranks + RANKS_PER_NODE - 1) / RANKS_PER_NODE))}
    shift
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=${threads:-$THREADS} $words "$COLLIMATE" "$@"
}

# Data and model: text with known preferences, bytes as tokens.
most=$(printf '%s\n' $RANKS | sort -n | tail -n 1)
if [ ! -e "$work/model" ]; then
    [ -n "$SHAPE" ] || cat > "$work/shape.json" << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 4,
 "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 688, "vocab_size": 258,
 "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": false, "initializer_range": 0.02, "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32"}
JSON
    rows=$((ROWS * most * 4))
    collimate synth output="$work/pairs.jsonl" synth.rows=$rows synth.length="$LENGTH" seed=1
    collimate prepare input="$work/pairs.jsonl" output="$work/pairs.h5" tokenizer=bytes
    for p in $(printf '%s\n' 1 $RANKS | sort -nu); do
        collimate synth output="$work/embed.jsonl" synth.rows=$((EMBED_ROWS * p)) synth.length="$LENGTH" seed=2
        collimate prepare input="$work/embed.jsonl" output="$work/embed-$p.h5" tokenizer=bytes
    done
    collimate init init.config="${SHAPE:-$work/shape.json}" output="$work/model.new" tokenizer=bytes seed=3
    mv "$work/model.new" "$work/model"
fi

# Seconds of all processors that were busy since the start of the machine.
busy() { awk -v hz="$(getconf CLK_TCK)" '/^cpu / { print ($2 + $3 + $4 + $7 + $8) / hz }' /proc/stat; }

# one TASK MODE RANKS ROUND STEPS: a run of its own, or nothing where it is there already. Its folder gets run.json, metrics
# (training) or seconds.txt (embed), and what else kept the machine busy meanwhile, as a share of it.
one() {
    local task=$1 mode=$2 ranks=$3 round=$4 steps=$5 batch=$ROWS multiple=1
    local folder=$work/raw/$1-$2-$3-$4 keys=() before began own micro=$MICRO_TOKENS
    case $task in
    sft) batch=$((2 * ROWS)) ;;
    embed) batch=$EMBED_ROWS micro=$EMBED_TOKENS ;;
    esac
    case $mode in
    weak) multiple=$ranks ;;
    reference) multiple=$ranks ranks=1 ;;
    esac
    batch=$((batch * multiple))
    [ -e "$folder/run.json" ] && return
    rm -rf "$folder" && mkdir -p "$folder"
    if [ "$task" = embed ]; then
        keys=(embed data="$work/embed-$multiple.h5" output="$folder/embeddings.h5")
    else
        keys=("$task" data="$work/pairs.h5" output="$folder/run" train.batch=$batch train.steps="$steps"
            train.slots=$((most > 8 ? most : 8)) train.learning_rate=1e-3 train.shuffle=false)
    fi
    keys+=(model="$work/model" train.micro_tokens="$micro")
    echo "$ranks ranks of ${threads:-$THREADS} threads: ${keys[*]}" >&2
    before=$(busy) began=$EPOCHREALTIME
    { TIMEFORMAT='%U %S' && time launch "$ranks" "${keys[@]}" > "$folder/out.txt" 2> "$folder/err.txt"; } \
        2> "$folder/time.txt" || { echo "failed: ${keys[*]}" >&2; tail -n 5 "$folder/err.txt" >&2; exit 1; }
    if [ "$task" = embed ]; then
        sed -n 's/.* \([0-9]*\) tokens in \([0-9.]*\) s,.*/\1 \2/p' "$folder/err.txt" > "$folder/seconds.txt"
    else
        mv "$folder/run/metrics.jsonl" "$folder/run/environment.json" "$folder/run/log.txt" "$folder"
        rm -rf "$folder/run"
    fi
    own=$(awk '{ print $1 + $2 }' "$folder/time.txt")
    awk -v before="$before" -v after="$(busy)" -v own="$own" -v began="$began" -v ended="$EPOCHREALTIME" -v cores="$(getconf _NPROCESSORS_ONLN)" \
        -v task="$task" -v mode="$mode" -v ranks="$ranks" -v threads="${threads:-$THREADS}" -v batch=$batch -v micro="$micro" -v round="$round" \
        -v known="$([[ $LAUNCH == mpirun* ]] && echo 1 || echo 0)" \
        -v nodes=$(((ranks + RANKS_PER_NODE - 1) / RANKS_PER_NODE)) 'BEGIN {
        other = (after - before - own) / (cores * (ended - began))
        printf "{\"task\": \"%s\", \"mode\": \"%s\", \"nodes\": %d, \"ranks\": %d, \"threads\": %d, \"batch\": %d, \"micro_tokens\": %d, ",
            task, mode, nodes, ranks, threads, batch, micro
        printf "\"round\": \"%s\", \"other_load\": %s}\n", round, known ? sprintf("%.3f", other < 0 ? 0 : other) : "null"
    }' > "$folder/run.json"
}

# The first runs compute the reference scores of dpo and fill the caches: not counted.
for task in $TASKS; do one "$task" warm 1 0 2; done
# Losses of one rank for every batch.
for task in $TASKS; do
    for p in $RANKS; do one "$task" reference "$p" 0 "$VALID_STEPS"; done
done
for round in $(seq "$ROUNDS"); do
    for task in $TASKS; do
        echo "round $round of $ROUNDS: $task" >&2
        for p in $RANKS; do
            one "$task" strong "$p" "$round" $((WARMUP + STEPS))
            # The smallest count is the same for both.
            [ "$p" = "${RANKS%% *}" ] || one "$task" weak "$p" "$round" $((WARMUP + STEPS))
        done
        [ "$BESIDE" = 0 ] || threads=$BESIDE one "$task" threads 1 "$round" $((WARMUP + STEPS))
    done
done

# embed is valid where every vector is that of one rank.
if [[ " $TASKS " == *" embed "* ]]; then
    for folder in "$work"/raw/embed-{strong,weak,threads}-*; do
        [ -e "$folder/embeddings.h5" ] || continue
        batch=$(sed 's/.*"batch": \([0-9]*\).*/\1/' "$folder/run.json")
        collimate inspect input="$folder/embeddings.h5" inspect.report="$folder/drift.jsonl" \
            inspect.against="$work/raw/embed-reference-$((batch / EMBED_ROWS))-0/embeddings.h5" > "$folder/drift.txt"
    done
fi

"$COLLIMATE" --version > "$work/version.txt"
"$PYTHON" "$here/scaling_table.py" "$work" "$results" --warm-up "$WARMUP" --valid-steps "$VALID_STEPS"
if "$PYTHON" -c 'import matplotlib' 2> /dev/null; then
    "$PYTHON" "$here/plot.py" scaling "$results/scaling.csv" --output "$results/scaling.png"
fi
