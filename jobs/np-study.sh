#!/usr/bin/env bash
# The synthetic study of few-shot reward models: two users on [0, 1] who want opposite things above 1/2; accuracy on
# held-out pairs against the number of a user's choices that the model is shown. Trains BTL, DPL and the neural process
# (deterministic with several seeds, latent), prints a table beside the published one, and plots both.
#   bash jobs/np-study.sh                 everything in runs/np-study (RUN=folder to change that)
# Runs that have a result are kept; FRESH=1 begins anew. RANKS=n: ranks of each run, the numbers stay the same to
# rounding. AT_ONCE=n: runs side by side, one core each (default: as many as there are cores). STEPS=n: fewer updates.
# SEEDS=n: seeds of the neural process (5), from 0; its accuracies are the mean over them, with Student's interval at
# 95 %: what one seed gives with one or three context pairs lies up to two points from that. NORM_BATCHES=0: batch norm's
# statistics as published (moving averages), not averaged over 110 batches after training; seeds then scatter more.
# Each neural process is evaluated twice: with one set of these statistics for contexts of all sizes, as published, and with
# statistics of contexts of the size at hand. One set costs most where contexts are small: their sums, and so the norm's input,
# are smaller than the mean of all sizes.
# The last rows are the correlation study: contexts from another set than the targets, of which a share conflicts.
set -euo pipefail
cd "$(dirname "$0")/.."
. jobs/env.sh
collimate=${COLLIMATE:-$PWD/build/release/collimate}
[ -x "$collimate" ] || { . jobs/setup.sh; build release; }
run=${RUN:-runs/np-study}
[ "${FRESH:-0}" = 0 ] || rm -rf "$run"
mkdir -p "$run"
started=$SECONDS

# name and settings of each run
studies=(
    "btl few_shot.model=btl"
    "dpl few_shot.model=dpl"
    "np-latent few_shot.model=np few_shot.latent=true few_shot.beta_kl=0.001"
)
seeds=()
for ((seed = 0; seed < ${SEEDS:-5}; seed++)); do
    studies+=("np-seed$seed few_shot.model=np seed=$seed")
    seeds+=("np-seed$seed")
done

# The correlation study: targets on which the users differ, contexts from a set of which so many pairs differ: the less they do,
# the less a choice says. On the world of [0, 1], and on texts of two users, by embeddings of a small SFT model.
shares=(0 0.25 0.5 1)
apart="few_shot.model=np few_shot.hidden=128"
[ "${NORM_BATCHES:-110}" = 0 ] || apart+=" few_shot.norm_by_context=true"
text=$run/text
for share in "${shares[@]}"; do
    studies+=(
        "apart-$share $apart few_shot.context_conflicting=$share"
        "text-$share $apart few_shot.steps=${STEPS:-600} embeddings=$text/embeddings.h5 data=$text/share-1.kind.h5,$text/share-1.harsh.h5 few_shot.context_data=$text/share-$share.kind.h5,$text/share-$share.harsh.h5"
    )
done
text_data() {
    local say=("$collimate" --quiet) share
    [ -e "$text/done" ] && return
    mkdir -p "$text"
    # On half of the responses users differ; every share is of the same responses, with other pairs.
    "${say[@]}" synth synth.kind=users synth.rows="${TEXT_ROWS:-4000}" synth.conflicting=0.5 output="$text/users.jsonl"
    for share in "${shares[@]}"; do
        "${say[@]}" prepare input="$text/users.jsonl" tokenizer=bytes prepare.objectives=kind,harsh \
            prepare.conflicting="$share" output="$text/share-$share.h5" overwrite=true
    done
    "${say[@]}" init init.config=configs/models/llama-tiny.json tokenizer=bytes output="$text/init" overwrite=true
    "${say[@]}" sft data="$text/share-1.h5" model="$text/init" output="$text/sft" train.steps="${TEXT_STEPS:-100}" \
        train.batch=32 train.learning_rate=3e-3 overwrite=true
    "${say[@]}" embed data="$text/share-1.h5" model="$text/sft/model" output="$text/embeddings.h5"
    touch "$text/done"
}

# The world itself, for those who want to look at it; few-shot draws the same one.
[ -e "$run/pairs.csv" ] || "$collimate" --quiet synth synth.kind=pairs output="$run/pairs.csv"

text_data
train() {
    local name=$1 steps=(few_shot.steps="${STEPS:-0}")
    shift
    [ -e "$run/$name/result.json" ] && return
    [[ "$*" != *few_shot.steps* ]] || steps=()
    mpirun -q -n "${RANKS:-1}" "$collimate" --quiet few-shot output="$run/$name" threads=1 \
        "${steps[@]}" few_shot.norm_batches="${NORM_BATCHES:-110}" "$@" && echo "$name done after $((SECONDS - started)) s"
}
at_once=${AT_ONCE:-$(nproc)}
pids=()
for study in "${studies[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do
        wait -n
    done
    # shellcheck disable=SC2086
    train $study &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid"
