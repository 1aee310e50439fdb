# Sourced by the tests that build the tree of the fuzz targets, build/fuzz: they are skipped in all builds but one and where
# clang lacks a part.
case "$BUILD" in *release) ;; *) echo "skipped: once is enough (release)"; exit 77 ;; esac
command -v clang > /dev/null || { echo "skipped: clang is not installed"; exit 77; }
[ -e "$(clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer-$(uname -m).a" ] ||
    { echo "skipped: clang's compiler-rt is not installed (libclang-rt-14-dev on Debian 12)"; exit 77; }
probe=$(mktemp)
trap 'rm -f "$probe"' EXIT
echo 'int main(void) { return 0; }' | clang -x c -fopenmp -o "$probe" - 2> /dev/null ||
    { echo "skipped: clang's OpenMP is not installed (libomp-dev)"; exit 77; }
