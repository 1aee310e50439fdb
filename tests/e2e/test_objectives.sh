#!/usr/bin/env bash
# prepare.objectives: pairs, order and splits as pandas and NumPy deal them (make_objectives.py); the same files for any rank
# count; several users' files; what is missing, tied or unknown; split= in every command that reads rows.
set -u
root=$PWD
. tests/common.sh
quiet=(--quiet prepare tokenizer=bytes)
uf=$FIXTURES/objectives/ultrafeedback.jsonl

# shown VIEW SPLIT: the two sides of each pair, one pair a line.
shown() {
    "$COLLIMATE" inspect input="$1" inspect.rows=9999 split="$2" | sed 's/⟦//; s/⟧//; s/‹<|end|>›//' |
        awk '/^  chosen/ { getline; a = $1 } /^  rejected/ { getline; print a, $1 }'
}
# as_expected SET FILE: the views of FILE have the set's pairs, in its order, with its splits.
as_expected() {
    local split
    for split in train validation test; do
        cmp -s <(paste -d' ' <(shown "$2.helpfulness.h5" $split) <(shown "$2.honesty.h5" $split)) \
            <(sed -n "s/^$1 $split //p" "$FIXTURES/objectives/expected.txt") || bad "$1: the pairs of $split differ"
    done
}
run 1 "${quiet[@]}" input="$uf" output=hh.h5 prepare.objectives=helpfulness,honesty
as_expected hh hh
hh=$(grep -c '^hh ' "$FIXTURES/objectives/expected.txt")
run 1 "${quiet[@]}" input="$uf" output=hht.h5 prepare.objectives=helpfulness,honesty,truthfulness prepare.split_after="$hh"
as_expected hht hht
run 1 "${quiet[@]}" input="$uf" output=half.h5 prepare.objectives=helpfulness,honesty prepare.conflicting=0.5
as_expected hh50 half
"$COLLIMATE" inspect input=hht.h5 > said.txt
grep -q "^pairs         0" said.txt && grep -q "^objectives    helpfulness, honesty, truthfulness$" said.txt || bad "$(cat said.txt)"
"$COLLIMATE" inspect input=hht.honesty.h5 > said.txt
grep -q "honesty (the pairs are its), truthfulness" said.txt || bad "$(cat said.txt)"
"$COLLIMATE" inspect input=hht.mixture.h5 > said.txt
grep -q "^pairs         $((3 * $(grep -c '^hht ' "$FIXTURES/objectives/expected.txt")))$" said.txt || bad "$(cat said.txt)"
# The score of a response is the one that the view's objective gives it: no chosen side has less.
"$COLLIMATE" evaluate data=hh.honesty.h5 --quiet > said.txt
grep -q '"pairs": '"$hh" said.txt || bad "$(cat said.txt)"
run 1 evaluate data=hh.honesty.h5
grep -q "higher score" err.txt && bad "a view has the scores of another objective"

run 1 "${quiet[@]}" input="$uf" output=whole.h5 prepare.objectives=helpfulness,honesty prepare.splits=false
"$COLLIMATE" inspect input=whole.honesty.h5 > said.txt
grep -q "^pairs         $hh$" said.txt && ! grep -q "^splits" said.txt || bad "prepare.splits=false: $(cat said.txt)"

# Any ranks write the same files.
contents() { for f in "$1"*.h5; do "$COLLIMATE" inspect input="$f" inspect.rows=9999; done | sed -E "s/$1/NAME/g; /^made by/d"; }
for n in 2 3; do
    run $n "${quiet[@]}" input="$uf" output=on$n.h5 prepare.objectives=helpfulness,honesty threads=$((4 - n))
    cmp -s <(contents hh.) <(contents on$n.) || bad "$n ranks write other files"
done

