#!/usr/bin/env bash
# Every loss of pairs trains, and evaluate gives the first step's loss; losses that look at the batch or at tokens, and
# lists against a reference, have the same bits on 1, 2 and 4 ranks; what cannot be had is refused with a reason.
set -u
. tests/common.sh

write_config config.json
run 1 synth output=pairs.jsonl synth.rows=24 synth.length=6 seed=6
run 1 synth output=lists.jsonl synth.rows=24 synth.responses=4 synth.length=6 seed=4
for name in pairs lists; do
    run 1 prepare input=$name.jsonl output=$name.h5 tokenizer=bytes
done
run 1 init init.config=config.json output=init tokenizer=bytes seed=3
run 1 init init.config=config.json output=other tokenizer=bytes seed=4
[ "$failures" -eq 0 ] || exit 1

# same_loss NAME OPTIONS...: of a policy that is not the reference.
same_loss() {
    local name=$1 key=loss
    shift
    run 2 dpo model=init data=pairs.h5 train.batch=24 train.steps=2 train.learning_rate=1e-3 output="$name" "$@"
    run 2 evaluate model=init data=pairs.h5 output="$name.json" "$@"
    paste <(column "$name/metrics.jsonl" loss | head -1) <(sed -nE 's/.*"'$key'": ([0-9.e+-]+).*/\1/p' "$name.json") |
        awk 'NF != 3 { bad = 1 } { d = $2 - $3; bad = bad || !(d * d < 1e-8 * (1 + $2 * $2)) } END { exit bad || NR != 1 }' ||
        bad "$name: evaluate gives another loss than the first step"
}
for loss in nca_pair bco_pair sppo_hard discopop bco beta_dpo aot aot_unpaired; do
    same_loss $loss dpo.loss=$loss reference=other
done
same_loss exo dpo.loss=exo_pair dpo.label_smoothing=0.001 reference=other
same_loss forward dpo.divergence=forward_kl reference=other
same_loss js dpo.loss=ipo+0.5*discopop dpo.divergence=js reference=other dpo.tau=0.5
same_loss alpha dpo.divergence=alpha:0.5 reference=other
same_loss ld dpo.ld_alpha=0.25 reference=other
same_loss cpo dpo.loss=cpo dpo.beta=0.2
same_loss simpo dpo.loss=simpo dpo.gamma=1 dpo.beta=2
same_loss orpo dpo.loss=orpo
same_loss sft dpo.loss=sft
for name in loss nll_loss logps/chosen; do
    grep '"step": 1,' sft/metrics.jsonl | grep -q "\"$name\": [-0-9]" || bad "sft alone shows no $name"
done

# same_bits NAME OPTIONS...: on 1 rank, and on 2 and then 4.
same_bits() {
    local name=$1 key
    shift
    local exact="dpo model=init train.steps=4 train.batch=12 train.learning_rate=1e-3 train.deterministic=true
        train.slots=4 train.checkpoint_every=2"
    run 1 $exact output="one-$name" "$@"
    run 2 $exact output="halves-$name" "$@" train.steps=2
    run 4 $exact output="halves-$name" "$@"
    for key in parameters_hash loss; do
        cmp -s <(column "one-$name/metrics.jsonl" $key) <(column "halves-$name/metrics.jsonl" $key) ||
            bad "$name: $key differs on other ranks"
    done
    [ "$(column "one-$name/metrics.jsonl" loss | wc -l)" -eq 4 ] || bad "$name: not 4 steps"
}
same_bits beta data=pairs.h5 reference=other dpo.loss=beta_dpo+0.1*sft
same_bits bco data=pairs.h5 reference=other dpo.loss=bco dpo.ld_alpha=0.5
same_bits aot data=pairs.h5 reference=other dpo.loss=aot+0.5*sigmoid dpo.ld_alpha=0.5
same_bits unpaired data=pairs.h5 reference=other dpo.loss=aot_unpaired
same_bits bt data=lists.h5 reference=other dpo.loss=bt_list
same_bits pro data=lists.h5 dpo.loss=pro+0.05*sft

pairs="dpo model=init data=pairs.h5 output=no"
refuses 2 "looks at the whole batch" $pairs dpo.loss=aot+bco
refuses 2 "wpo is not there: it is a weight" $pairs dpo.loss=wpo
same_loss wpo dpo.weighting=true reference=other
refuses 2 "dpo.weighting has no effect" $pairs dpo.loss=aot dpo.weighting=true
refuses 2 "takes more than 0" $pairs dpo.loss=exo_pair
refuses 2 "dpo.gamma has no effect" $pairs dpo.gamma=1
refuses 2 "dpo.divergence has no effect" $pairs dpo.loss=nca_pair dpo.divergence=js
refuses 2 "dpo.divergence: " $pairs dpo.divergence=kl
refuses 2 "dpo.ld_alpha has no effect" $pairs dpo.loss=cpo dpo.ld_alpha=0.5
refuses 2 "reads a reference" $pairs dpo.loss=cpo reference=other
refuses 2 "looks at the whole batch" $pairs dpo.loss=bco+beta_dpo

finish
