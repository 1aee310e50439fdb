#!/usr/bin/env bash
# train.tensorboard: an event file per leg, whose tags are what the lines of metrics.jsonl have; none unless it is asked for; a new
# beginning removes those of the run before; a disk that takes no more ends the run as it does for metrics.jsonl. That
# TensorBoard reads the same numbers: tests/fixtures/read_events.sh.
set -u
. tests/common.sh
tiny_world 24
training=(model=init data=train.h5 train.batch=8 train.slots=4 train.micro_tokens=512)
events() { compgen -G "$1/tensorboard/events.out.tfevents.*"; }
legs() { events "$1" | wc -l; }

run 2 --quiet dpo "${training[@]}" output=plain train.steps=2
[ ! -e plain/tensorboard ] || bad "event files that nobody asked for"
asked=(dpo "${training[@]}" eval_data=train.h5 output=dpo train.tensorboard=true)
run 2 --quiet "${asked[@]}" train.steps=2
[ "$(legs dpo)" -eq 1 ] || bad "not one file of one leg: $(ls dpo/tensorboard)"
cmp -s {plain,dpo}/model/model.safetensors || bad "event files change the model"
tags() { strings -n 5 "$1" | grep -oE '(train|eval)/[a-z_/]+' | sort -u; }
keys() { grep -oE '"[a-z_/]+": -?[0-9]' "$1/metrics.jsonl" | cut -d'"' -f2 | sed -E '/^(step|version)$/d; s|^|train/|; s|^train/eval_|eval/|' | sort -u; }
diff <(tags "$(events dpo)") <(keys dpo) > diff.txt || bad "other tags than metrics.jsonl has: $(cat diff.txt)"

# Another leg: a file of its own, after the first by name, the first as it was.
first=$(events dpo)
before=$(sha256sum "$first")
run 1 --quiet "${asked[@]}" train.steps=4
[ "$(legs dpo)" -eq 2 ] && [ "$(sha256sum "$first")" = "$before" ] && [ "$(events dpo | sort | head -1)" = "$first" ] ||
    bad "the second leg: $(ls -l dpo/tensorboard)"
# Begun anew: the run before is gone, also from there; what others put there is not.
touch dpo/tensorboard/events.out.tfevents.5.notours
run 1 --quiet "${asked[@]}" train.steps=1 train.resume=never
[ "$(legs dpo)" -eq 2 ] && [ "$(sha256sum "$first" 2> /dev/null)" != "$before" ] && [ -e dpo/tensorboard/events.out.tfevents.5.notours ] || bad "begun anew: $(ls dpo/tensorboard)"
run 1 --quiet dpo "${training[@]}" output=dpo train.steps=1 train.resume=never
[ "$(legs dpo)" -eq 1 ] || bad "files of a run that is gone: $(ls dpo/tensorboard)"

# What cannot be written is said, with the name and code 73.
rm -r dpo/tensorboard
echo words > dpo/tensorboard
refuses 73 'dpo/tensorboard: ' --quiet "${asked[@]}" train.steps=3
[ "$(cat dpo/tensorboard)" = words ] || bad "a file was written over"
ran=0
for n in {8..60}; do # until the version, the session's start and a line of each update had their turn
    rm -rf full
    COLLIMATE_FAULT=write:$n timeout 60 "$COLLIMATE" --quiet sft "${training[@]}" output=full train.tensorboard=true train.steps=2 > out.txt 2> err.txt
    rc=$?
    grep -q '^collimate: full/tensorboard/events.out.tfevents.*: No space left on device' err.txt || continue
    [ $rc -eq 73 ] && [ "$(grep -c '^collimate: ' err.txt)" -eq 1 ] || bad "write $n: rc $rc: $(cat err.txt)"
    ran=$((ran + 1))
    [ $ran -lt 4 ] || break
done
[ $ran -eq 4 ] || bad "$ran of an event file's four writes failed when they were to: $(cat err.txt)"

# few-shot has them too.
run 1 --quiet few-shot few_shot.hidden=16 few_shot.heads=2 few_shot.batch=8 few_shot.targets=12 few_shot.world_rows=200 \
    few_shot.steps=3 output=np threads=1 train.tensorboard=true
diff <(tags "$(events np)") <(keys np) > diff.txt || bad "few-shot: $(cat diff.txt)"
finish
