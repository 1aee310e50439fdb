#!/usr/bin/env bash
# few-shot: the world of two users, and preference files with embeddings; the same result for any rank count; checkpoints.
set -u
root=$PWD
. tests/common.sh
small=(few_shot.hidden=16 few_shot.heads=2 few_shot.batch=8 few_shot.targets=12 few_shot.learning_rate=0.01 threads=1)

# Without a context no model beats the share on which the users agree by much; with one it does.
"$COLLIMATE" --quiet few-shot "${small[@]}" few_shot.world_rows=2000 few_shot.steps=600 output=np || exit 1
value() { grep -oE "\"context\": $2, [^[]*" "$1/result.json" | sed -E "s/.*\"$3\": ([0-9.e-]+).*/\1/"; }
awk -v a="$(value np 0 unseen)" -v b="$(value np 10 unseen)" 'BEGIN { exit !(a > .7 && a < .82 && b > a + .05) }' ||
    bad "accuracy $(value np 0 unseen) without context, $(value np 10 unseen) with ten pairs"
[ "$(wc -l < np/metrics.jsonl)" -ge 150 ] && [ -s np/model.safetensors ] && [ -s np/config.yaml ] || bad "files are missing"

# A finished run evaluated again, as it is and by other statistics of the norm; nothing is trained.
mkdir -p again/checkpoints && : > again/checkpoints/step-3.h5 # of another run, which is not done
run 2 --quiet few-shot model=np "${small[@]:0:4}" threads=1 few_shot.world_rows=2000 few_shot.norm_batches=0 output=again overwrite=true
run 1 --quiet few-shot model=np "${small[@]:0:4}" threads=1 few_shot.world_rows=2000 few_shot.norm_batches=33 output=other
for k in 0 5 10; do
    awk -v a="$(value np $k unseen)" -v b="$(value again $k unseen)" -v c="$(value other $k unseen)" 'BEGIN {
        exit !((a - b) ^ 2 < .003 ^ 2 && (a - c) ^ 2 < .1 ^ 2) }' || bad "another accuracy with $k pairs: $(cat again/result.json other/result.json)"
done
[ ! -e again/metrics.jsonl ] && [ ! -e again/model.safetensors ] || bad "a model that was only evaluated is written"
[ -e again/checkpoints/step-3.h5 ] || bad "an evaluation removes checkpoints"
refuses 65 'of another shape' few-shot model=np "${small[@]:1:3}" few_shot.hidden=8 output=refused
refuses 2 'few_shot.steps" has no effect' few-shot model=np "${small[@]:0:4}" few_shot.steps=3 output=refused
refuses 2 'train.resume" has no effect' few-shot model=np "${small[@]:0:4}" train.resume=never output=refused
refuses 66 'nowhere' few-shot model=nowhere "${small[@]:0:4}" output=refused

# A preference file with embeddings: one label, any number of ranks.
"$COLLIMATE" --quiet synth synth.rows=300 output=pairs.jsonl &&
    "$COLLIMATE" --quiet prepare input=pairs.jsonl tokenizer=bytes output=pairs.h5 &&
    "$COLLIMATE" --quiet init init.config="$root/configs/models/llama-tiny.json" tokenizer=bytes output=model &&
    "$COLLIMATE" --quiet embed data=pairs.h5 model=model output=pairs.embeddings.h5 &&
    "$COLLIMATE" --quiet select data=pairs.h5 select.strategy=random select.fraction=0.9 output=most.h5 || exit 1
for n in 1 2 4; do
    run $n --quiet few-shot data=pairs.h5,most.h5 embeddings=pairs.embeddings.h5 "${small[@]}" few_shot.steps=10 \
        output=ranks-$n
    value ranks-$n 5 accuracy | awk '{ printf "%.9f\n", $1 }' > accuracy-$n
    tail -1 ranks-$n/metrics.jsonl | sed -E 's/.*"loss": ([0-9]+\.[0-9]{8}).*/\1/' > loss-$n
    [ -s accuracy-$n ] && cmp accuracy-1 accuracy-$n || bad "accuracy on $n ranks: $(cat accuracy-$n), on one: $(cat accuracy-1)"
    [ -s loss-$n ] && cmp loss-1 loss-$n || bad "loss on $n ranks: $(cat loss-$n), on one: $(cat loss-1)"
done

# Contexts of another set: nothing is seen; where no context pair conflicts they say nothing, where all do they say much.
apart=("${small[@]/few_shot.hidden=16/few_shot.hidden=32}" few_shot.world_rows=2000 few_shot.steps=500 few_shot.norm_batches=33)
for share in 0 1; do
    run 1 --quiet few-shot "${apart[@]}" few_shot.context_conflicting=$share output=apart-$share
    grep -q '"seen"' apart-$share/result.json && bad "a context of another set was seen"
