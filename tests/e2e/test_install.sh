#!/usr/bin/env bash
# `cmake --install` to a prefix, moved afterwards: the program starts, its smoke test passes, its module file names what lies there,
# and it finds its CUDA back end in lib/, lib64/ or the build's own library folder. Stands in for the back end where there is an
# emulated one.
set -u
. tests/common.sh
cmake --install "$BUILD" --prefix "$work/first" > install.txt 2>&1 || { cat install.txt; exit 1; }
mv first second
program=$work/second/bin/collimate
"$program" synth output=train.jsonl synth.rows=2 seed=1 2> err.txt || { bad "rc $? of the installed program"; cat err.txt; }
[ -e second/share/collimate/configs/reference.yaml ] && [ -e second/share/bash-completion/completions/collimate ] ||
    bad "files are missing"
(unset COLLIMATE; bash second/share/collimate/jobs/smoke.sh "$program") > out.txt 2> err.txt && grep -q '^smoke: ok' out.txt ||
    bad "smoke.sh of an installation: $(cat out.txt err.txt)"
printf '#!/bin/sh\nexit 70\n' > broken && chmod +x broken
bash second/share/collimate/jobs/smoke.sh "$work/broken" > out.txt 2> err.txt && bad "smoke.sh passes a broken program"
grep -q '^smoke: FAILED, code 70: ' err.txt || bad "smoke.sh does not say what failed: $(cat err.txt)"

# The module file: its name is the version, and what it puts into the environment is there. Run by a stand-in for modulecmd.
version=$("$program" --version | sed -nE '1s/^collimate ([0-9.]+) .*/\1/p')
module=second/share/modulefiles/collimate/$version
[ "$(head -n 1 "$module")" = '#%Module1.0' ] && ! grep -q '@' "$module" || bad "the module file: $(find second -path '*modulefiles*')"
if command -v tclsh > /dev/null; then
    cat > modulecmd.tcl << 'TCL'
proc module-whatis {args} {}
proc conflict {args} {}
proc prepend-path {name value} { puts "$name=$value" }
proc setenv {name value} { puts "$name=$value" }
set ModulesCurrentModulefile [lindex $argv 0]
source [lindex $argv 0]
ModulesHelp
TCL
    tclsh modulecmd.tcl "$work/$module" > module.txt 2> help.txt || bad "the module file does not run: $(cat module.txt help.txt)"
    [ "$(cat module.txt)" = "$(printf '%s\n' "PATH=$work/second/bin" "COLLIMATE_ROOT=$work/second")" ] ||
        bad "the module file sets: $(cat module.txt)"
    grep -q "collimate $version: " help.txt || bad "the module's help: $(cat help.txt)"
fi

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
