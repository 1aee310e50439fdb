# The arrows between rooms, and what may be called where.
set -u
sources=$(git ls-files 'src/*.[ch]' 'mpi/*.[ch]' 'io/*.[ch]' 'cuda/*.cu' 'cuda/*.[ch]' 'cuda/*.cuh')
bad=0
# shellcheck disable=SC2086
awk -f tests/lint/rooms.awk tests/lint/rooms.txt $sources || bad=1
# Comments and strings are not code: look at the sources without them.
plain=$(mktemp -d)
trap 'rm -rf "$plain"' EXIT
for file in $sources; do
    mkdir -p "$plain/$(dirname "$file")"
    sed -e 's://.*::' -e 's:/\*.*\*/::' -e '/\/\*/,/\*\//d' -e 's:"[^"]*"::g' "$file" > "$plain/$file"
done
while IFS=$'\t' read -r pattern allowed why; do
    case "$pattern" in ''|'#'*) continue ;; esac
    hits=$(cd "$plain" && grep -rnE "$pattern" . | sed 's:^\./::' | grep -vE "$allowed" | head -5)
    if [ -n "$hits" ]; then
        echo "/$pattern/: $why"
        echo "$hits"
        bad=1
    fi
done < tests/lint/forbidden.txt
exit $bad
