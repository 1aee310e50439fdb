#!/usr/bin/env bash
# Labels from annotators: prompts with several unlabeled responses -> init, embed -> select + export -> answers by a
# script, in two rounds -> a view that dpo and reward train on. Before there are labels, whatever needs them refuses.
set -u
. tests/common.sh
# Five of forty prompts repeat a response, one has the same thing four times. Who answers likes "good".
awk 'BEGIN { srand(7); split("good bad so ü", word, " ")
  for (i = 0; i < 40; i++) {
    line = ""
    for (r = 0; r < 4; r++) {
      text[r] = ""
      for (n = 2 + int(5 * rand()); n > 0; n--) text[r] = text[r] " " word[1 + int(4 * rand())]
      if ((i % 8 == 3 && r == 3) || (i == 20 && r > 0)) text[r] = text[0]
      line = line (r ? ", " : "") "{\"text\": \"" text[r] "\"}"
    }
    print "{\"prompt\": \"question " i "?\", \"responses\": [" line "]}"
  } }' > prompts.jsonl
write_config config.json
sed -i 's/"hidden_size": 32/"hidden_size": 16/; s/"intermediate_size": 64/"intermediate_size": 32/' config.json
run 1 prepare input=prompts.jsonl output=prompts.h5 tokenizer=bytes
run 1 init init.config=config.json output=model tokenizer=bytes
run 1 embed data=prompts.h5 model=model output=e.h5
field() { grep -oE "\"$1\": [-0-9.e]+" "$2" | head -1 | grep -oE '[-0-9.e]+$'; }
# answer WORD < EXPORT: what an annotator sends back who prefers more of a word.
answer() {
    awk -v word="$1" -v who="$2" '{
        id = $0; sub(/^{"id": "/, "", id); sub(/".*/, "", id)
        a = $0; sub(/.*"response_a": "/, "", a); sub(/", "response_b".*/, "", a)
        b = $0; sub(/.*"response_b": "/, "", b); sub(/", "similarity".*/, "", b)
        more = gsub(word, "", a) - gsub(word, "", b)
        print "{\"id\": \"" id "\", \"preference\": \"" (more > 0 ? "a" : more < 0 ? "b" : "tie") "\", \"annotator\": \"" who "\"}" }'
}

# The same questions on 1 and 4 ranks, other sides by another seed, and none of a response with itself.
ask=(select data=prompts.h5 embeddings=e.h5 select.strategy=hard select.count=12)
run 4 "${ask[@]}" select.export=ask.jsonl
mv ask.jsonl ask4.jsonl
run 1 "${ask[@]}" select.export=ask.jsonl output=asked.h5
cmp -s ask.jsonl ask4.jsonl || bad "the export depends on the ranks"
[ "$(wc -l < ask.jsonl)" = 12 ] || bad "$(wc -l < ask.jsonl) questions, not 12"
grep -q '"prompt": "question [0-9]*?", "response_a": "' ask.jsonl || bad "no texts: $(head -1 ask.jsonl)"
grep -E '"response_a": "([^"]*)", "response_b": "\1"' ask.jsonl && bad "a response is asked about beside its equal"
[ "$(grep -o '"equal responses": [0-9]*' asked.json)" = '"equal responses": 1' ] || bad "equal responses: $(cat asked.json)"
run 1 "${ask[@]}" select.export=turned.jsonl seed=1
same=$(sed -E 's/"similarity".*//' turned.jsonl | grep -cFf <(sed -E 's/"similarity".*//' ask.jsonl))
[ "$same" -gt 0 ] && [ "$same" -lt 12 ] || bad "another seed turns the sides of $((12 - same)) of 12"
# hard: the most similar pairs of all prompts, and the next ones in the next round.
run 1 "${ask[@]}" select.export=next.jsonl select.exclude=ask.jsonl
run 1 "${ask[@]}" select.export=by_view.jsonl select.exclude=asked.h5
cmp -s next.jsonl by_view.jsonl || bad "a view leaves out other pairs than its export"
awk -F'"similarity": ' '{ split($2, s, ","); if (FNR == NR) { if (NR == 1 || s[1] < least) least = s[1] }
  else if (s[1] > least + 1e-6) exit 1 }' ask.jsonl next.jsonl || bad "round two has what is more similar than round one"
cut -d'"' -f8 ask.jsonl next.jsonl | sort | uniq -d | grep . && bad "a prompt is asked about twice"

# Clusters are those of pairs: of a view with one of each prompt.
run 1 select data=prompts.h5 select.strategy=random output=one.h5
run 1 select data=one.h5 embeddings=e.h5 select.strategy=balanced select.scope=pairs select.clusters=3 select.count=6 \
    select.export=spread.jsonl
[ "$(grep -oE '"cluster": [0-9]' spread.jsonl | sort | uniq -c | awk '{ print $1 }' | tr '\n' ' ')" = "2 2 2 " ] ||
    bad "clusters: $(grep -oE '"cluster": .*' spread.jsonl)"

