#!/usr/bin/env bash
# benchmarks/scaling.sh in its quick mode: every phase runs, every row is valid, the table's figures follow from the CSV's,
# a broken-off benchmark goes on, and a loss that is not one rank's is no rating.
set -u
command -v python3 > /dev/null || { echo "skipped: no python3"; exit 77; }
root=$PWD
. tests/common.sh
export QUICK=1 TASKS="dpo embed" BESIDE=2 ROWS=4 WORK=$work/runs LENGTH=4 PYTHON=${PYTHON:-python3}
cat > shape.json << 'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 258,
 "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": true, "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32"}
JSON
SHAPE=$PWD/shape.json bash "$root/benchmarks/scaling.sh" results > table.txt 2> err.txt || { bad "scaling.sh"; tail -5 err.txt; finish; }
cmp -s table.txt results/table.txt || bad "the table is not what was printed"
grep -q '"cpu": "' results/environment.json || bad "no machine in environment.json"
# value TASK MODE RANKS COLUMN
value() {
    awk -F, -v task="$1" -v mode="$2" -v ranks="$3" -v name="$4" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $at["task"] == task && $at["mode"] == mode && $at["ranks"] == ranks { print $at[name] }' results/scaling.csv
}
for task in dpo embed; do
    for row in "strong 1" "strong 2" "threads 1" "weak 2"; do
        # shellcheck disable=SC2086
        [ "$(value $task $row valid)" = yes ] || bad "$task $row is not valid"
    done
    # One round: efficiencies are those of the medians.
    awk -v one="$(value $task strong 1 step_s_median)" -v two="$(value $task strong 2 step_s_median)" \
        -v weak="$(value $task weak 2 step_s_median)" -v es="$(value $task strong 2 efficiency)" \
        -v ew="$(value $task weak 2 efficiency)" 'function off(a, b) { return a < b * 0.999 || a > b * 1.001 }
        BEGIN { exit off(es, one / (2 * two)) || off(ew, one / weak) }' || bad "$task: efficiencies do not follow from the times"
done
[ "$(value dpo strong 2 global_batch)" = 4 ] && [ "$(value dpo weak 2 global_batch)" = 8 ] || bad "batches of strong and weak"
[ "$(value dpo strong 1 efficiency)" = 1 ] || bad "p0 is not its own base"
awk -v wait="$(value dpo strong 2 wait_rank_s)" -v sums="$(value dpo strong 2 communication_s)" 'BEGIN {
    exit !(wait > 0 && sums > 0) }' || bad "no times of waiting and communication"
awk -v mean="$(value dpo strong 2 wait_rank_s)" -v most="$(value dpo strong 2 wait_most_s)" -v tflops="$(value dpo strong 2 tflops)" \
    -v imbalance="$(value dpo strong 2 imbalance)" 'BEGIN { exit !(most > 0 && mean < most && imbalance >= 1 && tflops > 0) }' ||
    bad "no imbalance or no rate"
[ "$(value dpo strong 2 micro_tokens) $(value dpo strong 2 device)" = "4096 cpu" ] || bad "micro_tokens or device"

# Again: nothing is left to run. A run with another loss has no rating.
before=$(ls -l --time-style=full-iso runs/raw/*/run.json)
sed -i 's/"loss": 0\.[0-9]*/"loss": 0.5/' runs/raw/dpo-strong-2-1/metrics.jsonl
SHAPE=$PWD/shape.json bash "$root/benchmarks/scaling.sh" results > table.txt 2> err.txt || bad "the second time"
[ "$before" = "$(ls -l --time-style=full-iso runs/raw/*/run.json)" ] || bad "runs were repeated"
[ "$(value dpo strong 2 valid)" = NO ] || bad "a wrong loss is valid"
grep -E '^dpo +strong +1 +2 .* - +- .*NO$' table.txt > /dev/null || bad "a row that is not valid has a rating"
finish
