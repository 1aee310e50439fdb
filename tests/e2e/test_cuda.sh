#!/usr/bin/env bash
# The program with device=cuda beside device=cpu: log-probabilities per token, 20 DPO steps, the same bits twice and on
# two ranks. Takes a real device, or the emulated one (../cuda_emulation) where EMULATED_DEVICES is set; there also what
# goes wrong: memory that does not do, ranks without a device, and nothing allocated inside a step.
set -u
. tests/common.sh
emulated=${EMULATED_DEVICES:-}
[ -n "$emulated" ] || "$COLLIMATE" --version | grep -q 'GPU-' || {
    echo "skipped: $("$COLLIMATE" --version | grep -i cuda)"
    exit 77
}
tiny_world
train="data=train.h5 model=init train.steps=20 train.batch=2 train.slots=2 train.clip=1 train.learning_rate=1e-3"
# logps FILE: every number in every row's token_logps.
logps() {
    sed -nE 's|.*"token_logps": \[([^]]*)\].*|\1|p' "$1" | tr -d ' ' | tr ',' '\n'
}
# apart FILE1 FILE2 BOUND: no two log-probabilities are further apart.
apart() {
    paste <(logps "$1") <(logps "$2") | awk -v bound="$3" -v what="$1 $2" '
        { d = $1 - $2; d = d < 0 ? -d : d; most = d > most ? d : most }
        END { if (NR < 500 || NF != 2 || !(most <= bound)) { print what ": " most " in " NR; exit 1 } }' || bad "$1 and $2"
}

# fp32: a logit, of order 1, has behind it some 700 additions in another order than the CPU's (two layers of 100 keys and
# sums over 16 to 32 features, 258 logits), each rounded to 2^-24: 1.6e-6 where roundings are independent. Four times
# that, and a last rounding to 2^-22 of a value below 8 on each side: 7e-6. 20 steps multiply it by at most the growth of
# Adam's updates, which is left two digits.
for run in cpu:fp32 cuda:fp32 cuda:bf16; do
    out=${run/:/-}
    run 1 score model=init data=train.h5 score.per_token=true output="$out.jsonl" device="${run%:*}" compute="${run#*:}"
    run 1 dpo $train train.deterministic=true output="$out" device="${run%:*}" compute="${run#*:}"
done
apart cpu-fp32.jsonl cuda-fp32.jsonl 7e-6
near cpu-fp32/metrics.jsonl cuda-fp32/metrics.jsonl loss 1e-4
near cpu-fp32/metrics.jsonl cuda-fp32/metrics.jsonl grad_norm 1e-3
near cpu-fp32/metrics.jsonl cuda-fp32/metrics.jsonl rewards/margins 1e-3 1e-2
# bf16: some 20 activations and weights on the way to a logit are rounded to 2^-9: 8.7e-3, and four times that.
apart cpu-fp32.jsonl cuda-bf16.jsonl 0.035
near cpu-fp32/metrics.jsonl cuda-bf16/metrics.jsonl loss 0.05
cmp -s <(numbers cpu-fp32) <(numbers cuda-fp32) && bad "cuda has the CPU's very bits: was it the CPU?"

short="$train train.steps=4 train.deterministic=true"
run 1 dpo $short output=once device=cuda
# The same bits: another order of threads and streams, two ranks on one device, two ranks on two.
EMULATED_SEED=$((${EMULATED_SEED:-0} + 41)) run 1 dpo $short output=again device=cuda
same once again
run 2 dpo $short output=shared device=cuda device_ranks=2
same once shared
# Fast: gradients leave in buckets while backward runs.
run 2 dpo $short train.deterministic=false output=fast device=cuda device_ranks=2 train.bucket_bytes=4096
near once/metrics.jsonl fast/metrics.jsonl loss 1e-4
grep -q 'device cuda: GPU-[0-9a-f]\{8\}-' err.txt || bad "no UUID in the log"
# A profile by the device's own clock, more calls than it keeps moments of: their times are part of the whole.
run 1 dpo $train train.deterministic=true output=profiled device=cuda train.profile=true
same cuda-fp32 profiled
profile_is_part profiled 1 || bad "the profile: $(tail -1 profiled/metrics.jsonl)"
[ -n "$emulated" ] || finish

