# Functions stay as short and as flat as they are, files too; kernels of the device, which keep all of a tile in registers, have
# more lines.
set -u
bad=0
check() { # LINES NESTING FILE_LINES PATH...: of the tracked sources there
    git ls-files "${@:4}" | xargs awk -v lines="$1" -v nesting="$2" -v file_lines="$3" -f tests/lint/functions.awk || bad=1
}
check 50 4 600 'src/*.[ch]' 'mpi/*.[ch]' 'io/*.[ch]' 'cuda/*.[ch]'
check 75 4 650 'cuda/*.cu' 'cuda/*.cuh'
check 60 4 600 'tests/*.[ch]'
exit $bad
