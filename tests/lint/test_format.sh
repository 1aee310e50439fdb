# clang-format, and no overlong functions or files. Skipped where clang-format is missing.
set -u
command -v clang-format > /dev/null || { echo "skipped: clang-format is not installed"; exit 77; }
git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror 2>&1 | grep -E 'error:' | head -20
status=${PIPESTATUS[1]}
exit "$status"
