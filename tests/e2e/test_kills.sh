#!/usr/bin/env bash
# A run can die at any moment: SIGKILL of a random rank at a random moment, every other time inside the writing of a
# checkpoint, again and again, on changing rank counts, with optimizer state sharded or not; the same command each time. The
# final parameters and every line of metrics.jsonl (its clocks apart) are those of a run that nobody disturbed. For sft, dpo
# and reward.
#   KILLS=50 bash tests/e2e/test_kills.sh     that many kills of each command (3 where nothing is said); SEED=n for other moments
set -u
. tests/e2e/faults.sh
kills=${KILLS:-3}
RANDOM=${SEED:-1}
steps=$((kills * 30))
common=(model=init data=train.h5 train.deterministic=true train.slots=4 train.batch=8 train.steps=$steps
    train.checkpoint_every=3 train.checkpoint_keep=2 train.learning_rate=1e-3)

# launch COMMAND RANKS OUTPUT SHARDED: in the background; its number is in $launched.
launch() {
    begin "$2" err.txt "$1" "${common[@]}" output="$3" train.shard_optimizer="$4"
}
# The processes of the ranks: children of mpirun.
ranks_of() { pgrep -P "$launched" -x collimate; }
# The last step of a run folder's metrics, or nothing.
last_step() { tail -n 1 "$1/metrics.jsonl" 2> /dev/null | sed -nE 's/^\{"step": ([0-9]+),.*/\1/p'; }
is_writing() { compgen -G "$1/checkpoints/*.tmp*" > /dev/null; }

# aim OUTPUT KIND: waits for the moment of a kill; fails where the run ends before. KIND 0: at once, also while it opens the
# run; 1: after so many steps; else: when the file of a checkpoint is being written.
aim() {
    local output=$1 kind=$2 before target now
    before=$(last_step "$output")
    target=$((${before:-0} + 4 + RANDOM % 8)) # past what an earlier kill left half written
    while kill -0 "$launched" 2> /dev/null; do
        if [ "$kind" -eq 0 ]; then
            [ -n "$(ranks_of)" ] && { sleep "0.$((RANDOM % 900 + 100))"; return 0; }
        elif now=$(last_step "$output") && [ "${now:-0}" -ge "$target" ]; then
            [ "$kind" -eq 1 ] && return 0
            is_writing "$output" && return 0
            continue # inside the write: look as often as possible
        fi
        sleep 0.005
    done
    return 1
}

done_kills=0 in_write=0 runs=0 damaged=0
# kill_again COMMAND OUTPUT: $kills kills, unless the run is faster.
kill_again() {
    local command=$1 output=$2 killed=0 kind rc victims
    local sizes=(1 2 2 4)
    while [ "$killed" -lt "$kills" ]; do
        runs=$((runs + 1))
        kind=$((RANDOM % 4))
        slow_disk $((kind >= 2 ? 50 : 0)) # a write that a kill can hit
        launch "$command" "${sizes[RANDOM % 4]}" "$output" "$([ $((RANDOM % 2)) -eq 0 ] && echo true || echo false)"
        if aim "$output" $kind; then
            mapfile -t victims < <(ranks_of)
            if [ "${#victims[@]}" -gt 0 ] && kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2> /dev/null; then
                killed=$((killed + 1))
                [ "$kind" -ge 2 ] && is_writing "$output" && in_write=$((in_write + 1))
            fi
        fi
        wait "$launched"
        rc=$?
        grep -q "taking the checkpoint before it" err.txt && damaged=$((damaged + 1))
        case $rc in
        0) break ;; # it was faster
        137) ;;
        *) bad "$command: rc $rc after the kill of a rank"; tail -5 err.txt; break ;;
        esac
    done
    done_kills=$((done_kills + killed))
}

for command in sft dpo reward; do
    launch $command 2 whole_$command false
    wait "$launched" || { cat err.txt; exit 1; }
    kill_again $command $command
    slow_disk 0
    if [ $command = dpo ]; then # and a damaged newest checkpoint is named, set aside, and the one before it taken
        newest=$(find dpo/checkpoints -name 'step-*.h5' | sort -V | tail -n 1) # a kill may come before `latest` is renewed
        printf '\252\125' | dd of="$newest" bs=1 seek=$(($(stat -c %s "$newest") / 2)) conv=notrunc 2> /dev/null
    fi
    launch $command 4 $command true
    wait "$launched" || { bad "$command: the last run"; tail -5 err.txt; }
    if [ $command = dpo ]; then
        grep -q "$newest: .*taking the checkpoint before it" err.txt && [ -e "$newest.damaged" ] ||
            bad "the damaged checkpoint is not named: $(head -5 err.txt)"
    fi
    same whole_$command $command
    [ "$(numbers whole_$command | wc -l)" -eq "$steps" ] || bad "$command: not one line per step"
    [ "$(find $command/checkpoints -name 'step-*.h5' | wc -l)" -eq 2 ] || bad "$command: not 2 checkpoints"
    [ -z "$(find $command -name '*.tmp*')" ] || bad "$command: temporary files stay: $(find $command -name '*.tmp*')"
done
[ "$done_kills" -ge "$kills" ] || bad "$done_kills kills of $((kills * 3)) hit a run"
[ "$in_write" -gt 0 ] || bad "no kill hit the writing of a checkpoint"
echo "$done_kills kills in $runs runs, $in_write while a checkpoint was being written, $damaged damaged files passed over"
finish