# Two users' choices of the same responses: what both have, and are not torn about.
cat > ann.jsonl <<'END'
{"prompt": "p ", "chosen": "one", "rejected": "two"}
{"prompt": "p ", "chosen": "three", "rejected": "two"}
{"prompt": "o ", "chosen": "a", "rejected": "b"}
{"prompt": "o ", "chosen": "a", "rejected": "a"}
{"prompt": "q ", "chosen": "x", "rejected": "y"}
END
cat > bob.jsonl <<'END'
{"prompt": "q ", "chosen": "x", "rejected": "y"}
{"prompt": "q ", "chosen": "y", "rejected": "x"}
{"prompt": "o ", "chosen": "b", "rejected": "a"}
{"prompt": "p ", "chosen": "two", "rejected": "one"}
{"prompt": "p ", "chosen": "three", "rejected": "one"}
END
run 2 prepare tokenizer=bytes input=ann.jsonl,bob.jsonl output=two.h5 prepare.objectives=ann,bob prepare.conflicting=-1
for words in "10 records (preference): 3 prompts, 7 responses" "dropped 2: pairs that not every user has" \
    "dropped 1: pairs of which a user chose both" "dropped 1: two equal responses" \
    "2 pairs that all objectives judge without a tie, of which 2 conflict"; do
    grep -qF "$words" err.txt || bad "not said: $words; $(cat err.txt)"
done
[ "$(for s in train validation test; do shown two.ann.h5 $s; done 2> /dev/null | sort | tr '\n' ';')" = "a b;one two;" ] || bad "Ann's pairs"
[ "$(for s in train validation test; do shown two.bob.h5 $s; done 2> /dev/null | sort | tr '\n' ';')" = "b a;two one;" ] || bad "Bob's pairs"

# Bad input.
objectives=(prepare tokenizer=bytes input=odd.jsonl output=odd.h5)
cat > odd.jsonl <<'END'
{"prompt": "p", "responses": [{"text": "a", "scores": {"x y": 1, "b": 2, "é": 1}}, {"text": "b", "scores": {"x y": 2, "b": 1, "é": 0}}]}
{"prompt": "q", "responses": [{"text": "a", "scores": {"x y": 1, "b": 2}}, {"text": "b", "scores": {"x y": 1, "b": 1}}]}
{"prompt": "r", "responses": [{"text": "a", "scores": {"x y": 1}}, {"text": "b", "scores": {"x y": 2, "b": null}}, {"text": "c"}]}
{"prompt": "s", "responses": [{"text": "a", "scores": {"x y": "no"}}, {"text": "b"}]}
{"prompt": "t", "responses": [{"text": "a", "scores": 3}, {"text": "b"}]}
{"prompt": "p", "responses": [{"text": "a", "scores": {"x y": 3, "b": 2}}, {"text": "b", "scores": {"x y": 2, "b": 1}}]}
3
END
run 1 "${objectives[@]}" "prepare.objectives=x y,b"
for words in "dropped 3: pairs without a score of every objective" "dropped 1: pairs with a tie in an objective" \
    'dropped 1: "x y" must be a number' 'dropped 1: "scores" must be an object' \
    "2 pairs that all objectives judge without a tie, of which 1 conflict" "kept 1, of which 1 conflict"; do
    grep -qF "$words" err.txt || bad "not said: $words; $(cat err.txt)"
done
[ -e "odd.x y.h5" ] || bad "no view of an objective with a space"
run 1 "${objectives[@]}" prepare.objectives=é overwrite=true
grep -q "objective é: 2 responses have a score" err.txt || bad "$(cat err.txt)"
[ -e odd.é.h5 ] && [ ! -e odd.é.mixture.h5 ] || bad "one objective"
run 1 "${objectives[@]}" "prepare.objectives=x y,b" prepare.merge_prompts=true overwrite=true prepare.conflicting=-1
grep -q "^pairs" <("$COLLIMATE" inspect input=odd.b.h5) && grep -q "kept 4, of which 2 conflict:" err.txt || bad "$(cat err.txt)"
grep -q "dropped 1: .*expected a JSON object" err.txt || bad "a number in place of a record: $(cat err.txt)"
refuses 65 'no response has a number for "c"; the first record with scores names x y, b, é' "${objectives[@]}" prepare.objectives=b,c
refuses 2 'stands there twice' "${objectives[@]}" prepare.objectives=b,b
refuses 2 'name of a file' "${objectives[@]}" prepare.objectives=b,../b
refuses 2 'a name of 0 bytes' "${objectives[@]}" prepare.objectives=b,
refuses 2 'mixture is what' "${objectives[@]}" prepare.objectives=b,mixture
refuses 2 'conflicts with nothing' "${objectives[@]}" prepare.objectives=b prepare.conflicting=1
refuses 2 'a file of its own in input' prepare tokenizer=bytes input=ann.jsonl output=x.h5 prepare.objectives=ann,bob
refuses 2 'prepare.conflicting" has no effect' "${objectives[@]}" prepare.conflicting=1
echo mine > "odd.c.h5"
sed -i 's/"é"/"c"/' odd.jsonl
refuses 2 'odd.c.h5 exists' "${objectives[@]}" prepare.objectives=c

