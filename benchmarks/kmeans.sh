#!/usr/bin/env bash
# k-means of synthetic rows from given centers, and a balanced half of them: collimate beside scikit-learn (Lloyd) and
# faiss on 2 threads, the same rows, first centers and iterations, interleaved in one run.
#   benchmarks/kmeans.sh [ROUNDS [RESULTS.csv]]
# Environment variables: ROWS; WIDTHS and CLUSTERS, lists, each with each; DECAY: column d is scaled by d^-DECAY (0: noise
# that is alike in all directions; 0.5: a spectrum that falls, as embeddings have it); ITERATIONS; PROGRAMS, a list
# of: collimate (2 ranks), threads (1 rank with 2 threads), plain (2 ranks, no distance spared: bench.pruning=none),
# files (2 ranks, rows read from a file in each pass, 64 MiB of memory for them), sklearn, faiss (Kmeans), faiss-super
# (SuperKmeans: prunes by chance bounds, and takes no given centers: random rows). PYTHON names an interpreter that has
# scikit-learn, faiss-cpu and threadpoolctl; COLLIMATE the program. A pass is one assignment of all rows (and the new
# centers).
set -euo pipefail
rounds=${1:-2} results=${2:-kmeans.csv}
rows=${ROWS:-1000000} decay=${DECAY:-0} iterations=${ITERATIONS:-10}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../jobs/env.sh"
collimate=${COLLIMATE:-$here/../build/release/collimate}
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ours() { # NAME RANKS KEY=VALUE...
    local name=$1 ranks=$2
    shift 2
    OMP_NUM_THREADS=$((2 / ranks)) mpirun -q -n "$ranks" "$collimate" --quiet bench bench.kind=kmeans threads=$((2 / ranks)) \
        bench.rows="$rows" bench.width="$width" bench.clusters="$clusters" bench.iterations="$iterations" \
        bench.decay="$decay" output="$scratch/ours.csv" "$@" > /dev/null
    awk -F, -v round="$round" -v name="$name" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        NR == 2 { printf "%d,%s,%d,%d,%d,%.3f,%.4f,%.8g,%.0f,%.1f\n", round, name, $at["width"], $at["clusters"],
                  $at["iterations"], $at["seconds"], $at["pass_seconds"], $at["objective"], $at["peak_mib"],
                  100 * $at["spared"] }' "$scratch/ours.csv"
}
peer() { # NAME
    "$python" "$here/peers/kmeans.py" "$1" --rows "$rows" --width "$width" --clusters "$clusters" --decay "$decay" \
        --iterations "$iterations" --threads 2 > "$scratch/peer.json"
    field() { grep -oE "\"$1\": [-0-9.e+]+" "$scratch/peer.json" | grep -oE '[-0-9.e+]+$'; }
    printf '%d,%s,%d,%d,%d,%.3f,%.4f,%.8g,%.0f,\n' "$round" "$1" "$width" "$clusters" "$(field iterations)" \
        "$(field seconds)" "$(field pass_seconds)" "$(field objective)" "$(field peak_mib)"
}
echo "round,program,width,clusters,iterations,seconds,pass_seconds,objective,peak_mib,spared" > "$results"
for round in $(seq "$rounds"); do # in turn, so that a neighbor's load hits all
    for width in ${WIDTHS:-256}; do
        for clusters in ${CLUSTERS:-256}; do
            for program in ${PROGRAMS:-collimate sklearn faiss files}; do
                case $program in
                collimate) ours collimate 2 ;;
                threads) ours collimate-threads 1 ;;
                plain) ours collimate-plain 2 bench.pruning=none ;;
                files) ours collimate-files 2 bench.memory_mib=64 ;;
                *) peer "$program" ;;
                esac >> "$results"
            done
        done
    done
done
echo "$rows rows, decay $decay; load $(cut -d' ' -f1-3 /proc/loadavg); best of $rounds rounds"
printf '%6s %8s %-18s %9s %10s %10s %12s %9s\n' width clusters program "s / pass" "rows / s" objective "peak MiB" "spared %"
tail -n +2 "$results" | sort -t, -k3,3n -k4,4n -k2,2 -k7,7g | awk -F, -v rows="$rows" '!seen[$2, $3, $4]++ {
    printf "%6d %8d %-18s %9.4f %10.0f %12.8g %9.0f %9s%s\n", $3, $4, $2, $7, rows / $7, $8, $9, $10,
        $2 ~ /^collimate(-plain|-files)?$/ ? "  (MiB a rank)" : "" }'
