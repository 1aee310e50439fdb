# Sourced by the batch files: run a command until it is done, through signals, requeues and lost nodes.
#
#   run_until_done COMMAND...     starts COMMAND (mpirun or srun ... collimate ...), and
#     - passes USR1 on (Slurm sends it before the limit): collimate checkpoints at the next step and exits 85;
#     - requeues the job on 85, and on a lost node or rank, at most MAX_RESTARTS times;
#     - ends COMMAND and requeues the job when the run folder's heartbeat stands still for HEARTBEAT_S seconds;
#     - starts COMMAND again where a rank died before the program's first word;
#     - ends with COMMAND's exit code otherwise.
# Needs in the environment: RUN (the run folder). Optional: MAX_RESTARTS (20), HEARTBEAT_S (0: no guard).
# A job that is cancelled (scancel JOB) stays cancelled: Slurm refuses to requeue it.

# What an exit code means, where another start of the same command goes on.
_again_because() {
    case $1 in
    85) echo "stopped with a checkpoint" ;;
    75) echo "the watchdog missed a rank" ;;
    134 | 137 | 143) echo "a rank was killed" ;;
    205) echo "mpirun lost a node" ;;
    *) return 1 ;;
    esac
}

# _requeue CODE WHY
_requeue() {
    local restarts=${SLURM_RESTART_COUNT:-0} job
    if [ -z "${SLURM_JOB_ID:-}" ] || [ "$restarts" -ge "${MAX_RESTARTS:-20}" ]; then
        echo "jobs/lib.sh: exit code $1 ($2) after $restarts restarts: not requeued" >&2
        exit "$1"
    fi
    echo "jobs/lib.sh: exit code $1 ($2), requeue number $((restarts + 1))" >&2
    # An array's last task has the array's own number, and by that all of its tasks would be taken.
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    # When mpirun ends before Slurm has noticed the lost node, the job would be FAILED: ask for the requeue ourselves.
    scontrol requeue "${job:-$SLURM_JOB_ID}" && sleep 120 # until Slurm ends this shell
    exit "$1"
}

# The heartbeat is metrics.jsonl, which grows every step; it is looked at from the first step on, for what comes before that
# (reference scores) may take any time. What counts is whether it is as it was at the look before (size and time, whatever clock
# the file system has), and for how many looks: a job that was suspended has not looked. LIMIT has to be more than an evaluation
# and a checkpoint take. 9: it had to act.
_guard() {
    local limit=$1 child=$2 file=$RUN/metrics.jsonl turn seen now still=0 moved=''
    turn=$((limit < 50 ? 1 + limit / 10 : 5))
    seen=$(stat -c '%s %y' "$file" 2> /dev/null)
    while sleep $turn && kill -0 "$child" 2> /dev/null; do
        now=$(stat -c '%s %y' "$file" 2> /dev/null)
        still=$((still + turn))
        if [ "$now" != "$seen" ]; then
            seen=$now still=0 moved=1
        fi
        if [ -n "$moved" ] && [ $still -gt "$limit" ]; then
            echo "jobs/lib.sh: no step for $still s ($file stands still), ending the run" >&2
            trap '' TERM # from here on to the end
            kill -TERM "$child"
            for _ in 1 2 3 4 5 6 7 8 9 10; do
                sleep 1
                kill -0 "$child" 2> /dev/null || return 9
            done
            kill -KILL "$child" 2> /dev/null
            return 9
        fi
    done
}

# _run COMMAND...: once, under the guard, which requeues where it had to act. Returns COMMAND's exit code.
_run() {
    local guard='' rc=0
    "$@" &
    child=$!
    if [ "${HEARTBEAT_S:-0}" -gt 0 ]; then
        _guard "$HEARTBEAT_S" "$child" &
        guard=$!
    fi
    while kill -0 "$child" 2> /dev/null; do # a trap ends a wait early, with a code of its own
        wait "$child"
    done
    wait "$child" # has ended: now the code is its own
    rc=$?
    if [ -n "$guard" ]; then
        kill "$guard" 2> /dev/null # where it had nothing to do
        wait "$guard" 2> /dev/null
        [ $? -ne 9 ] || _requeue "$rc" "its heartbeat stood still"
    fi
    return "$rc"
}

run_until_done() {
    local child='' rc=0 why start before
    trap 'kill -USR1 ${child:-$!} 2> /dev/null' USR1
    trap 'kill -TERM ${child:-$!} 2> /dev/null' TERM
    for start in 1 2 3 4 5; do
        before=$(stat -c '%s %y' "$RUN/log.txt" 2> /dev/null)
        _run "$@"
        rc=$?
        # A segmentation fault before the run's first line: with Slurm 22.05 and PMIx 4.2.2 some 4 of 100 starts on busy nodes
        # die in MPI_Init (a rank is past its last barrier while another is in the first).
        [ "$rc" -eq 139 ] && [ "$(stat -c '%s %y' "$RUN/log.txt" 2> /dev/null)" = "$before" ] && [ "$start" -lt 5 ] || break
        echo "jobs/lib.sh: exit code 139 before the program's first word, start number $((start + 1))" >&2
    done
    if why=$(_again_because "$rc"); then
        _requeue "$rc" "$why"
    fi
    return "$rc"
}
