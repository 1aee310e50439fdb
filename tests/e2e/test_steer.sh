#!/usr/bin/env bash
# Steering: dpo steer.layers begins at log 2 and has the same bits on 1, 2 and 4 ranks, sharded, on check:cpu and across a kill;
# embeddings that the job makes are those that are given; evaluate by users, generate and score under their choices, the same
# bytes on any ranks; what goes without is refused.
set -u
. tests/e2e/faults.sh
run 1 --quiet synth synth.kind=users synth.rows=120 synth.length=4 output=users.jsonl
run 1 --quiet prepare input=users.jsonl tokenizer=bytes prepare.objectives=kind,harsh output=users.h5
users=users.kind.h5,users.harsh.h5
run 1 --quiet embed data=users.kind.h5 model=init output=users.embeddings.h5
common=(--quiet data="$users" model=init train.batch=16 steer.targets=4 steer.context_max=3 steer.hidden=16 steer.heads=2
    train.slots=4 train.micro_tokens=256 train.learning_rate=1e-2 steer.rate=5e-3 steer.layers=all train.deterministic=true
    train.steps=4)
lora=(lora.rank=2 lora.dropout=0.1)
given=embeddings=users.embeddings.h5
# same_adapter RUN1 RUN2
same_adapter() {
    cmp -s <(numbers "$1") <(numbers "$2") || bad "metrics of $1 and $2 differ"
    for f in adapter_model steering; do
        cmp -s "$1/adapter/$f.safetensors" "$2/adapter/$f.safetensors" || bad "$f of $1 and $2 differ"
    done
}
run 1 dpo "${common[@]}" "${lora[@]}" $given output=s1
grep -q '"version": 2,' s1/adapter/steering.json || bad "a bounded z that programs of version 1 would leave out"
grep -q '"step": 1, "loss": 0.69314718' s1/metrics.jsonl || bad "the loss does not begin at log 2"
run 1 dpo "${common[@]}" "${lora[@]}" output=own
run 2 dpo "${common[@]}" "${lora[@]}" $given output=s2 threads=2 train.shard_optimizer=true
run 4 dpo "${common[@]}" "${lora[@]}" $given output=s4 device=check:cpu train.recompute=layers
for n in own s2 s4; do same_adapter s1 $n; done
run 4 dpo "${common[@]}" "${lora[@]}" $given output=moved train.steps=2
run 1 dpo "${common[@]}" "${lora[@]}" $given output=moved
went_on moved 2
same_adapter s1 moved
held_at_step 2
begin 1 err.txt dpo "${common[@]}" "${lora[@]}" $given output=killed train.checkpoint_every=1
with_disk
until_step 2 killed
# shellcheck disable=SC2046
kill -KILL $(pgrep -P "$launched" -x collimate)
ended "$launched" 100
[ "$rc" = 137 ] || bad "a run that was to be killed: rc $rc"
run 1 dpo "${common[@]}" "${lora[@]}" $given output=killed train.checkpoint_every=1
went_on killed '[12]'
same_adapter s1 killed
run 1 dpo "${common[@]}" $given output=film steer.bounded=false
grep -q '"version": 1,' film/adapter/steering.json || bad "a version that only bounded ones need"
[ -e film/adapter/adapter_model.safetensors ] && bad "an adapter without LoRA"

# By users: a policy that is told nothing cannot tell them apart.
test=(data="$users" model=init steer.draws=6 steer.targets=5 steer.counts=0,2 split=test)
run 1 --quiet evaluate "${test[@]}" adapter=s1/adapter $given output=e1
run 2 --quiet evaluate "${test[@]}" adapter=s1/adapter output=e2
cmp -s e1 e2 || bad "evaluate differs between rank counts, or between given and own embeddings"
python3 - e1 << 'PY' || bad "evaluate by users"
import json, sys
e = json.load(open(sys.argv[1]))
assert e["steered"] and list(e["accuracy"]) == ["users.kind", "users.harsh"]
assert [x["choices"] for x in e["sum"]] == [0, 2] and abs(e["sum"][0]["conflicting"]["value"] - 1) < 1e-12
assert all(x["all"]["pairs"] == 30 for x in e["accuracy"]["users.kind"])
PY
run 1 --quiet evaluate "${test[@]}" adapter=film/adapter $given output=e3
grep -q '"steered": true' e3 || bad "FiLM alone"

