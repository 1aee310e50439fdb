#!/usr/bin/env bash
# A run folder has one owner, and its records tell what happened: leases of the living, the dead and the far away; temporary
# names; what a refused run leaves; which step a model is of; and what a run is refused for before its first update.
set -u
. tests/common.sh
tiny_world
training=(sft model=init data=train.h5 train.batch=8 train.slots=4 truncate.max_length=96)
records() { sha256sum "$1"/{config.yaml,environment.json,log.txt,metrics.jsonl}; }
# there FILE: waits for it.
there() {
    for _ in $(seq 3000); do
        [ -s "$1" ] && return
        sleep 0.02
    done
    bad "$1 does not come"
}

# Who trains is named to whoever comes second; nothing changes under the first one. A dry run and preflight say the same.
"$COLLIMATE" --quiet "${training[@]}" output=held train.steps=100000000 2> held.err &
first=$!
there held/metrics.jsonl
before=$(cat held/config.yaml)
mkdir -p held/checkpoints
touch "held/checkpoints/$(sed -E 's/.*"owner": "([^"]*)".*/\1/' held/lease.json).step-1.h5.tmp"
refuses 73 "held: process $first on .* has held it since .* (held/lease.json); wait until it has ended" "${training[@]}" output=held train.steps=5
refuses 73 "process $first on" "${training[@]}" output=held train.steps=100000000 --dry-run
refuses 73 "output: held: process $first on" preflight "${training[@]:1}" output=held train.steps=5 preflight.command=sft
[ "$before" = "$(cat held/config.yaml)" ] || bad "a refused run changed config.yaml"
compgen -G 'held/checkpoints/*.step-1.h5.tmp' > /dev/null || bad "a living process's temporary file was removed"
# Killed, it leaves its lease and what it was writing: the next run of this host knows at once.
kill -KILL $first
wait $first 2> /dev/null
[ -e held/lease.json ] || bad "no lease is left by a killed run"
run 1 "${training[@]}" output=held train.steps=2
grep -q "process $first on .* is gone, its lease is taken over" err.txt || bad "a dead holder is not named: $(head -3 err.txt)"
grep -q "removed 1 temporary file of" held/log.txt || bad "what the dead left is not removed: $(ls held/checkpoints)"
[ ! -e held/lease.json ] || bad "a lease stays after the end"

# Of another host only the pulse tells: still for six of its beats it is taken over, with its temporary files; beating it is not.
lease() { printf '{"owner": "far-77-0badcafe-1f", "host": "far", "pid": 77, "job": "4711", "since": "then", "beat_s": %s, "pulse": %12d}\n' "$2" "$1" > far/lease.new && mv far/lease.new far/lease.json; }
mkdir -p far/checkpoints
lease 1 0.2
touch far/checkpoints/far-77-0badcafe-1f.step-3.h5.tmp far/checkpoints/other-78-0badcafe-1f.step-3.h5.tmp far/notes.tmp
run 2 "${training[@]}" output=far train.steps=1 overwrite=true
grep -q 'process 77 on far is gone, its lease is taken over' err.txt || bad "a silent holder: $(head -3 err.txt)"
[ "$(ls far/checkpoints/*.tmp far/notes.tmp)" = $'far/checkpoints/other-78-0badcafe-1f.step-3.h5.tmp\nfar/notes.tmp' ] ||
    bad "temporary files: $(ls far far/checkpoints)"
lease 1 20 # six of these are more than a busy machine keeps the next one from coming
(for i in $(seq 2 3000); do
    [ -e stop ] && break
    lease "$i" 20
    sleep 0.05
done) &
refuses 73 'far: process 77 on far, job 4711 has held it since then' "${training[@]}" output=far train.steps=2
touch stop
wait
[ -e far/lease.json ] || bad "the lease of another one was removed"
rm far/lease.json

# A run that is refused leaves its folder as it was; an output folder that it made goes again.
run 1 "${training[@]}" output=run train.steps=6
before=$(records run)
refuses 2 'train.learning_rate (was ' "${training[@]}" output=run train.steps=7 train.learning_rate=0.5
refuses 2 'run: 6 updates are done, and train.steps or train.epochs asks for 3; set train.steps=6' "${training[@]}" output=run train.steps=3
refuses 66 'no checkpoint' "${training[@]}" output=new train.steps=7 train.resume=must
[ "$before" = "$(records run)" ] || bad "a refused run changed the records"
rm -rf new
refuses 66 'nothere' "${training[@]}" output=new train.steps=7 model=nothere
[ ! -e new ] || bad "a refused run leaves a folder: $(ls new)"

# The model says its step, also while a later leg goes on; a new beginning has none. A message names a checkpoint if there is one.
said() { "$COLLIMATE" inspect input="$1" | grep -q "^final model *$2\$" || bad "inspect of $1: $("$COLLIMATE" inspect input="$1" | tail -1)"; }
said run 'model/, of step 6'
wild=(train.weight_decay=10 train.optimizer=sgd train.learning_rate=1000 train.clip=0)
refuses 65 'finite.*; there is no checkpoint yet$' "${training[@]}" "${wild[@]}" output=run train.steps=60 train.resume=never
said run none
refuses 65 'finite.*; the checkpoint of step [1-9][0-9]* stays$' "${training[@]}" "${wild[@]}" output=wild train.steps=60 train.checkpoint_every=1
run 1 "${training[@]}" output=legs train.steps=2
"$COLLIMATE" --quiet "${training[@]}" output=legs train.steps=100000000 train.checkpoint_every=3 2> legs.err &
second=$!
there legs/checkpoints/step-3.h5
said legs 'model/, of step 2'
kill -KILL $second
wait $second 2> /dev/null

# A damaged line of metrics is named when the run goes on.
sed -i '3s/"step"/step"/' held/metrics.jsonl
run 1 "${training[@]}" output=held train.steps=3
grep -q 'held/metrics.jsonl, line 3: dropped, the line is damaged' held/log.txt || bad "a damaged line is not named: $(cat err.txt)"

# Rows longer than the model's positions, as its rope stretches them: before the first update, and the same from all who ask.
sed 's/"max_position_embeddings": 1024/"max_position_embeddings": 40/' config.json > short.json
"$COLLIMATE" --quiet init init.config=short.json output=short tokenizer=bytes || exit 1
for more in '' --dry-run; do
    refuses 65 'train.h5: prompt and response have up to [0-9]* tokens (row [0-9]*), the model has 40 positions; set truncate.max_length=40' \
        "${training[@]}" model=short output=short.run truncate.max_length=0 $more
    [ ! -e short.run ] || bad "a run of rows too long began: $(ls short.run)"
done
refuses 65 'the model has 40 positions' preflight "${training[@]:1}" model=short output=short.run truncate.max_length=0 preflight.command=sft
run 1 "${training[@]}" model=short output=short.run truncate.max_length=40 train.steps=1
cp -r short base
sed -i 's/"rope_theta": [0-9.]*/&, "rope_scaling": {"rope_type": "linear", "factor": 4.0}/' short/config.json
run 1 "${training[@]}" model=short output=stretched truncate.max_length=100 train.steps=1

# Tasks that Slurm or PMI counts and MPI does not: each would take itself for the only one. A batch script's own process is none.
tasks() {
    local code=$1
    shift
    env "$@" "$COLLIMATE" synth output=s.jsonl synth.rows=1 > out.txt 2> err.txt
    [ $? -eq "$code" ] || bad "$*: not $code: $(cat err.txt)"
}
tasks 71 SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_NTASKS=4 SLURM_PROCID=0
grep -q 'SLURM_NTASKS says that there are 4 tasks.*srun --mpi=pmix' err.txt || bad "tasks without PMIx: $(cat err.txt)"
tasks 71 SLURM_JOB_ID=7 SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1
[ ! -s err.txt ] || bad "more than one task speaks: $(cat err.txt)"
tasks 71 PMI_SIZE=2 PMI_RANK=0
tasks 71 PMIX_RANK=1
tasks 0 SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0
tasks 0 SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_STEP_ID=4294967290 SLURM_STEP_NUM_TASKS=1
tasks 0 SLURM_STEP_ID=0 SLURM_NTASKS=4 SLURM_PROCID=0 COLLIMATE_ALONE=1
SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=1 SLURM_PROCID=0 run 2 synth output=s.jsonl synth.rows=1

# What a command line or an environment gets wrong is named, with what to do.
cp init/config.json settings.yml
refuses 2 '"settings.yml" exists, but only a name that ends with .yaml is a configuration' sft settings.yml
refuses 2 '"nothere.yml" is neither key=value nor a file that exists' sft nothere.yml
printf 'train:\n  stepz: 3\n' > 'lr=1.yaml'
refuses 2 'lr=1.yaml, line 2.*train.stepz' sft lr=1.yaml
mkdir 'a,b'
cp train.jsonl 'a,b/t.jsonl'
run 1 prepare input='a,b/t.jsonl' tokenizer=bytes output='a,b/t.h5'
refuses 2 'train.stop_before: 2020-01-01T00:00:00Z is past, by .* s; set a time to come' "${training[@]}" output=late train.stop_before=2020-01-01T00:00:00Z
SLURM_JOB_END_TIME=1000 run 1 "${training[@]}" output=late train.steps=2
grep -q 'SLURM_JOB_END_TIME=1000 is past, by .* s, and is not heeded' err.txt || bad "a past end: $(cat err.txt)"
refuses 65 'train.h5: prompt and response have up to .* the model has 40 positions' score data=train.h5 model=base output=scores.jsonl
finish
