#!/usr/bin/env bash
# Every decoder family with a tokenizer of its own kind (fixtures/make_family_fixtures.py): prepare, a step of dpo, score and
# generate, of chats, or strings where its tokenizer has no template. Log-probabilities, greedy answers and their text are those of
# transformers; the trained folder has the tokenizer and the template that it began with, and the next command takes it.
set -u
. tests/common.sh
families=$FIXTURES/families

# wanted FOLDER: what is expected, without the strings where there are chats.
wanted() {
    local strings
    read -r _ strings < "$families/$1/kind"
    awk -v chats="$([ "${strings:-}" = strings ] || echo 1)" '
        chats && ($1 == "logps" && ++l <= 4 || $1 == "tokens" && ++t <= 5 || $1 == "text" && ++x <= 5) { next } { print }
        ' "$families/$1/expected.txt" > "$1/wanted.txt"
}
# as_expected FOLDER: score's per-token log-probabilities, and what generate answers.
as_expected() {
    paste -d ' ' <(sed -n 's/.*"token_logps": \[\(.*\)\]}$/\1/p' "$1/scores.jsonl" | tr -d ,) \
        <(sed -n 's/^logps/=/p' "$1/wanted.txt") | awk '
            { n = (NF - 1) / 2; if ($(n + 1) != "=") wrong = 1
              for (i = 1; i <= n; i++) { d = $i - $(n + 1 + i); if (d * d > 1e-9) wrong = 1 } }
            END { exit wrong || NR != 4 }' || bad "$1: log-probabilities are not those of transformers"
    paste -d '\n' <(sed -n 's/.*"tokens": \[\([^]]*\)\].*/tokens \1/p' "$1/answers.jsonl" | tr -d ' ' | sed 's/tokens/& /') \
        <(sed -n 's/.*\("text": "\(\\.\|[^"\\]\)*"\).*/\1/p' "$1/answers.jsonl" | sed 's/"text":/text/') > "$1/answers.txt"
    diff <(grep -E '^(tokens|text) ' "$1/wanted.txt") "$1/answers.txt" > "$1/diff.txt"
    grep '^<' "$1/diff.txt" | grep -v '?$' > "$1/wrong.txt" && bad "$1: answers are not those of transformers: $(cat "$1/diff.txt")"
    [ "$(wc -l < "$1/answers.txt")" -eq "$(grep -cE '^(tokens|text) ' "$1/wanted.txt")" ] || bad "$1: answers are missing"
}
family() {
    local kind texts
    read -r kind texts < "$families/$1/kind"
    texts=${texts:-chats}
    mkdir "$1" && cp "$families/tokenizers/$kind"/* "$families/$1"/{config.json,model.safetensors} "$1" || exit 1
    run 1 --quiet prepare input="$families/$texts.jsonl" tokenizer="$1" output="$1/pairs.h5"
    run 1 --quiet dpo data="$1/pairs.h5" model="$1" output="$1/run" train.steps=1 train.batch=4 train.learning_rate=1e-4
    grep -q '^{"step": 1, "loss": 0\.69314718' "$1/run/metrics.jsonl" || bad "$1: the loss at the start is not log 2"
    for name in "$families/tokenizers/$kind"/*; do
        cmp -s "$name" "$1/run/model/${name##*/}" || bad "$1: another ${name##*/} in the trained folder"
    done
    run 1 --quiet score data="$1/pairs.h5" model="$1" score.per_token=true output="$1/scores.jsonl"
    run 1 --quiet prepare input="$families/asked-$texts.jsonl" tokenizer="$1/run/model" output="$1/asked.h5"
    run 1 --quiet generate data="$1/asked.h5" model="$1" generate.max_new_tokens=8 output="$1/answers.jsonl"
    wanted "$1"
    as_expected "$1"
}
lane() { for name in $1; do family "$name"; done; }

# Two lanes side by side.
all=$(cd "$families" && for f in */kind; do echo "${f%/kind}"; done)
[ "$(wc -w <<< "$all")" -ge 18 ] || bad "families are missing: $all"
odd() { lane "$(awk 'NR % 2' <<< "$all")"; }
even() { lane "$(awk 'NR % 2 == 0' <<< "$all")"; }
together odd even
refuses 2 "no reward model begins with GraniteForCausalLM" reward data="$(echo */granite/pairs.h5)" model="$(echo */granite)" output=judge train.steps=1
finish
