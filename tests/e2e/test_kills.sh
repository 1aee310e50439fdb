#!/usr/bin/env bash
# A run can die at any moment: SIGKILL of a random rank at a random moment, every other time inside the writing of a
# checkpoint, again and again, on changing rank counts; the same command each time. The final parameters and every line of
# metrics.jsonl (its clocks apart) are those of a run that nobody disturbed.
#   KILLS=50 bash tests/e2e/test_kills.sh     that many kills (8 where nothing is said); SEED=n for other moments
set -u
kills=${KILLS:-8}
RANDOM=${SEED:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1

cat > config.json << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 258,
 "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": true, "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257,
 "torch_dtype": "float32"}
JSON
steps=$((kills * 30))
"$COLLIMATE" --quiet synth output=train.jsonl synth.rows=40 synth.length=4 seed=1 &&
    "$COLLIMATE" --quiet prepare input=train.jsonl output=train.h5 tokenizer=bytes &&
    "$COLLIMATE" --quiet init init.config=config.json output=init tokenizer=bytes seed=3 || exit 1
command=(sft model=init data=train.h5 train.deterministic=true train.slots=4 train.batch=8 train.steps="$steps"
    train.checkpoint_every=3 train.checkpoint_keep=2 train.learning_rate=1e-3)

# launch RANKS OUTPUT: in the background; its number is in $launched.
launch() {
    local ranks=$1 output=$2
    mpirun -q -n "$ranks" "$COLLIMATE" "${command[@]}" output="$output" > out.txt 2> err.txt &
    launched=$!
}
# The processes of the ranks: children of mpirun.
ranks_of() { pgrep -P "$1" -x collimate; }
# The last step of a run folder's metrics, or 0.
last_step() { tail -n 1 "$1/metrics.jsonl" 2> /dev/null | sed -nE 's/^\{"step": ([0-9]+),.*/\1/p'; }

launch 2 whole
wait "$launched" || { cat err.txt; exit 1; }

done_kills=0 in_write=0 runs=0 damaged=0
while [ "$done_kills" -lt "$kills" ]; do
    runs=$((runs + 1))
    [ "$runs" -le $((kills * 3)) ] || { echo "FAILED: $runs runs for $done_kills kills"; exit 1; }
    sizes=(1 2 2 4)
    ranks=${sizes[RANDOM % 4]}
    before=$(last_step killed)
    launch "$ranks" killed
    # Where: at once (also while it opens the run), after so many steps, or when the file of a checkpoint is being written.
    kind=$((RANDOM % 4))
    target=$((${before:-0} + 4 + RANDOM % 8)) # past what an earlier kill left half written
    seen=0
    while :; do
        kill -0 "$launched" 2> /dev/null || break
        if [ "$kind" -eq 0 ]; then
            [ -n "$(ranks_of "$launched")" ] && { sleep "0.$((RANDOM % 900 + 100))"; seen=1; break; }
        elif now=$(last_step killed) && [ "${now:-0}" -ge "$target" ]; then
            [ "$kind" -eq 1 ] && { seen=1; break; }
            compgen -G 'killed/checkpoints/*.tmp*' > /dev/null && { seen=1; break; }
            continue # inside the write: look as often as possible
        fi
        sleep 0.005
    done
    mapfile -t victims < <(ranks_of "$launched")
    if [ "$seen" -eq 1 ] && [ "${#victims[@]}" -gt 0 ] &&
        kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2> /dev/null; then
        done_kills=$((done_kills + 1))
        [ "$kind" -ge 2 ] && compgen -G 'killed/checkpoints/*.tmp*' > /dev/null && in_write=$((in_write + 1))
    fi
    wait "$launched"
    rc=$?
    grep -q "taking the checkpoint before it" err.txt && damaged=$((damaged + 1))
    case $rc in
    0) break ;; # it was faster
    137) ;;
    *) echo "FAILED: rc $rc after the kill of a rank"; tail -5 err.txt; exit 1 ;;
    esac
done

# And a damaged newest checkpoint: it is named, kept out of the way, and the one before it is taken.
newest=$(find killed/checkpoints -name 'step-*.h5' | sort -V | tail -n 1) # the last kill may have come before `latest` was renewed
printf '\252\125' | dd of="$newest" bs=1 seek=$(($(stat -c %s "$newest") / 2)) conv=notrunc 2> /dev/null
launch 4 killed
wait "$launched" || { echo "FAILED: the last run"; tail -5 err.txt; exit 1; }
grep -q "$newest: .*taking the checkpoint before it" err.txt && [ -e "$newest.damaged" ] ||
    { echo "FAILED: the damaged checkpoint is not named"; head -5 err.txt; exit 1; }

# A line's numbers without its clocks.
plain() {
    sed -nE '/^\{"step"/p' "$1/metrics.jsonl" |
        sed -E 's/, "(time\/[a-z_]+|[a-z_]+_per_s|mfu)": [^,}]*//g'
}
failures=0
cmp <(plain whole) <(plain killed) || { echo "FAILED: metrics differ"; failures=1; }
[ "$(plain whole | wc -l)" -eq "$steps" ] || { echo "FAILED: not one line per step"; failures=1; }
cmp whole/model/model.safetensors killed/model/model.safetensors || { echo "FAILED: the models differ"; failures=1; }
[ "$(find killed/checkpoints -name 'step-*.h5' | wc -l)" -eq 2 ] || { echo "FAILED: not 2 checkpoints"; failures=1; }
[ -z "$(find killed -name '*.tmp*')" ] || { echo "FAILED: temporary files stay: $(find killed -name '*.tmp*')"; failures=1; }
[ "$done_kills" -ge "$kills" ] || { echo "FAILED: $done_kills kills, not $kills"; failures=1; }
[ "$in_write" -gt 0 ] || { echo "FAILED: no kill hit the writing of a checkpoint"; failures=1; }
echo "$done_kills kills in $runs runs, $in_write while a checkpoint was being written, $damaged damaged files passed over"
exit $failures
