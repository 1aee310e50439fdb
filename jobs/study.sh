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

# split_records PART...: $input in $dir, once: a tenth held out, three tenths for the reward model that judges and nothing
# else, the rest to train on; each prepared for the model MODEL, or as bytes.
split_records() {
    local reader=(cat) part
    [[ $input == *.gz ]] && reader=(zcat)
    mkdir -p "$dir"
    [ -e "$dir/train.jsonl" ] || {
        "${reader[@]}" "$input" | awk -v d="$dir" '{
            part = NR % 10 == 0 ? "heldout" : NR % 10 % 3 == 1 ? "audit" : "train"
            print > (d "/" part ".part") }'
        for part in heldout audit train; do
            mv "$dir/$part.part" "$dir/$part.jsonl"
        done
    }
    for part in train audit heldout; do
        once "prepare-$part" prepare input="$dir/$part.jsonl" tokenizer="${base:-bytes}" output="$dir/$part.h5"
    done
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
# table WORLD ITEMS MEASURE...: a row for each item of table.csv, a column for each measure, mean and interval.
table() {
    local world=$1 items=$2
    shift 2
    awk -F, -v world="$world" -v items="$items" -v measures="$(printf '%s;' "$@")" '
        $1 == world { cell[$2, $3] = $6 == "" ? sprintf("%7.4f", $5) : sprintf("%7.4f +- %6.4f", $5, ($7 - $6) / 2) }
        END {
            n = split(measures, m, ";") - 1
            k = split(items, item, " ")
            printf "  %-16s", ""
            for (j = 1; j <= n; j++) {
                printf " %-22s", m[j]
            }
            printf "\n"
            for (i = 1; i <= k; i++) {
                line = ""
                for (j = 1; j <= n; j++) {
                    line = line sprintf(" %-22s", cell[item[i], m[j]])
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
