#!/usr/bin/env bash
# Faults on demand (util/fault.h): the n-th open, write, rename, allocation or collective fails on one of two ranks. Each run ends
# in time with a documented code and one message, or is done in spite of it with the right result; the same command again gives the
# undisturbed result. As it is, a few n of each; EVERY=1 goes through all of them until a run passes untouched (hours), EVERY=50
# through every fiftieth; COMMANDS and KINDS name what is taken.
set -u
. tests/common.sh
tiny_world 24
places=${EVERY:+$(seq 1 "$EVERY" 1000000 | head -n 100000)}
places=${places:-2 17 190}
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
for command in ${COMMANDS:-prepare embed generate dpo}; do
    start $command whole || bad "$command: $(tail -n 2 err.txt)"
    right=$(digest $command whole)
    for kind in ${KINDS:-open write rename allocate collective}; do
        untouched=0
        for n in $places; do
            rm -rf once once.*
            COLLIMATE_FAULT=$kind:$n@$((n % 2)) start $command once
            rc=$?
            if [ $rc -eq 0 ] && ! grep -q "^fault: $kind:$n" err.txt; then # on this rank; the other may make more calls
                untouched=$((untouched + 1))
                [ $untouched -lt 2 ] && continue || break
            fi
            untouched=0
            if [ $rc -eq 0 ]; then
                [ "$(digest $command once)" = "$right" ] || bad "$command $kind:$n: done, and another result"
            else
                [[ $rc =~ ^($(code_of $kind))$ ]] || bad "$command $kind:$n: rc $rc: $(tail -n 3 err.txt)"
                [ "$(grep -c '^collimate: ' err.txt)" -eq 1 ] || bad "$command $kind:$n: not one message: $(cat err.txt)"
                start $command once || bad "$command $kind:$n: again: rc $?: $(tail -n 2 err.txt)"
                [ "$(digest $command once)" = "$right" ] || bad "$command $kind:$n: again, and another result"
            fi
            [ $failures -gt 10 ] && finish
        done
    done
    rm -rf whole whole.*
done
finish
