#!/usr/bin/env bash
# preflight: passes what will work on 1, 2 and 4 ranks and leaves nothing behind; refuses what cannot work, with its reason on
# a line of its own, the exit code that the run would end with, and all other checks done.
set -u
. tests/common.sh
tiny_world 30 5 32
cat > run.yaml << 'YAML'
data: train.h5
model: init
output: run
threads: 1
train:
  batch: 8
  slots: 4
  steps: 10
YAML
# preflight RANKS ARGUMENTS...; one rank without mpirun, which takes its time to end what has failed.
preflight() {
    local launcher=(mpirun -q -n "$1")
    [ "$1" -gt 1 ] || launcher=()
    timeout 120 "${launcher[@]}" "$COLLIMATE" --quiet preflight "${@:2}" > out.txt 2> err.txt
}
# passes RANKS ARGUMENTS...: code 0, no refusal; the lines stay in out.txt.
passes() {
    local ranks=$1
    shift
    preflight "$ranks" "$@" ||
        bad "rc $? of preflight $* on $ranks ranks: $(cat err.txt; grep ^refuse out.txt)"
    ! grep -q '^refuse' out.txt || bad "preflight $* passes and refuses"
    grep -qE ' 0 refused; .* on '"$ranks"' ranks' out.txt || bad "preflight $*: no summary for $ranks ranks"
}
# refused RANKS CODE SUBJECT PATTERN ARGUMENTS...: that code, one line on standard error, a line of that subject.
refused() {
    local ranks=$1 code=$2 subject=$3 pattern=$4
    shift 4
    preflight "$ranks" "$@"
    local rc=$?
    [ $rc -eq "$code" ] || bad "preflight $* on $ranks ranks: rc $rc, not $code: $(cat err.txt)"
    [ "$(grep -c '^collimate: ' err.txt)" -eq 1 ] || bad "preflight $*: not one message: $(cat err.txt)"
    grep -qE "^refuse +$subject +.*($pattern)" out.txt || bad "preflight $*: no refusal of $subject for /$pattern/"
}
# line PATTERN: such a line is in out.txt.
line() { grep -qE "$1" out.txt || bad "no line /$1/ in: $(cat out.txt)"; }

# What works. Every kind of collective is right and has a bandwidth beside a copy's; nothing stays behind.
passes 4 run.yaml dpo.beta=0.2
for kind in allreduce count max tree buckets broadcast allgather alltoall; do
    line "^(ok|warn) +collectives $kind .*right up to .*/s on each link, [0-9]+ % of a memcpy"
done
[ "$(grep -cE '^ok +rank +[0-3] on .*, cores [0-9,-]+, 1 threads, cpu' out.txt)" -eq 4 ] || bad "not a line for each rank"
line '^ok +data +.*: 30 rows, '
line '^ok +data +truncated: 0 prompts'
line '^ok +data +tokenized with the model.s tokenizer'
line '^ok +data +boundaries: of 60 responses, in 0 '
line '^ok +memory +a rank takes .* 2 states of [0-9]+ parameters'
line '^(ok|warn) +output +run: 33.6 MB written by all ranks, verified and renamed'
line '^ok +slots +8 rows in 4 slots, at most 1 a rank$'
[ ! -e run ] || bad "the output folder stays"
passes 1 run.yaml preflight.command=sft eval_data=train.h5
line '^ok +keys +for sft'
line '^ok +eval_data '
passes 1 run.yaml reward.centering=0.01
line '^ok +keys +for reward'
# The memory line is that of --dry-run, for the same ranks (to what the process itself varies by).
mib=$(mpirun -q -n 2 "$COLLIMATE" --quiet dpo run.yaml --dry-run | awk '$1 == "pass" { print $2 }')
mkdir run && passes 2 run.yaml dpo.beta=0.1 && rmdir run || bad "something stays in the output folder"
awk -v mib="$mib" '/^ok +memory +a rank takes/ { sub(/.*activations of [0-9]+ tokens /, ""); got = $1 }
    END { d = got * 1e6 / 1048576 - mib; exit !(got > 0 && d < 0.2 && d > -0.2) }' out.txt ||
    bad "activations are not those of --dry-run ($mib MiB)"

