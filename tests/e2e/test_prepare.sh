#!/bin/bash
# prepare: every record format on tiny inputs, counts and special tokens, the same file from any number of ranks
# and threads, and refusals with one message and their exit codes. inspect reads the files back.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
bad() { echo "test_prepare: $1" >&2; exit 1; }
prepare() { "$COLLIMATE" --quiet prepare tokenizer=bytes "$@"; }
inspect() { "$COLLIMATE" --quiet inspect input="$1"; }
# has FILE LINE...: inspect's report holds these lines.
has() {
  local file=$1 line
  shift
  inspect "$file" > report
  for line in "$@"; do
    grep -qE -- "^$line" report || bad "$file: no line '$line' in: $(head -12 report)"
  done
}

# One record of each format: prompts and responses in bytes are known.
printf '%s\n' '{"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no, sorry"}' \
  '{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}' > hh.jsonl
prepare input=hh.jsonl output=hh.h5
has hh.h5 'prompts +1, 23 tokens' 'responses +2, 16 tokens, with characters per token' 'pairs +1$' \
  'source .*\(hh\)' 'dropped +1: prompts differ' 'begin +no token' 'end +id 257 after'
# NaN is no score; a null side is an empty response.
printf '%s\n' '{"prompt": "a NaN\" NaN", "chosen": "b", "rejected": "c", "score_chosen": NaN, "score_rejected": 1}' \
  '{"prompt": "a", "chosen": "b", "rejected": null}' > nan.jsonl
prepare input=nan.jsonl output=nan.h5
has nan.h5 'prompts +1, 10 tokens' 'pairs +1$' 'dropped +1: empty response'
# Without the launch scripts' settings too, nothing speaks but the program.
# shellcheck disable=SC2046
env $(env | sed -n 's/^\(OMPI_[A-Za-z_]*\)=.*/-u \1/p') "$COLLIMATE" prepare tokenizer=bytes input=hh.jsonl output=alone.h5 2> alone.err
grep -q '^collimate: ' alone.err && ! grep -v '^collimate: ' alone.err || bad "somebody else speaks: $(cat alone.err)"
printf '%s\n' '{"prompt": "héllo", "chosen": "ab", "rejected": "c", "margin": 1.5, "truth": 1}' > preference.jsonl
prepare input=preference.jsonl output=preference.h5 tokenize.begin=true tokenize.end=false prepare.token_chars=false
has preference.h5 'prompts +1, 7 tokens' 'responses +2, 3 tokens$' 'pairs +1$' 'begin +id 256 before' 'end +no token'
printf '%s\n' '{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]}' > chat.jsonl
prepare input=chat.jsonl output=chat.h5
has chat.h5 'prompts +1, 22 tokens' 'responses +2, 9 tokens' 'pairs +1$' 'source .*\(preference\)'
printf '%s\n' '{"prompt": "x", "completion": "yy"}' '{"prompt": "x", "completion": ""}' > completion.jsonl
prepare input=completion.jsonl output=completion.h5
has completion.h5 'prompts +1, 1 tokens' 'responses +1, 3 tokens' 'pairs +0$' 'dropped +1: empty response'
printf '%s\n' '{"prompt": "abc"}' > prompt.jsonl
prepare input=prompt.jsonl output=prompt.h5
has prompt.h5 'prompts +1, 3 tokens' 'responses +0, 0 tokens' 'pairs +0$'
printf '%s\n' '{"prompt": "p", "responses": [{"text": "a", "score": 2}, {"text": "bb", "score": 1}, {"text": " ", "score": 4}, {"text": "ccc", "score": 2}]}' > responses.jsonl
prepare input=responses.jsonl output=responses.h5
has responses.h5 'prompts +1, 1 tokens' 'responses +3, 9 tokens' 'pairs +2$' 'dropped +1: responses empty or unrated'
printf '%s\n' '{"history": "h", "human_ref_A": "a", "human_ref_B": "bb", "labels": 0, "score_A": 3, "score_B": 9}' > shp.jsonl
prepare input=shp.jsonl output=shp.h5
has shp.h5 'prompts +1, 22 tokens' 'responses +2, 7 tokens' 'pairs +1$' 'source .*\(shp\)'
rating() { echo "{\"response\": \"$1\", \"annotations\": {\"helpfulness\": {\"Rating\": \"$2\"}, \"honesty\": {\"Rating\": \"$2\"}, \"truthfulness\": {\"Rating\": \"$2\"}, \"instruction_following\": {\"Rating\": \"$2\"}}}"; }
echo "{\"instruction\": \"i\", \"completions\": [$(rating a 1), $(rating b 5), $(rating c N/A)]}" > ultrafeedback.jsonl
prepare input=ultrafeedback.jsonl output=ultrafeedback.h5
has ultrafeedback.h5 'responses +2, 6 tokens' 'pairs +1$' 'dropped +1: responses empty or unrated'

