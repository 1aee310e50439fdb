#!/usr/bin/env bash
# DPO on the emulated CUDA device with attention by a stand-in for cuDNN, which computes the graphs that it is given:
# the numbers of the own kernels to bf16's rounding, whatever the order of streams; what is chosen, said and refused.
set -u
. tests/common.sh
export COLLIMATE_PLUGIN_PATH=$BUILD/tests/cuda_emulation EMULATED_DEVICES=1
[ -e "$COLLIMATE_PLUGIN_PATH/libcollimate_cuda.so" ] || { echo "skipped: no CUDA emulation in this build"; exit 77; }
[ -e "$COLLIMATE_PLUGIN_PATH/cudnn/libcudnn.so.9" ] || { echo "skipped: no stand-in for cuDNN"; exit 77; }
export LD_LIBRARY_PATH=$COLLIMATE_PLUGIN_PATH/cudnn${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} STAND_IN_CUDNN_LOG=$PWD/cudnn.log
tiny_world 12 4 32 # heads of 8: what cuDNN takes

# train NAME KEYS...
train() {
    local name=$1
    shift
    timeout 120 "$COLLIMATE" dpo data=train.h5 model=init output="$name" device=cuda compute=bf16 train.steps=2 train.batch=3 \
        train.learning_rate=2e-3 "$@" 2> "$name.log" || {
        bad "rc $? of $name"
        tail -5 "$name.log"
    }
}
says() {
    grep -q "$2" "$1.log" || { bad "$1 does not say: $2"; cat "$1.log"; }
}
close_to_own() {
    near own/metrics.jsonl "$1/metrics.jsonl" loss 0.02
    near own/metrics.jsonl "$1/metrics.jsonl" grad_norm 0.05
}

train own cuda.attention=own
says own "attention by own kernels"
[ ! -e cudnn.log ] || bad "own kernels were asked for and cuDNN was opened"
EMULATED_SEED=5 train auto
says auto "attention by cuDNN 9.19.0"
close_to_own auto
awk '{ plans += $2; runs += $4 } END { exit !(plans > 3 && runs > 2 * plans) }' cudnn.log ||
    bad "plans are not remembered, or none ran: $(cat cudnn.log)"
cmp -s <(numbers own) <(numbers auto) && bad "the very bits of the own kernels: did cuDNN run?"
# Whole ranges that the library does not take go to the own kernels and are merged.
STAND_IN_CUDNN=causal train mixed cuda.attention=cudnn
close_to_own mixed
STAND_IN_CUDNN=none train none cuda.attention=cudnn
same own none
# Deterministic: the own kernels for the gradients, the same bits in any order.
EMULATED_SEED=6 train once train.deterministic=true
EMULATED_SEED=7 train again train.deterministic=true
says once "its gradient by own kernels"
same once again
STAND_IN_CUDNN=old train old
says old "attention by own kernels, cuDNN 9.10.2 or later"
both="dpo data=train.h5 model=init output=x train.steps=1 cuda.attention=cudnn"
# shellcheck disable=SC2086 # words
{
    STAND_IN_CUDNN=old refuses 71 "cuDNN 9.10.2 or later" $both device=cuda compute=bf16
    refuses 2 "needs compute=bf16" $both device=cuda
    refuses 2 "device=cuda" $both device=cpu
}
finish
