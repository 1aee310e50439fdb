#!/usr/bin/env bash
# expect.sh RC 'PATTERN' SECONDS COMMAND...
# The command must end within SECONDS with exactly RC (or one of A|B|C), and exactly one line of its standard error must begin with
# "collimate: " and match PATTERN (extended regex); no other "collimate: " line may look like a second error for RC != 0.
set -u
# mpirun would give the other ranks a second, or two, when one has ended with a code: all of them have said what they have to.
export OMPI_MCA_odls_base_sigkill_timeout=0
want=$1 pattern=$2 seconds=$(($3 * ${PATIENCE:-1}))
shift 3
errors=$(mktemp)
timeout "$seconds" "$@" > /dev/null 2> "$errors"
rc=$?
matches=$(grep -cE "^collimate: .*($pattern)" "$errors")
if ! [[ "$rc" =~ ^($want)$ ]] || [ "$matches" -ne 1 ] || grep -q 'cannot be preloaded' "$errors"; then
    echo "expected rc $want and one line matching /$pattern/; got rc $rc, $matches lines:"
    echo "  $*"
    head -20 "$errors"
    rm -f "$errors"
    exit 1
fi
rm -f "$errors"