# Sides that are the same, and labels that scores speak against: said here and at each start.
printf '%s\n' '{"prompt": "q", "chosen": "a", "rejected": "a"}' '{"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 7}' \
  '{"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 5, "score_rejected": 5}' \
  '{"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 7, "score_rejected": 2}' > scores.jsonl
"$COLLIMATE" prepare tokenizer=bytes input=scores.jsonl output=scores.h5 2> err
for said in '1 pairs have the same tokens' '1 pairs have the higher score on the rejected side' '1 pairs have the same score'; do
  grep -q "warning: $said" err || bad "no '$said': $(cat err)"
done
"$COLLIMATE" evaluate --dry-run data=scores.h5 model="$FIXTURES/dpo_steps/model" allow_other_tokenizer=true 2> err
grep -q 'of 4 pairs 1 have the higher score on the rejected side, 1 the same on both' err || bad "scores at a start: $(cat err)"

# Special tokens that the text brings itself: the beginning token stands there once, the end token is not doubled.
mkdir tokenizer
cat > tokenizer/tokenizer.json << 'JSON'
{"version": "1.0", "added_tokens": [
  {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
  {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
 "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
 "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
  "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
  "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}, "merges": ["a b"]}}
JSON
echo '{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true}' > tokenizer/tokenizer_config.json
printf '%s\n' '{"prompt": "ba", "completion": "b"}' '{"prompt": "<s>aab", "completion": "ab</s>"}' \
  '{"prompt": "a</s>b", "completion": "b"}' > special.jsonl
"$COLLIMATE" prepare tokenizer=tokenizer input=special.jsonl output=special.h5 2> err
has special.h5 'prompts +3, 10 tokens' 'responses +3, 6 tokens' 'begin +id 0 before' 'end +id 1 after' # 3+3+4; 2+2+2
grep -q "warning: 2 records whose text holds the end token" err || bad "end tokens in the text: $(cat err)"
grep -q "warning: 1 prompts that began with the beginning token" err || bad "beginning tokens in the text: $(cat err)"
grep -q "warning: token boundary: 1 of 3 responses have other tokens .*; the first: special.jsonl, line 1" err || bad "ba + b makes another token than ba: $(cat err)"
"$COLLIMATE" prepare tokenizer=tokenizer input=special.jsonl output=special.h5 tokenize.begin=false tokenize.end=false 2> err
has special.h5 'prompts +3, 8 tokens' 'responses +3, 4 tokens' # the text's own tokens stay
grep -q "responses without end token: 2 of 3" err || bad "responses without end token: $(cat err)"

# The same file, byte for byte, from any number of ranks and threads; from lines, CRLF, gzip and an array the same
# contents.
"$COLLIMATE" --quiet synth synth.rows=3000 synth.noise=0.1 output=text.jsonl
contents() { inspect "$1" | grep '^contents'; }
prepare input=text.jsonl output=text.h5 threads=1 && mv text.h5 one.h5
for threads in 1 3; do # the command line is in the file: it must be the same
  prepare input=text.jsonl output=text.h5 threads=$threads
  [ "$(contents text.h5)" = "$(contents one.h5)" ] || bad "$threads threads give other contents"
done
for n in 2 4; do
  mpirun -q -n $n "$COLLIMATE" --quiet prepare tokenizer=bytes input=text.jsonl output=text.h5 threads=1
  cmp text.h5 one.h5 || bad "$n ranks write another file"
  [ "$(contents text.h5)" = "$(contents one.h5)" ] || bad "$n ranks give other contents"
done
sed 's/$/\r/' text.jsonl | sed '7s/^/\r\n/' > crlf.jsonl
gzip -c text.jsonl > text.jsonl.gz
{ echo '['; sed '$!s/$/,/' text.jsonl; echo ']'; } > text.json
head -1000 text.jsonl > a.jsonl && tail -2000 text.jsonl | gzip -c > b.jsonl.gz
for input in crlf.jsonl text.jsonl.gz text.json a.jsonl,b.jsonl.gz; do # ranks: tests/mpi/test_jsonl.c
  prepare input=$input output=other.h5
  [ "$(contents other.h5)" = "$(contents one.h5)" ] || bad "$input gives other contents"
done
prepare input=text.jsonl output=limit.h5 prepare.limit=1000
prepare input=a.jsonl output=a.h5
[ "$(contents limit.h5)" = "$(contents a.h5)" ] || bad "prepare.limit takes other records"

inspect one.h5 > report
mpirun -q -n 3 "$COLLIMATE" --quiet inspect input=one.h5 | cmp - report || bad "3 ranks report other lengths"

# More ranks than records; a dry run writes nothing and reports.
mpirun -q -n 4 "$COLLIMATE" --quiet prepare tokenizer=bytes input=hh.jsonl output=few.h5
[ "$(contents few.h5)" = "$(contents hh.h5)" ] || bad "more ranks than records"
"$COLLIMATE" --dry-run prepare tokenizer=bytes input=hh.jsonl output=dry.h5 2> err
[ ! -e dry.h5 ] || bad "a dry run writes"
grep -q "response tokens: 16; length min 5, median 5" err || bad "report of the dry run: $(cat err)"
grep -q "longest: 34 tokens, hh.jsonl, line 1" err || bad "longest row: $(cat err)"

# Refusals: one message, the documented code, on any number of ranks.
expect() { bash "$here/expect.sh" "$@" || bad "expect $*"; }
sed '2000s/"chosen"/"chosen/' text.jsonl > broken.jsonl
for launch in "" "mpirun -q -n 4"; do
  expect 65 'broken.jsonl, line 2000: not valid JSON' 60 $launch "$COLLIMATE" --quiet prepare tokenizer=bytes input=broken.jsonl output=x.h5 prepare.strict=true
done
sed '1500s/"chosen"/"other"/' text.jsonl > missing_key.jsonl
expect 65 'missing_key.jsonl, line 1500: "chosen" must be a string' 60 mpirun -q -n 2 "$COLLIMATE" --quiet prepare tokenizer=bytes input=missing_key.jsonl output=x.h5 prepare.strict=true
# Without prepare.strict bad rows are dropped and counted, the same on any number of ranks.
{ sed -n '1,20p' text.jsonl; echo '{"chosen": "cut'; echo '{"prompt": "a", "chosen": 3, "rejected": "b"}'
  echo '[7]'; echo '{"prompt": "a", "chosen": "b", "rejected": null}'; echo '{"chosen": "a b", "rejected": 4}'
  echo '{"prompt": "only"}'; } > bad.jsonl
sed -n '1,20p' text.jsonl > good.jsonl
prepare input=good.jsonl output=good.h5
for n in 1 3; do
  mpirun -q -n $n "$COLLIMATE" prepare tokenizer=bytes input=bad.jsonl output=bad.h5 2> err
  [ "$(contents bad.h5)" = "$(contents good.h5)" ] || bad "bad rows change what the others give, $n ranks"
  for said in 'dropped 1: not valid JSON; the first: bad.jsonl, line 21 \(.*near' 'dropped 2: "chosen" must be a string; the first: bad.jsonl, line 22$' \
    'dropped 1: expected a JSON object; the first: bad.jsonl, line 23' 'dropped 1: empty response; the first: bad.jsonl, line 24' \
    'dropped 1: "rejected" must be a string; the first: bad.jsonl, line 25'; do
    grep -qE "warning: $said" err || bad "no '$said' on $n ranks: $(grep dropped err)"
  done
done
sed -i 21,23d bad.jsonl
expect 65 'bad.jsonl, line 21: empty response' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=bad.jsonl output=x.h5 prepare.strict=true
# Prompts with a few pairs among them: those would give prompts, and lose their sides.
{ for i in $(seq 20); do echo '{"prompt": "only"}'; done; head -1 good.jsonl; echo '{"prompt": "a", "chosen": "b", "rejected": "c"}'; } > few.jsonl
"$COLLIMATE" prepare tokenizer=bytes input=few.jsonl output=few.h5 2> err
grep -q 'dropped 2: of another format than most; the first: few.jsonl, line 21' err || bad "pairs among prompts: $(grep dropped err)"
# Two formats in a file; a file of several of which nothing is left.
{ cat good.jsonl; for i in 1 2 3 4 5; do echo '{"prompt": "only"}'; done; } > mixed.jsonl
expect 65 'mixed.jsonl, line 21: a record of another format than most: of the first 25 there are 20 preference, 5 prompt; ' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=mixed.jsonl output=x.h5
sed 's/"chosen"/"other"/' good.jsonl > nothing.jsonl
expect 65 'nothing.jsonl: every record of this file was dropped' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=text.jsonl,nothing.jsonl output=x.h5
expect 65 'nothing.jsonl: every record was dropped: "chosen" must be a string; the first: nothing.jsonl, line 1$' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=nothing.jsonl output=x.h5 prepare.format=preference
head -c 20000 text.jsonl.gz > cut.gz
expect 65 'cut.gz: damaged gzip: the file ends early' 60 mpirun -q -n 2 "$COLLIMATE" --quiet prepare tokenizer=bytes input=cut.gz output=x.h5
expect 66 'none.jsonl: No such file' 60 mpirun -q -n 2 "$COLLIMATE" --quiet prepare tokenizer=bytes input=none.jsonl output=x.h5
expect 73 'none/x.h5' 60 mpirun -q -n 2 "$COLLIMATE" --quiet prepare tokenizer=bytes input=hh.jsonl output=none/x.h5
echo '{"a": 1}' > keys.jsonl
expect 65 'keys.jsonl, line 1: no known record format' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=keys.jsonl output=x.h5
# What is something else, and what to do with it.
echo 'a,b' > table.csv
expect 65 'table.csv: is a table of comma separated values; .*to_json' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=table.csv output=x.h5
echo '{"data": [{"prompt": "a"}]}' > wrapped.json
expect 65 'wrapped.json, line 1: no known record format has these keys; where "data" holds the records' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=wrapped.json output=x.h5
echo '{"prompt": {"0": "a"}, "chosen": {"0": "b"}, "rejected": {"0": "c"}}' > columns.json
expect 65 'columns.json: every record was dropped: .*table by columns' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=columns.json output=x.h5
expect 65 'hh.jsonl: not an HDF5 file; it looks like JSON: .*collimate prepare' 60 "$COLLIMATE" --quiet score data=hh.jsonl model="$FIXTURES/dpo_steps/model"
expect 66 'model.safetensors: is a file of weights; give the folder' 60 "$COLLIMATE" --quiet score data=hh.h5 model="$FIXTURES/dpo_steps/model/model.safetensors"
echo '[1, 2]' > numbers.json
expect 65 'numbers.json, line 1' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=numbers.json output=x.h5
echo 3 > number.jsonl
expect 65 'number.jsonl, line 1' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=number.jsonl output=x.h5
: > empty.jsonl
expect 65 'empty.jsonl: no records' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=empty.jsonl output=x.h5
tail -1 hh.jsonl > dropped.jsonl
expect 65 'every record was dropped' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=dropped.jsonl output=x.h5
expect 2 'tokenizer is not set' 60 "$COLLIMATE" --quiet prepare input=hh.jsonl output=x.h5
expect 2 'input is not set' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes output=x.h5
expect 2 'tokenize.begin' 60 "$COLLIMATE" --quiet prepare tokenizer=bytes input=hh.jsonl output=x.h5 tokenize.begin=maybe
[ -z "$(find . -name "*x.h5*")" ] || bad "a refused command leaves a file"
expect 66 'none: no such file or folder' 60 "$COLLIMATE" --quiet inspect input=none
head -c 3000 one.h5 > cut.h5
expect 65 'cut.h5' 60 "$COLLIMATE" --quiet inspect input=cut.h5
expect 65 'neither a model folder' 60 "$COLLIMATE" --quiet inspect input="$work"
