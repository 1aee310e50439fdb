#!/usr/bin/env bash
# online where it is disturbed and at its edges: a signal and a kill within a rollout; policies that always and never stop, empty
# prompts, one prompt on many ranks; a reward that is no number; what is refused, predicted and checked beforehand.
set -u
. tests/e2e/faults.sh
tiny_world 24 6
"$COLLIMATE" --quiet reward model=init data=train.h5 output=judge train.steps=4 train.batch=8 train.learning_rate=1e-3 || exit 1
exact="online model=init data=train.h5 online.prompts=4 online.max_new_tokens=10 train.learning_rate=1e-3 train.deterministic=true
    train.slots=4 train.checkpoint_every=2 online.reward_stop=2"

# SIGUSR1 within a rollout of 3 updates; SIGKILL; the same numbers in the end.
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
        [ $signal = KILL ] || [ "$rc" = 85 ] || bad "$signal within a rollout: rc $rc, not 85"
        run 4 "${long[@]}" output=$signal
        went_on $signal '[369]' # between two rollouts
        same whole $signal
        [ "$(ls $signal/checkpoints | grep -cE 'step-(9|12).h5')" = 2 ] || bad "$signal: no checkpoints between rollouts"
        ls $signal/checkpoints | grep -qvE 'step-(9|12).h5|latest' && bad "a checkpoint within a rollout"
    done
}
corners() {
    printf '{"prompt": "%s"}\n' "" "a b" "" "c" > prompts.jsonl
    "$COLLIMATE" --quiet prepare input=prompts.jsonl output=prompts.h5 tokenizer=bytes || bad "prompts"
    run 2 $exact data=prompts.h5 output=empty online.samples=2 train.steps=2
    run 1 $exact output=few-1 online.prompts=1 online.samples=8 reward_model=judge/model train.steps=2
    run 4 $exact output=few-4 online.prompts=1 online.samples=8 reward_model=judge/model train.steps=2
    same few-1 few-4
    # One split of a file's pairs: the prompts that generate speaks to.
    "$COLLIMATE" --quiet prepare tokenizer=bytes input="$FIXTURES/objectives/ultrafeedback.jsonl" output=hh.h5 \
        prepare.objectives=helpfulness,honesty || bad "hh.h5"
    run 1 generate data=hh.honesty.h5 split=test model=init generate.max_new_tokens=2 output=said.jsonl
    run 2 $exact data=hh.honesty.h5 split=test output=split online.prompts=100 online.samples=2 online.keep_rollouts=true \
        online.reward_match=exact train.steps=1
    cmp -s <(grep -o '^{"row": [0-9]*' said.jsonl | sort -u) <(grep -o '^{"row": [0-9]*' split/rollouts/step-1.jsonl | sort -u) ||
        bad "a split has other prompts"
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
    printf 'while read -r line; do echo "{\\"reward\\": NaN}"; done\n' > rubbish.sh
    refuses 65 "row [0-9]*.*sample [0-9]*" $exact output=nan online.reward_command="bash rubbish.sh"
    refuses 65 "row [0-9]*.*sample [0-9]*" $exact output=gone online.reward_command=true
    # An answer that cannot be compared with is found before the first update, whichever would have drawn it.
    { for i in 1 2 3 4 5; do echo "{\"prompt\": \"p$i\", \"completion\": \" #### $i\"}"; done
      echo '{"prompt": "q", "completion": " none here"}'; } > answers.jsonl
    run 1 prepare input=answers.jsonl output=answers.h5 tokenizer=bytes
    numbers_of=(${exact/online.reward_stop=2/} data=answers.h5 online.samples=2 train.steps=2 online.reward_match=number)
    refuses 65 'row 5: the data.s answer " \?none here" is no number' "${numbers_of[@]}" output=answered 'online.reward_pattern=#### (-?[0-9.]+)'
    [ -e answered/metrics.jsonl ] && bad "an update before the answers were looked at"
    refuses 65 '' preflight preflight.command=online "${numbers_of[@]:1}" output=answered 'online.reward_pattern=#### (-?[0-9.]+)'
    grep -q 'is no number' out.txt || bad "preflight does not look at answers"
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
    # Models beside it are compared before anything is opened.
    mkdir foreign && cp judge/model/{config.json,model.safetensors} foreign && cp "$FIXTURES/tokenizers/neox/"* foreign
    for flag in --quiet --dry-run; do
        refuses 2 "is a language model; a reward model" $exact output=x reward_model=judge/model,init $flag
        refuses 2 "reward_model: foreign has another tokenizer than model init" $exact output=x reward_model=foreign $flag
    done
    [ -e x/metrics.jsonl ] && bad "a foreign judge is found after work began"
    timeout 60 "$COLLIMATE" preflight ${exact#online } output=x reward_model=foreign > out.txt 2> err.txt && bad "a foreign judge is ready"
    grep -q "rewards .*foreign has another tokenizer" out.txt || bad "preflight does not look at the judge's tokenizer: $(cat out.txt)"
    run 1 $exact output=foreign-judge reward_model=foreign,foreign allow_other_tokenizer=true train.steps=1
    [ "$(grep -c "foreign has another tokenizer" err.txt)" = 1 ] || bad "what is said of a foreign judge: $(cat err.txt)"
    # Neither a reference nor a judge has all ids of prompts that another tokenizer than the policy's made.
    sed 's/"vocab_size": [0-9]*/"vocab_size": 2000/' config.json > wide.json
    run 1 init init.config=wide.json output=wide tokenizer=bytes
    run 1 prepare input=train.jsonl output=neox.h5 tokenizer="$FIXTURES/tokenizers/neox"
    local wide=($exact model=wide data=neox.h5 output=narrow allow_other_tokenizer=true online.samples=2 train.steps=1)
    for flag in --quiet --dry-run; do
        refuses 65 "reference: init has a vocabulary of [0-9]*, but neox.h5 holds token id" "${wide[@]}" reference=init \
            online.method=rloo online.kl=0.1 $flag
        refuses 65 "reward_model: judge/model has a vocabulary of [0-9]*, but neox.h5" "${wide[@]}" reward_model=judge/model $flag
    done
    [ -e narrow/metrics.jsonl ] && bad "a reference without the prompts' ids is found after work began"
    run 1 "${wide[@]}" reference=wide online.method=rloo online.kl=0.1
    run 1 $exact output=x --dry-run reward_model=judge/model online.method=rloo
    grep -q "other models .* reference and rewards" out.txt && grep -q "drawing .* caches" out.txt || bad "--dry-run misses models"
    run 1 preflight ${exact#online } output=x reward_model=judge/model
    grep -q "for online: every key" out.txt || bad "preflight does not know online"
}
preload_disk
together stops corners refusals
finish
