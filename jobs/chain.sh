#!/usr/bin/env bash
# prepare -> sft -> dpo -> evaluate as a chain of dependent jobs; a step that fails ends the chain.
#   jobs/chain.sh PAIRS.jsonl[.gz] HELDOUT.jsonl[.gz] MODEL_FOLDER RUN_FOLDER [SBATCH OPTION...]
# What every job gets of Slurm follows the run folder: -N2 --ntasks-per-node=4 -c8 -t 12:00:00 -p PARTITION. What collimate
# does is in the lines at the end; each job goes on after a signal, a lost node or the end of its time (lib.sh). Paths may hold
# spaces, commas and whatever else a file's name may.
set -euo pipefail
[ $# -ge 4 ] || { sed -n 2,6p "$0"; exit 2; }
pairs=$1 heldout=$2 model=$3 run=$4
shift 4
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$run"
. "$root/jobs/env.sh"
heartbeat=${HEARTBEAT_S:-600}          # seconds without a step after which a training job is ended and requeued
# collimate ARGUMENT...: the line of a job that runs it, each word quoted for the shell of the job.
# Or: srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=cores. BIND=none: see one-node.sbatch.
collimate() {
    # shellcheck disable=SC2016
    printf 'run_until_done mpirun -q --map-by slot:PE=$OMP_NUM_THREADS --bind-to %q' "${BIND:-core}"
    printf ' %q' "$COLLIMATE" "$@"
    printf ' || exit\n'
}
# submit NAME AFTER LINE...: one job; prints its number. A % in the name of its log is a pattern of Slurm's: %% is one.
submit() {
    local name=$1 after=$2
    shift 2
    sbatch --parsable --job-name="$name" --output="${run//%/%%}/$name-%j.log" ${after:+--dependency=afterok:$after} \
        --kill-on-invalid-dep=yes --requeue --open-mode=append --signal=B:USR1@120 "${options[@]}" <<JOB
#!/usr/bin/env bash
. $(printf %q "$root")/jobs/env.sh
. $(printf %q "$root")/jobs/lib.sh
RUN=$(printf %q "$run/$name") HEARTBEAT_S=$heartbeat
export OMP_NUM_THREADS=\${SLURM_CPUS_PER_TASK:-1} SRUN_CPUS_PER_TASK=\${SLURM_CPUS_PER_TASK:-1}
$(printf '%s\n' "$@")
JOB
}
options=("$@")
a=$(submit prepare "" "$(collimate prepare input="$pairs" tokenizer="$model" output="$run/train.h5")" \
    "$(collimate prepare input="$heldout" tokenizer="$model" output="$run/heldout.h5")")
b=$(submit sft "$a" "$(collimate sft data="$run/train.h5" model="$model" output="$run/sft" train.learning_rate=1e-5)")
c=$(submit dpo "$b" "$(collimate dpo data="$run/train.h5" model="$run/sft/model" output="$run/dpo" train.learning_rate=5e-7)")
d=$(submit evaluate "$c" "$(collimate evaluate data="$run/heldout.h5" model="$run/dpo/model" reference="$run/sft/model" \
    output="$run/evaluate.json")")
echo "prepare $a, sft $b, dpo $c, evaluate $d: watch with squeue, results in $run"
