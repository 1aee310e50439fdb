#!/usr/bin/env bash
# What a run finds when it starts again: which checkpoint it takes, what it says of a changed configuration, what it cleans up.
set -u
. tests/common.sh
tiny_world
command=(dpo model=init data=train.h5 train.batch=16 train.slots=4 train.learning_rate=1e-3 train.deterministic=true
    train.checkpoint_every=2 train.checkpoint_keep=3 output=run)
run 2 "${command[@]}" train.steps=6
newest() { cat run/checkpoints/latest; }
# resumes RANKS WORDS ARGUMENTS...: goes on, and log.txt says so from now on.
resumes() {
    local ranks=$1 words=$2 before
    shift 2
    before=$(wc -l < run/log.txt)
    run "$ranks" "${command[@]}" "$@"
    tail -n +$((before + 1)) run/log.txt | grep -qE "$words" || {
        bad "the log does not say \"$words\" of: $*"
        tail -n +$((before + 1)) run/log.txt | head -5
    }
}
[ "$(newest)" = step-6.h5 ] || bad "latest is $(newest)"
[ "$(ls run/checkpoints)" = $'latest\nstep-2.h5\nstep-4.h5\nstep-6.h5' ] || bad "kept: $(ls run/checkpoints)"

# Changes that the numbers do not depend on are allowed and named; others are refused and named.
resumes 4 "step-6.h5: allowed, the numbers do not depend on it: .*train.checkpoint_every \(was 2, is 1\).*ranks \(was 2, is 4\)" \
    train.checkpoint_every=1 train.steps=7
[ "$(newest)" = step-7.h5 ] || bad "latest is $(newest)"
refuses 2 "train.learning_rate (was 0.001, is 0.002), dpo.beta (was 0.1, is 0.2); set them back.*; allowed beside them: .*train.checkpoint_keep (was 3, is 9)" \
    "${command[@]}" train.steps=8 dpo.beta=0.2 train.learning_rate=2e-3 train.checkpoint_keep=9
refuses 2 "truncate.max_length (was 0, is 40)" "${command[@]}" train.steps=8 truncate.max_length=40
run 1 init init.config=config.json output=other tokenizer=bytes seed=4
refuses 2 "reference contents (was [0-9a-f]*, is [0-9a-f]*)" "${command[@]}" train.steps=8 reference=other
refuses 2 "model contents (was [0-9a-f]*, is [0-9a-f]*)" "${command[@]}" train.steps=8 model=other
cp -r init retuned # the same weights in another formula
sed -i 's/"rope_theta": [0-9.e-]*/"rope_theta": 500.0/' retuned/config.json
refuses 2 "model contents (was [0-9a-f]*, is [0-9a-f]*)" "${command[@]}" train.steps=8 model=retuned reference=init
run 1 "${command[@]}" output=rounded train.deterministic=false train.steps=1
before=$(wc -l < rounded/log.txt)
run 2 "${command[@]}" output=rounded train.deterministic=false train.steps=2
tail -n +$((before + 1)) rounded/log.txt | grep -q "to rounding only: ranks (was 1, is 2)" || bad "rounding is not said"

# What a killed run left behind goes.
touch run/checkpoints/step-9.h5.tmp run/config.yaml.tmp run/model/model.safetensors.tmp
sed -i '/"train_runtime"/d' run/metrics.jsonl && sed -i '$d' run/metrics.jsonl # and what cannot be had again is said
resumes 1 "removed 3 temporary files" train.steps=8
grep -q "goes on after step 7, but the lines after step 6 are lost" run/log.txt || bad "lost metrics are not named"
[ -z "$(find run -name '*.tmp')" ] || bad "temporary files stay"

# A damaged newest checkpoint is named and the one before it taken.
damage run/checkpoints/step-8.h5
resumes 2 "step-8.h5: .*taking the checkpoint before it" train.steps=8
[ -e run/checkpoints/step-8.h5.damaged ] && [ "$(newest)" = step-8.h5 ] || bad "after damage: $(ls run/checkpoints)"

# Where all are damaged nothing is started anew unless asked for.
for file in run/checkpoints/step-*.h5; do
    damage "$file"
done
hash=$(sha256sum < run/metrics.jsonl)
refuses 65 "run/checkpoints: no checkpoint is whole, all 3 are damaged: step-8.h5, step-[67].h5, step-[46].h5; .*train.resume=never" \
    "${command[@]}" train.steps=8
[ "$(ls run/checkpoints/step-*.h5 | wc -l)" -eq 3 ] || bad "damaged checkpoints are gone"
[ "$hash" = "$(sha256sum < run/metrics.jsonl)" ] || bad "metrics were touched"
run 2 "${command[@]}" train.steps=8 train.resume=never
run 1 "${command[@]}" train.steps=8 output=whole
same whole run
finish
