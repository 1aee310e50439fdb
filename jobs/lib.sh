# Sourced by the batch files: run a command until it is done, through signals, requeues and lost nodes.
#
#   run_until_done COMMAND...     starts COMMAND (mpirun or srun ... collimate ...), and
#     - passes USR1 on (Slurm sends it before the limit): collimate checkpoints at the next step and exits 85;
#     - requeues the job on 85, and on a lost node or rank, at most MAX_RESTARTS times;
#     - kills COMMAND when the run folder's heartbeat stands still for HEARTBEAT_S seconds;
#     - ends with COMMAND's exit code otherwise.
# Needs in the environment: RUN (the run folder). Optional: MAX_RESTARTS (20), HEARTBEAT_S (0: no guard).

# Exit codes of a lost node or rank: ours (75), a killed rank (137), mpirun's lost daemon (205), srun's (143, 134).
_lost_codes=' 75 134 137 143 205 '

_requeue() {
    local restarts=${SLURM_RESTART_COUNT:-0}
    if [ -z "${SLURM_JOB_ID:-}" ] || [ "$restarts" -ge "${MAX_RESTARTS:-20}" ]; then
        echo "jobs/lib.sh: exit code $1 after $restarts restarts: not requeued" >&2
        exit "$1"
    fi
    echo "jobs/lib.sh: exit code $1, requeue number $((restarts + 1))" >&2
    # When mpirun ends before Slurm has noticed the lost node, the job would be FAILED: ask for the requeue ourselves.
    scontrol requeue "$SLURM_JOB_ID" && sleep 120 # until Slurm ends this shell
    exit "$1"
}

# Watches metrics.jsonl, which grows every step.
_guard() {
    local limit=$1 child=$2 file=$RUN/metrics.jsonl last now
    while sleep 5 && kill -0 "$child" 2> /dev/null; do
        now=$(date +%s)
        last=$(stat -c %Y "$file" 2> /dev/null || echo "$now")
        if [ $((now - last)) -gt "$limit" ]; then
            echo "jobs/lib.sh: no step for $((now - last)) s, ending the run" >&2
            kill -TERM "$child"
            sleep 10
            kill -KILL "$child" 2> /dev/null
            return
        fi
    done
}

run_until_done() {
    local child guard='' rc=0
    "$@" &
    child=$!
    trap 'kill -USR1 $child 2> /dev/null' USR1
    trap 'kill -TERM $child 2> /dev/null' TERM
    if [ "${HEARTBEAT_S:-0}" -gt 0 ]; then
        _guard "$HEARTBEAT_S" "$child" &
        guard=$!
    fi
    while :; do # wait returns early on a trap: go on until the child has really ended
        wait "$child"
        rc=$?
        kill -0 "$child" 2> /dev/null || break
    done
    [ -n "$guard" ] && kill "$guard" 2> /dev/null
    case "$_lost_codes 85 " in
    *" $rc "*) _requeue "$rc" ;;
    esac
    return "$rc"
}
