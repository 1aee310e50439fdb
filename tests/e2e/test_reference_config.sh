#!/bin/bash
# configs/: the reference equals the option table, the others are taken by their commands, and a resolved configuration
# can be read back and resolves to itself.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad() { echo "test_reference_config: $1" >&2; exit 1; }

"$COLLIMATE" --print-config > "$work/reference.yaml"
diff configs/reference.yaml "$work/reference.yaml" ||
  bad "configs/reference.yaml is not the option table: collimate --print-config > configs/reference.yaml"

# A section or a key outside sections comes once, or YAML readers disagree about it.
twice=$(grep -oE '^[a-z_]+:' configs/reference.yaml | sort | uniq -d)
[ -z "$twice" ] || bad "twice in the reference: $twice"
# Every key of every command's help is in the reference, and no other.
for command in $("$COLLIMATE" --help | sed -n '/^commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p'); do
  "$COLLIMATE" "$command" --help | sed -n 's/^  \([a-z][a-z_0-9.]*\) .*/\1/p'
done | sort -u > "$work/help"
awk '/^[a-z_]+:$/ { section = substr($1, 1, length($1) - 1) "."; next }
     /^[a-z_.]+:/ { section = "" }
     /^ *[a-z_0-9.]+:/ { sub(/:.*/, ""); sub(/^ */, ""); print section $0 }' configs/reference.yaml | sort > "$work/keys"
[ -s "$work/help" ] || bad "no keys in the help"
diff "$work/help" "$work/keys" || bad "help (<) and reference (>) differ"

# resolve COMMAND ARGUMENTS...: the commented form, read back, is the same again.
resolve() {
  "$COLLIMATE" "$@" --print-config > "$work/a.yaml" || bad "$* is refused"
  "$COLLIMATE" "$1" "$work/a.yaml" --print-config > "$work/b.yaml" || bad "$1 refuses its own resolved configuration"
  cmp "$work/a.yaml" "$work/b.yaml" || bad "$1 resolves its own configuration otherwise"
}
resolve sft configs/quick.yaml data=x
resolve dpo configs/quick.yaml dpo.loss='hinge + 0.1*sft' select.strategy=easy select.count=3
resolve sft configs/hh-sft.yaml model='a path/with: colon'
resolve dpo configs/hh-dpo.yaml
resolve dpo configs/hh-dpo-lora.yaml model=m adapter= reference.adapter=none
resolve sft adapter=runs/sft/adapter
resolve few-shot configs/uf-np-btl.yaml data=a.h5,b.h5 embeddings=e.h5
resolve few-shot configs/uf-np-btl.yaml data=a.h5 embeddings=e.h5 few_shot.model=btl
resolve dpo configs/uf-btl-dpo.yaml model=m data=a.h5 split=train
resolve dpo configs/uf-btl-dpo.yaml configs/uf-np-dpo.yaml model=m data=a.h5,b.h5 embeddings=e.h5
resolve select embeddings=e.h5 select.strategy=balanced select.clusters=2
grep -q '^  beta: 0.1$' <("$COLLIMATE" dpo configs/hh-dpo.yaml --print-config) || bad "a value that was set is not in force"
grep -q '^  #fraction: 0.5$' "$work/a.yaml" || bad "a default is not a comment"
