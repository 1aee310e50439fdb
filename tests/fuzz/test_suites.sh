#!/usr/bin/env bash
# The unit tests, and the mpi tests on 1 and 2 ranks, under clang's AddressSanitizer and UBSan: in the tree of the fuzz
# targets, which has all but the tests compiled. All suites under gcc's: tests/run.sh --preset asan.
set -euo pipefail
. tests/fuzz/clang.sh
. jobs/setup.sh
[ -f build/fuzz/build.ninja ] || configure fuzz
cmake --build --preset fuzz --target suites -- --quiet
export ASAN_OPTIONS=detect_leaks=0
ctest --test-dir build/fuzz -L '^(unit|mpi)$' -E '^mpi/.*-4$' -j 2 --output-on-failure --no-tests=error
