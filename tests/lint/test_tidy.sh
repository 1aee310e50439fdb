# clang-tidy over the sources that differ from those of the commit in tidy.base, at which all of them were clean, and over those
# that include a header that differs; over all of them where that commit is not known (a shallow clone), where clang-tidy's
# settings differ, and with TIDY=all. What was found clean in this build folder is not looked at again.
# After a clean `TIDY=all ctest --preset release -R test_tidy` of committed sources:  git rev-parse HEAD > tests/lint/tidy.base
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
all() { git ls-files 'src/*.c' 'mpi/*.c' 'io/*.c'; }
# The sources that differ from commit $1, and those with an #include of a header that does.
changed() {
    local files includes
    files=$(git diff --name-only "$1" -- 'src/*.[ch]' 'mpi/*.[ch]' 'io/*.[ch]')
    includes=$(sed -nE 's:^(src/)?(.*\.h)$:#include "\2":p' <<< "$files")
    {
        grep '\.c$' <<< "$files"
        [ -z "$includes" ] || all | xargs grep -lF "$includes"
    } | sort -u | comm -12 - <(all | sort)
}
base=$(cat tests/lint/tidy.base 2> /dev/null)
if [ "${TIDY:-}" != all ] && git diff --quiet "$base" -- .clang-tidy 2> /dev/null; then
    sources=$(changed "$base")
else
    sources=$(all)
fi
[ -n "$sources" ] || { echo "no source differs from $base"; exit 0; }
wc -l <<< "$sources"
xargs -P 2 -I{} bash -c 'check {}' <<< "$sources" > "$BUILD/tidy/report" 2>&1
status=$?
head -40 "$BUILD/tidy/report"
exit $status
