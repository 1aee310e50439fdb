#!/usr/bin/env bash
# Disks that fail, really caused in a mount namespace of its own: full while a checkpoint is written (with ROMIO, and with
# OMPIO, which reports success and is caught by reading back), read-only, and files that were cut or have other bytes. One
# message, the documented code, a bounded end; what was good before stays and the same command goes on from it.
set -u
if [ -z "${IN_NAMESPACE:-}" ]; then
    unshare -m true 2> /dev/null || { echo "skipped: mount namespaces are refused here"; exit 77; }
    IN_NAMESPACE=1 exec unshare -m --propagation private bash "$0"
fi
. jobs/env.sh
expect=$PWD/tests/expect.sh
. tests/common.sh
tiny_world 45 4 96
preload_disk
trap 'umount "$work"/*/disk; rm -rf "$work"' EXIT
mkdir try && mount -t tmpfs tmpfs try 2> /dev/null && umount try || { echo "skipped: mount is refused here"; exit 77; }

options=()
# fails RANKS RC PATTERN ARGUMENT...: in mpirun's $options.
fails() {
    bash "$expect" "$2" "$3" 120 mpirun -q "${options[@]}" -n "$1" "$COLLIMATE" "${@:4}" || failures=$((failures + 1))
}
# a_disk: in this part's folder.
a_disk() { mkdir disk && mount -t tmpfs -o size=16m tmpfs disk || exit 1; }
# leaves BYTES: so much is free on the disk.
leaves() {
    rm -f disk/filler
    local free
    free=$(df --output=avail -B1 disk | tail -n 1)
    head -c $((free - $1)) /dev/zero > disk/filler
}
cut() { truncate -s $(($(stat -c %s "$1") * 2 / 3)) "$1"; }

training=(sft data=train.h5 model=init train.deterministic=true train.slots=4 train.batch=8 train.learning_rate=1e-3
    train.checkpoint_every=2)
run 1 "${training[@]}" output=whole train.steps=6

# full_disk RANKS PATTERN: full while the second checkpoint is written, of which nothing stays; with room again the same command
# goes on.
full_disk() {
    rm -rf disk/*
    run "$1" "${training[@]}" output=disk/run train.steps=2
    # Enough for lines of text, not for a checkpoint: once the run has begun, for a start asks for all of it.
    (until grep -q '"step": 3,' disk/run/metrics.jsonl; do sleep 0.02; done; leaves 1310720; touch "filled.$1") &
    local disk_options=("${options[@]}") options=("${preload[@]}" "${options[@]}" -x HELD_FILE=/metrics.jsonl -x HELD_AT=1 -x "HELD_UNTIL=$PWD/filled.$1")
    rm -f "filled.$1"
    fails "$1" 73 "disk/run/checkpoints/step-4.h5.*$2" "${training[@]}" output=disk/run train.steps=6
    [ "$(ls disk/run/checkpoints)" = $'latest\nstep-2.h5' ] && [ "$(cat disk/run/checkpoints/latest)" = step-2.h5 ] ||
        bad "$OMPI_MCA_io, $1 ranks: $(ls disk/run/checkpoints)"
    options=("${disk_options[@]}")
    wait
    rm disk/filler
    run $((4 / $1)) "${training[@]}" output=disk/run train.steps=6
    same whole disk/run
}
full='(full|No space left)'
# Full where results go.
full_results() {
    rm -rf disk/*
    leaves 4096
    fails 4 73 "disk/train.h5.*$full" prepare input=train.jsonl output=disk/train.h5 tokenizer=bytes
    fails 4 73 "disk/embeddings.h5.*$full" embed data=train.h5 model=init output=disk/embeddings.h5
    fails 2 73 "disk/scores.jsonl.*$full" score data=train.h5 model=init output=disk/scores.jsonl score.per_token=true
    [ "$(find disk -type f)" = disk/filler ] || bad "what could not be written stays: $(ls -l disk)"
}
full_romio() {
    a_disk
    export OMPI_MCA_io=romio321
    full_disk 2 'no room for.*No space left'
    full_results
    options=("${preload[@]}" -x NO_RESERVE=1) # where blocks cannot be reserved the file system is asked for its room
    full_disk 4 'no room for.*No space left'
}
full_ompio() {
    a_disk
    export OMPI_MCA_io=ompio
    options=("${preload[@]}" -x NO_RESERVE=lies) # OMPIO says that all went well; reading back shows the loss
    full_disk 1 '(does not read back|cannot be written); is the disk full'
    full_disk 4 'does not read back; is the disk full'
    options=("${preload[@]}" -x NO_RESERVE=1)
    full_results
}

# From the start, and on going on; in the midst of a run: tests/e2e/test_faults.sh.
read_only() {
    a_disk
    run 2 "${training[@]}" output=disk/run train.steps=2
    mount -o remount,ro disk
    fails 4 73 'disk/new.*Read-only file system' "${training[@]}" output=disk/new train.steps=2
    fails 2 73 'disk/run.*Read-only file system' "${training[@]}" output=disk/run train.steps=4
    fails 2 73 'disk/train.h5.*Read-only file system' prepare input=train.jsonl output=disk/train.h5 tokenizer=bytes
    fails 2 73 'disk/scores.jsonl.*Read-only file system' score data=train.h5 model=init output=disk/scores.jsonl
}

# Other bytes, or a cut: the newest checkpoint is named and the one before it taken, to the same end.
hurt() {
    cp -r whole/. hurt
    rm -rf hurt/model
    "$1" hurt/checkpoints/step-6.h5
    run 2 "${training[@]}" output=hurt train.steps=6
    grep -q 'step-6.h5.*taking the checkpoint before it' err.txt || bad "$1 of a checkpoint is not named"
    same whole hurt
    # Data, and reference scores.
    cp train.h5 data.h5
    "$1" data.h5
    fails 2 65 'data.h5' sft data=data.h5 model=init output=other train.steps=6 train.batch=45
    run 2 dpo data=train.h5 model=init output=dpo train.steps=1 dpo.reference_file=reference.h5
    "$1" reference.h5
    fails 2 65 'reference.h5' dpo data=train.h5 model=init output=dpo2 train.steps=1 dpo.reference_file=reference.h5
}
damaged() { hurt damage; }
shortened() {
    hurt cut
    cp -r init/. short
    cut short/model.safetensors
    fails 2 65 'short/model.safetensors' sft data=train.h5 model=short output=other train.steps=1
}
together full_romio full_ompio read_only damaged shortened
finish
