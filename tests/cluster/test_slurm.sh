#!/usr/bin/env bash
# The batch files of jobs/ on a real Slurm of namespaced nodes: srun with PMIx, mpirun in sbatch, a chain with afterok; then,
# all at the same time, a run that is told to checkpoint and is requeued, one whose ranks are stopped (the heartbeat guard),
# one whose node loses its power, one whose node loses its cable, one that is cancelled, and an array with a job after it.
# Every interrupted run ends in the undisturbed run's model. It waits for states, each within $patience seconds, which only a
# machine that does not work at all needs.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
for program in slurmctld slurmd sbatch munged sshd ip nsenter; do
    PATH=$PATH:/usr/sbin command -v "$program" > /dev/null ||
        { echo "skipped: no $program (tests/run.sh installs it)"; exit 77; }
done
export PATH=$PATH:/usr/sbin
unset OMPI_MCA_orte_tmpdir_base # each node has its own /tmp
[ "$(id -u)" -eq 0 ] && unshare -m -p -u -i -n -f true 2> /dev/null && ip netns add collimate-probe 2> /dev/null &&
    ip netns del collimate-probe || { echo "skipped: namespaces are refused here"; exit 77; }

NODES_SHARED=$(mktemp -d /var/tmp/collimate-cluster.XXXXXX)
export NODES_SHARED
chmod 755 "$NODES_SHARED"
nodes() { "$here/nodes" "$@"; }
login() { nodes exec n0 "$@"; } # as a user on the login node
end() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null; done
    nodes down > /dev/null 2>&1
    rm -rf "$NODES_SHARED"
}
pids=()
trap end EXIT
cd "$NODES_SHARED" || exit 1
cp "$COLLIMATE" collimate
cp -r "$root/jobs" jobs
export COLLIMATE=$NODES_SHARED/collimate OMP_NUM_THREADS=1 OMPI_MCA_oob_tcp_keepalive_time=3 \
    OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=3
. jobs/env.sh
export BIND=none # all nodes have the same cores here

patience=240
failures=0
began=$SECONDS
ok() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then
        echo "[$((SECONDS - began)) s] ok: $what"
    else
        echo "[$((SECONDS - began)) s] FAILED: $what"
        failures=$((failures + 1))
    fi
}
# soon CONDITION: within $patience seconds.
soon() {
    local until=$((SECONDS + patience))
    while [ $SECONDS -lt $until ]; do
        eval "$1" && return 0
        sleep 0.1
    done
    echo "in vain: $1"
    return 1
}
lines() { wc -l 2> /dev/null < "$1" || echo 0; }
job_state() { login scontrol show job "$1" 2> /dev/null | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p'; }
same_model() { cmp "$1/model/model.safetensors" "$2/model/model.safetensors"; }

nodes up 8 2 || { echo "skipped: no cluster of namespaces can be had here"; exit 77; }
echo "[$((SECONDS - began)) s] cluster up"

cat > config.json << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 258,
 "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": true, "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257,
 "torch_dtype": "float32"}
JSON
"$COLLIMATE" --quiet init init.config=config.json output=init tokenizer=bytes seed=3 || exit 1
"$COLLIMATE" --quiet synth output=heldout.jsonl synth.rows=20 synth.length=4 seed=2 || exit 1

# started COMMAND…: srun of MPI processes. With Debian's Slurm 22.05 and PMIx 4.2.2 some 4 of 100 such starts on a busy machine die
# inside MPI_Init: a process is past its last barrier while a peer is still in the first, which does not yet know what to do
# with a message (signal 11 in Open MPI's btl_tcp). That is before the program's first word, and such a start is made again.
started() {
    local rc
    for _ in 1 2 3 4 5; do
        login timeout 60 "$@" 2> started.err
        rc=$?
        cat started.err >&2
        grep -q 'task [0-9]*: Segmentation fault' started.err && grep -q 'Failing at address: (nil)' started.err || break
        echo "MPI_Init died under srun; started again" >&2
    done
    return $rc
}

# srun with PMIx, over all nodes: the same bytes as one process writes.
srun_synth() {
    "$COLLIMATE" --quiet synth output=one.jsonl synth.rows=40 synth.length=4 seed=1 &&
        started srun --mpi=pmix -N3 -n6 "$COLLIMATE" --quiet synth output="$PWD/train.jsonl" synth.rows=40 \
            synth.length=4 seed=1 overwrite=true && cmp one.jsonl train.jsonl
}
ok "srun --mpi=pmix on 3 nodes" srun_synth

