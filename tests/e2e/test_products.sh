#!/usr/bin/env bash
# cpu.products: the kinds of bf16 products, whose instructions a second build of the program emulates (dot_emulation/):
# numbers beside fp32, weights that are kept beside device=check:cpu, which keeps none, ranks, resumes, refusals; on a
# processor that has them, the instructions themselves to the bit.
set -u
. tests/common.sh
real=$COLLIMATE
emulated=$BUILD/tests/collimate_emulated
tiny_world 60 4
run 1 sft model=init data=train.h5 output=learned train.epochs=6 train.batch=16 train.learning_rate=1e-2
[ "$failures" -eq 0 ] || exit 1
head -12 train.jsonl > few.jsonl # emulated instructions take their time
run 1 prepare input=few.jsonl output=few.h5 tokenizer=bytes
run 1 score data=few.h5 model=learned/model output=fp32.jsonl score.per_token=true
tokens() { grep -oE '"token_logps": \[[^]]*\]|"token_logps_[a-z]+": \[[^]]*\]' "$1" | grep -oE -- '-?[0-9]+(\.[0-9e+-]+)?' ; }
steps=(--quiet model=learned/model data=few.h5 train.steps=3 train.batch=4 train.slots=4 train.learning_rate=1e-3
    train.deterministic=true compute=bf16)

# What is not there or has no effect is one error, with any processor.
refuses 2 "cpu.products" score data=train.h5 model=init output=no.jsonl cpu.products=fp32
refuses 2 "cpu.products" score data=train.h5 model=init output=no.jsonl compute=bf16 device=cuda cpu.products=fp32
run 1 score data=train.h5 model=init output=named.jsonl compute=bf16 cpu.products=fp32
run 1 score data=train.h5 model=init output=auto.jsonl compute=bf16
for kind in avx512_bf16 amx; do
    if [ "$(uname -m)" = x86_64 ] && ! grep -qw "${kind/#amx/amx_bf16}" /proc/cpuinfo; then
        refuses 71 "cpu.products: $kind is not there: this processor has no" score data=train.h5 model=init output=no.jsonl \
            compute=bf16 cpu.products=$kind
        [ "$(grep -c . err.txt)" -le 2 ] || bad "more than one message: $(cat err.txt)"
    fi
done
grep -qw avx512_bf16 /proc/cpuinfo || cmp -s named.jsonl auto.jsonl || bad "auto is not fp32 where there is nothing else"

COLLIMATE=$emulated
refuses 2 "cpu.products: auto measures" dpo "${steps[@]}" output=no
run 1 score data=few.h5 model=learned/model output=auto.jsonl compute=bf16
grep -q "cpu.products: .*GFLOP/s a rank in fp32 and .* by AVX512-BF16" err.txt || bad "auto does not say what it measured"
mkdir dry && run 1 dpo "${steps[@]}" output=dry/run cpu.products=amx --dry-run
grep -q "products .*weights laid out for bf16 products" out.txt || bad "--dry-run does not count kept weights"

# Curves of 20 steps within 1 % of fp32's, by each kind.
curve=(--quiet model=learned/model data=few.h5 train.steps=20 train.batch=4 train.slots=4 train.learning_rate=3e-4
    train.deterministic=true)
curves() {
    local command
    for command in sft dpo reward; do
        run 1 $command "${curve[@]}" output=$command-curve-$1 compute=bf16 cpu.products=$1
        near $command-curve-fp32/metrics.jsonl $command-curve-$1/metrics.jsonl loss 0.01
        cmp -s <(numbers $command-curve-fp32) <(numbers $command-curve-$1) && bad "$command by $1 is fp32"
    done
}
curves_of_avx512() { curves avx512_bf16; }
curves_of_amx() { curves amx; }
for command in sft dpo reward; do
    run 1 $command "${curve[@]}" output=$command-curve-fp32
done
together curves_of_avx512 curves_of_amx

for kind in avx512_bf16 amx; do
    run 2 score data=few.h5 model=learned/model output=$kind.jsonl compute=bf16 cpu.products=$kind score.per_token=true
    paste <(tokens fp32.jsonl) <(tokens $kind.jsonl) | awk '
        function abs(x) { return x < 0 ? -x : x }
        { d = $2 - $1; sum += d; squares += d * d }
        END { rms = sqrt(squares / NR); print NR " tokens, rms " rms ", mean " sum / NR
          exit !(NR > 500 && rms > 0 && rms < 2e-2 && abs(sum / NR) < 2e-3) }' || bad "log-probabilities by $kind"
    # The same bits on any ranks, and beside a back end that lays out weights for each product: after updates on shares,
    # with a reference that follows, with adapters on a frozen base.
    run 1 dpo "${steps[@]}" output=$kind-1 cpu.products=$kind
    column $kind-1/metrics.jsonl loss | awk 'NR == 1 { exit !($2 - 0.69314718 < 1e-6 && 0.69314718 - $2 < 1e-6) }' ||
        bad "$kind: step 0 is not log 2"
    grep -q "\"products\": \"$kind\"" $kind-1/environment.json || bad "$kind is not in environment.json"
    for ranks in 2 4; do
        run $ranks dpo "${steps[@]}" output=$kind-$ranks cpu.products=$kind train.shard_optimizer=true
        same $kind-1 $kind-$ranks
    done
    run 1 dpo "${steps[@]}" output=$kind-checked cpu.products=$kind device=check:cpu
    same $kind-1 $kind-checked
    for device in cpu check:cpu; do
        run 1 dpo "${steps[@]}" output=follows-$kind-$device cpu.products=$kind device=$device dpo.sync_reference=true \
            dpo.reference_sync_steps=1
        run 1 dpo "${steps[@]}" output=adapts-$kind-$device cpu.products=$kind device=$device lora.rank=4 threads=2
        run 1 generate data=few.h5 model=learned/model adapter=adapts-$kind-$device/adapter output=drawn-$kind-$device.jsonl \
            compute=bf16 cpu.products=$kind device=$device generate.max_new_tokens=6 generate.temperature=1 seed=4
    done
    same follows-$kind-cpu follows-$kind-check:cpu
    cmp -s <(numbers adapts-$kind-cpu) <(numbers adapts-$kind-check:cpu) || bad "$kind: adapters' numbers differ"
    cmp adapts-$kind-{cpu,check:cpu}/adapter/adapter_model.safetensors || bad "$kind: adapters differ"
    cmp drawn-$kind-cpu.jsonl drawn-$kind-check:cpu.jsonl || bad "$kind: other text is drawn where weights are kept"
    # A processor that has it gives the emulation's bits.
    if grep -qw "${kind/#amx/amx_bf16}" /proc/cpuinfo; then
        COLLIMATE=$real
        run 1 dpo "${steps[@]}" output=$kind-real cpu.products=$kind
        same $kind-1 $kind-real
        COLLIMATE=$emulated
    fi
done
cmp -s avx512_bf16-1/metrics.jsonl amx-1/metrics.jsonl && bad "two kinds made the same numbers"

# A deterministic run goes on with its kind alone.
run 2 dpo "${steps[@]}" output=moved cpu.products=amx train.steps=2
run 1 dpo "${steps[@]}" output=moved cpu.products=amx
went_on moved 2
same amx-1 moved
refuses 2 "cpu.products (was amx, is fp32)" dpo "${steps[@]}" output=moved cpu.products=fp32 train.steps=5
refuses 2 "cpu.products (was amx, is avx512_bf16)" dpo "${steps[@]}" output=moved cpu.products=avx512_bf16 train.steps=5

finish
