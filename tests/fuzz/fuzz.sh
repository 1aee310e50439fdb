#!/usr/bin/env bash
# Builds the fuzz targets (clang, libFuzzer, AddressSanitizer, UBSan) and runs them two at a time.
#   bash tests/fuzz/fuzz.sh fixed                what CI runs: a fixed number of inputs of each, the same ones at each run
#   bash tests/fuzz/fuzz.sh 600                  all of them, 10 minutes each, from a new seed
#   bash tests/fuzz/fuzz.sh 3600 records yaml    these, an hour each
# A crash, a leak, a slow input (10 s; 100 s in a fixed run) or an allocation of more than 1 GiB ends with an error; the
# input lies in build/fuzz/findings/TARGET. It becomes a seed (tests/fuzz/seeds/TARGET) once what it found is put right:
# every build's tests run the seeds. What grows from them in runs of the second kind stays in build/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:?usage: fuzz.sh fixed|SECONDS [TARGET...]}
shift
at_once=${FUZZ_AT_ONCE:-2}
targets=("$@")
if [ $# -eq 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        name=${source##*/fuzz_}
        targets+=("${name%.c}")
    done
fi
# Inputs of a fixed run: about 8 s of a 2.8 GHz core each; the cap, in seconds, is for a machine that is much slower.
declare -A fixed_runs=([hdf5]=1300 [model]=65000 [records]=15000 [template]=8000 [tokenizer]=13000 [yaml]=10000)
fixed_default=10000
fixed_cap=60

. jobs/setup.sh
. jobs/env.sh
[ -f build/fuzz/build.ninja ] || configure fuzz
cmake --build --preset fuzz -- --quiet
work=$(mktemp -d "${FUZZ_SCRATCH:-/dev/shm}/fuzz.XXXXXX" 2> /dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_orte_create_session_dirs=0 # no launcher for one rank, nor its folder
export OMPI_MCA_opal_signal= # signals are for libFuzzer, which keeps the input
export OMP_NUM_THREADS=1
export LSAN_OPTIONS=suppressions=$PWD/tests/leaks.txt:print_suppressions=0
export UBSAN_OPTIONS=print_stacktrace=1
export LC_ALL=C # the order of seeds
same_addresses=$(setarch -R true 2> /dev/null && echo "setarch -R") || true # refused in some containers

# run_fuzzer TARGET ASAN_OPTIONS ARGUMENT...: in a folder of its own, under names that are the same at each run (they
# reach the program's messages).
run_fuzzer() {
    local target=$1 asan=$2
    shift 2
    # shellcheck disable=SC2086
    cd "$work/$target" && rm -rf files && mkdir files && FUZZ_FOLDER=files TMPDIR=$work/$target \
        ASAN_OPTIONS=$asan:allocator_may_return_null=1 nice $same_addresses "$root/build/fuzz/tests/fuzz_$target" \
        -rss_limit_mb=3072 -malloc_limit_mb=1024 -artifact_prefix="$root/build/fuzz/findings/$target/" "$@"
}

# fuzz TARGET RUNS: grows its corpus, then runs what it grew once more with a look at leaks (which needs slow stack
# traces). With RUNS not 0 the run can be repeated: a fixed seed, the seeds in one order, and no mutations from what was
# compared, for those are addresses and times too.
fuzz() {
    local target=$1 runs=$2 seeds=$root/tests/fuzz/seeds/$1 log=$root/build/fuzz/$1.log rc=0 corpus options
    mkdir -p "$work/$target/corpus" "$root/build/fuzz/findings/$target"
    if [ "$runs" -gt 0 ]; then
        corpus=$work/$target/corpus
        options=(-seed=1 -runs="$runs" -max_total_time="$fixed_cap" -use_cmp=0 -timeout=100 -seed_inputs="$(printf '%s,' "$seeds"/*)")
        options[-1]=${options[-1]%,}
    else
        corpus=$root/build/fuzz/corpus/$target
        mkdir -p "$corpus"
        options=(-max_total_time="$seconds" -timeout=10 "$seeds")
    fi
    [ -f "$root/tests/fuzz/$target.dict" ] && options+=(-dict="$root/tests/fuzz/$target.dict")
    (run_fuzzer "$target" detect_leaks=0 -print_final_stats=1 "$corpus" "${options[@]}") > "$log" 2>&1 || rc=$?
    if [ $rc -eq 0 ]; then
        (run_fuzzer "$target" detect_leaks=1:fast_unwind_on_malloc=0 -runs=0 -timeout=100 "$corpus" "$seeds") \
            >> "$log" 2>&1 || rc=$?
    fi
    awk -v target="$target" '
        /^#[0-9]+.* cov: / && !finished { for (i = 1; i < NF; i++) if ($i == "cov:") coverage = $(i + 1) }
        /stat::number_of_executed_units/ && !runs { runs = $2; finished = 1 }
        /stat::peak_rss_mb/ && !peak { peak = $2 }
        /stat::slowest_unit_time_sec/ && !slowest { slowest = $2 }
        END { printf "%-10s %9d inputs, %5d edges covered, slowest %d s, peak %d MiB\n", target, runs, coverage, slowest, peak }
    ' "$log"
    [ $rc -eq 0 ] && return 0
    echo "FAILED: $target: code $rc; the input is in build/fuzz/findings/$target, all of the report in build/fuzz/$target.log"
    grep -E -m 3 'ERROR:|SUMMARY:|runtime error:|^code [0-9]|does not hold|^last message' "$log" || tail -5 "$log"
    sed -n 's/^Base64: /the input in base64: /p' "$log"
    return 1
}
export -f fuzz run_fuzzer
export seconds work fixed_cap same_addresses root=$PWD
for target in "${targets[@]}"; do
    if [ "$seconds" = fixed ]; then echo "$target ${fixed_runs[$target]:-$fixed_default}"; else echo "$target 0"; fi
done | xargs -P "$at_once" -L 1 bash -c 'fuzz "$@"' fuzz