# Nothing trains on pairs without a label.
refuses 65 'has a label' dpo data=asked.h5 model=model output=no
refuses 65 'has a label' dpo data=asked.h5 model=model output=no --dry-run
refuses 65 'has a label' sft data=asked.h5 model=model output=no
refuses 65 'has a label' evaluate data=asked.h5 model=model
refuses 65 'has a label' evaluate data=asked.h5
refuses 65 'has a label' few-shot data=asked.h5 embeddings=e.h5 output=no
refuses 65 'has a label' score data=asked.h5 model=model
refuses 65 'has a label' preflight preflight.command=dpo data=asked.h5 model=model output=no
refuses 65 'no labeled pairs' reward data=asked.h5 model=model output=no
refuses 65 'neither labeled pairs nor scores' dpo data=prompts.h5 model=model output=no dpo.loss=rrhf
[ -e no/model ] && bad "a run without labels has left a model"

# Two annotators, who agree on what has a "good" more; a third has sent what cannot be used.
cat ask.jsonl next.jsonl > asked.jsonl
{
    answer good x < asked.jsonl
    answer good y < ask.jsonl
    answer bad z < <(head -4 ask.jsonl)
} > answers.jsonl
n=$(wc -l < answers.jsonl)
{
    echo 'no json'
    echo '{"id": "00000000-0-1", "preference": "a"}'
    head -1 answers.jsonl
} >> answers.jsonl
run 1 select data=prompts.h5 select.answers=answers.jsonl output=labels.h5
grep -q "no JSON; the first: answers.jsonl, line $((n + 1))" err.txt || bad "no word of the bad line: $(cat err.txt)"
grep -q "of other data; the first: answers.jsonl, line $((n + 2))" err.txt || bad "no word of the strange id"
grep -q "answered again .* line $((n + 3))" err.txt || bad "no word of the repeated answer"
[ "$(field answers labels.json)" = 40 ] && [ "$(field pairs labels.json)" = 24 ] || bad "answers: $(cat labels.json)"
grep -q "Krippendorff's alpha" err.txt && grep -q 'krippendorff_alpha' labels.json || bad "no agreement"
mv labels.h5 labels1.h5
run 4 select data=prompts.h5 select.answers=answers.jsonl output=labels.h5
cmp -s labels.h5 labels1.h5 || bad "the labels depend on the ranks"
labeled=$(field labeled labels.json)
[ "$labeled" -gt 8 ] && [ "$labeled" -lt 24 ] || bad "$labeled labels"

# What trains leaves out the rest and says so; the chosen have more of the word.
run 1 dpo data=labels.h5 model=model output=dpo train.steps=3 train.batch=8 train.learning_rate=1e-3
grep -q "$((24 - labeled)) of 24 pairs have no label and are left out" err.txt || bad "nothing said of ties: $(grep pairs err.txt)"
run 1 reward data=labels.h5 model=model output=judge train.steps=3 train.batch=8
run 1 sft data=labels.h5 model=model output=sft train.steps=1
run 1 evaluate data=labels.h5 model=judge/model output=judge.json
[ "$(field pairs judge.json)" = "$labeled" ] || bad "evaluated: $(cat judge.json)"
run 1 inspect input=labels.h5 inspect.rows=24
grep -qE "^pairs +24, $labeled of them with a label" out.txt || bad "inspect: $(grep pairs out.txt)"
awk '/^ *chosen/ { side = "c" } /^ *rejected/ { side = "r" } /⟦/ { n[side] = gsub("good", "")
  if (side == "r" && n["c"] <= n["r"]) bad = 1; if (side == "r") { rows++; side = "" } } END { exit bad || rows < 5 }' out.txt ||
    bad "a rejected response has as many good words as the chosen"
# What is asked before is left out by its answers too; and results are not written over each other.
refuses 65 'answers.jsonl, line' "${ask[@]}" select.export=third.jsonl select.exclude=answers.jsonl
grep -v -e 'no json' -e 00000000 answers.jsonl > clean.jsonl
run 1 "${ask[@]}" select.export=third.jsonl select.exclude=clean.jsonl
cut -d'"' -f4 third.jsonl | grep -qFf - asked.jsonl && bad "a question comes a second time"
refuses 2 'is the input' select data=prompts.h5 select.answers=clean.jsonl output=clean.jsonl
refuses 2 'no earlier result' "${ask[@]}" select.export=prompts.jsonl
refuses 2 'is the input' "${ask[@]}" select.export=ask.jsonl select.exclude=ask.jsonl
refuses 2 'another result' "${ask[@]}" select.export=x.h5 output=x.h5
refuses 65 'no answer gives a label' select data=prompts.h5 select.answers=ask.jsonl output=no.h5
refuses 66 'No such file' select data=prompts.h5 select.answers=none.jsonl output=no.h5
"$COLLIMATE" --quiet "${ask[@]}" select.export=/dev/stdout 2> /dev/null | cmp -s - ask.jsonl || bad "standard output has other questions"
[ -e /dev/stdout.json ] && bad "a report beside standard output"
run 1 "${ask[@]}" select.export=dry.jsonl --dry-run
[ -e dry.jsonl ] && bad "a dry run exports"
finish
