#!/usr/bin/env bash
# The line from records to an aligned model, on 1, 2 and 4 ranks: synth -> prepare -> init -> sft -> dpo -> evaluate ->
# score. Sizes are ragged: 61 pairs in updates of 12, so the last update of an epoch has one row. The same bits, resumes, kills
# and signals: test_same_bits, test_checkpoints, test_kills, test_limits.
set -u
. tests/common.sh

write_config config.json

run 1 synth output=train.jsonl synth.rows=61 synth.length=6 seed=1
run 1 synth output=eval.jsonl synth.rows=23 synth.length=6 seed=2
run 2 prepare input=train.jsonl output=train.h5 tokenizer=bytes
run 2 prepare input=eval.jsonl output=eval.h5 tokenizer=bytes
run 1 init init.config=config.json output=init tokenizer=bytes seed=3
[ "$failures" -eq 0 ] || exit 1

# SFT learns; any rank count gives the same numbers to rounding.
sft="sft model=init data=train.h5 eval_data=eval.h5 train.epochs=6 train.batch=12 train.learning_rate=3e-3"
for n in 1 2 4; do
    run $n $sft output=sft$n train.micro_tokens=$((300 * n))
done
near sft1/metrics.jsonl sft2/metrics.jsonl loss 1e-4
near sft1/metrics.jsonl sft4/metrics.jsonl loss 1e-4
near sft1/metrics.jsonl sft4/metrics.jsonl grad_norm 2e-3
[ "$(column sft1/metrics.jsonl loss | wc -l)" -eq 36 ] || bad "sft: not 36 updates"
column sft1/metrics.jsonl eval_loss | awk 'NR == 1 { first = $2 } { last = $2 } END { exit !(last < first - 0.5) }' ||
    bad "sft does not learn"

# environment.json tells how a run ended, whichever way.
grep -q '"exit_code": 0' sft2/environment.json || bad "environment.json does not say that sft ended well"
mpirun -q -n 2 "$COLLIMATE" --quiet sft model=init data=train.h5 output=wild train.steps=60 train.batch=8 \
    train.learning_rate=1000 train.weight_decay=10 train.optimizer=sgd train.clip=0 2> wild.err
[ $? -eq 65 ] && grep -q '"exit_code": 65' wild/environment.json && grep -q '"ended": ' wild/environment.json ||
    bad "environment.json does not say how a run failed: $(tail -n 1 wild.err)"

# DPO starts from log 2 and margins of 0, learns, and agrees between rank counts.
dpo="dpo model=sft1/model data=train.h5 eval_data=eval.h5 train.steps=18 train.batch=12 train.learning_rate=2e-3"
for n in 1 2 4; do
    run $n $dpo output=dpo$n train.micro_tokens=700
done
grep -q "61 rows computed" dpo1/log.txt || bad "the first dpo run computes the reference"
grep -q "reference scores: 0 rows computed, 61 were there" dpo2/log.txt || bad "the second dpo run finds the reference"
for n in 1 2 4; do
    column dpo$n/metrics.jsonl loss | awk '
        $1 == 1 { exit !($2 > 0.6931461 && $2 < 0.6931482) }' || bad "dpo$n does not start from log 2"
    column dpo$n/metrics.jsonl eval_rewards/margins | awk '
        $1 == 0 { exit !($2 > -1e-5 && $2 < 1e-5) }' || bad "dpo$n: margins are not 0 before the first update"
done
column dpo1/metrics.jsonl rewards/margins | awk '$1 == 1 { exit !($2 == 0) }' || bad "margin at step 1 is not exactly 0"
near dpo1/metrics.jsonl dpo2/metrics.jsonl loss 2e-3
near dpo1/metrics.jsonl dpo4/metrics.jsonl loss 2e-3
near dpo1/metrics.jsonl dpo4/metrics.jsonl logps/chosen 1e-3
column dpo1/metrics.jsonl rewards/accuracies | tail -1 | awk '{ exit !($2 > 0.8) }' || bad "dpo does not learn"

# train.profile: the table, and a line whose times are part of the whole. The model is the same without.
for n in 1 2; do
    run $n $dpo output=profile$n train.micro_tokens=700 train.profile=true
    grep -q "profile of .* on $n rank" profile$n/log.txt && grep -Eq ' gemm +[0-9]+ .* GFLOP/s' profile$n/log.txt ||
        bad "profile$n prints no table"
    profile_is_part profile$n $n || bad "profile$n: $(tail -1 profile$n/metrics.jsonl)"
done
cmp -s profile1/model/model.safetensors dpo1/model/model.safetensors || bad "a profile changes the model"

# A weight that is not a number: one message that names step and row, code 65, on all ranks, nothing written.
cp -r init broken
printf '\377\377\377\377' | dd of=broken/model.safetensors bs=1 seek=40000 conv=notrunc 2> /dev/null
timeout 60 mpirun -q -n 2 "$COLLIMATE" --quiet sft model=broken data=train.h5 output=nan > /dev/null 2> err.txt
[ $? -eq 65 ] && [ "$(grep -c "step 1: the loss of row [0-9]* is not finite" err.txt)" -eq 1 ] &&
    [ "$(wc -l < err.txt)" -eq 1 ] && [ ! -e nan/model ] || bad "a NaN in the loss: $(cat err.txt)"

# score: the same bytes on any rank count, in row order; rewards as training saw them.
for n in 1 2 4; do
    run $n score model=dpo1/model reference=sft1/model data=eval.h5 score.per_token=true output=score$n.jsonl
done
cmp -s score1.jsonl score2.jsonl || bad "score differs on 2 ranks"
cmp -s score1.jsonl score4.jsonl || bad "score differs on 4 ranks"
[ "$(wc -l < score1.jsonl)" -eq 46 ] || bad "score: not one line per response"
"$COLLIMATE" score model=dpo1/model reference=sft1/model data=eval.h5 score.per_token=true 2> /dev/null |
    cmp -s - score1.jsonl || bad "score to standard output differs"

# evaluate agrees with training's own evaluation and with score.
run 2 evaluate model=dpo1/model reference=sft1/model data=eval.h5 output=evaluate.json
margin=$(sed -nE 's/.*"rewards\/margins": ([-0-9][^,]*),.*/\1/p' evaluate.json)
column dpo1/metrics.jsonl eval_rewards/margins | tail -1 | awk -v m="$margin" '
    { d = $2 - m; exit !(d < 1e-4 && d > -1e-4) }' || bad "evaluate's margin $margin is not training's"
awk -v m="$margin" '
    { match($0, /"reward": [^,]*/); r = substr($0, RSTART + 10, RLENGTH - 10)
      sum += /"chosen"/ ? r : -r } END { d = sum / (NR / 2) - m; exit !(d < 1e-4 && d > -1e-4) }' score1.jsonl ||
    bad "evaluate's margin is not score's"
grep -q '"intervals": {"loss": \[' evaluate.json || bad "evaluate gives no intervals"
run 1 evaluate model=sft1/model data=eval.h5
grep -q '"perplexity": ' out.txt || bad "evaluate without a reference gives no perplexity"

# --dry-run does no work and prints a report.
run 1 $dpo output=dry --dry-run
grep -q "total" out.txt && [ ! -e dry ] || bad "--dry-run"

finish