# Data that are worth a warning, counted.
"$COLLIMATE" --quiet prepare input=train.jsonl output=noend.h5 tokenizer=bytes tokenize.end=false || exit 1
passes 1 run.yaml dpo.beta=0.1 data=noend.h5 truncate.max_length=40
line '^warn +data +truncated: [1-9]'
line '^warn +data +prepared without end tokens'
# Tokens that a boundary cuts in two: " t" + "he" is " the" in one piece (one response of four).
printf '%s\n' '{"prompt": "a t", "chosen": "he", "rejected": "."}' '{"prompt": "a t", "chosen": ".", "rejected": "!"}' \
    > cut.jsonl
sed 's/"vocab_size": 258/"vocab_size": 1800/; s/"eos_token_id": 257/"eos_token_id": 0/; s/"bos_token_id": 256/"bos_token_id": 0/' config.json > neox.json
"$COLLIMATE" --quiet init init.config=neox.json output=neox tokenizer="$FIXTURES/tokenizers/neox" &&
    "$COLLIMATE" --quiet prepare input=cut.jsonl output=cut.h5 tokenizer=neox || exit 1
passes 1 run.yaml dpo.beta=0.1 model=neox data=cut.h5 train.batch=2
line '^warn +data +boundaries: of 4 responses, in 1 '

# What cannot work: keys, slots, data, model, memory, output. On several ranks where they see it apart or must agree on it.
refuses 2 'preflight.command=sft' preflight run.yaml
refuses 2 'keys of several commands' preflight run.yaml dpo.beta=0.1 reward.centering=0.01
refuses 2 '"dpo.beta" has no effect in sft' preflight run.yaml dpo.beta=0.1 preflight.command=sft
refuses 2 '"synth.rows" has no effect' preflight run.yaml synth.rows=3
refused 3 2 slots '1, 2, 4' run.yaml dpo.beta=0.1 train.deterministic=true
line '^(ok|warn) +output ' # the others were done
refused 2 2 slots 'less than the 2 ranks' run.yaml dpo.beta=0.1 train.slots=1
refused 2 66 data 'missing.h5' run.yaml dpo.beta=0.1 data=missing.h5
mkdir other && cp init/config.json init/model.safetensors other && cp "$FIXTURES/tokenizers/neox/"* other
refused 1 65 data 'not the model.s tokenizer' run.yaml dpo.beta=0.1 model=other
mkdir empty && cp config.json empty
refused 1 66 model 'empty' run.yaml dpo.beta=0.1 model=empty
"$COLLIMATE" --quiet init init.config=config.json output=wide tokenizer=bytes || exit 1
sed -i 's/"hidden_size": *32/"hidden_size": 64/' wide/config.json
refused 1 65 model 'tensor' run.yaml dpo.beta=0.1 model=wide
sed 's/"max_position_embeddings": 1024/"max_position_embeddings": 32/' config.json > short.json
"$COLLIMATE" --quiet init init.config=short.json output=short tokenizer=bytes || exit 1
refused 1 65 data 'the model has 32 positions; set truncate.max_length=32' run.yaml dpo.beta=0.1 model=short
passes 1 run.yaml dpo.beta=0.1 model=short truncate.max_length=32
touch file
refused 1 73 output 'file' run.yaml dpo.beta=0.1 output=file/run
# A shape of 10^12 parameters, without weights: refused for that first, for memory and disk as well.
mkdir huge && sed 's/"hidden_size": 32/"hidden_size": 65536/; s/"num_hidden_layers": 2/"num_hidden_layers": 64/
    s/"num_attention_heads": 4, "num_key_value_heads": 2/"num_attention_heads": 512, "num_key_value_heads": 512/
    s/"intermediate_size": 64/"intermediate_size": 131072/' config.json > huge/config.json
refused 1 66 model 'huge' run.yaml dpo.beta=0.1 model=huge
line '^refuse +memory +.* 1 ranks.*: [0-9.]+ TB needed, .* left'
line '^refuse +output +run: .* free, .* TB needed'
finish
