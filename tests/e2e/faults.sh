# Sourced by the tests that disturb a run: a tiny model and its data (train.h5, init), and how to start, find and end
# ranks. What is still running at the end is killed.
. tests/common.sh
launchers=()
end_part() {
    local launcher
    for launcher in "${launchers[@]}"; do
        # shellcheck disable=SC2046
        kill -KILL $(pgrep -P "$launcher" 2> /dev/null) "$launcher" 2> /dev/null
    done
}
end_all() {
    end_part
    rm -rf "$work"
}
trap end_all EXIT
tiny_world
training=(sft model=init data=train.h5 train.deterministic=true train.slots=4 train.batch=8 watchdog_s=25)

# with_disk [VARIABLE=VALUE ...]: from here on the disk of the ranks that are begun does what tests/disk.c says of these;
# without any it does what it does.
disk=()
with_disk() {
    disk=()
    [ $# -eq 0 ] && return
    preload_disk
    local setting
    disk=("${preload[@]}")
    for setting in "$@"; do
        disk+=(-x "$setting")
    done
}
# held_at_step STEP [VARIABLE=VALUE ...]: such a disk, and the ranks that are begun wait behind that step's line of metrics.jsonl
# until they are told to end.
held_at_step() {
    with_disk HELD_FILE=/metrics.jsonl HELD_AT=$(($1 + 1)) "${@:2}"
}
# begin RANKS ERRORS ARGUMENT...: the program in the background; its launcher is $launched.
begin() {
    { trap - EXIT; exec mpirun -q "${disk[@]}" -n "$1" "$COLLIMATE" "${@:3}"; } > /dev/null 2> "$2" &
    launched=$!
    launchers+=("$launched")
}
# until_step STEP FOLDER: waits for that line of metrics.jsonl.
until_step() {
    local _
    for _ in $(seq 5000); do
        [ "$(wc -l 2> /dev/null < "$2/metrics.jsonl")" -gt "$1" ] 2> /dev/null && return
        kill -0 "$launched" 2> /dev/null || break
        sleep 0.02
    done
    bad "$2: no step $1 in time: $(tail -n 3 err.txt 2> /dev/null)"
    return 1
}
# until_there PATTERN: waits for a file while the newest launcher runs.
until_there() {
    while kill -0 "$launched" 2> /dev/null; do
        compgen -G "$1" > /dev/null && return
        sleep 0.01
    done
    return 1
}
# rank_process RANK LAUNCHER: its number.
rank_process() {
    local pid
    for pid in $(pgrep -P "$2" -x collimate); do
        tr '\0' '\n' < "/proc/$pid/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$1" && echo "$pid"
    done
}
# ended LAUNCHER SECONDS: waits so long for it; its exit code is in $rc, the seconds in $took.
ended() {
    local began=$SECONDS
    # shellcheck disable=SC2046
    timeout "$2" tail --pid="$1" -s 0.1 -f /dev/null || kill -KILL $(pgrep -P "$1") "$1"
    wait "$1"
    rc=$?
    took=$((SECONDS - began))
}
