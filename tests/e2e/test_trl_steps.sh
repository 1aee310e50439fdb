#!/usr/bin/env bash
# Twenty updates of each loss are those of TRL's own trainers (fixtures/make_trl_steps.py): loss, gradient norm and what they log.
set -u
. tests/common.sh

fixture=$FIXTURES/trl_steps
# begun, bare: with a beginning token, as the trainers of trl.experimental have it.
for name in pairs unpaired begun bare; do
    [[ $name == b* ]] && begin=true || begin=false
    run 1 prepare input="$fixture/${name/begun/pairs}.jsonl" output=$name.h5 tokenizer=bytes tokenize.begin=$begin
done
[ "$failures" -eq 0 ] || exit 1

# values LINE KEY: one a line; "null" where TRL logged none.
values() {
    sed -nE 's@.*"'"$2"'": \[([^]]*)\].*@\1@p' <<< "$1" | tr -d ' ' | tr ',' '\n'
}
# ours FILE KEY: the same of a run's metrics.
ours() {
    sed -nE '/^\{"step"/{s@.*"'"$2"'": ([^,}]*)[,}].*@\1@; /^\{/s/.*/null/; p}' "$1"
}
# compare NAME LINE: each list of the line, and the run's.
compare() {
    local key
    for key in $(grep -oE '"[a-z_/]+": \[' <<< "$2" | tr -d '":['); do
        paste <(values "$2" "$key") <(ours "$1/metrics.jsonl" "$key") | awk -v what="$1: $key" '
            function abs(x) { return x < 0 ? -x : x }
            $1 != $2 && ($1 == "null" || $2 == "null" || !(abs($1 - $2) <= 2e-4 * (0.1 + abs($1)))) {
                if (!bad++) print what ", step " NR ": TRL " $1 ", here " $2 }
            END { exit bad > 0 || NR != 20 }' || bad "$1: $key is not TRL's"
    done
}
while read -r line; do
    name=$(sed -E 's/.*"name": "([^"]*)".*/\1/' <<< "$line")
    keys=$(sed -E 's/.*"keys": "([^"]*)".*/\1/' <<< "$line")
    [[ $keys == *data=* ]] || keys="$keys data=pairs"
    [[ $keys == *loss=cpo* || $keys == *loss=simpo* || $keys == *loss=orpo* ]] || keys="$keys reference=$fixture/reference"
    keys=$(sed -E 's/data=([a-z]+)/data=\1.h5/' <<< "$keys")
    # shellcheck disable=SC2086
    run 1 dpo model="$FIXTURES/dpo_steps/model" train.steps=20 train.batch=4 train.shuffle=false train.learning_rate=1e-3 \
        train.weight_decay=0 train.clip=1 output="$name" $keys
    compare "$name" "$line"
    cases=$((${cases:-0} + 1))
done < "$fixture/expected.jsonl"
[ "${cases:-0}" -ge 4 ] || bad "only ${cases:-0} cases"

finish
