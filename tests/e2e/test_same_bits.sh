#!/usr/bin/env bash
# train.deterministic: loss, gradient norm, parameters and metrics of sft, dpo and reward have the same bits on 1, 2, 4 and 8
# ranks, for any thread count, with optimizer state sharded over the ranks or not, and across a resume that changes both.
# Without it: equal to rounding, sharded or not, on 3 ranks too.
set -u
. tests/common.sh
tiny_world
steps=4
common=(--quiet model=init data=train.h5 eval_data=train.h5 train.steps=$steps train.batch=16 train.slots=8 train.learning_rate=3e-3
    train.clip=0.5 train.weight_decay=0.1 train.schedule=cosine train.warmup_steps=2)
exact=("${common[@]}" train.deterministic=true)
sharded=train.shard_optimizer=true

for command in sft dpo reward; do
    run 1 $command "${exact[@]}" output=${command}1
    [ "$(column ${command}1/metrics.jsonl parameters_hash | cut -d' ' -f2 | sort -u | wc -l)" -eq $steps ] ||
        bad "$command: not a new hash of the parameters in every step"
    run 2 $command "${exact[@]}" output=${command}2 $sharded
    run 4 $command "${exact[@]}" output=${command}4
    run 8 $command "${exact[@]}" output=${command}8 $sharded
    for ranks in 2 4 8; do
        same ${command}1 $command$ranks
    done
done
# The other half of the table, more threads, and another optimizer.
run 2 dpo "${exact[@]}" output=dpo2whole threads=3
same dpo1 dpo2whole
run 4 dpo "${exact[@]}" output=dpo4sharded threads=2 $sharded
same dpo1 dpo4sharded
run 2 dpo "${exact[@]}" output=dpo2copied device=check:cpu $sharded # its memory is not the host's
same dpo1 dpo2copied
run 8 dpo "${exact[@]}" output=dpo8whole
same dpo1 dpo8whole
run 1 sft "${exact[@]}" output=rmsprop1 train.optimizer=rmsprop train.momentum=0.9
run 4 sft "${exact[@]}" output=rmsprop4 train.optimizer=rmsprop train.momentum=0.9 $sharded
same rmsprop1 rmsprop4

# A checkpoint of R ranks goes on on R' ranks, sharded or not: 4 sharded, 1, 2 sharded, 8.
stop() { run "$1" dpo "${exact[@]}" output=moved train.schedule=constant train.evaluate_every=1 train.steps="$2" "${@:3}"; }
run 2 dpo "${exact[@]}" output=stayed train.schedule=constant train.evaluate_every=1
stop 4 1 $sharded
stop 1 2
stop 2 3 $sharded
stop 8 4
same stayed moved

# Fast mode: to rounding.
run 1 dpo "${common[@]}" output=fast1
for ranks in 2 3 4; do
    run $ranks dpo "${common[@]}" output=fast$ranks $sharded
    near fast1/metrics.jsonl fast$ranks/metrics.jsonl loss 2e-5
    near fast1/metrics.jsonl fast$ranks/metrics.jsonl grad_norm 2e-5
done
run 2 dpo "${common[@]}" output=fast2whole
near fast2/metrics.jsonl fast2whole/metrics.jsonl grad_norm 1e-6
near fast1/metrics.jsonl dpo1/metrics.jsonl loss 2e-5

# Rank counts that cannot give the same bits are refused with those that can.
for ranks in 3 16; do
    timeout 60 mpirun -q -n $ranks "$COLLIMATE" dpo "${exact[@]}" output=refused > /dev/null 2> err.txt
    [ $? -eq 2 ] && grep -q "works on 1, 2, 4, … up to 8 ranks" err.txt || bad "$ranks ranks are not refused"
done
finish
