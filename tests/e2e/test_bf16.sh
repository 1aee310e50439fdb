#!/usr/bin/env bash
# compute: bf16 on the CPU beside fp32, on a policy that has learned its text: log-probabilities, curves of sft, dpo and
# reward, the same bits on any rank count, the first step's loss, a resume.
set -u
. tests/common.sh
tiny_world 120 6 32
run 1 sft model=init data=train.h5 output=learned train.epochs=6 train.batch=16 train.learning_rate=1e-2
[ "$failures" -eq 0 ] || exit 1

# Token by token: 8 bits of a logit of 10 are 0.02, so single tokens are that far off and more (PyTorch's are); the root mean
# square stays within 2e-2, the mean within 2e-3.
for type in fp32 bf16; do
    run 2 score data=train.h5 model=learned/model output=$type.jsonl compute=$type score.per_token=true
done
tokens() { grep -oE '"token_logps": \[[^]]*\]|"token_logps_[a-z]+": \[[^]]*\]' "$1" | grep -oE -- '-?[0-9]+(\.[0-9e+-]+)?' ; }
paste <(tokens fp32.jsonl) <(tokens bf16.jsonl) | awk '
    function abs(x) { return x < 0 ? -x : x }
    { d = $2 - $1; sum += d; squares += d * d; if (abs(d) > worst) worst = abs(d) }
    END { rms = sqrt(squares / NR); print NR " tokens, rms " rms ", worst " worst ", mean " sum / NR
      exit !(NR > 1000 && rms > 0 && rms < 2e-2 && worst < 0.2 && abs(sum / NR) < 2e-3) }' ||
    bad "log-probabilities in bf16"

# Curves of 20 steps within 1 % of fp32's; the policy begins as its reference.
steps=(--quiet model=learned/model data=train.h5 train.steps=20 train.batch=16 train.slots=4 train.learning_rate=3e-4
    train.deterministic=true)
bf16=(compute=bf16 cpu.products=fp32) # by name: a processor may have others
for command in sft dpo reward; do
    run 1 $command "${steps[@]}" output=${command}-fp32
    run 1 $command "${steps[@]}" output=${command}-bf16 "${bf16[@]}"
    near ${command}-fp32/metrics.jsonl ${command}-bf16/metrics.jsonl loss 0.01
    for ranks in 2 4; do
        run $ranks $command "${steps[@]}" output=$command$ranks "${bf16[@]}"
        same ${command}-bf16 $command$ranks
    done
done
column dpo-bf16/metrics.jsonl loss | awk 'NR == 1 { exit !($2 - 0.69314718 < 1e-6 && 0.69314718 - $2 < 1e-6) }' ||
    bad "step 0 is not log 2"

# Its embeddings are clustered in fp32.
run 2 dpo "${steps[@]}" output=balanced "${bf16[@]}" train.steps=1 train.warmup_steps=0 select.strategy=balanced select.fraction=0.5 \
    select.clusters=4

# A resume on another rank count; with another type it is refused.
run 2 dpo "${steps[@]}" output=moved "${bf16[@]}" train.steps=9 train.warmup_steps=0
run 4 dpo "${steps[@]}" output=moved "${bf16[@]}"
went_on moved 9
same dpo-bf16 moved
refuses 2 "compute (was bf16" dpo "${steps[@]}" output=moved compute=fp32 train.steps=21

finish
