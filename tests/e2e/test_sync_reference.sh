#!/usr/bin/env bash
# A reference that follows the policy (dpo.sync_reference; its numbers beside TRL's: test_trl_steps.sh): the same bits on 1, 2 and
# 4 ranks, after a resume and after a signal; without an update due, those of a reference from a side-car.
set -u
. tests/common.sh
tiny_world 24 6
"$COLLIMATE" --quiet init init.config=config.json output=other tokenizer=bytes seed=4 || exit 1

exact="dpo model=init data=train.h5 eval_data=train.h5 train.evaluate_every=3 train.steps=6 train.batch=12 train.learning_rate=1e-3
    train.deterministic=true train.slots=4 train.checkpoint_every=2"
follows="dpo.sync_reference=true dpo.reference_sync_steps=2 dpo.reference_mixup_alpha=0.5"
# same_bits NAME OPTIONS...: on 1 rank, and on 2 and then 4.
same_bits() {
    local name=$1 key
    shift
    run 1 $exact output="one-$name" "$@"
    run 2 $exact output="halves-$name" "$@" train.steps=3
    run 4 $exact output="halves-$name" "$@"
    for key in parameters_hash loss rewards/margins eval_loss; do
        cmp -s <(column "one-$name/metrics.jsonl" $key) <(column "halves-$name/metrics.jsonl" $key) ||
            bad "$name: $key differs on other ranks"
    done
    [ "$(column "one-$name/metrics.jsonl" parameters_hash | wc -l)" -eq 6 ] || bad "$name: not 6 steps"
}
same_bits other reference=other $follows
same_bits own $follows dpo.ld_alpha=0.5
same_bits kto $follows dpo.loss=kto
ls -- *.reference.h5 > /dev/null 2>&1 && bad "a side-car was written"
[ "$(column one-own/metrics.jsonl rewards/margins | head -1)" = "1 0" ] || bad "the first margin is not 0"

# No update is due: a fixed reference, from memory or from a file.
run 1 $exact output=still reference=other dpo.sync_reference=true
run 1 $exact output=fixed reference=other
for key in parameters_hash loss eval_loss; do
    cmp -s <(column still/metrics.jsonl $key) <(column fixed/metrics.jsonl $key) || bad "$key of a reference that stands still"
done
cmp -s <(column one-other/metrics.jsonl loss | tail -1) <(column fixed/metrics.jsonl loss | tail -1) && bad "the reference stands still"

# A copy at each update: no margin is left.
run 1 $exact output=copy dpo.sync_reference=true dpo.reference_sync_steps=1 dpo.reference_mixup_alpha=1
column copy/metrics.jsonl rewards/margins | grep -qvE "^[1-6] 0$" && bad "alpha 1 does not copy"

run 1 $exact output=x dpo.sync_reference=true --dry-run
grep -q "reference .* beside the policy" out.txt || bad "--dry-run does not count the second model"
refuses 2 "would go on with other numbers: .*dpo.reference_mixup_alpha" $exact output=one-other reference=other $follows \
    dpo.reference_mixup_alpha=0.25 train.steps=8
refuses 2 "dpo.reference_file" $exact output=x dpo.sync_reference=true dpo.reference_file=x.h5
refuses 2 "dpo.reference_sync_steps" $exact output=x dpo.reference_sync_steps=3
refuses 2 "dpo.sync_reference" $exact output=x dpo.loss=cpo dpo.sync_reference=true

finish
