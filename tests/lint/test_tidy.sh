# clang-tidy over the sources that differ from what was last found clean in this build folder.
set -u
command -v clang-tidy > /dev/null || { echo "skipped: clang-tidy is not installed"; exit 77; }
case "$BUILD" in *asan*) echo "skipped: once is enough (release)"; exit 77 ;; esac
mkdir -p "$BUILD/tidy"
# 30000 nodes a function instead of 225000: about a fifth of the time. All of them: TIDY_NODES=225000.
export TIDY_DEPTH="--extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=max-nodes=${TIDY_NODES:-30000}"
check() {
    stamp="$BUILD/tidy/$({ echo "$TIDY_DEPTH"; sha256sum "$1" .clang-tidy $(git ls-files '*.h'); } | sha256sum | cut -c1-32)"
    [ -e "$stamp" ] && return 0
    # For a file without a command of its own clang-tidy would silently take a neighbor's.
    if ! grep -qE "\"file\": \"([^\"]*/)?$1\"" "$BUILD/compile_commands.json"; then
        echo "$1: $BUILD/compile_commands.json has no command for it"
        return 1
    fi
    local output report rc=0
    # shellcheck disable=SC2086
    output=$(clang-tidy -quiet -p "$BUILD" --extra-arg=-Wno-unknown-warning-option $TIDY_DEPTH "$1" 2>&1) || rc=$?
    report=$(grep -E '(warning|error):' <<< "$output")
    if [ -n "$report" ]; then echo "$report"; return 1; fi
    if [ $rc -ne 0 ]; then
        printf '%s: clang-tidy ended with %s:\n%s\n' "$1" $rc "$(tail -20 <<< "$output")"
        return 1
    fi
    touch "$stamp"
}
export -f check
export BUILD
git ls-files 'src/*.c' 'mpi/*.c' 'io/*.c' | xargs -P 2 -I{} bash -c 'check {}' > "$BUILD/tidy/report" 2>&1
status=$?
head -40 "$BUILD/tidy/report"
exit $status
