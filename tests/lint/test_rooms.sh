# The arrows between rooms, and what may be called where.
set -u
sources=$(git ls-files 'src/*.[ch]' 'mpi/*.[ch]' 'io/*.[ch]' 'cuda/*.cu' 'cuda/*.[ch]' 'cuda/*.cuh')
bad=0
# shellcheck disable=SC2086
awk -f tests/lint/rooms.awk tests/lint/rooms.txt $sources || bad=1
while IFS=$'\t' read -r pattern allowed why; do
    case "$pattern" in ''|'#'*) continue ;; esac
    # Comments are not code: strip them before looking.
    for file in $sources; do
        [[ "$file" =~ $allowed ]] && [ "$allowed" != '^$' ] && continue
        hits=$(sed -e 's://.*::' -e 's:/\*.*\*/::' -e '/\/\*/,/\*\//d' -e 's:"[^"]*"::g' "$file" | grep -nE "$pattern" | head -3)
        if [ -n "$hits" ]; then
            echo "$file: /$pattern/ ($why)"
            echo "$hits"
            bad=1
        fi
    done
done < tests/lint/forbidden.txt
exit $bad
