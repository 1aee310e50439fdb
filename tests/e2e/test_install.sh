#!/usr/bin/env bash
# `cmake --install` to a prefix, moved afterwards: the program starts, and finds its CUDA back end in lib/, lib64/ or the
# build's own library folder. Stands in for the back end where there is an emulated one.
set -u
. tests/common.sh
cmake --install "$BUILD" --prefix "$work/first" > install.txt 2>&1 || { cat install.txt; exit 1; }
mv first second
program=$work/second/bin/collimate
"$program" synth output=train.jsonl synth.rows=2 seed=1 2> err.txt || { bad "rc $? of the installed program"; cat err.txt; }
[ -e second/share/collimate/configs/reference.yaml ] && [ -e second/share/bash-completion/completions/collimate ] ||
    bad "files are missing"
# says WORDS: what --version says of CUDA.
says() {
    (unset COLLIMATE_PLUGIN_PATH; "$program" --version) > version.txt
    grep -q "^cuda .*$1" version.txt || { bad "not \"$1\""; grep '^cuda' version.txt; }
}
installed=$(find second -name libcollimate_cuda.so)
if [ -e "$BUILD/cuda/libcollimate_cuda.so" ] && ! grep -q '^COLLIMATE_CUDA:STRING=OFF' "$BUILD/CMakeCache.txt"; then
    case "$installed" in
    second/lib*/collimate/libcollimate_cuda.so) says '\(GPU-\|no CUDA device\)' ;;
    *) bad "the CUDA back end is in: $installed" ;;
    esac
else
    [ -z "$installed" ] && says 'libcollimate_cuda.so is not installed' || bad "a back end that was not built: $installed"
fi
emulated=$BUILD/tests/cuda_emulation/libcollimate_cuda.so
if [ -e "$emulated" ]; then
    for folder in lib lib64; do
        [ -z "$installed" ] || rm -f "$installed"
        mkdir -p "second/$folder/collimate"
        cp "$emulated" "second/$folder/collimate/"
        says 'GPU-'
        rm "second/$folder/collimate/libcollimate_cuda.so"
    done
fi
finish
