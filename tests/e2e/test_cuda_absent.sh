#!/usr/bin/env bash
# The CUDA back end on a machine without a device: it loads, exports one symbol, says what is missing when it is
# asked for, and `device: auto` runs on the CPU all the same.
set -u
library=$BUILD/cuda/libcollimate_cuda.so
[ -e "$library" ] || { echo "skipped: the CUDA back end was not built"; exit 77; }
command -v nvidia-smi > /dev/null && nvidia-smi -L 2> /dev/null | grep -q GPU && { echo "skipped: this machine has a device"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tests=$PWD/tests
failures=0
bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

exported=$(nm -D --defined-only "$library" | awk '{ print $NF }')
[ "$exported" = collimate_backend ] || bad "exported: $exported"

# Machine code for compute capability 8.0 and 9.0a, and PTX for what comes, unless the build was told otherwise.
if ! grep -q '^CMAKE_CUDA_ARCHITECTURES' "$BUILD/CMakeCache.txt" && [ -e "$BUILD/build.ninja" ]; then
    for code in 'compute_80,code=\[sm_80\]' 'compute_90a,code=\[sm_90a\]' 'compute_90,code=\[compute_90\]'; do
        grep -q "generate-code=arch=$code" "$BUILD/build.ninja" || bad "not compiled for $code"
    done
fi

cd "$work" || exit 1
"$COLLIMATE" synth output=train.jsonl synth.rows=6 synth.length=4 seed=1 > /dev/null 2>&1 || bad "synth"
"$COLLIMATE" prepare input=train.jsonl output=train.h5 tokenizer=bytes > /dev/null 2>&1 || bad "prepare"
cat > gpt2.json << 'JSON'
{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2,
 "n_positions": 256, "vocab_size": 258, "layer_norm_epsilon": 1e-05, "activation_function": "gelu_new",
 "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257}
JSON
"$COLLIMATE" init init.config=gpt2.json output=model tokenizer=bytes seed=3 > /dev/null 2>&1 || bad "init"

# Named: the driver or the device is what is missing (cudaError 35 or 100). On every rank alike.
missing='device cuda: no CUDA device: .*(error (35|100|0)).*NVIDIA driver'
for ranks in 1 2; do
    bash "$tests/expect.sh" 71 "$missing" 60 mpirun -q -n "$ranks" "$COLLIMATE" score model=model data=train.h5 output=x.jsonl device=cuda ||
        bad "device=cuda on $ranks ranks"
done
# A folder without the library, and a library that is none.
COLLIMATE_PLUGIN_PATH=$work bash "$tests/expect.sh" 71 'no CUDA: libcollimate_cuda.so is not installed' 60 \
    "$COLLIMATE" score model=model data=train.h5 output=x.jsonl device=cuda || bad "a folder without the library"
echo "no library" > libcollimate_cuda.so
COLLIMATE_PLUGIN_PATH=$work bash "$tests/expect.sh" 71 'no CUDA: .*libcollimate_cuda.so' 60 \
    "$COLLIMATE" score model=model data=train.h5 output=x.jsonl device=cuda || bad "a file that is no library"

"$COLLIMATE" score model=model data=train.h5 output=auto.jsonl device=auto > /dev/null 2> err.txt || bad "device=auto"
grep -q 'device cpu' err.txt || bad "device=auto does not say that it took the CPU"
[ "$failures" -eq 0 ] && echo "ok"
exit $((failures > 0))
