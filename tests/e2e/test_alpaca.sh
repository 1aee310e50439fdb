#!/bin/bash
# generate.format=alpaca_eval: an array that judge reads again, with the instructions as they were before a chat template; the same
# on 2 ranks; what is refused.
set -u
export OMP_NUM_THREADS=1
model=$(cd "$(dirname "$0")/../fixtures/judge/model" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_alpaca: $1" >&2; failures=$((failures + 1)); }
generate() { timeout 60 "$COLLIMATE" --quiet generate model="$model" generate.max_new_tokens=5 generate.format=alpaca_eval "$@"; }
refused() { # CODE TEXT ARGUMENTS…
  local code=$1 text=$2 rc
  shift 2
  generate "$@" > out.txt 2> err.txt
  rc=$?
  [ $rc -eq "$code" ] && grep -qF -- "$text" err.txt || bad "$*: rc $rc: $(cat err.txt)"
}
# Transcripts: one turn is its text, two stay.
cat > hh.jsonl <<'J'
{"prompt": "\n\nHuman: Why \"so\"?\n\nAssistant:"}
{"prompt": "\n\nHuman: One\n\nAssistant: Two\n\nHuman: Three\n\nAssistant:"}
{"prompt": "Plain"}
J
"$COLLIMATE" --quiet prepare input=hh.jsonl tokenizer="$model" output=hh.h5 || bad "prepare"
generate data=hh.h5 output=hh.json generate.generator=tiny || bad "transcripts"
timeout 60 mpirun -q -n 2 "$COLLIMATE" --quiet generate model="$model" generate.max_new_tokens=5 generate.format=alpaca_eval data=hh.h5 \
  generate.generator=tiny generate.batch=1 output=two.json && cmp hh.json two.json || bad "two ranks"
head -c 2 hh.json | grep -qF "[{" && tail -c 3 hh.json | grep -qF "}]" && [ "$(wc -l < hh.json)" -eq 3 ] || bad "no array: $(cat hh.json)"
grep -qF '{"instruction": "Why \"so\"?", "output": "' hh.json && grep -qF '"instruction": "\n\nHuman: One\n\nAssistant: Two\n\nHuman: Three' hh.json &&
  [ "$(grep -cF '"generator": "tiny", "dataset": "hh.jsonl", "datasplit": "eval"}' hh.json)" -eq 3 ] || bad "transcripts: $(cat hh.json)"
generate data=hh.h5 output=other.json generate.temperature=1 seed=3 && generate data=hh.h5 output=hh.json || bad "its own result is replaced"
timeout 60 "$COLLIMATE" --quiet judge model="$model" judge.answers=hh.json,other.json | grep -q '"verdicts": 3,' || bad "judge"

# Through a chat template: the instructions come from their file.
cat > alpaca.json <<'J'
[{"dataset": "koala", "instruction": " Say it.\n", "output": "It.", "generator": "text_davinci_003"},
 {"dataset": "vicuna", "instruction": "Was heißt das?", "output": "Nichts", "generator": "text_davinci_003"}]
J
"$COLLIMATE" --quiet prepare input=alpaca.json tokenizer="$model" prepare.strings_as_chat=true output=chat.h5 || bad "prepare as chats"
refused 2 'set generate.instructions' data=chat.h5
generate data=chat.h5 generate.instructions=alpaca.json output=chat.out || bad "instructions from a file"
grep -qF '{"instruction": " Say it.\n", "output": "' chat.out && grep -qF '"dataset": "vicuna"' chat.out &&
  grep -qF 'judge/model"' chat.out || bad "$(cat chat.out)"
sed 's/Was heißt das/Was ist das/' alpaca.json > changed.json
refused 65 'is not the instruction of prompt 1' data=chat.h5 generate.instructions=changed.json
refused 65 'they must be what the prompts were prepared from' data=hh.h5 generate.instructions=alpaca.json
refused 2 'one answer to an instruction' data=hh.h5 generate.temperature=1 generate.samples=2
[ "$failures" -eq 0 ]
