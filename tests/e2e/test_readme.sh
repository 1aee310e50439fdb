#!/bin/bash
# The commands of README's "Use" section, run as they stand there, with tiny inputs under the names used there.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad() { echo "test_readme: $1" >&2; exit 1; }
awk '/^## / { use = $0 == "## Use" } use && /^    (collimate|mpirun) / { sub(/^ */, ""); print }' README.md |
  sed 's/mpirun -n [0-9]*/mpirun -q -n 2/' > "$work/commands"
[ "$(wc -l < "$work/commands")" -ge 5 ] || bad "the Use section has only these commands: $(cat "$work/commands")"

mkdir "$work/bin"
ln -s "$COLLIMATE" "$work/bin/collimate"
PATH=$work/bin:$PATH
collimate --quiet init init.config=configs/models/llama-tiny.json tokenizer=bytes output="$work/path/to/model"
cd "$work"
collimate --quiet synth synth.rows=96 seed=1 output=pairs.jsonl
gzip pairs.jsonl
collimate --quiet synth synth.rows=8 seed=2 output=heldout.jsonl
collimate --quiet prepare input=heldout.jsonl tokenizer=bytes output=heldout.h5
while read -r command; do
  eval "$command --quiet" < /dev/null > out 2> err || bad "$command: $(cat err)"
done < commands

[ -s runs/dpo/model/model.safetensors ] || bad "no model at the end"
[ "$(wc -l < answers.jsonl)" = 8 ] || bad "not one answer per held-out prompt"
