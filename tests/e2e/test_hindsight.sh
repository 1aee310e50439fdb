#!/usr/bin/env bash
# prepare.hindsight: pairs as texts that say how good an answer is; the same file on 1 and 2 ranks; markers are not trained; SFT
# trains on them.
set -u
. tests/common.sh
tiny_world 24 4
rows() {
    run 1 inspect input="$1" inspect.rows=400
    cat out.txt
}
contents() {
    run 1 inspect input="$1"
    grep "^contents" out.txt
}
for kind in chain conditional questions; do
    for ranks in 1 2; do
        run $ranks prepare input=train.jsonl output=$kind$ranks.h5 tokenizer=bytes prepare.hindsight=$kind \
            prepare.good_marker=" [good]" prepare.bad_marker=" [bad]" threads=$ranks
    done
    [ "$(contents ${kind}1.h5)" = "$(contents ${kind}2.h5)" ] || bad "$kind: other contents on 2 ranks"
    run 2 sft model=init data=${kind}1.h5 train.steps=3 train.batch=6 output=$kind
done
rows chain1.h5 > chain.txt
rows conditional1.h5 > conditional.txt
grep -q "^pairs  *0$" chain.txt && grep -q "^responses  *24, .*some of them not trained" chain.txt || bad "chain: not 24 texts that are trained in part"
grep -q "^responses  *48, " conditional.txt && ! grep -q "not trained" conditional.txt || bad "conditional: not 48 texts that are trained whole"
# Trained text is between brackets; every marker stands outside of them, at a prompt's end or between two answers.
grep -q '⟧ \[bad\]⟦\|⟧ \[good\]⟦' chain.txt || bad "chain: no text has two answers with a marker between them that is not trained"
grep -q '⟦[^⟧]*\[\(good\|bad\)\]' chain.txt conditional.txt && bad "a marker is trained"
[ "$(grep -c 'A: \[good\]$' conditional.txt)" -eq 24 ] && [ "$(grep -c 'A: \[bad\]$' conditional.txt)" -eq 24 ] ||
    bad "conditional: not 24 prompts end with each marker"
rows questions1.h5 > questions.txt
# A question's answer, and its end token, are all that is trained of it.
asked=$(grep -c '^ *⟦ the \(first\|second\) one\.' questions.txt)
[ "$asked" -gt 4 ] && [ "$asked" -lt 20 ] && [ "$(grep -c 'Which answer is \(better\|worse\)? The answer is$' questions.txt)" -eq "$asked" ] ||
    bad "questions: $asked of 24 texts are questions"
run 1 prepare input=train.jsonl output=seed.h5 tokenizer=bytes prepare.hindsight=chain seed=1
run 1 prepare input=train.jsonl output=same.h5 tokenizer=bytes prepare.hindsight=chain
[ "$(contents seed.h5)" = "$(contents same.h5)" ] && bad "the seed draws no other texts"

echo '{"prompt": "Q"}' > prompts.jsonl
run 1 prepare input=prompts.jsonl output=prompts.h5 tokenizer=bytes prepare.hindsight=conditional
rows prompts.h5 | grep -q "Q A good answer:$" || bad "a prompt alone does not ask for a good answer"
# Nobody says which is better, or both are the same: nothing to learn.
printf '{"prompt": "Q", "responses": [{"text": " a"}, {"text": " b"}]}\n{"prompt": "Q", "responses": [{"text": " a", "score": 1}, {"text": " b", "score": 2}]}\n' > open.jsonl
run 1 prepare input=open.jsonl output=open.h5 tokenizer=bytes prepare.hindsight=conditional
"$COLLIMATE" inspect input=open.h5 | grep -q "^dropped  *1: responses of which none is better" || bad "an answer that nobody has judged is a good one"
printf '{"prompt": "Q", "chosen": " a", "rejected": " %s"}\n' a b > equal.jsonl
run 1 prepare input=equal.jsonl output=equal.h5 tokenizer=bytes prepare.hindsight=conditional
"$COLLIMATE" inspect input=equal.h5 | grep -q "^dropped  *2: texts of two equal answers" || bad "equal answers are good and bad"
refuses 2 "prepare.good_marker" prepare input=train.jsonl output=x.h5 tokenizer=bytes prepare.good_marker=x
refuses 2 "prepare.train_turns" prepare input=train.jsonl output=x.h5 tokenizer=bytes prepare.hindsight=chain prepare.train_turns=all
finish
