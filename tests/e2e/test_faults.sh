#!/usr/bin/env bash
# Faults that Open MPI does not notice or leaves little time for: a stopped rank ends the run with code 75 and one line, and
# SIGTERM to the launcher leaves a checkpoint that the same command goes on from.
set -u
work=$(mktemp -d)
launched=0
trap 'kill -KILL $(pgrep -P "$launched" 2> /dev/null) 2> /dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1
failures=0
bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

cat > config.json << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 258,
 "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": true, "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257,
 "torch_dtype": "float32"}
JSON
"$COLLIMATE" --quiet synth output=train.jsonl synth.rows=40 synth.length=4 seed=1 &&
    "$COLLIMATE" --quiet prepare input=train.jsonl output=train.h5 tokenizer=bytes &&
    "$COLLIMATE" --quiet init init.config=config.json output=init tokenizer=bytes seed=3 || exit 1
command=(--quiet sft model=init data=train.h5 train.deterministic=true train.slots=4 train.batch=8 train.watchdog_s=25
    train.checkpoint_every=10)

# launch OUTPUT STEPS ERRORS KEY=VALUE...: on 4 ranks in the background, until it has made a few steps.
launch() {
    mpirun -q -n 4 "$COLLIMATE" "${command[@]}" output="$1" train.steps="$2" "${@:4}" > /dev/null 2> "$3" &
    launched=$!
    for _ in $(seq 1000); do
        [ "$(wc -l 2> /dev/null < "$1/metrics.jsonl")" -gt 12 ] 2> /dev/null && return
        sleep 0.02
    done
    bad "no steps in time"
}

# SIGTERM: the ranks have 2 s. Code 85 where the step and the checkpoint fit, else the launcher's; the file is good anyway.
"$COLLIMATE" "${command[@]}" output=whole train.steps=300 || bad "the undisturbed run"
launch term 300 term.err
kill -TERM "$launched"
began=$SECONDS
wait "$launched"
rc=$?
[ $((SECONDS - began)) -le 10 ] || bad "SIGTERM: $((SECONDS - began)) s to the end"
[ $rc -ne 0 ] && [ ! -e term/model ] || bad "SIGTERM: rc $rc"
[ -s term/checkpoints/latest ] || bad "SIGTERM: no checkpoint"
mpirun -q -n 2 "$COLLIMATE" "${command[@]}" output=term train.steps=300 2> term.err || bad "the run after SIGTERM"
cmp -s whole/model/model.safetensors term/model/model.safetensors || bad "a run after SIGTERM differs"

# SIGSTOP: the others wait 25 s, then one of them says so.
launch stopped 100000000 stopped.err train.checkpoint_every=0
mapfile -t ranks < <(pgrep -P "$launched" -x collimate)
kill -STOP "${ranks[1]}"
began=$SECONDS
timeout 60 tail --pid="$launched" -f /dev/null || kill -KILL "$launched" "${ranks[@]}"
wait "$launched"
rc=$?
took=$((SECONDS - began))
[ $rc -eq 75 ] || bad "SIGSTOP: rc $rc, not 75"
[ $took -ge 23 ] && [ $took -le 45 ] || bad "SIGSTOP: ended after $took s"
[ "$(grep -c '^collimate: ' stopped.err)" -eq 1 ] &&
    grep -qE 'watchdog: rank [0-9] of 4 on .* while waiting .* in step [0-9]+' stopped.err || bad "SIGSTOP: $(cat stopped.err)"
for pid in "${ranks[@]}"; do
    for _ in $(seq 50); do # a zombie is no process any more
        grep -qs '^State:.[^Z]' "/proc/$pid/status" || continue 2
        sleep 0.1
    done
    bad "SIGSTOP: process $pid stays"
done
echo "SIGSTOP: ended after $took s"
exit $((failures > 0))
