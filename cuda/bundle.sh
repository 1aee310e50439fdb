#!/usr/bin/env bash
# A folder with the program, the tests that take a device, and every library they need but the C library's, CUDA's and the
# driver's: for a machine that has an NVIDIA driver and CUDA's libraries, but no MPI, HDF5 or compiler.
#
#   bash cuda/bundle.sh [BUILD [OUT]]     BUILD: a build folder (build/release); OUT: the folder made (BUILD/bundle)
#   WITH_CUBLAS=1                         takes cuBLASLt along as well (half a gigabyte)
#   PLUGIN=FILE                           this back end and not BUILD's: tests/cuda_emulation's tries the folder out here
#
# There, from any path, on x86-64 Linux with a C library at least as new as this machine's:
#
#   OUT/run collimate --version           the line "cuda" names the device
#   OUT/run mpirun -n 2 collimate dpo ... device=cuda
#   OUT/gpu-tests                         what `ctest -L gpu` runs, one line a test
set -euo pipefail
build=$(realpath "${1:-build/release}")
out=${2:-$build/bundle}
source=$(cd "$(dirname "$0")/.." && pwd)
suites="test_ops_linear test_ops_layer test_ops_attention test_ops_head test_ops_optimizer test_ops_nan test_parity test_forest test_greedy"

rm -rf "$out"
mkdir -p "$out"/{bin,lib/deps,lib/collimate,share/openmpi,tests}
cp "$build/collimate" "$out/bin/"
for suite in $suites; do cp "$build/tests/$suite" "$out/bin/"; done
plugin=${PLUGIN:-$build/cuda/libcollimate_cuda.so}
if [ -e "$plugin" ]; then
    cp "$plugin" "$out/lib/collimate/"
else
    echo "no CUDA back end in $build: the bundle runs on the CPU only" >&2
fi
cp -r "$source/tests"/{e2e,fixtures,common.sh,expect.sh,on_gpu.sh,with_device.sh} "$out/tests/"

# Open MPI: its launcher, and the plug-ins that work without special networks.
launcher=$(realpath "$(command -v mpirun)")
cp -L "$launcher" "$out/bin/mpirun"
cp -L "$(command -v orted)" "$out/bin/orted"
where() {
    ompi_info --path "$1" --parsable | sed -n "s/^path:$1://p"
}
plugins=$(where pkglibdir)
pkglib=$(where libdir)
target=$out/${plugins#"$(where prefix)"/} # where the launcher looks, below OPAL_PREFIX
mkdir -p "$target"
for plugin in "$plugins"/mca_*.so; do
    case "$(basename "$plugin")" in
    *ofi* | *ucx* | *psm* | *openib* | *usnic* | *verbs* | *portals* | *oshmem* | *spml* | *scoll* | *memheap* | *sshmem*) ;;
    *) cp -L "$plugin" "$target/" ;;
    esac
done
cp "$(where pkgdatadir)"/help-*.txt "$out/share/openmpi/" 2> /dev/null || true
for pmix in /usr/lib/*/pmix*/lib/pmix; do # Debian's PMIx has plug-ins of its own
    [ -d "$pmix" ] || continue
    mkdir -p "$out/pmix/lib/pmix" "$out/pmix/share/pmix"
    cp -L "$pmix"/*.so "$out/pmix/lib/pmix/"
    cp "$pmix"/../../share/pmix/* "$out/pmix/share/pmix/" 2> /dev/null || true
done

# What all of these need, without the C library (its loader and it belong together), CUDA and the driver.
leave='/(ld-linux[-a-z0-9_]*|libc|libm|libpthread|libdl|librt|libutil|libresolv|libanl|libcuda|libnvidia-[-a-z]*)\.so'
[ "${WITH_CUBLAS:-0}" = 1 ] || leave="$leave|/libcublas|/libcudnn|/libnccl"
find "$out/bin" "$out/lib" "$out/pmix" -type f 2> /dev/null | while read -r file; do
    LD_LIBRARY_PATH=$pkglib ldd "$file" 2> /dev/null | awk '$3 ~ /^\// { print $3 }' || true
done | sort -u | { grep -vE "$leave" || true; } | while read -r library; do
    cp -L "$library" "$out/lib/deps/"
done

cat > "$out/run" << 'X'
#!/bin/sh
# run COMMAND...: with the bundle's programs and libraries first.
d=$(cd "${0%/*}" && pwd)
export OPAL_PREFIX="$d" PMIX_INSTALL_PREFIX="$d/pmix" PMIX_MCA_pcompress_base_silence_warning=1
export PATH="$d/bin:$PATH" LD_LIBRARY_PATH="$d/lib/deps${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:/usr/local/cuda/lib64"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl=self,vader,tcp
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_io=romio321
command -v ssh > /dev/null 2>&1 || export OMPI_MCA_plm=isolated # one host
exec "$@"
X
cat > "$out/gpu-tests" << X
#!/bin/bash
# Every test of the label gpu: passed, FAILED (its output in results/), or skipped with the reason.
cd "\$(dirname "\$0")" || exit 1
mkdir -p results
export COLLIMATE=\$PWD/bin/collimate COLLIMATE_TEST_DEVICE=cuda FIXTURES=\$PWD/tests/fixtures BUILD=\$PWD
failed=0
one() {
    local name=\$1 rc
    shift
    ./run bash tests/on_gpu.sh timeout 600 "\$@" > "results/\$name" 2>&1
    rc=\$?
    case \$rc in
    0) echo "passed  \$name" ;;
    77) echo "\$(tail -1 "results/\$name"): \$name" ;;
    *) echo "FAILED  \$name (rc \$rc)"; failed=1 ;;
    esac
}
for suite in $suites; do
    COLLIMATE_TEST_COMPUTE=fp32 one "\$suite" "\$PWD/bin/\$suite"
    case \$suite in test_ops_*) COLLIMATE_TEST_COMPUTE=bf16 one "\$suite-bf16" "\$PWD/bin/\$suite" ;; esac
done
one cuda bash tests/e2e/test_cuda.sh
one dpo_steps bash tests/e2e/test_dpo_steps.sh
# The rest of e2e that computes, with a stand-in for the program that names the device.
export COLLIMATE_PROGRAM=\$COLLIMATE COLLIMATE=\$PWD/tests/with_device.sh
for name in train same_bits reward generate labels select checkpoints same_files; do
    one "\$name" bash "tests/e2e/test_\$name.sh"
done
exit \$failed
X
chmod +x "$out/run" "$out/gpu-tests"
du -sh "$out"
