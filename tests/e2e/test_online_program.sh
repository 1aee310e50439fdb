#!/usr/bin/env bash
# online.reward_command: a program's rewards are the same bits on 1, 2 and 4 ranks, on the value head's way too; one that dies, hangs
# or talks too much ends the run with code 65 on all ranks, row, sample and rank named; the programs end with the run, and with a rank
# that was killed. PPO's value head is beside the model, and its checkpoints are models.
set -u
. tests/e2e/faults.sh
tiny_world 24 6
exact="online model=init data=train.h5 online.prompts=4 online.samples=2 online.max_new_tokens=10 train.learning_rate=1e-3
    train.deterministic=true train.slots=4"
# The number of tokens that are even, and how many programs there are.
cat > count.sh << 'END'
echo $$ >> pids
while IFS= read -r line; do
    [[ $line =~ \"tokens\":\ \[([^]]*)\] ]]
    n=0
    for token in ${BASH_REMATCH[1]//,/}; do
        n=$((n + (token % 2 == 0)))
    done
    echo "{\"reward\": $n}"
done
END
gone() { # all of pids have ended, soon
    local pid
    for pid in $(< pids); do
        for _ in $(seq 500); do
            kill -0 "$pid" 2> /dev/null || continue 2
            sleep 0.02
        done
        bad "$1: a program goes on"
    done
}
numbers_agree() {
    for ranks in 1 2 4; do
        : > pids
        run $ranks $exact output=ppo-$ranks online.method=ppo online.inner_epochs=2 train.steps=4 train.checkpoint_every=2 \
            online.reward_command="bash count.sh"
        [ "$(wc -l < pids)" -eq $ranks ] || bad "$(wc -l < pids) programs on $ranks ranks"
        gone "$ranks ranks"
    done
    same ppo-1 ppo-2
    same ppo-1 ppo-4
    cmp -s ppo-1/model/value_head.safetensors ppo-4/model/value_head.safetensors || bad "another value head on 4 ranks"
    grep -q '"rewards/command/mean": [0-9]' ppo-1/metrics.jsonl || bad "no mean of the program's rewards"
    column ppo-1/metrics.jsonl loss/value_avg | awk '$2 <= 0 { bad = 1 } END { exit bad || NR != 4 }' || bad "no value loss"
    run 1 --quiet generate data=train.h5 model=ppo-1/checkpoints/step-4.h5 generate.max_new_tokens=4 output=from-checkpoint.jsonl
    run 1 --quiet generate data=train.h5 model=ppo-1/model generate.max_new_tokens=4 output=from-model.jsonl
    cmp -s from-checkpoint.jsonl from-model.jsonl || bad "the checkpoint is another model"
    run 1 $exact model=ppo-1/model output=further online.method=ppo train.steps=1 online.reward_command="bash count.sh"
    run 1 $exact output=adapted online.method=ppo lora.rank=2 train.steps=1 online.reward_command="bash count.sh"
    [ -s adapted/adapter/value_head.safetensors ] || bad "no value head beside the adapter"
}
hostile() {
    local named="online.reward_command on rank [01]: row [0-9]+, sample [01]"
    hostile_one() { bash "$root/tests/expect.sh" 65 "$1" 60 mpirun -q -n 2 "$COLLIMATE" $exact output="$2" online.reward_command="$3" "${@:4}" || bad "$2"; }
    hostile_one "$named: the program ended \(exit status 3\) after 0 of" dies "exit 3"
    hostile_one "$named: the program has said nothing for 0.4 s" hangs "sleep 100" online.reward_timeout_s=0.4
    hostile_one "$named: not a line with a reward .*it wrote .*hello" talks "while read a; do echo hello; done"
    hostile_one "$named: the reward is not a finite number" nan "while read a; do echo nan; done"
    hostile_one "online.reward_command on rank [01]: (row|after row) [0-9]+, sample [01]: more lines" much "while read a; do printf '1\n1\n'; done"
    hostile_one "online.reward_command on rank [01]: row [0-9]+, sample [01]: .*exit status 127: no such command" none "no-such-program"
}
# A rank that is killed takes its program along: it reads the end of its input.
killed() {
    : > pids
    begin 2 err.txt $exact output=killed train.steps=100000000 train.checkpoint_every=100000 online.reward_command="bash count.sh"
    until_step 2 killed
    # shellcheck disable=SC2046
    kill -KILL $(pgrep -P "$launched" -x collimate)
    wait "$launched"
    gone "killed"
}
root=$OLDPWD
together numbers_agree hostile killed
finish
