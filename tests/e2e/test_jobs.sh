#!/usr/bin/env bash
# jobs/ without a Slurm (tests/cluster has a real one): what is requeued and under which number, that signals are passed on,
# the grid of the sweep, the dependencies of the chain. scontrol, sbatch and mpirun are stand-ins that write down what they get.
set -u
jobs=$PWD/jobs
. tests/common.sh
mkdir bin
cat > bin/scontrol << 'E'
#!/bin/sh
echo "$*" >> asked
E
cat > bin/sbatch << 'E'
#!/bin/sh
n=$(($(cat submitted 2> /dev/null | wc -l) + 1))
echo "$*" >> submitted
cat > "script.$n"
echo "$n"
E
cat > bin/mpirun << 'E'
#!/bin/sh
echo "$*" >> started
E
chmod +x bin/*
PATH=$PWD/bin:$PATH

# under CODE REQUEST COMMAND...: run_until_done COMMAND in a job ends with CODE and asks scontrol for REQUEST.
under() {
    local code=$1 request=$2 rc
    shift 2
    rm -f asked
    (
        . "$jobs/lib.sh"
        sleep() { :; }
        [ -z "${SLOW_KILL:-}" ] || kill() { builtin kill "$@" && command sleep 0.3; }
        run_until_done "$@"
        exit
    ) 2> err.txt
    rc=$?
    [ $rc -eq "$code" ] && [ "$(cat asked 2> /dev/null)" = "$request" ] || bad "$*: rc $rc, asked for \"$(cat asked 2>&1)\""
}
export SLURM_JOB_ID=20 RUN=run
for code in 75 85 134 137 143 205; do
    under $code "requeue 20" bash -c "exit $code"
done
for code in 0 1 2 65 70 73; do
    under $code "" bash -c "exit $code"
done
# A rank that dies before the run's first line is started again on the spot, five times at most; one that dies later is not.
mkdir -p run
under 139 "" bash -c 'echo x >> starts; exit 139'
[ "$(wc -l < starts)" -eq 5 ] || bad "a start that dies: $(cat err.txt)"
under 0 "" bash -c '[ "$(wc -l < starts)" -eq 7 ] || { echo x >> starts; exit 139; }'
rm -f starts
under 139 "" bash -c 'echo x >> starts; echo x >> run/log.txt; exit 139'
[ "$(wc -l < starts)" -eq 1 ] || bad "a run that dies was started again: $(cat err.txt)"
rm -rf run starts
# An array's last task has the number of the array; scontrol takes all tasks by that.
SLURM_ARRAY_JOB_ID=20 SLURM_ARRAY_TASK_ID=4 under 85 "requeue 20_4" bash -c 'exit 85'
SLURM_RESTART_COUNT=20 under 85 "" bash -c 'exit 85'
SLURM_RESTART_COUNT=3 MAX_RESTARTS=4 under 85 "requeue 20" bash -c 'exit 85'
SLURM_JOB_ID='' under 85 "" bash -c 'exit 85'
# USR1 and TERM to the batch shell reach the command, whose code then counts, also where it has ended before the shell looks.
for signal in USR1 TERM; do
    for slow in '' 1; do
        SLOW_KILL=$slow under 85 "requeue 20" bash -c "trap 'exit 85' $signal; kill -$signal \$PPID; while :; do :; done"
    done
done

# sweep.sbatch: every task its own pair of beta and seed, and no task beyond them.
task() { (set +u && SLURM_ARRAY_TASK_ID=$1 SLURM_CPUS_PER_TASK=1 ROOT=${jobs%/jobs} HEARTBEAT_S=0 && . "$jobs/sweep.sbatch") 2> err.txt; }
for n in 0 1 2 3 4 5 6 7 8; do
    task $n || bad "task $n of the sweep: $(cat err.txt)"
done
[ "$(sed -E 's/.*(dpo.beta=[0-9.]+ seed=[0-9]).*/\1/' started | sort -u | wc -l)" -eq 9 ] || bad "the sweep's tasks: $(cat started)"
[ "$(sed -E 's/.* output=([^ ]*).*/\1/' started | sort -u | wc -l)" -eq 9 ] || bad "the sweep's folders: $(cat started)"
task 9 && bad "a tenth task runs"
grep -q "more tasks than betas x seeds" err.txt || bad "of a tenth task: $(cat err.txt)"

# chain.sh: four jobs, each after the one before, which end the chain where one fails.
bash "$jobs/chain.sh" pairs.jsonl heldout.jsonl model chain -N2 -c8 > out.txt || bad "chain.sh"
[ "$(grep -c -- '-N2 -c8$' submitted)" -eq 4 ] || bad "the chain's jobs: $(cat submitted)"
for n in 1 2 3 4; do
    after=$([ $n = 1 ] || echo "--dependency=afterok:$((n - 1)) ")
    sed -n "${n}p" submitted | grep -q -- "\.log $after--kill-on-invalid-dep=yes --requeue" || bad "job $n of the chain"
    bash -n "script.$n" || bad "the script of job $n"
done

# Its paths may hold anything that a name may: each job's commands get them whole.
mkdir -p 'my data,a=b' run
rm -f submitted started
cat > bin/collimate << 'E'
#!/bin/sh
printf '%s\n' "$@" >> "$STARTED"
E
cat > bin/mpirun << 'E'
#!/bin/sh
while [ "${1##*/}" != collimate ]; do shift; done
exec "$@"
E
chmod +x bin/*
export COLLIMATE=$PWD/bin/collimate STARTED=$PWD/started
HEARTBEAT_S=0 bash "$jobs/chain.sh" 'my data,a=b/$p 1.jsonl' heldout.jsonl 'a model' 'my data,a=b/run' > out.txt || bad "chain.sh with odd paths"
for n in 1 2 3 4; do
    bash "script.$n" || bad "job $n with odd paths"
done
for word in 'input=my data,a=b/$p 1.jsonl' 'tokenizer=a model' 'output=my data,a=b/run/train.h5' 'model=my data,a=b/run/sft/model' \
    'reference=my data,a=b/run/sft/model' 'output=my data,a=b/run/evaluate.json'; do
    grep -qxF "$word" started || bad "no job gets \"$word\": $(cat started)"
done

# The heartbeat guard asks whether the file changes, whatever its clock says; and acts where it does not.
cat > bin/steps << 'E'
for i in $(seq "$1"); do
    echo x >> run/metrics.jsonl
    touch -d '-1000 seconds' run/metrics.jsonl
    sleep 0.1
done
[ "$2" = ends ] || exec sleep 100 # the shell itself: what it left would hold the output of this test open
E
guarded() { (HEARTBEAT_S=$1 SLURM_JOB_ID='' && . "$jobs/lib.sh" && run_until_done bash bin/steps "$2" "$3") 2> err.txt; }
guarded 3 60 ends || bad "a run whose clock is late was ended: $(cat err.txt)"
guarded 1 20 stands && bad "a run that stands still goes on"
grep -q 'no step for .* (run/metrics.jsonl stands still), ending the run' err.txt || bad "the guard says: $(cat err.txt)"

# A host whose own name nobody knows is told what to do, once.
printf '#!/bin/sh\nexit 2\n' > bin/getent
chmod +x bin/getent
(unset COLLIMATE_HOST_SEEN && . "$jobs/env.sh" && . "$jobs/env.sh") 2> err.txt
[ "$(wc -l < err.txt)" -eq 1 ] && grep -q 'does not resolve.*/etc/hosts' err.txt || bad "env.sh says: $(cat err.txt)"
finish
