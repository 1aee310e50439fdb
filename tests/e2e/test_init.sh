# init: the same folder from any number of ranks, another one from another seed; what it refuses.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
config=$FIXTURES/models/neox/config.json
start() { # RANKS SEED FOLDER
    mpirun -q -n "$1" "$COLLIMATE" init "init.config=$work/config.json" tokenizer=bytes "seed=$2" "output=$3" \
        2> "$work/log" || { cat "$work/log"; exit 1; }
}
sed 's/"vocab_size": 97/"vocab_size": 260/' "$config" > "$work/config.json"
start 1 5 "$work/one"
start 2 5 "$work/two"
start 4 5 "$work/four"
start 1 6 "$work/other"
diff -r "$work/one" "$work/two" || exit 1
diff -r "$work/one" "$work/four" || exit 1
cmp -s "$work/one/model.safetensors" "$work/other/model.safetensors" && { echo "the seed changes nothing"; exit 1; }
grep -q '"eos_token_id": 257' "$work/one/config.json" || { echo "the tokenizer's end id is not the model's"; exit 1; }

bash tests/expect.sh 2 'vocab_size is 97, tokenizer bytes has 258' 60 \
    "$COLLIMATE" init "init.config=$config" tokenizer=bytes "output=$work/small" || exit 1
bash tests/expect.sh 2 'output is not set' 60 "$COLLIMATE" init "init.config=$config" || exit 1
bash tests/expect.sh 66 'No such file' 60 "$COLLIMATE" init init.config=/nowhere "output=$work/none" || exit 1
echo '{"architectures": ["BertModel"]}' > "$work/bert.json"
bash tests/expect.sh 65 'BertModel' 60 "$COLLIMATE" init "init.config=$work/bert.json" "output=$work/none" || exit 1
[ ! -e "$work/none" ] && [ ! -e "$work/small" ] || { echo "a refused init left a folder"; exit 1; }
