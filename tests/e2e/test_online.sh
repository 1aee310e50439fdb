#!/usr/bin/env bash
# online: the policy's own samples. The same bits on 1, 2 and 4 ranks, for every method, with references and adapters, and
# after a resume, a signal within a rollout and a kill; ratios of the first update are exactly 1; what is kept of rollouts;
# policies that always and never stop, empty prompts, one prompt on many ranks; a reward that is no number.
set -u
. tests/e2e/faults.sh
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
    cmp -s <(numbers "one-$name" | grep parameters_hash) <(numbers "two-$name" | grep parameters_hash) ||
        bad "$name: numbers differ on other ranks"
    cmp -s "one-$name"/{model,adapter}/*model.safetensors "two-$name"/{model,adapter}/*model.safetensors 2> /dev/null
    [ "$(column "one-$name/metrics.jsonl" parameters_hash | wc -l)" -eq 4 ] || bad "$name: not 4 steps"
}
groups() {
    same_bits grpo online.samples=4 reward_model=judge/model online.reward_length=0.5 online.keep_rollouts=true
    same_bits kl online.samples=2 online.kl=0.1 online.loss=grpo online.sync_reference=true online.reference_sync_steps=2 \
        reward_model=judge/model
    same_bits rloo online.method=rloo online.inner_epochs=2 online.kl_target=0.1 online.kl_horizon=50 reward_model=judge/model \
        online.temperature=0.7
    same_bits lora online.method=rloo lora.rank=2 reward_model=judge/model
    for name in grpo kl rloo lora; do # a rollout's first update
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
    same_bits raft online.method=raft online.samples=4 reward_model=judge/model,judge/model online.reward_weights=1,-0.5
    same_bits best online.method=raft online.keep=best online.samples=2 reward_model=judge/model
    [ "$(column one-dpo/metrics.jsonl rewards/margins | head -1)" = "1 0" ] || bad "dpo: the first margin is not 0"
    [ "$(column one-dpo/metrics.jsonl loss | head -1)" = "1 0.6931471805599453" ] || bad "dpo: the first loss is not log 2"
    grep -q '"rewards/model_2/mean"' one-raft/metrics.jsonl || bad "raft: the second model has no name of its own"
}
# stop_in: SIGUSR1 within a rollout of 3 updates; SIGKILL; the same numbers in the end.
stops() {
    local long=($exact online.samples=2 online.inner_epochs=3 train.steps=12 reward_model=judge/model train.checkpoint_every=1)
    run 1 "${long[@]}" output=whole
    for signal in USR1 KILL; do
        held_at_step 4
        begin 2 err.txt "${long[@]}" output=$signal
        with_disk
        until_step 4 $signal
        # shellcheck disable=SC2046
        kill -$signal $(pgrep -P "$launched" -x collimate)
        ended "$launched" 100
        run 4 "${long[@]}" output=$signal
        same whole $signal
    done
    ls KILL/checkpoints | grep -qvE 'step-(9|12).h5|latest' && bad "a checkpoint within a rollout"
}
corners() {
    printf '{"prompt": "%s"}\n' "" "a b" "" "c" > prompts.jsonl
    "$COLLIMATE" --quiet prepare input=prompts.jsonl output=prompts.h5 tokenizer=bytes || bad "prompts"
    run 2 $exact data=prompts.h5 output=empty online.samples=2 train.steps=2
    run 1 $exact output=few-1 online.prompts=1 online.samples=8 reward_model=judge/model train.steps=2
    run 4 $exact output=few-4 online.prompts=1 online.samples=8 reward_model=judge/model train.steps=2
    same few-1 few-4
    # It learns to stop at once; without a stop set nothing ends by itself.
    run 1 $exact output=brief online.samples=8 online.reward_length=-1 train.learning_rate=3e-2 train.steps=40
    [ "$(column brief/metrics.jsonl completions/max_length | tail -1)" = "40 1" ] || bad "a policy that is paid to stop goes on"
    run 2 $exact model=brief/model output=brief-2 online.samples=4 train.steps=1
    [ "$(column brief-2/metrics.jsonl completions/clipped_ratio)" = "1 0" ] || bad "a policy that always stops"
    run 2 $exact output=endless online.samples=4 online.stop_at_end=false online.mask_truncated=true train.steps=1 \
        online.missing_stop_score=-3 online.missing_stop_penalty=1
    [ "$(column endless/metrics.jsonl reward)" = "1 -4" ] || bad "the reward of a response without a stop is not what is trained"
    [ "$(column endless/metrics.jsonl completions/clipped_ratio)" = "1 1" ] || bad "a policy that never stops"
    [ "$(column endless/metrics.jsonl grad_norm)" = "1 0" ] || bad "truncated responses were trained"
}
refusals() {
    refuses 2 "there is no reward" online model=init data=train.h5 output=x
    refuses 2 "compares a prompt's samples" $exact output=x online.samples=1
    refuses 2 "no multiple of online.inner_epochs" $exact output=x online.inner_epochs=2 train.steps=3
    refuses 2 "lora.dropout" $exact output=x lora.rank=2 lora.dropout=0.1
    refuses 2 "online.clip" $exact output=x online.method=raft online.clip=0.1
    refuses 2 "no list of 2 numbers" $exact output=x reward_model=judge/model,judge/model online.reward_weights=1
    refuses 2 "\"reference\" has no effect" $exact output=x reference=init
    refuses 2 "needs online.method=online_dpo" $exact output=x dpo.gamma=1
    refuses 2 "has no effect with this dpo.loss" $exact output=x online.method=online_dpo dpo.gamma=1
    run 1 $exact output=exo online.method=online_dpo online.loss=exo_pair dpo.label_smoothing=0.1 train.steps=1
    refuses 2 "is a language model; a reward model" $exact output=x reward_model=init
    run 1 $exact output=x --dry-run reward_model=judge/model online.method=rloo
    grep -q "other models .* reference and rewards" out.txt && grep -q "drawing .* caches" out.txt || bad "--dry-run misses models"
    run 1 preflight ${exact#online } output=x reward_model=judge/model
    grep -q "for online: every key" out.txt || bad "preflight does not know online"
}
together groups pairs
together stops corners refusals
finish
