# The top level is as given, and no tracked file names a machine's own paths.
set -u
bad=0
for entry in $(git ls-tree --name-only HEAD); do
    case "$entry" in
    .*|LICENSE|CMakePresets.json|CMakeLists.txt|README.md|src|cuda|mpi|io|jobs|configs|benchmarks|tests) ;;
    *) echo "top level: $entry does not belong there"; bad=1 ;;
    esac
done
hits=$(git grep -nIE '(^|[^A-Za-z0-9_.])/(home|root|opt)/[a-z]' -- . ':!tests/lint' | head -5)
[ -z "$hits" ] || { echo "$hits"; bad=1; }
exit $bad
