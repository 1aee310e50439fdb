#!/bin/bash
# What a start says of its data, and how it shares side-cars: few rows on many ranks, workspaces as large as the rows, another
# tokenizer, stale and read-only side-cars, pairs without a difference, keys without effect.
set -u
. tests/common.sh
tiny_world 41 6
sft="sft model=init data=train.h5 train.steps=1 train.batch=4 train.learning_rate=1e-3"
dpo="dpo model=init train.steps=1 train.batch=4 train.learning_rate=1e-3"

# Four rows on four ranks, and on eight slots: every rank has one; fewer than ranks are warned of, and no error.
for ranks in 2 4; do
    # shellcheck disable=SC2086
    run $ranks $sft output=dry --dry-run
    # shellcheck disable=SC2086
    run $ranks $sft output=fed$ranks
    grep -q "nothing to do" err.txt && bad "4 rows do not feed $ranks ranks"
done
# shellcheck disable=SC2086
run 4 $sft train.batch=2 output=few
grep -q "an update has 2 rows and there are 4 ranks: 2 of them have nothing to do" err.txt || bad "few rows: $(cat err.txt)"
# shellcheck disable=SC2086
run 4 $sft train.batch=2 output=dry --dry-run
# shellcheck disable=SC2086
run 2 preflight preflight.command=sft ${sft#sft} output=dry
for key in loss grad_norm; do
    one=$(sed -nE "s/.*\"$key\": ([-0-9.e]+).*/\1/p" fed2/metrics.jsonl | head -1)
    two=$(sed -nE "s/.*\"$key\": ([-0-9.e]+).*/\1/p" fed4/metrics.jsonl | head -1)
    awk -v a="$one" -v b="$two" 'BEGIN { exit !(a != "" && (a - b)^2 <= 1e-10 * a * a) }' || bad "$key: $one and $two"
done

# A limit far above what rows can fill takes no memory; estimate and run count the same.
pass() { awk '$1 == "pass" { print $2 }' out.txt; }
# shellcheck disable=SC2086
run 1 --quiet $sft output=dry train.micro_tokens=67108864 --dry-run
whole=$(pass)
# shellcheck disable=SC2086
run 1 --quiet $sft output=dry train.micro_tokens=100000 --dry-run
[ "$whole" = "$(pass)" ] || bad "passes of $whole and $(pass) MiB over the same rows"
# shellcheck disable=SC2086
(ulimit -v 12000000 && run 1 $sft output=micro train.micro_tokens=67108864 && exit $failures) || bad "micro_tokens as memory"

# Data of another tokenizer: refused by every command, or taken by all.
mkdir other && cp init/config.json init/model.safetensors other && cp "$FIXTURES/tokenizers/neox/"* other
for command in sft dpo reward score evaluate generate embed; do
    refuses 65 "not the model's tokenizer" $command model=other data=train.h5 output=no-$command
done
refuses 65 "not the model's tokenizer" sft model=other data=train.h5 output=no --dry-run
run 1 embed model=other data=train.h5 output=allowed.h5 allow_other_tokenizer=true
grep -q "warning: .*not the tokenizer of model" err.txt || bad "another tokenizer is taken in silence"
# So is a reference that has another.
for command in dpo score evaluate; do
    refuses 2 "reference: other has another tokenizer than model init" $command model=init reference=other data=train.h5 output=no-$command
done
run 1 score model=init reference=other data=train.h5 output=allowed.jsonl allow_other_tokenizer=true
# Which is said once, before the reference is opened and where it is.
# shellcheck disable=SC2086
run 1 $dpo data=train.h5 reference=other output=allowed allow_other_tokenizer=true
[ "$(grep -c "warning: reference: other has another tokenizer" err.txt)" = 1 ] || bad "another tokenizer: $(cat err.txt)"

# A reference without the ids of the data is refused before work begins, in a dry run too, on every rank.
sed 's/"vocab_size": [0-9]*/"vocab_size": 100/; s/"\([be]os_token_id\)": [0-9]*/"\1": 0/' config.json > narrow.json
run 1 --quiet init init.config=narrow.json output=narrow
run 1 --quiet synth synth.kind=users synth.rows=12 synth.length=4 output=users.jsonl
run 1 --quiet prepare input=users.jsonl tokenizer=bytes prepare.objectives=kind,harsh output=users.h5
for flag in --quiet --dry-run; do
    for command in dpo score evaluate; do
        refuses 65 "reference: narrow has a vocabulary of 100, but train.h5 holds token id" $command model=init reference=narrow \
            data=train.h5 output=no-$command $flag
    done
    refuses 65 "but users.kind.h5 holds token id" evaluate model=init reference=narrow data=users.kind.h5,users.harsh.h5 \
        output=no-users $flag
    refuses 2 "narrow has a vocabulary of 100, model init one of" evaluate model=init reference=narrow data=train.h5 \
        output=no-kl evaluate.kl_positions=2 $flag
done
# Users' data are not embedded in a dry run.
run 1 --dry-run evaluate model=init reference=init data=users.kind.h5,users.harsh.h5
ls ./*.embeddings.h5 2> /dev/null | grep -v allowed && bad "a dry run embeds"
timeout 60 mpirun -q -n 2 "$COLLIMATE" score model=init reference=narrow data=train.h5 output=no-score > out.txt 2> err.txt
[ $? = 65 ] && [ "$(grep -c "has a vocabulary of 100" err.txt)" = 1 ] || bad "2 ranks: $(cat err.txt)"

# A side-car beside data that were prepared again is computed again; a finished one is only read.
cp train.h5 again.h5
# shellcheck disable=SC2086
run 1 $dpo data=again.h5 output=first
side=$(echo again.*.reference.h5)
run 1 synth output=again.jsonl synth.rows=30 seed=2
run 1 prepare input=again.jsonl output=again.h5 tokenizer=bytes overwrite=true
# shellcheck disable=SC2086
run 1 $dpo data=again.h5 output=second
grep -q "warning: .*it is computed again" err.txt || bad "a stale side-car: $(cat err.txt)"
before=$(stat -c %Y.%i "$side" && sha256sum < "$side")
chmod a-w "$side"
# shellcheck disable=SC2086
run 2 $dpo data=again.h5 output=third
grep -q "0 rows computed" err.txt || bad "a finished side-car is not read"
[ "$before" = "$(stat -c %Y.%i "$side" && sha256sum < "$side")" ] || bad "a finished side-car was written"

# Pairs whose sides are the same.
for i in 1 2 3 4; do echo "{\"prompt\": \"q $i\", \"chosen\": \"same $i\", \"rejected\": \"same $((i / 2 * 2))\"}"; done > same.jsonl
run 2 prepare input=same.jsonl tokenizer=bytes output=same.h5
grep -q "warning: 2 pairs have the same tokens on both sides" err.txt || bad "pairs that are the same: $(cat err.txt)"
# shellcheck disable=SC2086
run 1 $dpo data=same.h5 output=same
grep -q "2 of 4 pairs have the same tokens on both sides (0 of them cut)" err.txt || bad "at a start: $(cat err.txt)"

# Keys that only the input shows to be without effect.
refuses 2 '"reward.centering" has no effect here; it needs a reward model' evaluate model=init data=train.h5 reward.centering=1
refuses 2 '"prepare.max_length" has no effect here; it needs SHP records' prepare input=same.jsonl tokenizer=bytes output=no.h5 prepare.max_length=9
# shellcheck disable=SC2086
refuses 2 '"embed.layer" has no effect here; it needs a select.strategy' $dpo data=same.h5 output=no embed.layer=1
finish
