# Every variable that the sources read by name is in the list that environment.json records.
set -u
bad=0
for name in $(git ls-files 'src/*.c' 'mpi/*.c' 'io/*.c' 'cuda/*.c' 'cuda/*.cu' | xargs grep -hoE 'getenv\("[A-Z_0-9]+"' | cut -d'"' -f2 | sort -u); do
    grep -q "\"$name\"" src/command/environment.c || {
        echo "$name is read, and not recorded: src/command/environment.c, variables[]"
        bad=1
    }
done
exit $bad
