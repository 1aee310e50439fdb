#!/usr/bin/env bash
# benchmarks/plot.py on what evaluate, training runs, inspect, select, scaling.sh and shallow-study.sh write, in little: each kind
# draws what it was given (the names are in the SVG) and says what is wrong with what it cannot read.
set -u
plot=$PWD/benchmarks/plot.py
python=${PYTHON:-python3}
. tests/common.sh
"$python" -c 'import matplotlib' 2> /dev/null || {
    echo "skipped: $python has no matplotlib (PYTHON names another)"
    exit 77
}
export MPLCONFIGDIR=$work PYTHONDONTWRITEBYTECODE=1
# draws KIND "WORD..." INPUT...: an SVG in which all the words stand.
draws() {
    local kind=$1 words=$2 word
    shift 2
    timeout 100 "$python" "$plot" "$kind" "$@" --output "$kind.svg" > out.txt 2> err.txt || bad "$kind: $(tail -1 err.txt)"
    for word in $words; do
        grep -q -- "<!-- .*$word.* -->" "$kind.svg" || bad "$kind: no $word in the plot"
    done
    rm -f "$kind.svg"
}
fails() {
    local words=$1
    shift
    timeout 100 "$python" "$plot" "$@" --output none.svg > out.txt 2> err.txt && bad "$* gives a plot"
    grep -q -- "$words" err.txt || bad "$*: $(tail -1 err.txt)"
    [ ! -e none.svg ] || bad "$*: a file is left"
}
echo '{"kl_given": {"1": {"kl": 0.5, "responses": 4, "interval": [0.4, 0.6]}, "2": {"kl": 0.2, "responses": 4, "interval": [null, null]}},
 "kl_sampled": {"1": {"kl": 0.6, "responses": 4}, "3": {"kl": 0.1, "responses": 2}}}' > kl.json
draws kl "given sampled position" kl.json
mkdir -p first second third
for step in 1 2 3; do
    echo "{\"step\": $step, \"loss\": 0.$step, \"rewards/margins\": $step, \"rewards/accuracies\": 0.5, \"grad_norm\": $step}" >> first/metrics.jsonl
    echo "{\"step\": $step, \"loss\": null, \"grad_norm\": 1}" >> second/metrics.jsonl
done
echo '{"step": 3, "eval_loss": 0.25}' >> first/metrics.jsonl
printf '{"step": 4, "lo' >> second/metrics.jsonl
draws run "first second margins held-out updates" first second/metrics.jsonl
fails "third/metrics.jsonl: is not there" run third
echo '{"step": 0, "eval_loss": 1}' > third/metrics.jsonl
fails "has no update yet" run third
echo '{"step": 1, "loss' >> third/metrics.jsonl
echo >> third/metrics.jsonl
fails "third/metrics.jsonl, line 2" run third
quantiles='{"quantiles": {"0.05": 0.1, "0.5": 0.2, "0.95": 0.3}}'
printf '{"embeddings": "one.h5", "relative_l2": %s, "cosine": %s}\n' "$quantiles" "$quantiles" "$quantiles" "$quantiles" > drift.jsonl
draws drift "one.h5 cosine" drift.jsonl
bins='{"bins": [1, 2, 0], "pairs": 3, "mean": 0.25}'
echo "{\"strategy\": \"easy\", \"scope\": \"pairs\", \"similarity\": {\"low\": 0, \"bin_width\": 0.5, \"all\": $bins, \"selected\": $bins}}" > view.json
draws selection "easy selected cosine" view.json
echo '{"strategy": "random"}' > random.json
fails "no report has similarities" selection random.json
{
    echo machine,task,mode,ranks,valid,efficiency,efficiency_low,efficiency_high
    for ranks in 1 2; do echo "a_box,dpo,strong,$ranks,yes,0.9,0.8,1" && echo "a_box,dpo,weak,$ranks,yes,0.9,0.8,1"; done
} > scaling.csv
draws scaling "a_box dpo weak strong" scaling.csv
mkdir -p shallow
printf 'world,seed,cut,measure,value\nearly,1,100,reward accuracy,0.9\nearly,1,50,dpo accuracy,0.8\n' > shallow/cuts.csv
printf 'world,seed,rule,value,kl,reward\n' > shallow/curves.csv
for rule in mix length threshold; do printf 'early,%s,%s,1,0.5,0.1\nearly,%s,%s,2,0.7,0.2\n' 1 $rule 2 $rule >> shallow/curves.csv; done
printf 'world,seed,position,kl\nearly,1,1,0.5\nearly,2,1,0.6\n' > shallow/positions.csv
draws shallow-study "early mixing Control Threshold" shallow
finish
