#!/bin/bash
# generate.save in rounds: a run that was killed, one that was stopped by SIGUSR1 and one whose output could not be written go on
# from the last round, on any rank count, to the lines, the report and the file of a run that nothing stopped.
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
# until_round N: waits until the run in the background has written so many rounds.
until_round() {
  for _ in $(seq 3000); do
    [ -e drawn.h5.rows ] && [ "$(rows)" -ge "$1" ] && return 0
    kill -0 "$run" 2> /dev/null || return 1
    sleep 0.01
  done
  return 1
}

# shellcheck disable=SC2086
"$COLLIMATE" --quiet $command || bad "without a break"
[ -e drawn.h5.rows ] && bad "rows stay behind"
mkdir whole && mv lines.jsonl report.jsonl drawn.h5 whole
# shellcheck disable=SC2086
"$COLLIMATE" --quiet $command & run=$!
until_round 1 || bad "no round of the run that is killed"
kill -KILL $run
wait $run 2> /dev/null
[ -e drawn.h5 ] || [ -e lines.jsonl ] && bad "a killed run has results"
# shellcheck disable=SC2086
"$COLLIMATE" $command 2> err.txt & run=$!
until_round 3 || bad "no round of the run that is stopped"
kill -USR1 $run
wait $run
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
echo "my notes" > drawn.h5.rows
# shellcheck disable=SC2086
"$COLLIMATE" --quiet $command 2> err.txt
[ $? -eq 2 ] && grep -q 'drawn.h5.rows is there and holds no rows of generate' err.txt && [ "$(cat drawn.h5.rows)" = "my notes" ] || bad "somebody's file: $(cat err.txt)"
[ "$failures" -eq 0 ]
