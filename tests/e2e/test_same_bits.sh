#!/usr/bin/env bash
# train.deterministic: loss, gradient norm, parameters and metrics of sft, dpo and reward have the same bits on 1, 2, 4 and 8
# ranks, for any thread count, with optimizer state sharded over the ranks or not, and across a resume that changes both.
# Without it: equal to rounding, sharded or not, on 3 ranks too.
set -u
. tests/common.sh
tiny_world
steps=4
common=(--quiet model=init data=train.h5 eval_data=train.h5 evaluate.rows=20 train.evaluate_every=3 train.steps=$steps
    train.batch=16 train.slots=8 train.micro_tokens=64 train.learning_rate=3e-3 train.clip=0.5 train.weight_decay=0.1
    train.schedule=cosine train.warmup_steps=2)
exact=("${common[@]}" train.deterministic=true)
sharded=train.shard_optimizer=true

# What else is said to leave the bits alone.
free="train.recompute=layers train.bucket_bytes=4096"
declare -A where=([sft2]=$sharded [dpo2]=$free [dpo4]=$sharded [reward2]=$sharded [sft8]=$sharded [reward8]=$sharded)
for command in sft dpo reward; do
    run 1 $command "${exact[@]}" output=${command}1
    [ "$(column ${command}1/metrics.jsonl parameters_hash | cut -d' ' -f2 | sort -u | wc -l)" -eq $steps ] ||
        bad "$command: not a new hash of the parameters in every step"
    for run in "2 3" "4 2" "8 1"; do # ranks, threads
        ranks=${run% *}
        # shellcheck disable=SC2086
        run "$ranks" $command "${exact[@]}" output=$command$ranks threads="${run#* }" ${where[$command$ranks]:-}
        same ${command}1 $command$ranks
    done
done
run 2 dpo "${exact[@]}" output=dpo2copied device=check:cpu $sharded # its memory is not the host's
same dpo1 dpo2copied
run 1 sft "${exact[@]}" output=rmsprop1 train.optimizer=rmsprop train.momentum=0.9
run 4 sft "${exact[@]}" output=rmsprop4 train.optimizer=rmsprop train.momentum=0.9 $sharded
same rmsprop1 rmsprop4

# A checkpoint of R ranks goes on on R' ranks, sharded or not: 4 sharded, 1, 2 sharded, 8.
steady=(train.schedule=constant train.evaluate_every=1)
stop() { run "$1" dpo "${exact[@]}" output=moved "${steady[@]}" train.steps="$2" "${@:3}"; }
run 2 dpo "${exact[@]}" output=stayed "${steady[@]}"
stop 4 1 $sharded
stop 1 2
stop 2 3 $sharded
stop 8 4
same stayed moved

# Fast mode: to rounding. A row's loss has the same bits in any forest, and the first step's loss is a sum of 16 of them in
# double precision: 16 x 2^-53. Gradients are sums over at most T = 1634 tokens in single precision, in another order on other
# rank counts: errors of random signs add up to sqrt(T) x 2^-24 = 2.4e-6 of the sum (Higham and Mary 2019). Later steps inherit
# that, and the norm, over many parameters, has far less of it.
rounding=2.4e-6
near_all() {
    near <(grep '"step": 1, "loss"' "$1/metrics.jsonl") <(grep '"step": 1, "loss"' "$2/metrics.jsonl") loss 1.8e-15 0
    near "$1/metrics.jsonl" "$2/metrics.jsonl" loss $rounding
    near "$1/metrics.jsonl" "$2/metrics.jsonl" grad_norm $rounding
}
for ranks in 1 2 3 4; do
    run $ranks dpo "${common[@]}" output=fast$ranks $sharded
    near_all dpo1 fast$ranks
done
run 2 dpo "${common[@]}" output=fast2whole
near_all fast2 fast2whole
for command in sft reward; do
    run 3 $command "${common[@]}" output=${command}3
    near_all ${command}1 ${command}3
done
# And across resumes on uneven shares.
run 4 dpo "${common[@]}" output=uneven "${steady[@]}" train.steps=2 $sharded
run 3 dpo "${common[@]}" output=uneven "${steady[@]}" train.steps=3 $sharded
run 2 dpo "${common[@]}" output=uneven "${steady[@]}"
near_all stayed uneven

# Rank counts that cannot give the same bits are refused with those that can.
for ranks in 3 16; do
    timeout 60 mpirun -q -n $ranks "$COLLIMATE" dpo "${exact[@]}" output=refused > /dev/null 2> err.txt
    [ $? -eq 2 ] && grep -q "works on 1, 2, 4, … up to 8 ranks" err.txt || bad "$ranks ranks are not refused"
done
finish
