#!/usr/bin/env bash
# Faults on demand (util/fault.h): the n-th open, write, rename, allocation or collective fails on one of two ranks, n going up
# until a run passes untouched. Each run ends in time with a documented code and one message, or is done in spite of it; nothing
# stands under the output's name that is not whole; the same command again gives the undisturbed result. EVERY=1 takes every n; as
# it is, steps grow.
set -u
root=$PWD
. tests/common.sh
tiny_world 24
every=${EVERY:-0}
common="train.micro_tokens=512 watchdog_s=25"
prepare() { echo "prepare input=train.jsonl tokenizer=bytes output=$1.h5"; }
dpo() { echo "dpo data=train.h5 model=init $common train.steps=2 train.batch=8 train.checkpoint_every=1 dpo.reference_file=$1.reference.h5 output=$1"; }
embed() { echo "embed data=train.h5 model=init $common output=$1.h5"; }
generate() { echo "generate data=train.h5 model=init $common generate.limit=6 generate.max_new_tokens=4 output=$1.jsonl"; }
# digest COMMAND NAME: of a result's contents, without names and times.
digest() {
    case $1 in
    prepare | embed) "$COLLIMATE" --quiet inspect input="$2.h5" 2>&1 | grep -vE '^made by|'"$2" | sha256sum ;;
    dpo) (numbers "$2" | sha256sum; sha256sum < "$2/model/model.safetensors") ;;
    generate) sha256sum < "$2.jsonl" ;;
    esac
}
start() { # COMMAND NAME: on two ranks
    # shellcheck disable=SC2046
    timeout 60 mpirun -q -n 2 "$COLLIMATE" --quiet $($1 "$2") > out.txt 2> err.txt
}
code_of() {
    case $1 in
    open) echo '66|71|73' ;;
    write | rename) echo 73 ;;
    allocate) echo '71' ;;
    collective) echo 75 ;;
    esac
}
for command in prepare embed generate dpo; do
    start $command whole || bad "$command: $(tail -n 2 err.txt)"
    right=$(digest $command whole)
    for kind in open write rename allocate collective; do
        n=1
        while :; do
            rm -rf once once.*
            COLLIMATE_FAULT=$kind:$n@$((n % 2)) start $command once
            rc=$?
            grep -q "^fault: $kind:$n" err.txt || { [ $rc -eq 0 ] && [ "$n" -gt 1 ] && break; }
            if [ $rc -eq 0 ]; then
                [ "$(digest $command once)" = "$right" ] || bad "$command $kind:$n: done, and another result"
            else
                [[ $rc =~ ^($(code_of $kind))$ ]] || bad "$command $kind:$n: rc $rc: $(tail -n 3 err.txt)"
                [ "$(grep -c '^collimate: ' err.txt)" -eq 1 ] || bad "$command $kind:$n: not one message: $(cat err.txt)"
                start $command once || bad "$command $kind:$n: again: rc $?: $(tail -n 2 err.txt)"
                [ "$(digest $command once)" = "$right" ] || bad "$command $kind:$n: again, and another result"
            fi
            [ $failures -gt 10 ] && finish
            n=$((every > 0 ? n + every : n < 3 ? n + 1 : n * ${GROWS:-4}))
        done
    done
    rm -rf whole whole.*
done
finish
