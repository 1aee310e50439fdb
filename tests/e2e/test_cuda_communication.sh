#!/usr/bin/env bash
# Gradients of the emulated CUDA device summed over ranks each way: the same numbers staged in many small buckets (in
# orders drawn at random), by a stand-in for NCCL, and on one rank; the choice at the start; what is not there.
set -u
. tests/common.sh
export COLLIMATE_PLUGIN_PATH=$BUILD/tests/cuda_emulation EMULATED_DEVICES=4
[ -e "$COLLIMATE_PLUGIN_PATH/libcollimate_cuda.so" ] || { echo "skipped: no CUDA emulation in this build"; exit 77; }
[ -e "$COLLIMATE_PLUGIN_PATH/nccl/libnccl.so.2" ] || { echo "skipped: no stand-in for NCCL"; exit 77; }
libraries=${LD_LIBRARY_PATH:-}
fixture=$FIXTURES/dpo_steps
run 1 prepare input="$fixture/pairs.jsonl" output=pairs.h5 tokenizer=bytes

# train NAME RANKS KEYS...
train() {
    local name=$1 ranks=$2
    shift 2
    timeout 120 mpirun -q -n "$ranks" "$COLLIMATE" dpo data=pairs.h5 model="$fixture/model" output="$name" device=cuda \
        train.steps=3 train.batch=8 train.shuffle=false train.learning_rate=2e-3 "$@" 2> "$name.log" || {
        bad "rc $? of $name"
        tail -5 "$name.log"
    }
}
# near NAME: losses and norms are those of one rank to rounding.
near() {
    paste -d' ' <(column one/metrics.jsonl loss) <(column "$1/metrics.jsonl" loss) <(column one/metrics.jsonl grad_norm) \
        <(column "$1/metrics.jsonl" grad_norm) | awk -v name="$1" '
        function far(a, b) { d = a - b; return !((d < 0 ? -d : d) <= 1e-5 * (1e-1 + a)) }
        { if (NF != 8 || far($2, $4) || far($6, $8)) { print name ": " $0; bad = 1 } }
        END { exit bad || NR != 3 }' || bad "$1 differs from one rank"
}
says() {
    grep -q "$2" "$1.log" || { bad "$1 does not say: $2"; cat "$1.log"; }
}

train one 1
EMULATED_SEED=5 train staged 2 train.communication=staged train.bucket_bytes=1024
near staged
says staged "communication: staged"
export LD_LIBRARY_PATH=$COLLIMATE_PLUGIN_PATH/nccl${libraries:+:$libraries}
train nccl 4 train.communication=nccl train.bucket_bytes=4096
near nccl
says nccl "communication: NCCL"
train auto 2
near auto
says auto "communication: NCCL, .* GB/s"
says auto "communication: staged .* GB/s"
says auto "is taken"
# A library that finds no group: auto goes on without it, the one who asked for it is told.
STAND_IN_NCCL=deaf train deaf 2
near deaf
says deaf "ncclCommInitRank: unhandled system error"
says deaf "communication: staged through pinned memory"
# Deterministic: the tree, whatever is there; the same bits on any rank count.
EMULATED_SEED=7 train tree 2 train.deterministic=true train.bucket_bytes=1024
train tree_one 1 train.deterministic=true
cmp -s <(column tree/metrics.jsonl parameters_hash) <(column tree_one/metrics.jsonl parameters_hash) ||
    bad "deterministic: other bits on 2 ranks"
[ "$(column tree/metrics.jsonl parameters_hash | wc -l)" -eq 3 ] || bad "no hashes"
says tree "communication: staged"
both="data=pairs.h5 model=$fixture/model output=none train.steps=1"
# shellcheck disable=SC2086 # words
refuses 2 "gradients in host memory" dpo $both device=cpu train.communication=nccl
finish
