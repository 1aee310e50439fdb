#!/usr/bin/env bash
# Builds the fuzz targets (clang, libFuzzer, AddressSanitizer, UBSan) and runs each for SECONDS, two at a time.
#   bash tests/fuzz/run.sh 60                   all of them, a minute each
#   bash tests/fuzz/run.sh 3600 records yaml    these, an hour each
# A crash, a leak, an input of more than 10 s or an allocation of more than 1 GiB ends with an error; the input lies in
# build/fuzz/findings/TARGET. It becomes a seed (tests/fuzz/seeds/TARGET) once what it found is put right: the seeds are
# run by every build's tests. What grows from the seeds stays in build/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:?usage: run.sh SECONDS [TARGET...]}
shift
at_once=${FUZZ_AT_ONCE:-2}
targets=("$@")
if [ $# -eq 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        name=${source##*/fuzz_}
        targets+=("${name%.c}")
    done
fi

. jobs/setup.sh
. jobs/env.sh
[ -f build/fuzz/build.ninja ] || configure fuzz
cmake --build --preset fuzz -- --quiet
work=$(mktemp -d "${FUZZ_SCRATCH:-/dev/shm}/fuzz.XXXXXX" 2> /dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_MCA_ess_singleton_isolated=1 # no launcher for one rank
export OMP_NUM_THREADS=1
export LSAN_OPTIONS=suppressions=$PWD/tests/leaks.txt:print_suppressions=0
export UBSAN_OPTIONS=print_stacktrace=1

# fuzz TARGET: grows its corpus, then runs what it grew once more with a look at leaks (which needs slow stack traces).
fuzz() {
    local target=$1 program=build/fuzz/tests/fuzz_$1 corpus=build/fuzz/corpus/$1 findings=build/fuzz/findings/$1 log rc=0
    mkdir -p "$corpus" "$findings" "$work/$target"
    log=build/fuzz/$target.log
    local options=(-timeout=10 -rss_limit_mb=3072 -malloc_limit_mb=1024 -artifact_prefix="$findings/" -print_final_stats=1)
    [ -f "tests/fuzz/$target.dict" ] && options+=(-dict="tests/fuzz/$target.dict")
    TMPDIR=$work/$target ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 nice \
        "$program" "${options[@]}" -max_total_time="$seconds" "$corpus" "tests/fuzz/seeds/$target" > "$log" 2>&1 || rc=$?
    if [ $rc -eq 0 ]; then
        TMPDIR=$work/$target ASAN_OPTIONS=detect_leaks=1:fast_unwind_on_malloc=0:allocator_may_return_null=1 nice \
            "$program" "${options[@]}" -runs=0 "$corpus" "tests/fuzz/seeds/$target" >> "$log" 2>&1 || rc=$?
    fi
    awk -v target="$target" '
        /DONE +cov:/ && !coverage { for (i = 1; i < NF; i++) if ($i == "cov:") coverage = $(i + 1) }
        /stat::number_of_executed_units/ && !runs { runs = $2 }
        /stat::peak_rss_mb/ && !peak { peak = $2 }
        /stat::slowest_unit_time_sec/ && !slowest { slowest = $2 }
        END { printf "%-10s %9d inputs, %5d edges covered, slowest %d s, peak %d MiB\n", target, runs, coverage, slowest, peak }
    ' "$log"
    [ $rc -eq 0 ] && return 0
    echo "FAILED: $target: code $rc; the input is in $findings, all of the report in $log"
    grep -E -m 3 'ERROR:|SUMMARY:|runtime error:|^code [0-9]|does not hold|^last message' "$log" || tail -5 "$log"
    return 1
}
export -f fuzz
export seconds work
printf '%s\n' "${targets[@]}" | xargs -P "$at_once" -I{} bash -c 'fuzz {}'