done
by_size=()
for name in "${seeds[@]}"; do
    [ "${NORM_BATCHES:-110}" != 0 ] || break
    by_size+=("by-size-$name")
    [ -e "$run/by-size-$name/result.json" ] || mpirun -q -n "${RANKS:-1}" "$collimate" --quiet few-shot model="$run/$name" \
        output="$run/by-size-$name" threads=1 few_shot.norm_batches="${NORM_BATCHES:-110}" few_shot.norm_by_context=true
done

# Accuracy and its error in percent at each context size, of the measure $2 in result.json.
accuracies() {
    grep -oE "\"context\": [0-9]+, \"users\": [0-9]+, [^[]*" "$run/$1/result.json" |
        sed -E "s/.*\"context\": ([0-9]+),.*\"$2\": ([0-9.e-]+).*\"$2_error\": ([0-9.e-]+).*/\1 \2 \3/" |
        awk '{ printf "%s%d %.2f %.2f", (NR > 1 ? " " : ""), $1, 100 * $2, 100 * $3 } END { print "" }'
}
row() {
    printf '%-42s' "$1"
    shift
    while [ $# -gt 0 ]; do
        printf ' %5.1f +- %3.1f' "$2" "$3"
        shift 3
    done
    printf '\n'
}
# Mean over the seeds, and the half of its interval, for each context size, of the measure $1; $2: which evaluation.
over_seeds() {
    local name
    for name in "${seeds[@]}"; do
        accuracies "${2:-}$name" "$1" | xargs -n 3 | awk -v seed="$name" '{ print "np," seed ",k" $1 ",accuracy," $2 }'
    done | awk -F, -f jobs/intervals.awk |
        awk -F, 'NR > 1 { printf "%s%s %.2f %.2f", (NR > 2 ? " " : ""), substr($2, 2), $5, ($7 - $6) / 2 }'
}
published() { printf '%-42s %5s        %5s        %5s        %5s        %5s\n' "$@"; }
table() {
    local name
    published 'accuracy, % (+- standard error over users)' 'k = 0' 1 3 5 10
    published 'published BTL (any k)' 76.4 '' '' '' ''
    # shellcheck disable=SC2046
    row 'btl' $(accuracies btl accuracy)
    published 'published DPL (any k)' 76.3 '' '' '' ''
    # shellcheck disable=SC2046
    row 'dpl' $(accuracies dpl accuracy)
    published 'published NP-BTL' 76.4 86.6 94.7 97.4 98.9
    published 'independent re-run of it, seed 0' 76.6 86.1 93.0 95.8 98.4
    published 'independent re-run of it, seed 1' 76.7 86.5 94.1 96.4 96.2
    # shellcheck disable=SC2046
    row "NP-BTL, mean of ${#seeds[@]} seeds +- half of interval" $(over_seeds paper_unseen)
    for name in "${seeds[@]}" np-latent; do
        # shellcheck disable=SC2046
        row "  $name" $(accuracies "$name" paper_unseen)
    done
    if [ "${#by_size[@]}" -gt 0 ]; then
        echo "with batch norm's statistics of contexts of each size:"
        # shellcheck disable=SC2046
        row "NP-BTL, mean of ${#seeds[@]} seeds +- half of interval" $(over_seeds paper_unseen by-size-)
        for name in "${by_size[@]}"; do
            # shellcheck disable=SC2046
            row "  ${name#by-size-}" $(accuracies "$name" paper_unseen)
        done
    fi
    echo 'the same on pairs that were not shown (what was published counts positions k and up, some of them shown):'
    # shellcheck disable=SC2046
    row "NP-BTL, mean of ${#seeds[@]} seeds +- half of interval" $(over_seeds unseen)
    for name in "${seeds[@]}" np-latent; do
        # shellcheck disable=SC2046
        row "  $name" $(accuracies "$name" unseen)
    done
}
correlation() {
    local share
    published 'targets on which users differ, contexts of' 'k = 0' 1 3 5 10
    for share in "${shares[@]}"; do
        # shellcheck disable=SC2046
        row "  [0, 1], of which a share of $share differs" $(accuracies "apart-$share" accuracy)
    done
    for share in "${shares[@]}"; do
        # shellcheck disable=SC2046
        row "  texts, of which a share of $share differs" $(accuracies "text-$share" accuracy)
    done
}
{ table && correlation; } | tee "$run/table.txt"
python=$(command -v "${PYTHON:-python3}" || true)
if [ -n "$python" ] && "$python" -c 'import matplotlib' 2> /dev/null; then
    "$python" benchmarks/plot.py np-study "$run" --output "$run/np-study.png"
else
    echo "no plot: ${PYTHON:-python3} with matplotlib is not here (PYTHON=interpreter names another)"
fi
echo "done after $((SECONDS - started)) s; table in $run/table.txt"
