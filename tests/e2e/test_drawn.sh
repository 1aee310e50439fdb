#!/bin/bash
# generate.save in rounds: a run that was killed, one that was stopped by SIGUSR1 and one whose output could not be written go on
# from the last round, on any rank count, to the lines, the report and the file of a run that nothing stopped. While it lives, nobody
# else writes to its rows.
set -u
export OMP_NUM_THREADS=1
fixtures=$(cd "$(dirname "$0")/../fixtures/judge" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_drawn: $1" >&2; failures=$((failures + 1)); }
contents() { "$COLLIMATE" --quiet inspect input="$1" | grep -E '^(contents|prompts|responses|pairs|scores)'; }
"$COLLIMATE" --quiet synth synth.rows=112 output=text.jsonl && "$COLLIMATE" --quiet prepare input=text.jsonl tokenizer="$fixtures/model" output=data.h5 || bad "prepare"
command="generate data=data.h5 model=$fixtures/model generate.max_new_tokens=40 generate.temperature=1 generate.samples=2 generate.batch=2
  generate.rule=mix generate.mix=0.5,1 generate.reference=$fixtures/model reward_model=$fixtures/reward generate.save=drawn.h5
  generate.report=report.jsonl output=lines.jsonl"
rows() { grep -c "^{\"done\"" drawn.h5.rows 2> /dev/null || true; }
cc -shared -fPIC -O -o die_in_write.so "$fixtures/../../e2e/die_in_write.c" || exit 1
# disturbed WRITE SIGNAL: the command gets the signal in that write to its rows. Its exit code.
disturbed() {
  # shellcheck disable=SC2086
  LD_PRELOAD=$PWD/die_in_write.so DIE_FILE=/drawn.h5.rows DIE_WRITE=$1 DIE_SIGNAL=$2 \
    ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 "$COLLIMATE" $command 2> err.txt
}

# shellcheck disable=SC2086
"$COLLIMATE" --quiet $command || bad "without a break"
[ -e drawn.h5.rows ] && bad "rows stay behind"
mkdir whole && mv lines.jsonl report.jsonl drawn.h5 whole
disturbed 6 9
[ $? -eq 137 ] && [ "$(rows)" -ge 1 ] || bad "killed: $(rows) rounds are there: $(cat err.txt)"
[ -e drawn.h5 ] || [ -e lines.jsonl ] && bad "a killed run has results"
disturbed 4 10
[ $? -eq 85 ] && grep -q 'prompts are there from an earlier run' err.txt && grep -q 'stopped on SIGUSR1 after prompt [0-9]* of 112; run the same command again' err.txt ||
  bad "stopped: $(cat err.txt)"
# shellcheck disable=SC2086
timeout 120 mpirun -q -n 2 "$COLLIMATE" $command 2> err.txt || bad "going on: $(cat err.txt)"
grep -q 'prompts are there from an earlier run' err.txt || bad "begun anew: $(cat err.txt)"
cmp lines.jsonl whole/lines.jsonl && cmp report.jsonl whole/report.jsonl || bad "other lines or means"
[ "$(contents drawn.h5)" = "$(contents whole/drawn.h5)" ] || bad "another file: $(contents drawn.h5)"
[ -e drawn.h5.rows ] && bad "rows stay behind"

# An output that cannot be written; then another seed, which has nothing to go on from.
rm -f lines.jsonl drawn.h5 && ln -s /dev/full lines.jsonl
# shellcheck disable=SC2086
"$COLLIMATE" --quiet $command 2> err.txt && bad "a full device"
[ "$(rows)" -eq 1 ] || bad "the round before a full device is lost: $(cat err.txt)"
rm lines.jsonl && cp drawn.h5.rows kept
# shellcheck disable=SC2086
"$COLLIMATE" $command 2> err.txt || bad "behind a full device"
cmp lines.jsonl whole/lines.jsonl && [ "$(contents drawn.h5)" = "$(contents whole/drawn.h5)" ] || bad "behind a full device: another result"
cp kept drawn.h5.rows
# shellcheck disable=SC2086
"$COLLIMATE" $command seed=1 2> err.txt || bad "another seed"
grep -q 'prompts of a run with other settings, models or data; begun anew' err.txt && ! cmp -s lines.jsonl whole/lines.jsonl || bad "another seed: $(cat err.txt)"

# One that is stopped in its second round lives: another seed, and the same command, are refused before they draw, and leave its rows.
rm -f lines.jsonl drawn.h5 report.jsonl
disturbed 4 19 &
for _ in $(seq 600); do
  first=$(sed -n 's/.*"pid": \([0-9]*\),.*/\1/p' drawn.h5.rows.lease 2> /dev/null)
  [ -n "$first" ] && grep -q '^State:.*stopped' "/proc/$first/status" && break
  sleep 0.1
done
[ "$(rows)" -eq 1 ] && cp drawn.h5.rows kept || bad "stopped: $(rows) rounds are there"
for other in seed=1 seed=0; do
  for ranks in 1 2; do
    # shellcheck disable=SC2086
    timeout 60 mpirun -q -n $ranks "$COLLIMATE" --quiet $command $other 2> second.txt
    [ $? -eq 73 ] && grep -q "^collimate: .*drawn.h5: process $first on .* has held it since " second.txt && cmp drawn.h5.rows kept ||
      bad "a second one on $ranks ranks ($other): $(cat second.txt)"
    [ -e drawn.h5 ] || [ -e lines.jsonl ] && bad "a second one ($other) has results"
  done
done
kill -CONT "$first"
wait $! || bad "the first of two: $(cat err.txt)"
cmp lines.jsonl whole/lines.jsonl && [ "$(contents drawn.h5)" = "$(contents whole/drawn.h5)" ] || bad "the first of two: another result"
[ -e drawn.h5.rows ] || [ -e drawn.h5.rows.lease ] && bad "rows or a lease stay behind"
echo "my notes" > drawn.h5.rows
# shellcheck disable=SC2086
"$COLLIMATE" --quiet $command 2> err.txt
[ $? -eq 2 ] && grep -q 'drawn.h5.rows is there and holds no rows of generate' err.txt && [ "$(cat drawn.h5.rows)" = "my notes" ] || bad "somebody's file: $(cat err.txt)"
[ "$failures" -eq 0 ]
