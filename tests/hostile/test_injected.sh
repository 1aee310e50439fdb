#!/usr/bin/env bash
# Faults on demand (util/fault.h): the n-th open, read, write, sync, close, rename, allocation or collective fails on one of two
# ranks. Each run ends in time with a documented code and one message, or is done in spite of it with the right result; what was
# there before is still there, nothing temporary stays, and the same command again gives the undisturbed result. `resume` goes on
# from a run whose newest checkpoint is damaged; prepare and generate replace an earlier result.
#   As it is            a few places of each kind
#   WALK=all            every place that the program names as worth it (KIND:?), on both ranks: the slow test
#   WALK=all EVERY=n    every n-th of these
# COMMANDS and KINDS name what is taken, JOBS how many run side by side.
set -u
. tests/common.sh
tiny_world 24
# mpirun would give the other ranks a second, or two, after one has ended.
export OMPI_MCA_odls_base_sigkill_timeout=0
jobs=${JOBS:-$(($(nproc) + 1))} # ranks that wait poll: more would take the cores from each other
common="train.micro_tokens=512 watchdog_s=25"
training="data=train.h5 model=init $common train.batch=8 train.checkpoint_every=1 train.checkpoint_keep=3"
prepare() { echo "prepare input=train.jsonl tokenizer=bytes output=$1.h5"; }
dpo() { echo "dpo $training train.steps=2 dpo.reference_file=$1.reference.h5 output=$1"; }
resume() { echo "dpo $training train.steps=4 dpo.reference_file=$1.reference.h5 output=$1"; }
embed() { echo "embed data=train.h5 model=init $common output=$1.h5"; }
generate() { echo "generate data=train.h5 model=init $common generate.limit=6 generate.max_new_tokens=4 output=$1.jsonl"; }
# digest COMMAND NAME: of a result's contents, without names and times.
digest() {
    case $1 in
    prepare | embed) "$COLLIMATE" --quiet inspect input="$2.h5" 2>&1 | grep -vE '^made by|'"$2" | sha256sum ;;
    dpo | resume) (numbers "$2" | sha256sum; cd "$2/model" && sha256sum -- * | grep -v ' README.md') ;;
    generate) sha256sum < "$2.jsonl" ;;
    esac
}
start() { # COMMAND NAME: on two ranks
    # shellcheck disable=SC2046
    timeout 120 mpirun -q -n 2 "$COLLIMATE" --quiet $($1 "$2") > out.txt 2> err.txt
}
codes_of() {
    case $1 in
    open | read) echo '65|66|71|73' ;;
    write | sync | close | rename) echo 73 ;;
    allocate) echo 71 ;;
    collective) echo 75 ;;
    esac
}
# What is there before a run of COMMAND called `once`.
lay() {
    rm -rf once once.*
    case $1 in
    prepare) cp ../old.h5 once.h5 ;;
    generate) cp ../old.jsonl once.jsonl ;;
    resume) cp -r ../old once && cp ../old.reference.h5 once.reference.h5 ;;
    esac
}
# kept COMMAND: after a run that failed an earlier result is there as it was, or the new one; a run has its good checkpoints.
kept() {
    case $1 in
    prepare) cmp -s ../old.h5 once.h5 || [ "$(digest prepare once)" = "$2" ] ;;
    generate) cmp -s ../old.jsonl once.jsonl || [ "$(digest generate once)" = "$2" ] ;;
    resume) cmp -s ../old/checkpoints/step-2.h5 once/checkpoints/step-2.h5 ;;
    esac
}
# attempt COMMAND KIND N RANK: one fault, in a folder of this process; what is wrong goes to failures.txt.
attempt() {
    local command=$1 kind=$2 n=$3 rank=$4 rc right what="COMMANDS=$1 $2:$3@$4"
    right=$(cat "$command.right")
    mkdir -p "at.$BASHPID" && cd "at.$BASHPID" || exit 1
    ln -sf ../train.jsonl ../train.h5 ../init .
    failed() { echo "$what: $*" | tee -a ../failures.txt; }
    lay "$command"
    COLLIMATE_FAULT=$kind:$n@$rank start "$command" once
    rc=$?
    if ! grep -q "^fault: $kind:$n" err.txt; then
        [ $rc -eq 0 ] || failed "untouched, and rc $rc: $(tail -n 3 err.txt)"
        echo "$what" >> ../untouched.txt
    elif [ $rc -ne 0 ]; then
        [[ $rc =~ ^($(codes_of "$kind"))$ ]] || failed "rc $rc: $(tail -n 3 err.txt)"
        [ "$(grep -c '^collimate: ' err.txt)" -eq 1 ] || failed "not one message: $(cat err.txt)"
        kept "$command" "$right" || failed "what was there is lost"
        [ $rc -eq 75 ] || [ -z "$(find once once.* -name '*.tmp' 2> /dev/null)" ] || failed "stays: $(find . -name '*.tmp')"
        echo "$what: $rc: $(grep '^collimate: ' err.txt)" >> ../ended.txt
        start "$command" once || failed "again: rc $?: $(tail -n 2 err.txt)"
        [ "$(digest "$command" once)" = "$right" ] || failed "again, and another result"
    else
        echo "$what: 0" >> ../ended.txt
        [ "$(digest "$command" once)" = "$right" ] || failed "done, and another result"
    fi
    cd ..
    rm -rf "at.$BASHPID"
}
# places COMMAND KIND: "N RANK" of each that is worth it.
places() {
    local rank
    if [ -z "${WALK:-}" ]; then
        case $2 in
        open) echo $'2 1\n23 0' ;; # these and the third allocation have hung
        write) echo $'2 1\n17 0' ;;
        allocate) echo $'3 1\n190 0' ;;
        read | collective) echo '17 0' ;;
        *) echo '1 0' ;;
        esac
        return
    fi
    for rank in 0 1; do
        lay "$1"
        COLLIMATE_FAULT="$2:?@$rank" start "$1" once
        sed -nE "s/^fault: place $2:([0-9]+)\$/\1 $rank/p" err.txt
    done | awk -v every="${EVERY:-1}" 'NR % every == 0'
}
commands=${COMMANDS:-prepare embed generate dpo resume}
# Earlier results: of fewer rows, and a run of two steps whose third checkpoint is damaged.
head -n 9 train.jsonl > few.jsonl
run 1 --quiet prepare input=few.jsonl tokenizer=bytes output=old.h5
# shellcheck disable=SC2046
run 1 --quiet $(generate old) generate.limit=2
# shellcheck disable=SC2046
run 2 --quiet $(dpo old) train.steps=3
damage old/checkpoints/step-3.h5
touch failures.txt untouched.txt ended.txt
# beside COMMAND ...: in the background, as many at a time as there may be. mpirun reads what it can.
beside() {
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
        wait -n
    done
    "$@" < /dev/null &
}
in_folder() { # NAME COMMAND ...
    mkdir "$1" && cd "$1" && ln -s ../train.jsonl ../train.h5 ../init . && "${@:2}" && cd .. && rm -rf "$1"
}
undisturbed() {
    lay "$1"
    start "$1" once && digest "$1" once > "../$1.right"
}
list() { places "$1" "$2" | sed "s/^/$1 $2 /" > "../$1.$2.work"; }
for command in $commands; do
    beside in_folder "whole.$command" undisturbed "$command"
    for kind in ${KINDS:-open read write sync close rename allocate collective}; do
        beside in_folder "list.$command.$kind" list "$command" "$kind"
    done
done
wait
for command in $commands; do
    [ -s "$command.right" ] || bad "$command: $(tail -n 2 "whole.$command/err.txt")"
done
cat ./*.work | shuf --random-source=<(yes) > work.txt # mixed, so that what is seen early is a bit of everything
while read -r command kind n rank; do
    [ "$(wc -l < failures.txt)" -gt "${MOST:-30}" ] && break
    beside attempt "$command" "$kind" "$n" "$rank"
done < work.txt
wait
failures=$((failures + $(wc -l < failures.txt)))
echo "$(wc -l < work.txt) places, $(wc -l < untouched.txt) of them not reached, $(grep -c ': 0$' ended.txt) runs done in spite of it; by code:" \
    "$(sed -nE 's/^[^:]*:[^:]*: ([0-9]+).*/\1/p' ended.txt | sort | uniq -c | awk '{ printf "%s%d x %s", (NR > 1 ? ", " : ""), $1, $2 }')"
[ -z "${REPORT:-}" ] || cp ended.txt untouched.txt failures.txt work.txt "$REPORT"
finish
