#!/usr/bin/env bash
# A run folder's lease where nothing else protects it: on a disk that gives every lock to everybody, one of those that start
# together has the folder, and the dead are followed; a run that has lost its lease ends (75) and writes nothing more, seen at its
# next checkpoint, its end, or its pulse.
set -u
. tests/e2e/faults.sh
settings=(train.checkpoint_every=1)
# theirs FOLDER: another host's process has taken it over, and what it writes.
theirs() {
    printf '{"owner": "far-77-0badcafe-1f", "host": "far", "pid": 77, "job": "4711", "since": "then", "beat_s": 5, "pulse": %12d}\n' 1 > "$1/lease.new"
    mv "$1/lease.new" "$1/lease.json"
    local name
    for name in config.yaml environment.json metrics.jsonl model/model.safetensors checkpoints/latest checkpoints/step-{1,2,3,4}.h5; do
        mkdir -p "$(dirname "$1/$name")"
        echo "theirs" > "$1/$name.new" && mv "$1/$name.new" "$1/$name"
    done
}
# is_theirs FOLDER: all of that is as it was written, and still theirs.
is_theirs() {
    local name
    for name in config.yaml environment.json metrics.jsonl model/model.safetensors checkpoints/latest checkpoints/step-{1,2,3,4}.h5; do
        grep -qsx theirs "$1/$name" || bad "$1/$name was overwritten"
    done
    grep -q '"host": "far"' "$1/lease.json" || bad "$1: the lease is no longer theirs: $(cat "$1/lease.json")"
}
# ends_lost NAME: the run that was begun says who has its folder, and ends with 75.
ends_lost() {
    ended "$launched" 60
    [ "$rc" -eq 75 ] || bad "$1: rc $rc, not 75: $(cat "$1.err")"
    [ "$(grep -c '^collimate: .*process 77 on far has taken it over, for this one gave no sign of life' "$1.err")" -eq 1 ] ||
        bad "$1: $(cat "$1.err")"
    is_theirs "$1"
}

# Six that start together, with locks that protect nobody: one trains, the others are told who does.
lying_locks() {
    with_disk LYING_LOCKS=1
    echo > any
    LD_PRELOAD=$work/disk.so LYING_LOCKS=1 flock -n any env LD_PRELOAD="$work/disk.so" LYING_LOCKS=1 flock -n any true ||
        bad "the disk's locks do not lie"
    local i done=0 refused=0
    launchers=()
    for i in $(seq 6); do
        begin 1 "six.$i.err" --quiet "${training[@]}" output=six train.steps=40
    done
    for i in $(seq 6); do
        wait "${launchers[i - 1]}"
        case $? in
        0) done=$((done + 1)) ;;
        73) grep -q '^collimate: six: .*\(process [0-9]* on .* has held it since\)' "six.$i.err" && refused=$((refused + 1)) ;;
        *) bad "six: $(cat "six.$i.err")" ;;
        esac
    done
    [ $done -ge 1 ] && [ $((done + refused)) -eq 6 ] || bad "six: $done trained, $refused were told who does"
    run 1 --quiet "${training[@]}" output=alone train.steps=40
    same alone six
    # The dead do not protect it, the living do.
    begin 2 held.err --quiet "${training[@]}" output=held train.steps=100000000
    until_step 1 held
    refuses 73 'held: process [0-9]* on .* has held it since' "${training[@]}" output=held train.steps=2
    # shellcheck disable=SC2046
    kill -KILL $(pgrep -P "$launched" -x collimate)
    wait "$launched" 2> /dev/null
    begin 1 next.err "${training[@]}" output=held train.steps=2 train.resume=never
    ended "$launched" 60
    [ "$rc" -eq 0 ] && grep -q 'is gone, its lease is taken over' next.err || bad "after the dead: rc $rc: $(cat next.err)"
}

# Lost before a checkpoint, and before the end; whoever has the folder has written there. The rank waits behind a line of its
# metrics, which goes to a file that has no name any more.
lost_at_checkpoint() {
    with_disk HELD_FILE=/metrics.jsonl HELD_AT=3 HELD_UNTIL="$PWD/go"
    begin 2 lost.err --quiet "${training[@]}" "${settings[@]}" output=lost train.steps=100
    until_step 3 lost
    theirs lost
    touch go
    ends_lost lost
}
lost_at_end() {
    with_disk HELD_FILE=/metrics.jsonl HELD_AT=2 HELD_UNTIL="$PWD/go"
    begin 1 last.err --quiet "${training[@]}" output=last train.steps=2 train.checkpoint_every=0
    until_step 2 last
    theirs last
    touch go
    ends_lost last
}
# A run that writes nothing for long hears of it from its pulse.
lost_to_pulse() {
    with_disk
    begin 2 pulse.err --quiet "${training[@]}" output=pulse train.steps=100000000 train.checkpoint_every=100000000
    until_step 1 pulse
    theirs pulse
    ends_lost pulse
}
preload_disk
together lying_locks lost_at_checkpoint lost_at_end lost_to_pulse
finish
