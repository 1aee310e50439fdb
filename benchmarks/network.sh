#!/usr/bin/env bash
# The cost model against a network: DPO steps on 1, 2 and 4 nodes of tests/cluster (namespaces on this machine, started by srun)
# whose lines are as slow (tc tbf) and as long (delay_switch.c) as the settings say, beside what cost_model.py predicts from
# the collectives of two of them and the steps of one.
#   benchmarks/network.sh [RESULTS_FOLDER]        about 3 minutes; root, Slurm and munge as tests/cluster needs them
# The nodes share this machine's cores: the steps of one are taken while the other cores do the same, and more nodes than
# cores slow the work down, both of which the prediction takes into account; what the network itself takes, it does not.
# Writes network.csv and network.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
export PATH=$PATH:/usr/sbin
. "$root/jobs/env.sh"

# Settings; the environment wins.
SHAPES=${SHAPES:-100:0 400:0 400:2000 1000:500 1000:2000} # Mbit/s of each node, both directions : delay in microseconds
NODES=${NODES:-2 4}
STEPS=${STEPS:-6}                    # counted, after two that are not
ROUNDS=${ROUNDS:-2}                  # interleaved
ROWS=${ROWS:-8}                      # pairs a node and step
LARGEST=${LARGEST:-4194304}         # bytes of the largest collective that is measured
BUCKET=${BUCKET:-1048576}             # train.bucket_bytes
PYTHON=${PYTHON:-python3}
results=$(realpath -m "${1:-$here/results/$(bash "$here/machine.sh")}")
for program in slurmctld munged sshd tc; do
    command -v $program > /dev/null || { echo "no $program: see tests/run.sh" >&2; exit 77; }
done
[ "$(id -u)" -eq 0 ] && unshare -m -n true 2> /dev/null || { echo "namespaces are refused here" >&2; exit 77; }

NODES_SHARED=$(mktemp -d /var/tmp/collimate-network.XXXXXX)
export NODES_SHARED
chmod 755 "$NODES_SHARED"
nodes() { "$root/tests/cluster/nodes" "$@"; }
switch=0
end() {
    [ "$switch" = 0 ] || kill "$switch" 2> /dev/null || true
    nodes down > /dev/null 2>&1 || true
    rm -rf "$NODES_SHARED"
}
trap end EXIT
work=$NODES_SHARED
cp "$COLLIMATE" "$work/collimate"
"${CC:-cc}" -O2 -o "$work/delay_switch" "$here/delay_switch.c"
collimate() { "$work/collimate" --quiet "$@"; }
cat > "$work/shape.json" << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "num_hidden_layers": 4,
 "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 344, "vocab_size": 258,
 "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": false, "initializer_range": 0.02, "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32"}
JSON
collimate synth output="$work/pairs.jsonl" synth.rows=$((ROWS * 16)) synth.length=10 seed=1
collimate prepare input="$work/pairs.jsonl" output="$work/pairs.h5" tokenizer=bytes
collimate init init.config="$work/shape.json" output="$work/model" tokenizer=bytes seed=3
most=$(printf '%s\n' $NODES | sort -n | tail -n 1)
nodes up "$most" 1

# on NODES ARGUMENTS...: one rank of one thread a node. A run that fails is said and made again, at most twice.
on() {
    local n=$1 try
    shift
    for try in 1 2 3; do
        OMP_NUM_THREADS=1 nodes exec n0 srun --mpi=pmix -N "$n" -n "$n" "$work/collimate" --quiet "$@" && return
        echo "run $try failed on $n nodes: $*" >&2
    done
    return 1
}
train() { # NODES NAME
    on "$1" dpo data="$work/pairs.h5" model="$work/model" output="$work/$2" train.batch=$((ROWS * $1)) train.steps=$((STEPS + 2)) \
        train.slots="$most" train.bucket_bytes="$BUCKET" train.learning_rate=1e-4 train.shuffle=false train.resume=never
}
# shape MBIT MICROSECONDS: 0 is no limit, no delay.
shape() {
    local i
    [ "$switch" = 0 ] || { kill "$switch"; wait "$switch" 2> /dev/null || true; }
    switch=0
    ! pgrep -f "^$work/delay_switch" > /dev/null || { echo "a switch outlived its shape" >&2; exit 1; }
    for i in $(seq "$most"); do
        nodes exec "n$i" tc qdisc del dev eth0 root 2> /dev/null || true
        [ "$1" = 0 ] || nodes exec "n$i" tc qdisc add dev eth0 root tbf rate "$1mbit" burst 128kb latency 200ms
    done
    if [ "$2" = 0 ]; then
        for i in $(seq 0 "$most"); do nodes wire ip link set "p-n$i" master br0; done
        return
    fi
    for i in $(seq 0 "$most"); do nodes wire ip link set "p-n$i" nomaster; done
    # shellcheck disable=SC2046
    : > "$work/switch.txt"
    "$root/tests/cluster/nodes" wire "$work/delay_switch" "$2" $(seq -f 'p-n%g' 0 "$most") > "$work/switch.txt" 2>&1 &
    switch=$! # the switch itself: every step to it is an exec, which the function is not
    for i in $(seq 100); do
        grep -q ready "$work/switch.txt" && return
        sleep 0.02
    done
    cat "$work/switch.txt" >&2
    exit 1
}

