#!/usr/bin/env bash
# Five DPO updates equal PyTorch's (fixtures/make_dpo_steps.py, double precision) to 1e-4, on 1 and 2 ranks, with rows
# packed into one forest or cut into many, and with activations recomputed.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fixture=$FIXTURES/dpo_steps
failures=0
timeout 60 "$COLLIMATE" prepare input="$fixture/pairs.jsonl" output="$work/pairs.h5" tokenizer=bytes \
    tokenize.begin=false 2> "$work/err" || { cat "$work/err"; exit 1; }

column() {
    sed -nE 's|^\{"step": ([0-9]+),.*"'"$1"'": ([^,}]*)[,}].*|\2|p' "$2"
}

# check NAME RANKS KEYS...
# COLLIMATE_TEST_DEVICE=cuda takes these steps on a device that the ranks share.
device=(device="${COLLIMATE_TEST_DEVICE:-auto}")
[ "${device[0]}" != device=cuda ] || device+=(device_ranks=4)
check() {
    local name=$1 ranks=$2
    shift 2
    timeout 60 mpirun -q -n "$ranks" "$COLLIMATE" dpo model="$fixture/model" data="$work/pairs.h5" output="$work/$name" \
        train.steps=5 train.batch=5 train.shuffle=false train.learning_rate=2e-3 train.weight_decay=0.05 train.clip=1 \
        train.schedule=linear train.warmup_steps=2 dpo.beta=0.3 dpo.loss=sigmoid+0.1*sft "${device[@]}" "$@" 2> "$work/err" || {
        echo "$name: rc $?"
        tail -3 "$work/err"
        failures=$((failures + 1))
        return
    }
    local metrics=$work/$name/metrics.jsonl
    paste -d' ' "$fixture/expected.txt" <(column loss "$metrics") <(column grad_norm "$metrics") \
        <(column rewards/margins "$metrics") <(column logps/chosen "$metrics") | awk -v name="$name" '
        function far(want, got) { d = want - got; d = d < 0 ? -d : d; w = want < 0 ? -want : want
                                  return NF != 9 || !(d <= 1e-4 * (1e-1 + w)) }
        { for (i = 2; i <= 5; i++) if (far($i, $(i + 4))) { print name ": step " $1 ": want " $i ", got " $(i + 4); bad = 1 } }
        END { exit bad || NR != 5 }' || failures=$((failures + 1))
}
check packed 1
check cut 1 train.micro_tokens=1
check ranks 2
check recomputed 1 train.recompute=layers
check exact 2 train.deterministic=true
exit $((failures > 0))
