#!/usr/bin/env bash
# online: the policy's own samples. The same bits on 1, 2 and, from a checkpoint, 4 ranks, for every method, with references
# and adapters; ratios of the first update are exactly 1; what is kept of rollouts.
set -u
. tests/common.sh
tiny_world 24 6
"$COLLIMATE" --quiet reward model=init data=train.h5 output=judge train.steps=4 train.batch=8 train.learning_rate=1e-3 || exit 1
exact="online model=init data=train.h5 online.prompts=4 online.max_new_tokens=10 train.learning_rate=1e-3 train.deterministic=true
    train.slots=4 train.checkpoint_every=2 online.reward_stop=2"

# same_bits NAME OPTIONS...: on 1 rank, and on 2 and then, from a checkpoint, on 4.
same_bits() {
    local name=$1
    shift
    run 1 $exact output="one-$name" train.steps=4 "$@"
    run 2 $exact output="two-$name" train.steps=2 "$@"
    run 4 $exact output="two-$name" train.steps=4 "$@"
    went_on "two-$name" 2
    cmp -s <(numbers "one-$name" | grep parameters_hash) <(numbers "two-$name" | grep parameters_hash) ||
        bad "$name: numbers differ on other ranks"
    [ "$(column "one-$name/metrics.jsonl" parameters_hash | wc -l)" -eq 4 ] || bad "$name: not 4 steps"
}
groups() {
    same_bits grpo online.samples=4 reward_model=judge/model online.reward_length=0.5 online.keep_rollouts=true
    same_bits kl online.samples=2 online.kl=0.1 online.loss=grpo online.sync_reference=true online.reference_sync_steps=2 \
        reward_model=judge/model
    same_bits rloo online.method=rloo online.inner_epochs=2 online.kl_target=0.1 online.kl_horizon=50 reward_model=judge/model \
        online.temperature=0.7
    same_bits ppo online.method=ppo online.inner_epochs=2 reward_model=judge/model
    same_bits nash online.method=nash_md reward_model=judge/model online.mixture=0.25 lora.rank=2
    same_bits lora online.method=rloo lora.rank=2 reward_model=judge/model
    for name in grpo kl rloo lora ppo nash; do # a rollout's first update
        column one-$name/metrics.jsonl sampling/sampling_logp_difference/max | awk '$1 % 2 && $2 != 0' | grep -q . &&
            bad "$name: what was drawn is not what is trained"
    done
    [ "$(column one-rloo/metrics.jsonl sampling/sampling_logp_difference/max | awk '$1 % 2 == 0 && $2 > 0' | wc -l)" -eq 2 ] ||
        bad "rloo: a second update with the same samples has ratios of 1"
    cmp -s one-grpo/rollouts/step-4.jsonl two-grpo/rollouts/step-4.jsonl || bad "rollouts differ on other ranks"
    [ "$(grep -c '"tokens": \[.*"logps": \[.*"reward": .*"rewards": {"model": .*"advantage": .*"text": "' one-grpo/rollouts/step-1.jsonl)" -eq 16 ] ||
        bad "rollouts/step-1.jsonl has not 16 responses"
}
pairs() {
    same_bits dpo online.method=online_dpo reward_model=judge/model
    same_bits xpo online.method=xpo reward_model=judge/model
    same_bits raft online.method=raft online.samples=4 reward_model=judge/model,judge/model online.reward_weights=1,-0.5
    # The most likely token, whatever is drawn: a prompt's samples are one response.
    run 1 $exact output=top online.method=raft online.samples=3 online.keep_rollouts=true online.top_k=1 train.steps=1
    run 1 $exact output=all online.method=raft online.samples=3 online.keep_rollouts=true train.steps=1
    kinds() { sed -E 's/.*"tokens": (\[[^]]*\]).*/\1/' "$1/rollouts/step-1.jsonl" | sort -u | wc -l; }
    [ "$(grep -c tokens top/rollouts/step-1.jsonl)" = 12 ] && [ "$(kinds top)" -le 4 ] && [ "$(kinds all)" -gt 4 ] ||
        bad "online.top_k=1 draws $(kinds top) responses for 4 prompts, without it $(kinds all)"
    refuses 2 "online.top_p.*needs online.method" $exact output=x online.top_p=0.9
    same_bits best online.method=raft online.keep=best online.samples=2 reward_model=judge/model
    [ "$(column one-dpo/metrics.jsonl rewards/margins | head -1)" = "1 0" ] || bad "dpo: the first margin is not 0"
    [ "$(column one-dpo/metrics.jsonl loss | head -1)" = "1 0.6931471805599453" ] || bad "dpo: the first loss is not log 2"
    grep -q '"rewards/model_2/mean"' one-raft/metrics.jsonl || bad "raft: the second model has no name of its own"
}
together groups pairs
finish
