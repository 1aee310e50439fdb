#!/usr/bin/env bash
# What the same bits on any rank count cost, and what sharded optimizer state costs and saves: DPO steps in four modes, taken
# in turns in one run, so that a machine's drift meets all of them.
#   benchmarks/deterministic.sh [ROUNDS]          3 rounds where nothing is said
# The shape is configs/models/neox-70m.json on synthetic pairs, fp32, AdamW, one thread a rank. Environment: RANKS (2),
# BATCH (16 pairs an update), SLOTS (8), STEPS (8, the first 2 of which are warm-up), LENGTH (30 words a response, about).
# Prints seconds a step (median over rounds of the median over steps), their ratio to fast (median over rounds), and rank 0's
# peak memory. Hashing the parameters in every step is part of deterministic mode.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${1:-3}
ranks=${RANKS:-2} batch=${BATCH:-16} slots=${SLOTS:-8} steps=${STEPS:-8} length=${LENGTH:-30}
. "$root/jobs/env.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$COLLIMATE" --quiet synth output=pairs.jsonl synth.rows=$((batch * steps)) synth.length="$length" seed=1
"$COLLIMATE" --quiet prepare input=pairs.jsonl output=pairs.h5 tokenizer=bytes
"$COLLIMATE" --quiet init init.config="$root/configs/models/neox-70m.json" tokenizer=bytes output=model

modes=(fast sharded deterministic deterministic+sharded)
for round in $(seq "$rounds"); do
    for mode in "${modes[@]}"; do
        mpirun -q -n "$ranks" "$COLLIMATE" dpo data=pairs.h5 model=model output="$mode" train.steps="$steps" train.batch="$batch" \
            train.slots="$slots" threads=1 train.resume=never \
            train.deterministic="$([[ $mode == deterministic* ]] && echo true || echo false)" \
            train.shard_optimizer="$([[ $mode == *sharded ]] && echo true || echo false)" > /dev/null 2> err.txt || {
            tail -5 err.txt >&2
            exit 1
        }
        seconds=$(sed -nE 's/^\{"step": ([0-9]+),.*"time\/step": ([0-9.e-]+).*/\1 \2/p' "$mode/metrics.jsonl" |
            awk '$1 > 2 { print $2 }' | sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }')
        memory=$(sed -nE 's/.*peak memory ([0-9]+) MiB.*/\1/p' "$mode/log.txt" | tail -1)
        echo "$round $mode $seconds $memory" | tee -a rounds.txt >&2
        rm -rf "$mode"/checkpoints "$mode"/model
    done
done
echo "# $(nproc) cores, $ranks ranks, $batch pairs of $length-word responses, $slots slots, $rounds rounds"
awk '
    function median(list,    v, n, i, j, t) {
        n = split(list, v, " ")
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (v[j] < v[i]) { t = v[i]; v[i] = v[j]; v[j] = t }
        return (v[int((n + 1) / 2)] + v[int(n / 2) + 1]) / 2
    }
    $2 == "fast" { fast = $3 }
    { if (!($2 in all)) order[++modes] = $2
      all[$2] = all[$2] " " $3; ratio[$2] = ratio[$2] " " $3 / fast; memory[$2] = memory[$2] " " $4 }
    END {
        printf "%-24s %10s %8s %12s\n", "mode", "s a step", "ratio", "peak MiB"
        for (i = 1; i <= modes; i++) {
            m = order[i]
            printf "%-24s %10.3f %8.3f %12.0f\n", m, median(all[m]), median(ratio[m]), median(memory[m])
        }
    }' rounds.txt
