#!/usr/bin/env bash
# A run with TRL's settings has TRL's updates: max_length with truncate.keep=row_start leaves out and cuts the rows that DPOTrainer
# does, train.schedule=constant_with_warmup begins at 0 (fixtures/make_trl_rows.py, float32: to 1e-4); the counts of
# tokens too. truncate.keep=whole leaves out what is too long.
set -u
. "$(dirname "$FIXTURES")/common.sh"
fixture=$FIXTURES/dpo_steps
run 1 --quiet prepare input="$fixture/pairs.jsonl" output=pairs.h5 tokenizer=bytes tokenize.begin=false
trl=(model="$fixture/model" data=pairs.h5 eval_data=pairs.h5 train.steps=5 train.batch=3 train.shuffle=false train.learning_rate=2e-3
    train.clip=1 train.schedule=constant_with_warmup train.warmup_steps=3 dpo.beta=0.3 truncate.max_length=24 truncate.keep=row_start)
for ranks in 1 2; do
    run $ranks dpo "${trl[@]}" output=run$ranks
    grep -q 'data: 1 of 8 rows are left out: the prompt alone fills truncate.max_length=24' err.txt || bad "left out: $(cat err.txt)"
    mkdir -p rewards
    for key in loss grad_norm learning_rate rewards/margins num_tokens; do
        column run$ranks/metrics.jsonl $key | cut -d' ' -f2 > $key.txt
    done
    paste -d' ' "$FIXTURES/trl_run/expected.txt" loss.txt grad_norm.txt learning_rate.txt rewards/margins.txt num_tokens.txt | awk -v name="$ranks ranks" '
        function far(want, got) { d = want - got; d = d < 0 ? -d : d; w = want < 0 ? -want : want
                                  return NF != 11 || !(d <= 1e-4 * (1e-2 + w)) }
        { for (i = 2; i <= 6; i++) if (far($i, $(i + 5))) { print name ": step " $1 ": want " $i ", got " $(i + 5); bad = 1 } }
        END { exit bad || NR != 5 }' || bad "not TRL's updates on $ranks ranks"
done
# The lines of an evaluation and of the end have what TRL's have.
for key in eval_num_tokens eval_samples_per_second eval_steps_per_second epoch; do
    tail -2 run1/metrics.jsonl | head -1 | grep -q "\"$key\": [0-9]" || bad "no $key: $(tail -2 run1/metrics.jsonl)"
done
for key in train_runtime train_samples_per_second train_steps_per_second total_flos train_loss epoch; do
    tail -1 run1/metrics.jsonl | grep -q "\"$key\": [0-9]" || bad "no $key: $(tail -1 run1/metrics.jsonl)"
done
awk '{ sum += $2 } END { print sum / NR }' "$FIXTURES/trl_run/expected.txt" | paste -d' ' - <(column run1/metrics.jsonl train_loss) |
    awk '{ d = $1 - $3; exit !(NF == 3 && d < 1e-4 && d > -1e-4) }' || bad "train_loss: $(tail -1 run1/metrics.jsonl)"
# A run that goes on has one closing line, of all its steps.
run 1 dpo "${trl[@]}" output=parts train.steps=2
run 1 dpo "${trl[@]}" output=parts
[ "$(grep -c train_runtime parts/metrics.jsonl)" -eq 1 ] && near run1/metrics.jsonl parts/metrics.jsonl train_loss 1e-6 &&
    near run1/metrics.jsonl parts/metrics.jsonl total_flos 1e-9 ||
    bad "the closing line of a run that went on"
# evaluate's loss is eval_loss, with the SFT part too.
run 1 dpo "${trl[@]}" output=both dpo.loss=sigmoid+0.5*sft
run 1 --quiet evaluate model=both/model reference="$fixture/model" data=pairs.h5 dpo.beta=0.3 dpo.loss=sigmoid+0.5*sft truncate.max_length=24 \
    truncate.keep=row_start output=both.json
paste -d' ' <(column both/metrics.jsonl eval_loss | tail -1) <(sed -E 's/.*"loss": ([0-9.]+), "preference_loss": ([0-9.]+),.*/\1 \2/' both.json) |
    awk '{ d = $2 - $3; exit !(NF == 4 && d < 1e-5 && d > -1e-5 && $4 < $3) }' || bad "loss of evaluate: $(cat both.json)"

run 1 dpo "${trl[@]}" output=whole truncate.keep=whole truncate.max_length=40 --dry-run
grep -q 'data: 3 of 8 rows are left out: prompt and response have more tokens than truncate.max_length=40' err.txt || bad "whole rows: $(cat err.txt)"
refuses 65 'no rows' dpo "${trl[@]}" output=none truncate.keep=whole truncate.max_length=3
refuses 2 'truncate.max_prompt' dpo "${trl[@]}" output=none truncate.max_prompt=4
finish