# split= in every command that reads rows: as many as the set has, and none of another file.
config=$root/configs/models/llama-tiny.json
run 1 --quiet init init.config="$config" tokenizer=bytes output=model
lines() { grep -c "^hh $1 " "$FIXTURES/objectives/expected.txt"; }
one=(model=model data=hh.honesty.h5 split=test)
says() { grep -qE "$1" err.txt || bad "not said: $1; $(cat err.txt)"; }
for trainer in sft dpo reward; do
    run 1 $trainer "${one[@]}" output=$trainer train.steps=2 train.batch=4 eval_data=hh.helpfulness.h5 eval_split=validation
    says "data hh.honesty.h5: split test"
    says "eval_data hh.helpfulness.h5: split validation"
    [ $trainer = reward ] || says "data hh.honesty.h5: $(lines test) rows" # its rows are prompts
    [ $trainer = reward ] || says "eval_data hh.helpfulness.h5: $(lines validation) rows"
done
run 1 evaluate "${one[@]}" reference=model output=evaluate.json
grep -q "\"rows\": $(lines test)," evaluate.json || bad "evaluate: $(cat evaluate.json)"
run 1 score "${one[@]}" output=score.jsonl
distinct=$(sed -n 's/^hh test [^ ]* [^ ]* //p' "$FIXTURES/objectives/expected.txt" | tr ' ' '\n' | sort -u | wc -l)
[ "$(grep -o '"response": [0-9]*' score.jsonl | sort -u | wc -l)" -eq "$distinct" ] || bad "score reads other responses: $(wc -l < score.jsonl)"
run 1 generate "${one[@]}" generate.max_new_tokens=2 output=generate.jsonl
prompts=$(grep -o '"row": [0-9]*' generate.jsonl | sort -u | wc -l)
[ "$prompts" -gt 3 ] && [ "$prompts" -lt 30 ] || bad "generate speaks to $prompts prompts"
run 1 embed "${one[@]}" output=test.embeddings.h5
says "$distinct responses computed, 0 were there"
run 1 embed model=model data=hh.h5 output=all.embeddings.h5
run 1 select data=hh.honesty.h5 split=train select.strategy=easy embeddings=all.embeddings.h5 select.fraction=1 output=easy.h5
[ "$("$COLLIMATE" inspect input=easy.h5 | sed -n 's/^pairs *//p')" = "$(lines train)" ] || bad "select takes other pairs"
run 1 select data=hh.honesty.h5 select.strategy=random select.fraction=1 output=random.h5
[ "$("$COLLIMATE" inspect input=random.h5 | sed -n 's/^pairs *//p')" = "$("$COLLIMATE" inspect input=hh.honesty.h5 | sed -n 's/^pairs *//p')" ] ||
    bad "select makes pairs that are not the view's"
run 1 select data=hh.honesty.h5 split=test select.strategy=easy embeddings=test.embeddings.h5 select.fraction=1 output=easy2.h5
refuses 2 'neither a share from 0 to 1 nor -1' "${objectives[@]}" prepare.objectives=x,b overwrite=true prepare.conflicting=-0.5
refuses 2 'in no split' select data=hh.honesty.h5 split=test select.strategy=easy embeddings=test.embeddings.h5 select.scope=prompts output=x.h5
run 1 few-shot data=hh.helpfulness.h5,hh.honesty.h5 embeddings=all.embeddings.h5 few_shot.hidden=16 few_shot.heads=2 few_shot.batch=4 \
    few_shot.targets=12 few_shot.steps=2 output=few threads=1
says "$(lines train) train, $(lines test) test; 0 left out"
run 1 --quiet sft "${one[@]}" output=lora train.steps=1 train.batch=4 lora.rank=2
run 1 merge "${one[@]}" adapter=lora/adapter output=merged
refuses 65 'in no splits' evaluate model=model data=easy.h5 split=test
refuses 65 'in no splits' score model=model data=hh.h5 split=train
refuses 65 'none of its 2 pairs is in split validation' evaluate model=model data=two.ann.h5 split=validation
finish
