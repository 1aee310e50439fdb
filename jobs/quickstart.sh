#!/usr/bin/env bash
# From a bare Debian 12 to an aligned model: installs what lacks, builds, and runs
# prepare -> sft -> dpo -> evaluate on 2 ranks.
#   bash jobs/quickstart.sh                       preferences of a made-up world whose truth is known
#   bash jobs/quickstart.sh PAIRS.jsonl[.gz]      your pairs (HH-RLHF transcripts, TRL records, ...)
# Everything goes to runs/quickstart (RUN=folder to change that); run it again to go on where it stopped.
set -euo pipefail
pairs=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
. jobs/setup.sh
. jobs/env.sh
started=$SECONDS
# shellcheck disable=SC2086
install_missing $build_packages
build release
collimate=$PWD/build/release/collimate
run=${RUN:-runs/quickstart}
ranks=${RANKS:-2}
mkdir -p "$run"
say() { printf '\n== %s\n' "$*"; }
parallel() { mpirun -q -n "$ranks" "$collimate" "$@"; }

if [ -z "$pairs" ]; then
    say "preferences of a text world: a hidden rule decides, so the truth is known"
    parallel synth output="$run/train.jsonl" synth.rows=4000 seed=1
    parallel synth output="$run/heldout.jsonl" synth.rows=400 seed=2
    steps_sft=150 steps_dpo=150 batch=32
else
    say "$pairs: every tenth pair is held out"
    reader="cat"
    [[ "$pairs" == *.gz ]] && reader="zcat"
    $reader "$pairs" | awk -v t="$run/train.jsonl" -v h="$run/heldout.jsonl" '{ print > (NR % 10 == 0 ? h : t) }'
    steps_sft=60 steps_dpo=60 batch=16
fi

say "prepare: tokenised preference files (bytes)"
for part in train heldout; do
    parallel prepare input="$run/$part.jsonl" tokenizer=bytes output="$run/$part.h5"
done
[ -d "$run/init" ] || "$collimate" init init.config=configs/models/llama-tiny.json tokenizer=bytes output="$run/init"

say "sft: $steps_sft updates on the chosen responses, $ranks ranks"
parallel sft configs/quick.yaml data="$run/train.h5" model="$run/init" output="$run/sft" \
    train.steps=$steps_sft train.batch=$batch train.learning_rate=2e-3
say "dpo: $steps_dpo updates from the SFT model"
parallel dpo configs/quick.yaml data="$run/train.h5" model="$run/sft/model" output="$run/dpo" \
    train.steps=$steps_dpo train.batch=$batch train.learning_rate=3e-4

say "evaluate on held-out pairs, against the SFT model as reference"
for stage in sft dpo; do
    parallel evaluate configs/quick-evaluate.yaml data="$run/heldout.h5" model="$run/$stage/model" \
        reference="$run/sft/model" > "$run/evaluate-$stage.json"
done
"$collimate" inspect input="$run"
