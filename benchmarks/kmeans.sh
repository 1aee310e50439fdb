#!/usr/bin/env bash
# A balanced half of a million synthetic rows (k-means from given centers, equal quotas): collimate on 2 ranks, beside
# scikit-learn (Lloyd) and faiss on 2 threads, the same rows, first centers and iterations, interleaved in one run.
#   benchmarks/kmeans.sh [ROUNDS [RESULTS.csv]]
# ROWS, WIDTH, CLUSTERS, ITERATIONS are environment variables. PYTHON names an interpreter that has scikit-learn,
# faiss-cpu and threadpoolctl; COLLIMATE the program. A pass is one assignment of all rows (and the new centers).
# "files": the same with rows read from a file in each pass, 64 MiB of memory for them at most.
set -euo pipefail
rounds=${1:-2} results=${2:-kmeans.csv}
rows=${ROWS:-1000000} width=${WIDTH:-256} clusters=${CLUSTERS:-256} iterations=${ITERATIONS:-10}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../jobs/env.sh"
collimate=${COLLIMATE:-$here/../build/release/collimate}
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ours() { # NAME KEY=VALUE...
    local name=$1
    shift
    OMP_NUM_THREADS=1 mpirun -q -n 2 "$collimate" --quiet bench bench.kind=kmeans threads=1 bench.rows="$rows" \
        bench.width="$width" bench.clusters="$clusters" bench.iterations="$iterations" \
        output="$scratch/ours.csv" "$@" > /dev/null
    awk -F, -v round="$round" -v name="$name" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        NR == 2 { printf "%d,%s,%d,%.3f,%.4f,%.8g,%.0f\n", round, name, $at["iterations"], $at["seconds"],
                  $at["pass_seconds"], $at["objective"], $at["peak_mib"] }' "$scratch/ours.csv"
}
peer() { # NAME
    "$python" "$here/peers/kmeans.py" "$1" --rows "$rows" --width "$width" --clusters "$clusters" \
        --iterations "$iterations" --threads 2 > "$scratch/peer.json"
    field() { grep -oE "\"$1\": [-0-9.e+]+" "$scratch/peer.json" | grep -oE '[-0-9.e+]+$'; }
    printf '%d,%s,%d,%.3f,%.4f,%.8g,%.0f\n' "$round" "$1" "$(field iterations)" "$(field seconds)" \
        "$(field pass_seconds)" "$(field objective)" "$(field peak_mib)"
}
echo "round,program,iterations,seconds,pass_seconds,objective,peak_mib" > "$results"
for round in $(seq "$rounds"); do # in turn, so that a neighbor's load hits all
    { ours collimate; peer sklearn; peer faiss; ours collimate-files bench.memory_mib=64; } >> "$results"
done
echo "$rows rows of $width, $clusters clusters; load $(cut -d' ' -f1-3 /proc/loadavg); best of $rounds rounds"
printf '%-16s %10s %12s %14s %14s\n' program "s / pass" "rows / s" objective "peak MiB"
tail -n +2 "$results" | sort -t, -k2,2 -k5,5g | awk -F, -v rows="$rows" '!seen[$2]++ {
    printf "%-16s %10.4f %12.0f %14.8g %14.0f%s\n", $2, $5, rows / $5, $6, $7, $2 ~ /collimate/ ? " a rank" : "" }'