# A device that is not rank 0's is named.
grep -q 'rank 1: ' err.txt && bad "rank 0's own device is listed again"
EMULATED_DEVICES=2 run 2 dpo $short output=two device=cuda
same once two
grep -q 'rank 1: GPU-[0-9a-f]\{8\}-' err.txt || bad "the other rank's device is not in the log"
refuses 2 'device_ranks' dpo $train output=x device=cpu device_ranks=2
timeout 60 mpirun -q -n 2 "$COLLIMATE" dpo $train output=x device=cuda > /dev/null 2> err.txt
[ $? -eq 71 ] && grep -q 'process 2 of its node and sees 1 device.*device_ranks=2' err.txt || bad "two ranks on one device unasked"
EMULATED_DEVICES=0 refuses 71 'no CUDA device: a driver but no device.*(error 100)' dpo $train output=x device=cuda
EMULATED_DEVICES=0 run 1 dpo $short output=auto device=auto
[ "$(grep -c 'no CUDA device, using the CPU' err.txt)" -eq 1 ] || bad "auto does not say that it took the CPU"

# Memory that does not do: what was wanted, how much, what is free, what --dry-run counts.
EMULATED_MEMORY=33600000 refuses 71 "bytes of device memory were asked for.*free.*taking memory for the .*--dry-run counts, in MiB: parameters" \
    dpo $train output=x device=cuda
EMULATED_MEMORY=30000000 refuses 71 "the products' workspace" dpo $train output=x device=cuda
EMULATED_MEMORY=33560000 refuses 71 "taking memory for the parameters, .* their gradients and the optimizer's state.*--dry-run counts" \
    dpo $train output=x device=cuda

# Later steps allocate nothing: 2 and 6 of them take as many allocations, streams and events; the optimizer's state is in
# the parameters' allocation.
# counted NAME COMMAND KEYS...: allocations, streams and events of a process; waits.NAME: how often the host waited.
counted() {
    local name=$1
    shift
    EMULATED_LOG=$PWD/counts.log run 1 "$@" data=train.h5 model="${model:-init}" train.batch=2 train.slots=1 train.shuffle=false \
        output="$name" device=cuda
    sed -E 's/, "kernels".*//' counts.log > "counts.$name"
    sed -E 's/.*"synchronizations": ([0-9]+).*/\1/' counts.log > "waits.$name"
    rm -f counts.log
}
for command in dpo sft reward; do
    for steps in 2 6; do counted "$command-$steps" $command train.steps=$steps; done
    [ -s "counts.$command-2" ] && cmp -s "counts.$command-2" "counts.$command-6" || {
        bad "$command: steps allocate"
        cat "counts.$command-2" "counts.$command-6"
    }
done
counted sgd dpo train.steps=2 train.optimizer=sgd
cmp -s counts.sgd counts.dpo-2 || bad "the optimizer's state is an allocation of its own"

# Nothing waits inside forward or backward: steps of twice the layers have as many waits. (sft: dpo computes reference rows
# before its steps, unless a run before it has.)
sed 's/"num_hidden_layers": 2/"num_hidden_layers": 4/' config.json > deep.json
"$COLLIMATE" --quiet init init.config=deep.json output=deep tokenizer=bytes seed=3 || exit 1
for steps in 2 6; do model=deep counted "deep-$steps" sft train.steps=$steps; done
# waits NAME: of the four steps between 2 and 6.
waits() {
    echo $(($(cat "waits.$1-6") - $(cat "waits.$1-2")))
}
[ "$(waits sft)" -gt 0 ] && [ "$(waits deep)" -eq "$(waits sft)" ] ||
    bad "four steps wait $(waits sft) times, with twice the layers $(waits deep)"
finish
