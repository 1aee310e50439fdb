#!/bin/bash
# generate: the same bytes for any rank count and batch, to a file or standard output; rows in order; the stop
# set; refusals with their exit codes.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
bad() { echo "test_generate: $1" >&2; exit 1; }

"$COLLIMATE" --quiet synth synth.rows=30 output=text.jsonl || bad "synth"
"$COLLIMATE" --quiet prepare input=text.jsonl tokenizer=bytes output=data.h5 || bad "prepare"
cat > config.json <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 48, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 258,
 "max_position_embeddings": 256, "rms_norm_eps": 1e-06, "hidden_act": "silu", "tie_word_embeddings": false,
 "initializer_range": 0.3}
JSON
"$COLLIMATE" --quiet init init.config=config.json tokenizer=bytes output=model || bad "init"
generate="$COLLIMATE --quiet generate data=data.h5 model=model generate.max_new_tokens=20"

for how in "" "generate.temperature=1 generate.top_k=50 generate.top_p=0.95 seed=7"; do
    $generate $how output=one.jsonl || bad "generate $how"
    [ "$(wc -l < one.jsonl)" -eq "$($COLLIMATE inspect input=data.h5 | awk '$1 == "prompts" { print $2 + 0; exit }')" ] ||
        bad "not one line per prompt"
    awk '$2 != NR - 1 "," { exit 1 }' one.jsonl || bad "rows out of order: $(head -3 one.jsonl)"
    for n in 2 4; do
        mpirun -q -n $n $generate $how output=more.jsonl generate.batch=$((7 * n)) || bad "generate on $n ranks"
        cmp one.jsonl more.jsonl || bad "another text on $n ranks ($how)"
    done
    $generate $how generate.batch=1 threads=1 | cmp - one.jsonl || bad "another text on standard output ($how)"
done
$generate generate.temperature=1 seed=8 output=more.jsonl
cmp -s one.jsonl more.jsonl && bad "another seed gives the same text"

# A prompt's text does not depend on which others are asked for.
$generate $how generate.limit=9 | cmp - <(head -9 one.jsonl) || bad "the first nine alone differ"

# The stop set ends responses, and stays their last token: stop at one of three quarters of all ids.
ids=$(seq -s ', ' 0 191)
echo "{\"eos_token_id\": [$ids]}" > model/generation_config.json
"$COLLIMATE" --quiet generate data=data.h5 model=model generate.max_new_tokens=20 > /dev/null 2> said &&
    bad "a stop set of 192 ids was taken"
grep -q 'generation_config.json' said || bad "no word of generation_config.json: $(cat said)"
echo '{"eos_token_id": [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41]}' \
    > model/generation_config.json
$generate generate.temperature=1 output=stopped.jsonl || bad "generate with a stop set"
awk -F'[][]' '{ n = split($2, t, ", "); for (i = 1; i <= n; i++) {
                    stop = t[i] % 2 == 1 && t[i] <= 41
                    if (stop != (i == n) && !(i == n && n == 20)) exit 1 }
                if (n < 20) ended++ } END { exit !(ended > 0) }' stopped.jsonl || bad "stop set: $(head -2 stopped.jsonl)"
$generate generate.temperature=1 generate.stop_at_end=false output=more.jsonl
awk -F'[][]' '{ if (split($2, t, ", ") != 20) exit 1 }' more.jsonl || bad "stop_at_end=false stopped"

expect=$(dirname "$FIXTURES")/expect.sh
bash "$expect" 66 'none.h5' 60 "$COLLIMATE" generate data=none.h5 model=model || exit 1
bash "$expect" 2 'data' 60 "$COLLIMATE" generate model=model || exit 1
bash "$expect" 2 'generate.top_k' 60 "$COLLIMATE" generate data=data.h5 model=model generate.top_k=5 || exit 1
bash "$expect" 73 'none/out' 60 "$COLLIMATE" --quiet generate data=data.h5 model=model output=none/out.jsonl || exit 1
$COLLIMATE --quiet --dry-run generate data=data.h5 model=model output=never.jsonl | grep -q '^ *cache ' || bad "dry run"
[ ! -e never.jsonl ] || bad "a dry run wrote its output"
ls ./*.tmp 2> /dev/null && bad "temporary files stay"
exit 0
