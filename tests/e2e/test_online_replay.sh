#!/usr/bin/env bash
# online beside PyTorch: what tests/fixtures/make_online.py computes from the rollouts on disk, which know nothing of this
# program's losses: loss and gradient norm of the first updates of each method but ppo
# (whose values tests/online/test_replay.c has).
#   KEEP=folder bash tests/e2e/test_online_replay.sh     keeps the runs, for make_online.py
set -u
. tests/common.sh
tiny_world 24 6
common=(online model=init data=train.h5 online.prompts=4 online.max_new_tokens=10 online.reward_length=0.3 online.reward_stop=2
    online.keep_rollouts=true train.optimizer=sgd train.learning_rate=0.1 train.deterministic=true train.slots=4 train.steps=4 seed=2)
# Without an end token, a pattern says something of the text.
pattern=(online.reward_pattern=[aeiou] online.reward_pattern_weight=1.5)
# name, and what the run has beside the common options
runs="
dapo      online.samples=4
grpo      online.samples=4 online.loss=grpo online.kl=0.1 online.inner_epochs=2
bnpo      online.samples=4 online.loss=bnpo online.scale_rewards=batch
dr_grpo   online.samples=4 online.loss=dr_grpo online.scale_rewards=none
luspo     online.samples=4 online.loss=luspo online.ratio=sequence online.inner_epochs=2
cispo     online.samples=4 online.loss=cispo online.clip_high=5 online.inner_epochs=2
sapo      online.samples=4 online.loss=sapo online.inner_epochs=2
vespo     online.samples=4 online.loss=vespo online.inner_epochs=2
masked    online.samples=4 online.mask_truncated=true online.missing_stop_penalty=1
warm      online.samples=4 online.temperature=0.7 online.kl=0.1 online.inner_epochs=2
rloo      online.samples=4 online.method=rloo online.inner_epochs=2
raft      online.samples=4 online.method=raft
dpo       online.samples=2 online.method=online_dpo
xpo       online.method=xpo online.xpo_alpha=1e-3
nash      online.method=nash_md online.mixture=0.3
"
while read -r name options; do
    [ -n "$name" ] || continue
    # shellcheck disable=SC2086
    run 1 "${common[@]}" "${pattern[@]}" output="$name" $options
done <<< "$runs"
if [ -n "${KEEP:-}" ]; then
    mkdir -p "$KEEP" && cp -r . "$KEEP"
    finish
fi
# told RUN KEY: what the fixture says.
told() { sed -nE 's|^\{"run": "'"$1"'", "step": ([0-9]+),.*"'"$2"'": ([^,}]*)[,}].*|\1 \2|p' "$FIXTURES/online.json"; }
while read -r name _; do
    [ -n "$name" ] || continue
    for key in loss grad_norm; do
        paste <(column "$name/metrics.jsonl" $key) <(told "$name" $key) | awk -v what="$name $key" '
            function abs(x) { return x < 0 ? -x : x }
            $1 != $3 || abs($2 - $4) > 1e-4 * (0.1 + abs($4)) { print what ": step " $0; bad = 1 }
            END { exit bad || NR != 4 }' || bad "$name: $key is not PyTorch's"
    done
done <<< "$runs"
finish
