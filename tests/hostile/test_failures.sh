# Every kind of failure, really caused, on 1 and 4 ranks: one message, the documented exit code, within
# seconds. What disks do is in test_disk.sh.
set -u
. jobs/env.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
running=0 runs=0
# The next of the runs that are side by side ends.
collect() {
    wait -n || failed=1
    running=$((running - 1))
}
# expect RC PATTERN COMMAND...: on $RANK_COUNTS ranks; an @ becomes the run's own number, for what it writes. They mostly wait for
# their starts: three at a time.
expect() {
    local rc=$1 pattern=$2 ranks
    shift 2
    for ranks in $RANK_COUNTS; do
        [ $running -lt 3 ] || collect
        runs=$((runs + 1)) running=$((running + 1))
        bash tests/expect.sh "$rc" "$pattern" 120 mpirun -q -n "$ranks" "$COLLIMATE" "${@//@/$runs}" &
    done
}
run() { "$COLLIMATE" "$@" --quiet || { echo "set-up failed: $*"; exit 1; }; }

run synth output="$work/pairs.jsonl" synth.rows=60
run prepare input="$work/pairs.jsonl" tokenizer=bytes output="$work/pairs.h5"
run init init.config=configs/models/llama-tiny.json tokenizer=bytes output="$work/model"

# Usage and configuration: 2.
RANK_COUNTS='4'
printf 'train:\n  steps: 3\n bad\n' > "$work/bad.yaml"
expect 2 'bad.yaml, line [0-9]+' sft "$work/bad.yaml"
printf 'train:\n  stepz: 3\n' > "$work/unknown.yaml"
expect 2 'unknown.yaml, line 2.*train.stepz.*train.steps' sft "$work/unknown.yaml"
printf 'train:\n  optimizer: adamw\n  alpha: 0.9\n' > "$work/noeffect.yaml"
expect 2 'noeffect.yaml, line 3.*train.alpha.*no effect' sft "$work/noeffect.yaml"
RANK_COUNTS='1 4'
expect 2 'unknown command "dop".*dpo' dop
expect 2 'data' dpo model="$work/model" output="$work/run@"
expect 2 'sigmod.*sigmoid' dpo data="$work/pairs.h5" model="$work/model" output="$work/run@" dpo.loss=sigmod

# Missing input: 66.
expect 66 'nothere' prepare input="$work/nothere.jsonl" tokenizer=bytes output="$work/x@.h5"
expect 66 'nothere' dpo data="$work/nothere.h5" model="$work/model" output="$work/run@"
expect 66 'nothere' dpo data="$work/pairs.h5" model="$work/nothere" output="$work/run@"
expect 66 'nothere' sft "$work/nothere.yaml"

# Bad input data: 65.
RANK_COUNTS='1 4'
gzip -c "$work/pairs.jsonl" > "$work/whole.jsonl.gz"
head -c 900 "$work/whole.jsonl.gz" > "$work/short.jsonl.gz"
expect 65 'short.jsonl.gz' prepare input="$work/short.jsonl.gz" tokenizer=bytes output="$work/x@.h5"
{ head -c 600 "$work/whole.jsonl.gz"; printf 'xxxxxxxx'; tail -c +609 "$work/whole.jsonl.gz"; } > "$work/flipped.jsonl.gz"
expect 65 'flipped.jsonl.gz' prepare input="$work/flipped.jsonl.gz" tokenizer=bytes output="$work/x@.h5"
sed '37s/"chosen"/chosen/' "$work/pairs.jsonl" > "$work/syntax.jsonl"
expect 65 'syntax.jsonl, line 37' prepare input="$work/syntax.jsonl" tokenizer=bytes prepare.strict=true output="$work/x@.h5"
sed '12s/"chosen":/"chosn":/' "$work/pairs.jsonl" > "$work/key.jsonl"
expect 65 'key.jsonl, line 12' prepare input="$work/key.jsonl" tokenizer=bytes prepare.strict=true output="$work/x@.h5"
head -c $(($(stat -c %s "$work/pairs.h5") / 2)) "$work/pairs.h5" > "$work/truncated.h5"
expect 65 'truncated.h5' dpo data="$work/truncated.h5" model="$work/model" output="$work/run@"
expect 65 'pairs.jsonl' dpo data="$work/pairs.jsonl" model="$work/model" output="$work/run@"

# Token out of range: the data of one tokenizer under a model of a smaller vocabulary.
sed 's/"vocab_size": 258/"vocab_size": 100/; s/"bos_token_id": 256/"bos_token_id": 98/; s/"eos_token_id": 257/"eos_token_id": 99/' \
    configs/models/llama-tiny.json > "$work/small.json"
run init init.config="$work/small.json" output="$work/small"
expect 65 'vocabulary' sft data="$work/pairs.h5" model="$work/small" output="$work/run@" train.steps=1

# NaN in the loss: updates so large that the weights overflow. The step is discarded. Weight decay, which multiplies them by
# -9999 in each, does it for any rounding: gradients are 0 once a norm has overflowed.
expect 65 'finite' sft data="$work/pairs.h5" model="$work/model" output="$work/diverged@" \
    train.steps=60 train.batch=8 train.learning_rate=1000 train.weight_decay=10 train.optimizer=sgd train.clip=0 train.resume=never

while [ $running -gt 0 ]; do
    collect
done
[ -z "$(find "$work" -name 'x*.h5*')" ] || { echo "a failed prepare left its output"; failed=1; }

# A rank killed: mpirun ends the others and gives 137, in a few seconds.
mpirun -q -n 4 "$COLLIMATE" sft data="$work/pairs.h5" model="$work/model" output="$work/killed" train.steps=100000000 \
    train.batch=8 --quiet 2> "$work/killed.log" &
launcher=$!
until [ -s "$work/killed/metrics.jsonl" ] || ! kill -0 $launcher; do
    sleep 0.1
done
start=$SECONDS
mapfile -t ranks < <(pgrep -P $launcher -x collimate)
kill -KILL "${ranks[1]}"
wait $launcher
rc=$?
[ $rc -eq 137 ] && [ $((SECONDS - start)) -le 60 ] || { echo "killed rank: rc $rc after $((SECONDS - start)) s"; failed=1; }
[ "$(grep -c '^collimate: ' "$work/killed.log")" -le 1 ] || { echo "killed rank: $(cat "$work/killed.log")"; failed=1; }
for rank in "${ranks[@]}"; do
    for _ in $(seq 300); do # a zombie is no process any more
        grep -qs '^State:.[^Z]' "/proc/$rank/status" || continue 2
        sleep 0.1
    done
    echo "killed rank: process $rank is left behind"
    failed=1
done

exit $failed
