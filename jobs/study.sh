# shellcheck shell=bash disable=SC2154
# Sourced by the studies: many short runs of collimate, each once. Needs: run (the folder of results), ranks, at_once (empty:
# as many runs side by side as there are cores for), seeds, and of a user's records input and base.
. jobs/env.sh
collimate=$COLLIMATE
[ -x "$collimate" ] || { . jobs/setup.sh && build_program release; }
[ "${FRESH:-0}" = 0 ] || rm -rf "$run"
mkdir -p "$run"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} # steps of milliseconds, side by side: nobody spins on a shared core
cores=$(nproc)
: "${at_once:=$((cores / ranks > 0 ? cores / ranks : 1))}"
threads=$((cores / (at_once * ranks) > 0 ? cores / (at_once * ranks) : 1))
say() { printf '%4d s  %s\n' $SECONDS "$*"; }
die() {
    echo "$(basename "$0" .sh): $*" >&2
    exit 1
}

# once NAME COMMAND KEY=VALUE...: runs collimate, unless that is done in $dir, where everything of a seed stands.
once() {
    local name=$1 mark=$dir/done/$1 call
    shift
    if [ -e "$mark" ]; then
        [ "$(< "$mark")" = "$*" ] || die "$mark: made with other settings; FRESH=1 begins anew"
        return
    fi
    mkdir -p "$dir/done" "$dir/log"
    call=("$collimate" "$@" threads="$threads")
    [ "$ranks" = 1 ] || call=(mpirun -q -n "$ranks" "${call[@]}")
    if ! "${call[@]}" > "$dir/log/$name.txt" 2>&1; then
        tail -n 3 "$dir/log/$name.txt" >&2
        die "$name failed; all it said is in $dir/log/$name.txt"
    fi
    echo "$*" > "$mark"
}
# The first number called $2 in the JSON file $1; nothing where there is none.
value() { grep -oE "\"$2\": [-0-9.e+]+" "$1" | head -n 1 | sed 's/.*: //' || true; }
# How many prompts, responses or pairs ($2) are in $1.h5.
size() { "$collimate" inspect input="$1.h5" 2> "$dir/log/size.txt" | awk -v w="$2" '$1 == w { print $2 + 0; exit }'; }

# split_records [TURN]: $input in $dir, once: a tenth held out, another one at each TURN from 0 to 9, three tenths for the reward
# model that judges and nothing else, the rest to train on; each prepared for the model MODEL, or as bytes.
split_records() {
    local reader=(cat) part turn=${1:-0}
    [[ $input == *.gz ]] && reader=(zcat)
    mkdir -p "$dir"
    [ -e "$dir/train.jsonl" ] || {
        "${reader[@]}" "$input" | awk -v d="$dir" -v turn="$turn" '{
            at = (NR + turn) % 10
            part = at == 0 ? "heldout" : at % 3 == 1 ? "audit" : "train"
            print > (d "/" part ".part") }'
        for part in heldout audit train; do
            mv "$dir/$part.part" "$dir/$part.jsonl"
        done
    }
    for part in train audit heldout; do
        once "prepare-$part" prepare input="$dir/$part.jsonl" tokenizer="${base:-bytes}" output="$dir/$part.h5"
    done
}
# word_tokenizer FOLDER: a tokenizer whose tokens are the words on standard input, each with the space before it: a position is a
# word.
word_tokenizer() {
    local folder=$1
    mkdir -p "$folder"
    {
        printf '{"version": "1.0", "normalizer": null, "post_processor": null, "added_tokens": ['
        printf '{"id": 0, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, '
        printf '"normalized": false}], "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": '
        printf '"never", "split": false}, "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", '
        printf '"split": false}, "model": {"type": "Unigram", "unk_id": 1, "byte_fallback": false, "vocab": [["</s>", 0], '
        printf '["<unk>", 0], ["Q:", -1], ["?", -1], ["\\nA:", -1], [".", -1]'
        tr -s ' ' '\n' | sort -u | sed -n 's/^..*/, ["▁&", -1]/p' | tr -d '\n'
        printf ']}}\n'
    } > "$folder/tokenizer.part"
    echo '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}' \
        > "$folder/tokenizer_config.json"
    mv "$folder/tokenizer.part" "$folder/tokenizer.json"
}
# study_seeds WORLD: study_seed WORLD 1, 2, …, at_once side by side; await_seeds waits for those of all worlds.
pids=()
study_seeds() {
    local seed
    for ((seed = 1; seed <= seeds; seed++)); do
        while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do
            wait -n || die "a seed failed"
        done
        study_seed "$1" "$seed" &
        pids+=($!)
    done
}
await_seeds() {
    local pid
    for pid in "${pids[@]}"; do
        wait "$pid" || die "a seed failed"
    done
}
# table WORLD ITEMS MEASURE...: a row for each item of table.csv that has numbers (items with spaces between them, or a ; behind
# each), a column for each measure, mean and half of the interval, in the formats $mean and $half and columns of $width.
table() {
    local world=$1 items=$2
    shift 2
    [[ $items == *\;* ]] || items=${items// /;}\;
    awk -F, -v world="$world" -v items="$items" -v measures="$(printf '%s;' "$@")" -v column=" %-${width:-22}s" \
        -v mean="${mean:-%7.4f}" -v half="${half:-%6.4f}" '
        $1 == world { cell[$2, $3] = sprintf(mean, $5) ($6 == "" ? "" : " +- " sprintf(half, ($7 - $6) / 2)) }
        END {
            n = split(measures, m, ";") - 1
            k = split(items, item, ";") - 1
            printf "  %-16s", ""
            for (j = 1; j <= n; j++) {
                printf column, m[j]
            }
            printf "\n"
            for (i = 1; i <= k; i++) {
                line = ""
                for (j = 1; j <= n; j++) {
                    line = line sprintf(column, cell[item[i], m[j]])
                }
                if (line ~ /[0-9]/) {
                    printf "  %-16s%s\n", item[i], line
                }
            }
        }' "$run/table.csv"
}
# plot KIND: KIND.png of the folder of results, where there is a Python with matplotlib.
plot() {
    local python
    python=$(command -v "${PYTHON:-python3}" || true)
    if [ -n "$python" ] && "$python" -c 'import matplotlib' 2> /dev/null; then
        "$python" benchmarks/plot.py "$1" "$run" --output "$run/$1.png"
    else
        echo "no plot: ${PYTHON:-python3} with matplotlib is not here (PYTHON=interpreter names another)"
    fi
}
# study_worlds KIND [PREPARE]: the seeds of all $worlds, PREPARE first in $dir where there is a user's file; then collect, report
# and the plot of that KIND.
study_worlds() {
    local world
    for world in $worlds; do
        dir=$run/$world
        [ -z "$input" ] || [ -z "${2:-}" ] || "$2"
        study_seeds "$world"
    done
    await_seeds
    collect
    report | tee "$run/table.txt"
    plot "$1"
    say "table in $run/table.txt"
}
