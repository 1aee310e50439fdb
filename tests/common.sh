# Sourced by tests/e2e/*.sh (`. tests/common.sh` in the root of the sources): a folder of its own that goes at the end, and
# words for runs and comparisons. End with `finish`.
# In memory where there is room: what small runs would wait for is the disk.
room=$(df --output=avail /dev/shm 2> /dev/null | tail -n 1)
[ "${room:-0}" -gt 1000000 ] && [ -w /dev/shm ] && room=/dev/shm || room=${TMPDIR:-/tmp}
work=$(mktemp -d -p "$room")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export OMP_NUM_THREADS=1
# As in CMakeLists.txt here, also where the host or the user is another one than when the tree was configured.
sessions=${OMPI_MCA_orte_tmpdir_base:-$work/.sessions}
export OMPI_MCA_orte_tmpdir_base=$sessions
mkdir -p "$sessions/ompi.$(uname -n | cut -d. -f1).$(id -u)/stays"
failures=0

# The bounds here are against hanging; under sanitizers all takes longer.
timeout() { command timeout $(($1 * ${PATIENCE:-1})) "${@:2}"; }
bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
# finish: the script's exit code.
finish() {
    local without
    without=$(grep -rl 'cannot be preloaded' "$work" --include='*err*') # a disk that was not what it was said to be
    [ -z "$without" ] || bad "ran without what was to be preloaded: $without"
    [ "$failures" -eq 0 ] && echo "ok"
    exit $((failures > 0))
}
# run RANKS ARGUMENTS...: must succeed. One rank needs no mpirun.
run() {
    local ranks=$1 launch=()
    shift
    [ "$ranks" -eq 1 ] || launch=(mpirun -q -n "$ranks")
    timeout 300 "${launch[@]}" "$COLLIMATE" "$@" > out.txt 2> err.txt || {
        bad "rc $? of: $* (on $ranks ranks)"
        tail -5 err.txt
    }
}
# refuses CODE WORDS ARGUMENTS...: must fail with that code and these words.
refuses() {
    local code=$1 words=$2
    shift 2
    timeout 60 "$COLLIMATE" "$@" > out.txt 2> err.txt
    local rc=$?
    [ $rc -eq "$code" ] && grep -q "$words" err.txt || {
        bad "rc $rc, not $code with \"$words\": $*"
        tail -2 err.txt
    }
}
# together NAME...: these functions side by side, for what mostly waits: each in a subshell, in a folder of its own with links to
# what is here. What they print comes at their end, and their failures count. end_part is for what they leave running.
end_part() { :; }
together() {
    local i parts=("$@") pids=() here=("$PWD"/*)
    for i in "${!parts[@]}"; do
        mkdir "${parts[i]}" && ln -s "${here[@]}" "${parts[i]}" && rm -f "${parts[i]}"/{out,err}.txt || exit 1
        (
            trap end_part EXIT
            cd "${parts[i]}" || exit 1
            failures=0
            "${parts[i]}"
            exit $((failures > 0))
        ) > "${parts[i]}.said" 2>&1 &
        pids[i]=$!
    done
    for i in "${!parts[@]}"; do
        wait "${pids[i]}" || failures=$((failures + 1))
        cat "${parts[i]}.said"
    done
}
# column FILE KEY: "step value" of each line that has both.
column() {
    sed -nE 's|^\{"step": ([0-9]+),.*"'"$2"'": "?([^,"}]*)"?[,}].*|\1 \2|p' "$1"
}
# near FILE1 FILE2 KEY RELATIVE [FLOOR]: columns agree line by line, within RELATIVE of (value + FLOOR).
near() {
    paste <(column "$1" "$3") <(column "$2" "$3") | awk -v bound="$4" -v floor="${5:-1e-3}" -v what="$1 $2 $3" '
        function abs(x) { return x < 0 ? -x : x }
        $1 != $3 || abs($2 - $4) > bound * (floor + abs($2)) { print what ": step " $0; bad = 1 }
        END { exit bad || NR == 0 }' || bad "$3 differs between $1 and $2"
}
# write_config FILE: a Llama of two layers for the tokenizer "bytes".
write_config() {
    cat > "$1" << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 258,
 "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": true, "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257,
 "torch_dtype": "float32"}
JSON
}
# tiny_world [ROWS [LENGTH [WIDTH]]]: init, a model folder of the above, smaller, and train.h5, 45 synthetic pairs.
tiny_world() {
    local rows=${1:-45} length=${2:-4} width=${3:-16}
    write_config config.json
    sed -i "s/\"hidden_size\": 32/\"hidden_size\": $width/; s/\"intermediate_size\": 64/\"intermediate_size\": $((2 * width))/" config.json
    "$COLLIMATE" --quiet synth output=train.jsonl synth.rows="$rows" synth.length="$length" seed=1 &&
        "$COLLIMATE" --quiet prepare input=train.jsonl output=train.h5 tokenizer=bytes &&
        "$COLLIMATE" --quiet init init.config=config.json output=init tokenizer=bytes seed=3 || exit 1
}
# went_on FOLDER STEP: a run there went on behind that step (a pattern), and did not begin anew.
went_on() {
    grep -qE "going on after (step|update) $2 of" "$1/log.txt" || bad "$1: no run went on after step $2: $(grep -h 'going on' "$1/log.txt" | tail -1)"
}
# damage FILE: two bytes in its middle.
damage() {
    printf '\252\125' | dd of="$1" bs=1 seek=$(($(stat -c %s "$1") / 2)) conv=notrunc 2> /dev/null
}
# preload_disk: mpirun's options in $preload, under which a rank's disk does what tests/disk.c says. Parts may call it side by side.
preload_disk() {
    [ -e "$work/disk.so" ] || { cc -shared -fPIC -O -o "$work/disk.$BASHPID" "$(dirname "$FIXTURES")/disk.c" &&
        mv "$work/disk.$BASHPID" "$work/disk.so"; } || exit 1
    preload=(-x "LD_PRELOAD=$work/disk.so" -x "ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0")
}
# numbers RUN: every line of a run folder's metrics.jsonl that is a step, without its clocks.
numbers() {
    sed -nE '/"profile"/d; /^\{"step"/p' "$1/metrics.jsonl" | sed -E 's/, "(time\/[a-z_]+|[a-z_]+_per_s|mfu|tflops|[a-z_]+_per_second|(eval|train)_runtime)": [^,}]*//g'
}
# profile_is_part RUN RANKS: its last line is a profile whose times, but for what runs beside, are part of the whole.
profile_is_part() {
    tail -1 "$1/metrics.jsonl" | tr '{' '\n' | awk -v n="$2" '
        function seconds() { match($0, /"seconds": [-+.0-9e]+/); return substr($0, RSTART + 11, RLENGTH - 11) + 0 }
        /^"ranks": / { whole = seconds() }
        /"calls"/ && !/"beside"/ { sum += seconds(); rows++ }
        /"beside"/ { beside++ }
        END { exit !(rows >= 15 && sum > 0.02 * whole && sum < whole && (beside > 0) == (n > 1)) }'
}
# same RUN1 RUN2: the same bits in metrics and model.
same() {
    [ -s "$1/metrics.jsonl" ] && cmp -s <(numbers "$1") <(numbers "$2") || {
        bad "metrics of $1 and $2 differ"
        diff <(numbers "$1") <(numbers "$2") | head -4
    }
    cmp -s "$1/model/model.safetensors" "$2/model/model.safetensors" || bad "models of $1 and $2 differ"
}
