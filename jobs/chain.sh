#!/usr/bin/env bash
# prepare -> sft -> dpo -> evaluate as a chain of dependent jobs; a step that fails ends the chain.
#   jobs/chain.sh PAIRS.jsonl[.gz] HELDOUT.jsonl[.gz] MODEL_FOLDER RUN_FOLDER [SBATCH OPTION...]
# What every job gets of Slurm follows the run folder: -N2 --ntasks-per-node=4 -c8 -t 12:00:00 -p PARTITION. What collimate
# does is in the four lines at the end; each job goes on after a signal, a lost node or the end of its time (lib.sh).
set -euo pipefail
[ $# -ge 4 ] || { sed -n 2,5p "$0"; exit 2; }
pairs=$1 heldout=$2 model=$3 run=$4
shift 4
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$run"
. "$root/jobs/env.sh"
# Or: srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=cores $COLLIMATE. BIND=none: see one-node.sbatch.
launch="mpirun -q --map-by slot:PE=\$OMP_NUM_THREADS --bind-to ${BIND:-core} $COLLIMATE"
heartbeat=${HEARTBEAT_S:-600}          # seconds without a step after which a training job is ended and requeued
# submit NAME AFTER COMMAND...: one job; prints its number.
submit() {
    local name=$1 after=$2
    shift 2
    sbatch --parsable --job-name="$name" --output="$run/$name-%j.log" ${after:+--dependency=afterok:$after} \
        --kill-on-invalid-dep=yes --requeue --open-mode=append --signal=B:USR1@120 "${options[@]}" <<JOB
#!/usr/bin/env bash
. "$root/jobs/env.sh"
. "$root/jobs/lib.sh"
RUN="$run/$name" HEARTBEAT_S=$heartbeat
export OMP_NUM_THREADS=\${SLURM_CPUS_PER_TASK:-1} SRUN_CPUS_PER_TASK=\${SLURM_CPUS_PER_TASK:-1}
$(printf 'run_until_done %s || exit\n' "$@")
JOB
}
options=("$@")
a=$(submit prepare "" "$launch prepare input=$pairs tokenizer=$model output=$run/train.h5" \
    "$launch prepare input=$heldout tokenizer=$model output=$run/heldout.h5")
b=$(submit sft "$a" "$launch sft data=$run/train.h5 model=$model output=$run/sft train.learning_rate=1e-5")
c=$(submit dpo "$b" "$launch dpo data=$run/train.h5 model=$run/sft/model output=$run/dpo train.learning_rate=5e-7")
d=$(submit evaluate "$c" "$launch evaluate data=$run/heldout.h5 model=$run/dpo/model reference=$run/sft/model output=$run/evaluate.json")
echo "prepare $a, sft $b, dpo $c, evaluate $d: watch with squeue, results in $run"
