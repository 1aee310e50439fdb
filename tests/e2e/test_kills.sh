#!/usr/bin/env bash
# A run can die at any moment: SIGKILL of a random rank at a random moment, every other time inside the writing of a
# checkpoint, 50 times during one run of dpo, on changing rank counts, with optimizer state sharded or not; the same command
# each time. The final parameters and every line of metrics.jsonl (its clocks apart) are those of a run that nobody disturbed.
# Then a few times during sft and reward, whose learning rates follow a schedule to the end.
#   KILLS=500 bash tests/e2e/test_kills.sh     that many kills of dpo; SEED=n for other moments
set -u
. tests/e2e/faults.sh
kills=${KILLS:-50}
RANDOM=${SEED:-1}
# mpirun would give the other ranks a second, or two, after TERM.
export OMPI_MCA_odls_base_sigkill_timeout=0
common=(model=init data=train.h5 eval_data=train.h5 evaluate.rows=4 train.evaluate_every=7 train.deterministic=true
    train.slots=4 train.batch=8 train.micro_tokens=64 train.checkpoint_every=3 train.checkpoint_keep=2
    train.learning_rate=1e-3)
exec 9<> <(:)
nap() { read -rt "$1" -u 9; }

# launch COMMAND RANKS OUTPUT SHARDED ARGUMENTS...: in the background; $launched is mpirun.
launch() {
    launchers=() # the one before has ended
    begin "$2" err.txt "$1" "${common[@]}" output="$3" train.shard_optimizer="$4" "${@:5}"
}
# Waits for the ranks, children of mpirun: $ranks.
find_ranks() {
    ranks=()
    while [ ${#ranks[@]} -lt "$1" ] && kill -0 "$launched" 2> /dev/null; do
        nap 0.02
        mapfile -t ranks < <(pgrep -P "$launched" -x collimate)
    done
}
# newest OUTPUT: $step, of its newest checkpoint.
newest() {
    local file
    step=0
    for file in "$1"/checkpoints/step-*.h5; do
        file=${file##*/step-}
        [ "$file" != '*.h5' ] && [ "${file%.h5}" -gt "$step" ] && step=${file%.h5}
    done
    return 0
}
is_writing() { compgen -G "$1/checkpoints/*.tmp" > /dev/null; }
strike() { kill -9 "${ranks[RANDOM % ${#ranks[@]}]}" 2> /dev/null; }

# strike_inside OUTPUT: the ranks are halted, so that the file is known to be half written when one of them dies.
strike_inside() {
    while kill -0 "$launched" 2> /dev/null; do
        if is_writing "$1" && kill -STOP "${ranks[@]}" 2> /dev/null; then
            local hit=1
            is_writing "$1" && strike && hit=0
            kill -CONT "${ranks[@]}" 2> /dev/null
            [ $hit -eq 0 ] && return 0
        fi
        nap 0.001
    done
    return 1
}

# past_init: until all ranks are behind MPI_Init, and so have what they do on SIGTERM (bit 14 of the caught signals). mpirun waits
# for ever for a rank that died while it connected to it ("PMIX ERROR: UNREACHABLE").
past_init() {
    local pid caught began=$SECONDS
    for pid in "${ranks[@]}"; do
        caught=0
        until ((0x${caught:-0} & 0x4000)); do
            kill -0 "$pid" 2> /dev/null || return 1
            [ $((SECONDS - began)) -lt $((300 * ${PATIENCE:-1})) ] || { bad "rank $pid does not come out of MPI_Init"; return 1; }
            nap 0.005
            caught=$(awk '/^SigCgt/ { print $2 }' "/proc/$pid/status" 2> /dev/null)
        done
    done
}

# kill_once OUTPUT KIND: waits for the moment; fails where the run ends before. KIND 0: while it starts or soon after; 1: some
# time after its first checkpoint; 2, 3: inside the writing of one.
kill_once() {
    local past
    newest "$1"
    past=$((step + 3 * (RANDOM % 2)))
    if [ "$2" -eq 0 ]; then
        past_init || return 1
        nap "$(printf '0.%03d' $((RANDOM % 500)))"
        strike
        return
    fi
    while newest "$1" && [ "$step" -le $past ]; do
        kill -0 "$launched" 2> /dev/null || return 1
        nap 0.005
    done
    if [ "$2" -eq 1 ]; then
        nap "0.0$((RANDOM % 90 + 10))"
        strike
    else
        strike_inside "$1" && in_write=$((in_write + 1))
    fi
}

# check_latest OUTPUT: `latest` names one of the two newest checkpoints that are there.
check_latest() {
    local name
    newest "$1"
    [ "$step" -eq 0 ] && return
    if read -r name < "$1/checkpoints/latest"; then
        name=${name#step-}
        [ -e "$1/checkpoints/step-$name" ] && [ "${name%.h5}" -ge $((step - 3)) ] && return
    elif [ "$step" -eq 3 ]; then
        return # the first one, in place just now
    fi
    bad "$1: latest names ${name:-nothing}, the newest is step $step"
}

in_write=0 runs=0 damaged=0
# kill_again COMMAND OUTPUT KILLS ARGUMENTS...: so many kills, unless the run is faster.
kill_again() {
    local command=$1 output=$2 most=$3 rc took size sizes=(1 2 2 4)
    killed=0
    while [ "$killed" -lt "$most" ]; do
        runs=$((runs + 1))
        size=${sizes[RANDOM % 4]}
        launch "$command" "$size" "$output" "$([ $((RANDOM % 2)) -eq 0 ] && echo true || echo false)" "${@:4}"
        find_ranks "$size"
        [ ${#ranks[@]} -gt 0 ] && kill_once "$output" $((RANDOM % 4)) && killed=$((killed + 1))
        ended "$launched" 300
        [ "$took" -lt $((300 * ${PATIENCE:-1})) ] || { bad "$command: mpirun does not end after the kill of a rank"; tail -5 err.txt; return; }
        grep -q "taking the checkpoint before it" err.txt && damaged=$((damaged + 1))
        check_latest "$output"
        case $rc in
        0) return ;; # it was faster
        137 | 141) ;; # 141: mpirun wrote to the one that was gone
        *) bad "$command: rc $rc after the kill of a rank"; tail -5 err.txt; return ;;
        esac
    done
}

# end_run COMMAND STEPS ARGUMENTS...: to the end, and the same without kills.
end_run() {
    local command=$1 steps=$2
    launch "$command" 4 "$command" true train.steps="$steps" "${@:3}"
    wait "$launched" || { bad "$command: the last run"; tail -5 err.txt; }
    mv err.txt last.txt
    launch "$command" 2 "whole_$command" false train.steps="$steps" "${@:3}"
    wait "$launched" || { bad "$command: the undisturbed run"; tail -5 err.txt; }
    same "whole_$command" "$command"
    cmp -s <(column "$command/metrics.jsonl" loss | cut -d' ' -f1) <(seq "$steps") || bad "$command: not one line per step"
    [ "$(find "$command/checkpoints" -name 'step-*.h5' | wc -l)" -eq 2 ] || bad "$command: not 2 checkpoints"
    [ -z "$(find "$command" -name '*.tmp*')" ] || bad "$command: temporary files stay: $(find "$command" -name '*.tmp*')"
}

# How far the run gets depends on the moments: it ends a few steps after the last kill, long before the steps named here.
preference() {
    kill_again dpo dpo "$kills" train.warmup_steps=40 train.steps=$((kills * 100))
    [ "$killed" -eq "$kills" ] || bad "$killed kills of $kills"
    [ "$in_write" -ge $((kills / 5)) ] || bad "$in_write of $killed kills hit the writing of a checkpoint"
    newest dpo
    echo "dpo: $killed kills in $runs runs and $step steps, $in_write while a checkpoint was being written"
    # A damaged newest checkpoint is named, set aside, and the one before it taken.
    local file=dpo/checkpoints/step-$step.h5
    damage "$file"
    end_run dpo $((step + 5)) train.warmup_steps=40
    grep -q "$file: .*taking the checkpoint before it" last.txt && [ -e "$file.damaged" ] ||
        bad "the damaged checkpoint is not named: $(head -5 last.txt)"
    [ "$damaged" -eq 0 ] || bad "$damaged checkpoints were damaged by kills"
}
scheduled() { # COMMAND
    local options=(train.schedule=cosine train.warmup_steps=4)
    kill_again "$1" "$1" 2 train.steps=40 "${options[@]}"
    end_run "$1" 40 "${options[@]}"
    echo "$1: $killed kills"
    [ "$damaged" -eq 0 ] || bad "$damaged checkpoints were damaged by kills"
}
others() {
    scheduled sft
    scheduled reward
}
together preference others
finish
