#!/bin/bash
# A rank that fails alone, all ranks failing at once, and a rank out of step: one line, one exit code, soon.
set -u
program=$BUILD/tests/test_agree
bad=0

# expect RANKS HOW CODE PATTERN
expect() {
    local said rc
    said=$(timeout $((30 * ${PATIENCE:-1})) mpirun -q -n "$1" "$program" "$2" 2>&1 >/dev/null)
    rc=$?
    local lines
    lines=$(grep -c '^collimate: ' <<<"$said")
    if [ "$rc" != "$3" ] || [ "$lines" != 1 ] || ! grep -Eq "$4" <<<"$said"; then
        echo "$2 on $1 ranks: exit code $rc (want $3), $lines lines (want 1 with /$4/):"
        echo "$said"
        bad=1
    fi
}

expect 1 abort 73 '^collimate: run/model: disk full$'
expect 4 abort 73 '^collimate: rank [0-3] of 4 on .*: run/model: disk full$'
expect 2 abort-one 71 '^collimate: rank 1 of 2 on .*: out of memory$'
expect 4 skip 70 'out of step at collective 1 of "world": .*rank 0: allreduce of 1.*rank 3: broadcast of 8'
exit $bad