done
awk -v a="$(value apart-0 10 accuracy)" -v b="$(value apart-1 10 accuracy)" 'BEGIN { exit !(a > .4 && a < .6 && b > .8) }' ||
    bad "accuracy $(value apart-0 10 accuracy) by contexts that say nothing, $(value apart-1 10 accuracy) by those that say all"
for n in 1 2; do
    run $n --quiet few-shot data=most.h5 few_shot.context_data=pairs.h5 embeddings=pairs.embeddings.h5 "${small[@]}" few_shot.steps=5 \
        output=shown-$n
done
[ "$(printf '%.9f' "$(value shown-1 5 accuracy)")" = "$(printf '%.9f' "$(value shown-2 5 accuracy)")" ] || bad "contexts of a file: $(cat shown-1/result.json shown-2/result.json)"
refuses 2 'context_data: 1 files, data has 2' few-shot data=pairs.h5,most.h5 few_shot.context_data=most.h5 \
    embeddings=pairs.embeddings.h5 "${small[@]}" output=refused

# Killed while it writes a checkpoint, asked to stop, killed again, its newest checkpoint damaged, and gone on with each
# time: the bits of a run that nobody disturbed.
cc -shared -fPIC -O -o die_in_write.so "$(dirname "$FIXTURES")/e2e/die_in_write.c" || exit 1
kept=("${small[@]}" few_shot.world_rows=500 few_shot.steps=30 few_shot.checkpoint_every=4)
# disturbed CODE FILE WRITE SIGNAL: gets the signal in that write to the file, and ends with that code.
disturbed() {
    LD_PRELOAD=$PWD/die_in_write.so DIE_FILE=$2 DIE_WRITE=$3 DIE_SIGNAL=$4 \
        ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
        timeout 60 "$COLLIMATE" few-shot "${kept[@]}" output=killed 2> err.txt
    local rc=$?
    [ $rc = "$1" ] || bad "signal $4 in write $3 of $2: exit code $rc, $(tail -1 err.txt)"
}
says() { grep -qE "$1" err.txt || bad "not said: $1; $(cat err.txt)"; }
"$COLLIMATE" --quiet few-shot "${kept[@]}" output=whole || exit 1
disturbed 137 .step-12.h5.tmp 1 9
disturbed 85 .step-12.h5.tmp 1 10 # USR1, which the next update's end sees
says 'going on after update 8 of 30$'
says 'stopped on SIGUSR1 after update 13, '
"$COLLIMATE" --quiet inspect input=killed/checkpoints/step-13.h5 > facts.txt
grep -q '^array *users, 625 elements of 8 bytes, hash ' facts.txt && grep -q '"few_shot.batch": "8"' facts.txt ||
    bad "inspect of a checkpoint: $(cat facts.txt)"
disturbed 137 .step-20.h5.tmp 1 9
says 'going on after update 13 of 30$'
refuses 2 'few_shot.batch (was 8, is 9)' few-shot "${kept[@]}" few_shot.batch=9 output=killed
damage killed/checkpoints/step-16.h5
run 1 few-shot "${kept[@]}" output=killed
says 'step-16.h5: .*; taking the checkpoint before it$'
says 'going on after update 13 of 30$'
lines() { grep '"step"' "$1/metrics.jsonl"; }
[ "$(lines whole | wc -l)" = 30 ] && cmp <(lines whole) <(lines killed) || bad "lines of a resumed run differ"
cmp whole/model.safetensors killed/model.safetensors || bad "a resumed model differs"
[ "$(ls killed/checkpoints)" = step-16.h5.damaged ] || bad "in checkpoints of a finished run: $(ls killed/checkpoints)"

# Refusals.
refuses 2 'embeddings' few-shot data=pairs.h5 output=refused
refuses 2 'few_shot.latent' few-shot few_shot.beta_kl=0.1 output=refused
refuses 2 'context' few-shot few_shot.context_max=30 output=refused
refuses 65 'pairs' few-shot few_shot.world_rows=20 output=refused
refuses 66 'refused/checkpoints holds no checkpoint' few-shot "${kept[@]}" train.resume=must output=refused
"$COLLIMATE" --quiet prepare input=pairs.jsonl prepare.limit=100 tokenizer=bytes output=other.h5
refuses 65 'responses' few-shot data=pairs.h5,other.h5 embeddings=pairs.embeddings.h5 output=refused
finish
