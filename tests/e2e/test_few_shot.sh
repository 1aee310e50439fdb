#!/bin/bash
# few-shot: the world of two users, and preference files with embeddings; the same result for any rank count.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad() { echo "test_few_shot: $1" >&2; exit 1; }
root=$PWD
cd "$work"
small="few_shot.hidden=16 few_shot.heads=2 few_shot.batch=8 few_shot.targets=12 few_shot.learning_rate=0.01 threads=1"

# Without a context no model beats the share on which the users agree by much; with one it does.
# shellcheck disable=SC2086
"$COLLIMATE" --quiet few-shot $small few_shot.world_rows=2000 few_shot.steps=600 output=np
value() { grep -oE "\"context\": $2, [^[]*" "$1/result.json" | sed -E "s/.*\"$3\": ([0-9.e-]+).*/\1/"; }
awk -v a="$(value np 0 unseen)" -v b="$(value np 10 unseen)" 'BEGIN { exit !(a > .7 && a < .82 && b > a + .05) }' ||
  bad "accuracy $(value np 0 unseen) without context, $(value np 10 unseen) with ten pairs"
[ "$(wc -l < np/metrics.jsonl)" -ge 150 ] && [ -s np/model.safetensors ] && [ -s np/config.yaml ] || bad "files are missing"

# A preference file with embeddings: one label, any number of ranks.
"$COLLIMATE" --quiet synth synth.rows=300 output=pairs.jsonl
"$COLLIMATE" --quiet prepare input=pairs.jsonl tokenizer=bytes output=pairs.h5
"$COLLIMATE" --quiet init init.config="$root/configs/models/llama-tiny.json" tokenizer=bytes output=model
"$COLLIMATE" --quiet embed data=pairs.h5 model=model output=pairs.embeddings.h5
"$COLLIMATE" --quiet select data=pairs.h5 select.strategy=random select.fraction=0.9 output=most.h5
for n in 1 2 4; do
  # shellcheck disable=SC2086
  mpirun -q -n $n "$COLLIMATE" --quiet few-shot data=pairs.h5,most.h5 embeddings=pairs.embeddings.h5 $small \
    few_shot.steps=10 output=ranks-$n
  value ranks-$n 5 accuracy > accuracy-$n
  tail -1 ranks-$n/metrics.jsonl | sed -E 's/.*"loss": ([0-9]+\.[0-9]{8}).*/\1/' > loss-$n
  cmp accuracy-1 accuracy-$n || bad "accuracy on $n ranks: $(cat accuracy-$n), on one: $(cat accuracy-1)"
  cmp loss-1 loss-$n || bad "loss on $n ranks: $(cat loss-$n), on one: $(cat loss-1)"
done

# Killed while its state is being written, and gone on with: the bits of a run that nobody disturbed.
cc -shared -fPIC -O -o die_in_write.so "${FIXTURES%/fixtures}/e2e/die_in_write.c"
kept="$small few_shot.world_rows=500 few_shot.steps=30 few_shot.checkpoint_every=4"
# shellcheck disable=SC2086
"$COLLIMATE" --quiet few-shot $kept output=whole
for write in 3 2; do # the third state of this run, then the second of the next
  rc=0
  # shellcheck disable=SC2086
  LD_PRELOAD=$PWD/die_in_write.so DIE_FILE=/state.bin.tmp DIE_WRITE=$write \
    ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
    "$COLLIMATE" --quiet few-shot $kept output=killed || rc=$?
  [ $rc = 137 ] && [ -s killed/state.bin ] || bad "no kill in write $write of the state: exit code $rc"
done
rc=0
"$COLLIMATE" few-shot $kept few_shot.batch=9 output=killed 2> err || rc=$?
[ $rc = 2 ] && grep -q 'other settings' err || bad "another run's state: exit code $rc, $(cat err)"
# shellcheck disable=SC2086
"$COLLIMATE" few-shot $kept output=killed 2> err || bad "does not go on: $(tail -1 err)"
grep -q 'going on after update 12$' err || bad "goes on elsewhere: $(cat err)"
lines() { grep '"step"' "$1/metrics.jsonl"; }
[ "$(lines whole | wc -l)" = 30 ] && cmp <(lines whole) <(lines killed) || bad "lines of a resumed run differ"
cmp whole/model.safetensors killed/model.safetensors || bad "a resumed model differs"
[ ! -e killed/state.bin ] || bad "the state stays"

# Refusals.
refuse() { # code, pattern, arguments
  rc=0
  "$COLLIMATE" few-shot "${@:3}" output=refused 2> err || rc=$?
  [ $rc = "$1" ] && grep -qE "$2" err || bad "${*:3}: exit code $rc, $(cat err)"
}
refuse 2 'embeddings' data=pairs.h5
refuse 2 'few_shot.latent' few_shot.beta_kl=0.1
refuse 2 'context' few_shot.context_max=30
refuse 65 'pairs' few_shot.world_rows=20
"$COLLIMATE" --quiet prepare input=pairs.jsonl prepare.limit=100 tokenizer=bytes output=other.h5
refuse 65 'responses' data=pairs.h5,other.h5 embeddings=pairs.embeddings.h5
