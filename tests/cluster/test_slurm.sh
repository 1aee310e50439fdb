#!/usr/bin/env bash
# The batch files of jobs/ on a real Slurm of three namespaced nodes: srun with PMIx, mpirun in sbatch, checkpoint and
# requeue on USR1, an array, a chain with afterok, a power cut. Every interrupted run ends in the undisturbed run's model.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
for program in slurmctld slurmd sbatch munged sshd ip nsenter; do
    PATH=$PATH:/usr/sbin command -v "$program" > /dev/null ||
        { echo "skipped: no $program (tests/run.sh -L cluster installs it)"; exit 77; }
done
export PATH=$PATH:/usr/sbin
[ "$(id -u)" -eq 0 ] && unshare -m -p -u -i -n -f true 2> /dev/null && ip netns add collimate-probe 2> /dev/null &&
    ip netns del collimate-probe || { echo "skipped: namespaces are refused here"; exit 77; }

NODES_SHARED=$(mktemp -d /var/tmp/collimate-cluster.XXXXXX)
export NODES_SHARED
chmod 755 "$NODES_SHARED"
nodes() { "$here/nodes" "$@"; }
login() { nodes exec n0 "$@"; } # as a user on the login node
trap 'nodes down > /dev/null 2>&1; rm -rf "$NODES_SHARED"' EXIT
cd "$NODES_SHARED" || exit 1
cp "$COLLIMATE" collimate
cp -r "$root/jobs" jobs
export COLLIMATE=$NODES_SHARED/collimate OMP_NUM_THREADS=1 OMPI_MCA_oob_tcp_keepalive_time=3 \
    OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=3
. jobs/env.sh

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
# soon SECONDS CONDITION
soon() {
    local _
    for _ in $(seq $(($1 * 10))); do
        eval "$2" && return 0
        sleep 0.1
    done
    return 1
}
lines() { wc -l 2> /dev/null < "$1" || echo 0; }
job_state() { login scontrol show job "$1" 2> /dev/null | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p'; }
same_model() { cmp "$1/model/model.safetensors" "$2/model/model.safetensors"; }

nodes up 3 2 || { echo "FAILED: no cluster"; exit 1; }
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

# srun with PMIx, over all nodes: the same bytes as one process writes.
srun_synth() {
    "$COLLIMATE" --quiet synth output=one.jsonl synth.rows=40 synth.length=4 seed=1 &&
        login timeout 60 srun --mpi=pmix -N3 -n6 "$COLLIMATE" --quiet synth output="$PWD/train.jsonl" synth.rows=40 \
            synth.length=4 seed=1 && cmp one.jsonl train.jsonl
}
ok "srun --mpi=pmix on 3 nodes" srun_synth

# prepare -> sft -> dpo -> evaluate as dependent jobs, with mpirun over two nodes.
chain() {
    login bash jobs/chain.sh "$PWD/train.jsonl" "$PWD/heldout.jsonl" "$PWD/init" "$PWD/chain" -N2 --ntasks-per-node=1 \
        > chain.out || return 1
    soon 60 '[ -s chain/evaluate.json ]' || { cat chain.out chain/*.log; login squeue; return 1; }
}
ok "the chain prepare, sft, dpo, evaluate with afterok" chain

keys=(train.batch=8 train.micro_tokens=256 train.deterministic=true train.slots=4 train.steps=200 train.checkpoint_every=10
    train.learning_rate=1e-4)
"$COLLIMATE" --quiet dpo data=chain/train.h5 model=init output=whole dpo.beta=0.1 seed=0 "${keys[@]}" || exit 1
export DATA=$PWD/chain/train.h5 MODEL=$PWD/init ROOT=$PWD

# jobs/one-node.sbatch, with mpirun: USR1 to the batch shell, checkpoint, requeue, and on to the end.
usr1() {
    local job
    job=$(RUN=$PWD/usr1 login sbatch --parsable -n2 --ntasks-per-node=2 -c1 -o "$PWD/usr1.log" jobs/one-node.sbatch "${keys[@]}") &&
        soon 30 '[ "$(lines usr1/metrics.jsonl)" -gt 15 ]' && login scancel -b -s USR1 "$job" &&
        soon 40 'grep -q "exit code 85, requeue number 1" usr1.log' &&
        soon 60 '[ "$(job_state '"$job"')" = COMPLETED ]' && grep -q "going on after step" usr1/log.txt &&
        same_model whole usr1 || { cat usr1.log; login scontrol show job "$job"; return 1; }
}
ok "USR1: checkpoint, requeue, resume, the same model" usr1

# preflight over nodes, and of a folder that each of them has for itself.
preflight() {
    login timeout 120 srun --mpi=pmix -N3 -n3 "$COLLIMATE" --quiet preflight data="$DATA" model="$MODEL" output="$PWD/fly" \
        dpo.beta=0.1 train.batch=8 > preflight.out 2> preflight.err && grep -q '^ok *ranks *3 on 3 hosts' preflight.out &&
        grep -q '^ok *output .* written by all ranks' preflight.out && [ ! -e fly ] || { cat preflight.out; return 1; }
    login timeout 120 srun -Q --mpi=pmix -N2 -n2 "$COLLIMATE" --quiet preflight data="$DATA" model="$MODEL" output=/tmp/fly \
        dpo.beta=0.1 train.batch=8 > preflight.out 2> preflight.err
    [ $? -eq 73 ] && grep -q '^refuse *output .*every host must see the same folder' preflight.out ||
        { cat preflight.out preflight.err; return 1; }
}
ok "preflight over nodes; a folder that they do not share is refused" preflight

# An array, and a job after all of its tasks.
sweep() {
    local array after
    array=$(RUN=$PWD/sweep login sbatch --parsable --array=1,4 -n1 --ntasks-per-node=1 -c1 -o "$PWD/sweep-%a.log" \
        jobs/sweep.sbatch "${keys[@]}" train.steps=20) &&
        after=$(login sbatch --parsable -d "afterok:$array" -o "$PWD/after.log" --wrap "ls -d $PWD/sweep/*/model") &&
        soon 60 '[ "$(job_state '"$after"')" = COMPLETED ]' && [ "$(lines after.log)" -eq 2 ] ||
        { cat sweep-*.log; login squeue; return 1; }
}
ok "an array of jobs, then a job after it" sweep

# jobs/multi-node.sbatch, with srun: the power of its second node is cut; Slurm and the file find other nodes.
power() {
    local job victim
    job=$(RUN=$PWD/power login sbatch --parsable -N2 --ntasks-per-node=2 -c1 -o "$PWD/power.log" jobs/multi-node.sbatch \
        "${keys[@]}") && soon 30 '[ "$(lines power/metrics.jsonl)" -gt 15 ]' || { cat power.log; return 1; }
    victim=$(login scontrol show hostnames "$(login squeue -h -j "$job" -o %N)" | tail -n 1)
    nodes off "$victim"
    soon 90 '[ "$(job_state '"$job"')" = COMPLETED ]' && grep -q "going on after step" power/log.txt &&
        same_model whole power || { cat power.log; login scontrol show job "$job"; return 1; }
}
ok "power cut of a node: requeued on the others, the same model" power
echo "$failures failed in $((SECONDS - began)) s"
exit $((failures > 0))
