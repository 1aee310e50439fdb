#!/usr/bin/env bash
# From a bare Debian 12 to an aligned model: installs what lacks, builds, and runs
# prepare -> sft -> dpo -> evaluate on 2 ranks.
#   bash jobs/quickstart.sh                       preferences of a made-up world whose truth is known
#   bash jobs/quickstart.sh PAIRS.jsonl[.gz]      your pairs (HH-RLHF transcripts, TRL records, ...)
# Everything goes to runs/quickstart (RUN=folder to change that). Run again, it goes on from what is there; FRESH=1 begins
# anew. RANKS=n for another number of ranks: the numbers stay the same to rounding.
set -euo pipefail
pairs=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
. jobs/setup.sh
. jobs/env.sh
started=$SECONDS
# shellcheck disable=SC2086
install_missing $build_packages
build_program release
collimate=$PWD/build/release/collimate
name=synth
[ -z "$pairs" ] || name=$(basename "${pairs%.gz}" .jsonl)
run=${RUN:-runs/quickstart}/$name
[ "${FRESH:-0}" = 0 ] || rm -rf "$run"
mkdir -p "$run"

say() { printf '\n== %s\n' "$*"; }
parallel() { mpirun -q -n "${RANKS:-2}" "$collimate" "$@"; }

if [ -z "$pairs" ]; then
    say "synth: preferences of a text world in which a hidden rule decides"
    [ -e "$run/train.jsonl" ] || parallel synth output="$run/train.jsonl" synth.rows=4000 seed=1
    [ -e "$run/heldout.jsonl" ] || parallel synth output="$run/heldout.jsonl" synth.rows=400 seed=2
    sft=(train.steps=100 train.batch=32 train.learning_rate=3e-3)
    dpo=(train.steps=60 train.batch=32 train.learning_rate=5e-4)
else
    say "every tenth record of $pairs is held out"
    reader="cat"
    [[ "$pairs" == *.gz ]] && reader="zcat"
    $reader "$pairs" | awk -v t="$run/train.jsonl" -v h="$run/heldout.jsonl" '{ print > (NR % 10 == 0 ? h : t) }'
    sft=(train.steps=60 train.batch=16 train.learning_rate=3e-3 truncate.max_length=512)
    dpo=(train.steps=60 train.batch=16 train.learning_rate=3e-4 truncate.max_length=512)
fi

say "prepare: tokenized preference files (bytes)"
for part in train heldout; do
    [ -e "$run/$part.h5" ] || parallel prepare input="$run/$part.jsonl" tokenizer=bytes output="$run/$part.h5"
done
[ -e "$run/init/config.json" ] ||
    "$collimate" init init.config=configs/models/llama-tiny.json tokenizer=bytes output="$run/init"

say "sft: ${sft[0]#train.} on the chosen responses"
parallel sft configs/quick.yaml data="$run/train.h5" model="$run/init" output="$run/sft" "${sft[@]}"
say "dpo: ${dpo[0]#train.} from the SFT model, which is also the reference"
parallel dpo configs/quick.yaml data="$run/train.h5" model="$run/sft/model" output="$run/dpo" "${dpo[@]}"

say "evaluate: held-out pairs, before (sft) and after (dpo)"
limit=()
[ -z "$pairs" ] || limit=(truncate.max_length=512)
for stage in sft dpo; do
    parallel evaluate data="$run/heldout.h5" model="$run/$stage/model" reference="$run/sft/model" \
        output="$run/evaluate-$stage.json" "${limit[@]}"
done

# The value of a metric, and its interval, from evaluate's one JSON object.
value() { grep -oE "\"$2\": [-0-9.e+]+" "$1" | head -n 1 | sed 's/.*: //'; }
interval() { grep -oE "\"$2\": \[[^]]*\]" "$1" | sed 's/.*: //' | awk -F'[][, ]+' '{ printf "[%.3f, %.3f]", $2, $3 }'; }
row() {
    local metric=$1 stage
    printf '  %-46s' "$2"
    for stage in sft dpo; do
        printf ' %8.3f %-18s' "$(value "$run/evaluate-$stage.json" "$metric")" "$(interval "$run/evaluate-$stage.json" "$metric")"
    done
    printf '\n'
}
say "what improved, on $(value "$run/evaluate-dpo.json" rows) held-out pairs, with 95 % bootstrap intervals"
printf '  %-46s %-27s %-27s\n' '' 'before (sft)' 'after (dpo)'
row logps/accuracies 'pairs whose chosen is the more likely'
row rewards/accuracies 'pairs with a positive reward margin'
row rewards/margins 'reward margin (beta x log-ratio difference)'
row loss 'DPO loss'
echo "  (before, the policy is the reference: margins are 0 and the loss is log 2 by definition)"
say "files, after $((SECONDS - started)) s"
echo "  data       $run/train.h5 $run/heldout.h5"
echo "  metrics    $run/dpo/metrics.jsonl"
echo "  model      $run/dpo/model (a Hugging Face folder)"
echo "  next       $collimate generate data=$run/heldout.h5 model=$run/dpo/model generate.limit=3"
