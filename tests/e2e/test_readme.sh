#!/bin/bash
# The commands of README's sections "Use" and "Chat models", run as they stand there, with tiny inputs under the names used there.
# The line of Python is run where PYTHON names one that has transformers.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad() { echo "test_readme: $1" >&2; exit 1; }
chat=$FIXTURES/chat
config=$PWD/configs/models/llama-tiny.json
# commands SECTION LEAST: its commands, to a file of its name; as many at least.
commands() {
  awk -v section="## $1" '/^## / { use = $0 == section } use && /^    (collimate|mpirun|python) / { sub(/^ */, ""); print }' README.md |
    sed 's/mpirun -n [0-9]*/mpirun -q -n 2/' > "$work/$1"
  [ "$(wc -l < "$work/$1")" -ge "$2" ] || bad "the section $1 has only these commands: $(cat "$work/$1")"
}
commands Use 5
commands "Chat models" 8
# in_order SECTION: runs them.
in_order() {
  local command
  while read -r command; do
    case $command in
    python*) [ -n "${PYTHON:-}" ] && eval "$PYTHON${command#python}" < /dev/null > out 2> err || [ -z "${PYTHON:-}" ] || bad "$command: $(cat err)" ;;
    *) eval "${command%%  #*} --quiet" < /dev/null > out 2> err || bad "$command: $(cat err)" ;;
    esac
  done < "$work/$1"
}

mkdir "$work/bin" "$work/use" "$work/chat"
ln -s "$COLLIMATE" "$work/bin/collimate"
PATH=$work/bin:$PATH
cd "$work/use"
collimate --quiet init init.config="$config" tokenizer=bytes output=path/to/model
collimate --quiet synth synth.rows=96 seed=1 output=pairs.jsonl
gzip pairs.jsonl
collimate --quiet synth synth.rows=8 seed=2 output=heldout.jsonl
collimate --quiet prepare input=heldout.jsonl tokenizer=bytes output=heldout.h5
in_order Use
[ -s runs/dpo/model/model.safetensors ] || bad "no model at the end"
[ "$(wc -l < answers.jsonl)" = 8 ] || bad "not one answer per held-out prompt"

# A chat model is a folder with a chat template; messages of several turns, with tools.
cd "$work/chat"
sed 's/"vocab_size": *[0-9]*/"vocab_size": 259/; s/"bos_token_id": *[0-9]*/"bos_token_id": null/; s/"eos_token_id": *[0-9]*/"eos_token_id": 257/' "$config" > config.json
collimate --quiet init init.config=config.json tokenizer="$chat/tokenizer" output=path/to/chat-model
cp "$chat/chats.jsonl" "$chat/pairs.jsonl" .
printf '{"prompt": [{"role": "user", "content": "%s"}]}\n' 'Hello' 'and you?' > prompts.jsonl
in_order "Chat models"
[ "$(wc -l < answers.jsonl)" = 2 ] || bad "not one answer per chat prompt"
cmp -s "$chat/tokenizer/chat_template.jinja" runs/dpo/model/chat_template.jinja || bad "the trained chat model has no template"