# prepare -> sft -> dpo -> evaluate as dependent jobs, with mpirun over two nodes.
chain() {
    login bash jobs/chain.sh "$PWD/train.jsonl" "$PWD/heldout.jsonl" "$PWD/init" "$PWD/chain" -N2 --ntasks-per-node=1 \
        > chain.out || return 1
    soon '[ -s chain/evaluate.json ]' || { cat chain.out chain/*.log; login squeue; return 1; }
}
ok "the chain prepare, sft, dpo, evaluate with afterok" chain

keys=(train.batch=8 train.micro_tokens=256 train.deterministic=true train.slots=4 train.steps=40 train.checkpoint_every=10
    train.learning_rate=1e-4)
"$COLLIMATE" --quiet dpo data=chain/train.h5 model=init output=whole dpo.beta=0.1 seed=0 "${keys[@]}" || exit 1
export DATA=$PWD/chain/train.h5 MODEL=$PWD/init ROOT=$PWD


# The batch files as they are, but for what these nodes have: read by bash and taken by Slurm.
files() {
    local file
    for file in jobs/*.sbatch; do
        bash -n "$file" && login sbatch --test-only -N2 --ntasks-per-node=1 -c1 "$file" 2> files.err || { cat files.err; return 1; }
    done
}
ok "jobs/*.sbatch are accepted" files

# preflight over nodes, and of a folder that each of them has for itself.
preflight() {
    started srun --mpi=pmix -N3 -n3 "$COLLIMATE" --quiet preflight data="$DATA" model="$MODEL" output="$PWD/fly" \
        dpo.beta=0.1 train.batch=8 > preflight.out 2> preflight.err && grep -q '^ok *ranks *3 on 3 hosts' preflight.out &&
        grep -qE '^(ok|warn) *output .* written by all ranks' preflight.out && [ ! -e fly ] || { cat preflight.out; return 1; }
    started srun -Q --mpi=pmix -N2 -n2 "$COLLIMATE" --quiet preflight data="$DATA" model="$MODEL" output=/tmp/fly \
        dpo.beta=0.1 train.batch=8 > preflight.out 2> preflight.err
    [ $? -eq 73 ] && grep -q '^refuse *output .*every host must see the same folder' preflight.out ||
        { cat preflight.out preflight.err; return 1; }
}
ok "preflight over nodes; a folder that they do not share is refused" preflight

# submit NAME FILE SBATCH_OPTION... -- KEY=VALUE...: the run folder is NAME, the log NAME.log; prints the job's number.
submit() {
    local name=$1 file=$2 options=()
    shift 2
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    RUN=$PWD/$name login sbatch --parsable "${options[@]}" -o "$PWD/$name.log" "jobs/$file" "${keys[@]}" "$@"
}
# job_fact JOB FACT, as scontrol has it.
job_fact() { login scontrol -o show job "$1" 2> /dev/null | sed -nE "s/.*[ ]$2=([^ ]*).*/\1/p"; }
started_again() { [ "$(job_fact "$1" Restarts)" != 0 ]; }
ended() { [ "$(job_state "$1")" = COMPLETED ]; }
# hosts JOB: one a line.
hosts() { login scontrol show hostnames "$(login squeue -h -j "$1" -o %N)"; }

# What is disturbed: each rank waits behind the 17th line of metrics.jsonl that it writes until it is told to end or the file
# HELD_UNTIL is there (tests/disk.c), so that no machine is too fast for what comes.
cc -shared -fPIC -O -o disk.so "$root/tests/disk.c" || exit 1
cat > held << SH
#!/bin/sh
LD_PRELOAD=$PWD/disk.so HELD_FILE=/metrics.jsonl HELD_AT=17 exec $COLLIMATE "\$@"
SH
chmod 755 held disk.so
# disturbed NAME ACTION FILE SBATCH_OPTION...: a run of this file; when it has made steps, ACTION JOB; it starts again, goes on
# and ends in the undisturbed run's model.
disturbed() {
    local name=$1 job
    job=$(HELD_UNTIL=$PWD/$1.go COLLIMATE=$PWD/held submit "$name" "${@:3}" --) && soon "[ \$(lines $name/metrics.jsonl) -gt 15 ]" &&
        "$2" "$job"
    soon "started_again $job || ended $job"
    touch "$name.go"
    started_again "$job" && soon "ended $job" && grep -q "going on after step" "$name/log.txt" && same_model whole "$name" &&
        return
    cat "$name.log"
    login scontrol show job "$job"
    return 1
}
# The user's "checkpoint now and stop". The ranks' cores are read in passing.
usr1() {
    local pid
    for pid in $(nodes exec "$(hosts "$1")" pgrep -x collimate); do
        nodes exec "$(hosts "$1")" sed -n 's/^Cpus_allowed_list:\t//p' "/proc/$pid/status"
    done > usr1.cores
    login scancel -b -s USR1 "$1"
}
# All ranks of the job's node are stopped, and with them the watchdogs.
stop_ranks() { nodes exec "$(hosts "$1")" pkill -STOP -x collimate; }
# The second node of a job.
cut_power() { nodes off "$(hosts "$1" | tail -n 1)"; }
cut_cable() {
    hosts "$1" | tail -n 1 > cut
    nodes wire ip link set "p-$(cat cut)" down
}
gone() { soon '! nodes exec "$(cat cut)" pgrep -x collimate > /dev/null'; }
says() { grep -qE "$2" "$1.log"; }
one=(-N1 -n1 --ntasks-per-node=1 -c1)
two=(-n2 --ntasks-per-node=2 -c1)
four=(-N2 --ntasks-per-node=2 -c1 --exclusive)

# An array, and a job after all of its tasks; a job that the user cancels.
array() {
    local tasks after
    tasks=$(submit sweep sweep.sbatch --array=1,4 "${one[@]}" -- train.steps=20) &&
        after=$(login sbatch --parsable -d "afterok:$tasks" -o "$PWD/after.log" --wrap "ls -d $PWD/sweep/*/model") &&
        soon "ended $after" && [ "$(lines after.log)" -eq 2 ] || { cat sweep*.log; login squeue; return 1; }
}
cancel() {
    local job
    job=$(submit cancel one-node.sbatch "${one[@]}" -- train.steps=100000000) &&
        soon '[ $(lines cancel/metrics.jsonl) -gt 15 ]' && login scancel "$job" && soon "[ -z \"\$(login squeue -h -j $job)\" ]" &&
        [ "$(job_state "$job")" = CANCELLED ] && ! says cancel "requeue number" || { cat cancel.log; login squeue; return 1; }
}

# All of these at the same time: most of it is waiting for Slurm.
beside() { # WHAT COMMAND...
    ok "$@" > "beside.${#pids[@]}" 2>&1 &
    pids+=($!)
}
BIND=core beside "USR1: checkpoint, requeue, the same model" disturbed usr1 usr1 one-node.sbatch "${two[@]}"
HEARTBEAT_S=8 beside "ranks that stand still: the heartbeat guard, requeue, the same model" \
    disturbed guard stop_ranks one-node.sbatch "${two[@]}" --exclusive
beside "power cut of a node: requeued on others, the same model" disturbed power cut_power multi-node.sbatch "${four[@]}"
beside "cable of a node cut: requeued on others, the same model" disturbed cable cut_cable one-node.sbatch "${four[@]}"
beside "an array of jobs, then a job after it" array
beside "a job that is cancelled stays so" cancel
for i in "${!pids[@]}"; do
    wait "${pids[i]}" 2> /dev/null
    cat "beside.$i"
    ! grep -q FAILED "beside.$i" || failures=$((failures + 1))
done
bound() { [ "$(sort -u usr1.cores | wc -l)" -eq 2 ] || { cat usr1.cores; return 1; }; }
[ "$(getconf _NPROCESSORS_ONLN)" -lt 2 ] || ok "mpirun binds two ranks to a core each" bound
ok "exit code 85 is said" says usr1 'exit code 85 \(stopped with a checkpoint\), requeue number 1'
ok "the guard is said" says guard 'its heartbeat stood still\), requeue number 1'
ok "nothing is left on the node without a cable" gone
echo "$failures failed in $((SECONDS - began)) s"
exit $((failures > 0))