refuses 2 "reference" evaluate "${test[@]}" $given

# During a training: what evaluate says of its end, on any ranks, of the same responses or of others; the updates stay the same.
accuracies() {
    python3 - "$1" "$2" << 'PY'
import json, sys
found = {l["step"]: l for l in map(json.loads, open(sys.argv[1] + "/metrics.jsonl")) if "eval_accuracies/sum/2" in l}
assert sorted(found) == [0, 3, 4] and all("eval_runtime" in l for l in found.values()), sorted(found)
last = json.load(open(sys.argv[2]))
users = {**{name.split(".")[1]: rows for name, rows in last["accuracy"].items()}, "sum": last["sum"]}
seen = {k.split("/")[1].split(".")[-1] + "/" + k.split("/")[2]: v for k, v in found[4].items() if k.startswith("eval_accuracies")}
want = {f"{user}/{row['choices']}": row["conflicting"]["value"] for user, rows in users.items() for row in rows}
assert seen == want and len(seen) == 6, (seen, want)
assert found[0]["eval_accuracies/sum/0"] == 0 # the policy is its reference yet
PY
}
run 1 --quiet synth synth.kind=users synth.rows=40 synth.length=4 seed=9 output=held.jsonl
run 1 --quiet prepare input=held.jsonl tokenizer=bytes prepare.objectives=kind,harsh prepare.splits=false output=held.h5
watched=("${common[@]}" "${lora[@]}" train.evaluate_every=3 steer.draws=6 steer.counts=0,2)
run 1 dpo "${watched[@]}" $given output=w1 eval_data=$users eval_split=test
run 2 dpo "${watched[@]}" output=w2 eval_data=$users eval_split=test
run 1 dpo "${watched[@]}" output=held eval_data=held.kind.h5,held.harsh.h5
for n in w1 w2 held; do
    cmp -s s1/adapter/steering.safetensors $n/adapter/steering.safetensors || bad "an evaluation changes $n"
done
cmp -s <(grep -o '"eval_acc[^,]*' w1/metrics.jsonl) <(grep -o '"eval_acc[^,]*' w2/metrics.jsonl) || bad "accuracies differ between ranks"
asked=(data="$users" model=init steer.draws=6 steer.targets=4 steer.counts=0,2 split=test)
run 1 --quiet evaluate "${asked[@]}" adapter=w1/adapter $given output=w1.json
accuracies w1 w1.json || bad "accuracies during training"
asked[0]=data=held.kind.h5,held.harsh.h5 asked[5]=split=all
run 1 --quiet evaluate "${asked[@]}" adapter=w1/adapter output=held.json
accuracies held held.json || bad "accuracies of other responses during training"

# Trained on, and on an adapter that has none yet, whose FiLM begins as nothing.
run 1 dpo "${common[@]}" $given output=more adapter=s1/adapter reference.adapter=none train.steps=1
run 1 --quiet dpo data=users.kind.h5 model=init lora.rank=2 train.steps=1 output=plain
run 1 dpo "${common[@]}" $given output=onto adapter=plain/adapter reference.adapter=plain/adapter train.steps=1
grep -q '"step": 1, "loss": 0.69314718' onto/metrics.jsonl || bad "steering on an adapter does not begin as the adapter"

# Under choices.
python3 - users.jsonl << 'PY'
import json, sys
rows = [json.loads(l) for l in list(open(sys.argv[1]))[:3]]
for user in ("kind", "harsh"):
    with open(user + ".jsonl", "w") as f:
        for r in rows:
            a, b = sorted(r["responses"], key=lambda x: -x["scores"][user])
            f.write(json.dumps({"prompt": r["prompt"], "chosen": a["text"], "rejected": b["text"]}) + "\n")