# alone NAME: one node's steps, on as many nodes at a time as there are cores; the first one's count.
alone() {
    local n others=()
    for ((n = 2; n <= most && n <= $(nproc); n++)); do
        train 1 "beside-$n-$1" &
        others+=($!)
    done
    train 1 "one-$1"
    for n in "${others[@]}"; do wait "$n"; done
}

train 1 reference # the reference scores, once
for round in $(seq "$ROUNDS"); do
    for item in $SHAPES; do
        echo "round $round of $ROUNDS: $item" >&2
        shape "${item%:*}" "${item#*:}"
        name=${item/:/-} # ROMIO takes what stands before a colon for a file system's name
        alone "$name-$round"
        for op in tree buckets; do
            on 2 bench bench.kind=comm device=cpu bench.repeats=5 bench.collective=$op bench.largest="$LARGEST" \
                train.bucket_bytes="$BUCKET" output="$work/$op-$name-$round.csv" > /dev/null
        done
        for n in $NODES; do train "$n" "steps-$n-$name-$round"; done
    done
done

"$PYTHON" - "$work" "$BUCKET" "$SHAPES" "$NODES" << 'PYTHON'
import csv, glob, json, os, sys
work, bucket, shapes, nodes = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(), sys.argv[4].split()

def steps(pattern):
    """Lines of metrics.jsonl of all rounds, without the first two steps."""
    lines = []
    for folder in glob.glob(os.path.join(work, pattern)):
        with open(os.path.join(folder, "metrics.jsonl")) as file:
            lines += [line for line in map(json.loads, file) if "time/step" in line][2:]
    return lines

header = json.loads(open(glob.glob(os.path.join(work, "model/*.safetensors"))[0], "rb").read()[8:].split(b"}}")[0] + b"}}")
elements = sum(t["data_offsets"][1] - t["data_offsets"][0] for name, t in header.items() if name != "__metadata__") // 4
out = []
for shape in shapes:
    rate, delay = shape.split(":")
    shape = shape.replace(":", "-")
    rows = []
    for path in glob.glob(os.path.join(work, f"tree-{shape}-*.csv")) + glob.glob(os.path.join(work, f"buckets-{shape}-*.csv")):
        with open(path) as file:
            rows += list(csv.DictReader(file))
    comm = os.path.join(work, f"comm-{shape}.csv")
    with open(comm, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    name = (f"{rate} Mbit/s" if rate != "0" else "no limit") + (f", {int(delay)} us" if delay != "0" else "")
    out.append({"name": name, "comm": comm, "bytes": 4 * elements, "bucket": bucket, "cores": os.cpu_count(),
                "one": steps(f"one-{shape}-*"), "steps": {n: steps(f"steps-{n}-{shape}-*") for n in nodes}})
json.dump({"shapes": out}, open(os.path.join(work, "runs.json"), "w"))
PYTHON
mkdir -p "$results"
{
    echo "Measured: DPO steps of one rank of one thread a node, medians of $ROUNDS interleaved rounds of $STEPS steps. Predicted from"
    echo "the collectives of two nodes (fitted latency of small and large messages, rate) and the steps of one beside others like it."
    echo
    "$PYTHON" "$here/cost_model.py" check "$work/runs.json" --csv "$results/network.csv"
} | tee "$results/network.txt"