PY
speak=(--quiet generate data=users.kind.h5 model=init adapter=s1/adapter generate.limit=3 generate.max_new_tokens=6
    steer.context=kind.jsonl,harsh.jsonl)
run 1 "${speak[@]}" output=g1
run 2 "${speak[@]}" output=g2
cmp -s g1 g2 || bad "generate differs between rank counts"
[ "$(grep -c '"user": "kind"' g1)-$(grep -c '"user": "harsh"' g1)" = 3-3 ] || bad "not a text for each user and prompt"
ls ./*.choices.h5* 2> /dev/null && bad "choices' tokens were left behind"
tac kind.jsonl > turned.jsonl
score=(--quiet score data=users.kind.h5 model=init adapter=s1/adapter)
run 1 "${score[@]}" output=k1 steer.context=kind.jsonl
run 1 "${score[@]}" output=k2 steer.context=turned.jsonl
run 1 "${score[@]}" output=k3 steer.context=harsh.jsonl
run 1 "${score[@]}" output=k4 steer.context=harsh.jsonl steer.choices=1
run 1 "${score[@]}" output=k0
python3 - << 'PY' || bad "scores under choices"
import json
read = lambda f: [json.loads(l)["logp"] for l in open(f)]
off = lambda a, b: max(abs(x - y) for x, y in zip(read(a), read(b)))
assert off("k1", "k2") < 1e-4, "the order of choices matters"
assert min(off("k1", "k3"), off("k1", "k0"), off("k3", "k4")) > 1e-3, "choices do not matter"
PY

refuses 2 "no multiple of steer.targets" dpo "${common[@]}" "${lora[@]}" $given output=refused train.batch=15
refuses 2 "names 1 files and data 2" dpo "${common[@]}" "${lora[@]}" $given output=refused eval_data=users.kind.h5
refuses 2 "steer.counts=3,1" --dry-run dpo "${common[@]}" "${lora[@]}" output=refused eval_data=$users steer.counts=3,1
refuses 2 "steer.context_max=99: contexts are taken of" --dry-run dpo "${common[@]}" "${lora[@]}" output=refused steer.context_max=99
refuses 2 "names 1 files and data 2" dpo "${common[@]}" "${lora[@]}" output=refused eval_data=users.kind.h5
[ -e refused ] && bad "something was made before the refusal"
# A reference that is refused is so before anything is embedded.
sed 's/"vocab_size": [0-9]*/"vocab_size": 100/; s/"\([be]os_token_id\)": [0-9]*/"\1": 0/' config.json > narrow.json
run 1 --quiet init init.config=narrow.json output=narrow
refuses 65 "narrow has a vocabulary of 100, but users.kind.h5 holds token id" dpo "${common[@]}" "${lora[@]}" output=early reference=narrow
ls early/*.embeddings.h5* 2> /dev/null && bad "embeddings were made for a reference that is refused"
refuses 2 "has other responses than data" dpo "${common[@]}" "${lora[@]}" $given output=refused eval_data=held.kind.h5,held.harsh.h5
refuses 2 "\"evaluate.rows\" has no effect" dpo "${common[@]}" "${lora[@]}" $given output=refused eval_data=$users evaluate.rows=3
refuses 2 "not one of a pair alone" dpo "${common[@]}" "${lora[@]}" $given output=refused dpo.loss=aot
refuses 2 "all, or 1 to 2" dpo "${common[@]}" "${lora[@]}" $given output=refused steer.layers=3
refuses 2 "has 4 pairs\|steer.targets=4" dpo "${common[@]}" "${lora[@]}" $given output=refused steer.context_max=5
refuses 2 "goes by users" merge model=init adapter=s1/adapter output=merged data=users.kind.h5
refuses 2 "trained on with dpo" sft data=users.kind.h5 model=init adapter=s1/adapter output=refused
refuses 65 "was trained on those by" evaluate "${test[@]}" adapter=s1/adapter embed.pooling=last
refuses 2 "adapter" score data=users.kind.h5 model=init steer.context=kind.jsonl
finish
