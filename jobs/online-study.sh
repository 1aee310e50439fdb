#!/usr/bin/env bash
# What `collimate online` buys: from one SFT policy in a world whose true reward is known, DPO on offline pairs, RAFT, online
# DPO, RLOO, GRPO, PPO, XPO and Nash-MD at equal numbers of updates, by the true reward and by a reward model that learned it from few
# labels, many of them wrong. The true reward of held-out responses is put beside their KL from the SFT policy, along
# training: which methods get more for the same distance, and where a learned reward is over-optimised.
#   bash jobs/online-study.sh                  several seeds (three, without XPO and Nash-MD: 9 minutes of two busy cores)
#   STUDY=quick bash jobs/online-study.sh      the same in little: to see it work, not to learn from it
# Writes to RUN (runs/online-study): points.csv (reward and KL of each run along training), table.csv, table.txt (means over
# seeds with Student's intervals at 95 %, differences paired by seed), online-study.png (with PYTHON: one with matplotlib).
# What is finished is not run again: after an interruption the same command goes on. FRESH=1 begins anew.
set -euo pipefail

# The true reward of a text: the mean over its words of 1 for a kind one, -1 for a harsh one and for what is no word, 0 for
# any other; -1 for a text without words or without its full stop. As a program of online.reward_command:
#   bash jobs/online-study.sh reward     reads lines with "text": "…" and writes a number for each
kind=' glad good sweet lovely dear fine happy bright '
other=' it is was and then there one with some more that about from over here many river house song road tree boat bird book '
true_reward() ( # a shell of its own: no word is a pattern of files
    local line text word sum n
    set -f
    while IFS= read -r line; do
        text='' sum=0 n=0
        [[ $line =~ \"text\":\ \"(([^\"\\]|\\.)*)\" ]] && text=${BASH_REMATCH[1]}
        for word in ${text%.}; do
            n=$((n + 1))
            case $kind in *" $word "*) sum=$((sum + 1)) && continue ;; esac
            case $other in *" $word "*) ;; *) sum=$((sum - 1)) ;; esac
        done
        [[ $text == *. && $n -gt 0 ]] || sum=-1 n=1
        sum=$((sum * 10000 / n)) word=''
        [ $sum -ge 0 ] || word=- sum=$((-sum))
        printf '%s%d.%04d\n' "$word" $((sum / 10000)) $((sum % 10000))
    done
)
if [ "${1:-}" = reward ]; then
    true_reward
    exit
fi
cd "$(dirname "$0")/.."

# ---- settings: each can be set in the environment --------------------------------------------------------------------
run=${RUN:-runs/online-study}
at_once=${AT_ONCE:-} # seeds side by side; empty: as many as there are cores
case ${STUDY:-full} in
full) seeds=${SEEDS:-6} rows=${ROWS:-2000} sft_steps=${SFT_STEPS:-300} updates=${UPDATES:-60} points=${POINTS:-4} heldout=${HELDOUT:-64} ;;
quick) seeds=${SEEDS:-2} rows=${ROWS:-200} sft_steps=${SFT_STEPS:-60} updates=${UPDATES:-8} points=${POINTS:-2} heldout=${HELDOUT:-16} ;;
*) echo "STUDY=$STUDY: full or quick" >&2 && exit 2 ;;
esac
methods=${METHODS:-dpo raft online_dpo rloo grpo ppo xpo nash_md}
rewards=${REWARDS:-truth learned}
labels=${LABELS:-600} # pairs that the reward model learns from,
noise=${NOISE:-0.15}  # and the share of them that is turned
# Four words a response, one of them marked: short enough that a policy of two layers spells after 300 updates on both
# responses of each pair, so that it begins between kind and harsh.
text=(synth.rule=style synth.length=4)
shape=${SHAPE:-configs/models/llama-mini.json}
sft=(train.batch=32 train.steps="$sft_steps" train.learning_rate=3e-3 train.schedule=cosine train.warmup_steps=10)
# DPO's is the best of 2.5e-5, 5e-5 and 1e-4 in the end; from there on it leaves the world's words.
rate=${RATE:-5e-4} dpo_rate=${DPO_RATE:-5e-5}
common=(train.steps="$updates" train.warmup_steps=5 train.clip=1)
# 32 responses an update for every method, and as many pairs for DPO. Each has its own weight of the KL.
prompts=${PROMPTS:-8}
declare -A options=(
    [raft]="online.samples=4 online.top_share=0.25"
    [online_dpo]="online.samples=4 online.kl=0.1"
    [rloo]="online.samples=4 online.kl=0.02"
    [grpo]="online.samples=4 online.kl=0.02"
    [ppo]="online.samples=4 online.kl=0.02 online.inner_epochs=2"
    [xpo]="online.kl=0.1"
    [nash_md]="online.kl=0.1"
)
# ----------------------------------------------------------------------------------------------------------------------

ranks=1 input='' base=''
. jobs/study.sh

# draw NAME ROWS SEED OPTIONS...: pairs, prepared.
draw() {
    local name=$1
    once "synth-$name" synth "${text[@]}" synth.rows="$2" seed="$3" output="$dir/$name.jsonl" "${@:4}"
    once "prepare-$name" prepare input="$dir/$name.jsonl" tokenizer=bytes output="$dir/$name.h5"
}

# What a seed begins with: an SFT policy on both responses of pairs, offline pairs, a reward model from few noisy ones.
begin_seed() {
    draw pairs "$rows" "${seed}1"
    draw labels "$labels" "${seed}2" synth.noise="$noise"
    draw heldout "$heldout" "${seed}3"
    [ -e "$dir/both.jsonl" ] ||
        sed -E 's/^\{"prompt": ("[^"]*"), "chosen": ("[^"]*"), "rejected": ("[^"]*").*/{"prompt": \1, "completion": \2}\n{"prompt": \1, "completion": \3}/' \
            "$dir/pairs.jsonl" > "$dir/both.jsonl"
    once prepare-both prepare input="$dir/both.jsonl" tokenizer=bytes output="$dir/both.h5"
    once init init init.config="$shape" tokenizer=bytes output="$dir/init" seed="$seed"
    once sft sft data="$dir/both.h5" model="$dir/init" output="$dir/sft" "${sft[@]}" seed="$seed"
    once judge reward data="$dir/labels.h5" model="$dir/sft/model" output="$dir/judge" train.batch=16 train.epochs=4 \
        train.learning_rate=1e-3 seed="$seed"
}

# evaluate METHOD REWARD STEP MODEL: a line of points: true reward and KL from the SFT policy of held-out responses.
evaluate() {
    local name=$2-$1-$3
    [[ $1 != dpo && $1 != sft ]] || name=offline-$1-$3 # whatever the reward
    once "generate-$name" generate data="$dir/heldout.h5" model="$4" generate.reference="$dir/sft/model" generate.samples=4 \
        generate.temperature=1 generate.max_new_tokens=48 generate.batch=32 output="$dir/$name.jsonl" seed="$seed"
    [ -e "$dir/$name.rewards" ] || true_reward < "$dir/$name.jsonl" > "$dir/$name.rewards"
    paste "$dir/$name.rewards" <(sed -E 's/.*"kl": ([-0-9.e+]+).*/\1/' "$dir/$name.jsonl") |
        awk -v head="$2,$seed,$1,$3" '{ r += $1; kl += $2 } END { printf "%s,%.6g,%.6g\n", head, r / NR, kl / NR }' >> "$dir/points.part"
}

# train METHOD REWARD
train() {
    local folder=$3 every=$(((updates + points - 1) / points)) how=()
    if [ "$1" = dpo ]; then
        once dpo dpo data="$dir/pairs.h5" model="$dir/sft/model" output="$folder" "${common[@]}" train.learning_rate="$dpo_rate" \
            train.batch=32 dpo.beta=0.1 \
            train.checkpoint_every="$every" train.checkpoint_keep="$points" seed="$seed"
        return
    fi
    [ "$2" = learned ] && how=(reward_model="$dir/judge/model") || how=("online.reward_command=bash jobs/online-study.sh reward")
    # shellcheck disable=SC2086
    once "$2-$1" online data="$dir/pairs.h5" model="$dir/sft/model" output="$folder" "${common[@]}" train.learning_rate="$rate" online.method="$1" \
        online.prompts="$prompts" online.max_new_tokens=48 ${options[$1]} "${how[@]}" \
        train.checkpoint_every="$every" train.checkpoint_keep="$points" seed="$seed"
}

# Everything of one seed: study_seed WORLD SEED.
study_seed() {
    local seed=$2 dir=$run/seed-$2 method reward file step folder
    mkdir -p "$dir"
    begin_seed
    rm -f "$dir/points.part"
    for reward in $rewards; do
        evaluate sft "$reward" 0 "$dir/sft/model"
        for method in $methods; do
            folder=$dir/$reward-$method
            [ "$method" != dpo ] || folder=$dir/dpo
            train "$method" "$reward" "$folder"
            for file in $(printf '%s\n' "$folder"/checkpoints/step-*.h5 | sort -V); do
                step=${file##*step-}
                evaluate "$method" "$reward" "${step%.h5}" "$file"
            done
        done
    done
    say "seed $seed: done"
}

# points.csv -> values of intervals.awk: what each run is in the end, and its gain over the SFT policy; the most that it was
# on the way; and its reward at equal KL (the smallest that all methods of the seed reached, by straight lines in the
# root of the KL, in which rewards begin linear: Gao et al. 2023), which says who lies above whom.
values() {
    awk -F, '
        FNR == 1 { next }
        {
            key = $1 FS $2 FS $3
            n[key]++
            r[key, n[key]] = $5
            kl[key, n[key]] = $6
            group[$1 FS $2] = 1
            if ($3 == "sft") sft[$1 FS $2] = $5; else methods[$3] = 1
        }
        function root(x) { return x > 0 ? sqrt(x) : 0 }
        function at(key, goal,    i, a, b, low, high) { # reward at a KL on the way
            low = sft[substr(key, 1, length(key) - length(own) - 1)]
            a = 0
            goal = root(goal)
            for (i = 1; i <= n[key]; i++) {
                b = root(kl[key, i])
                high = r[key, i]
                if (b >= goal) return b > a ? low + (goal - a) / (b - a) * (high - low) : high
                a = b
                low = high
            }
            return low
        }
        END {
            print "group,seed,item,measure,value"
            for (g in group) {
                goal = -1
                for (m in methods) {
                    key = g FS m
                    most = 0
                    for (i = 1; i <= n[key]; i++) if (kl[key, i] > most) most = kl[key, i]
                    if (n[key] && (goal < 0 || most < goal)) goal = most
                }
                printf "%s,sft,reward,%s\n", g, sft[g]
                for (m in methods) {
                    key = g FS m
                    own = m
                    if (!n[key]) continue
                    best = sft[g]
                    for (i = 1; i <= n[key]; i++) if (r[key, i] > best) best = r[key, i]
                    printf "%s,%s,reward,%s\n%s,%s,kl,%s\n", g, m, r[key, n[key]], g, m, kl[key, n[key]]
                    printf "%s,%s,gain,%s\n%s,%s,lost,%s\n", g, m, r[key, n[key]] - sft[g], g, m, best - r[key, n[key]]
                    printf "%s,%s,at_equal_kl,%s\n", g, m, at(key, goal)
                }
            }
        }' "$run/points.csv" | sort -t, -k1,1 -k2,2n
}
collect() {
    local seed pairs='' method
    echo 'reward_by,seed,method,updates,reward,kl' > "$run/points.csv"
    for ((seed = 1; seed <= seeds; seed++)); do
        cat "$run/seed-$seed/points.part" >> "$run/points.csv"
    done
    for method in $methods; do
        [ "$method" = dpo ] || pairs="$pairs $method-dpo"
    done
    values > "$run/values.csv"
    awk -F, -v pairs="$pairs" -f jobs/intervals.awk "$run/values.csv" > "$run/table.csv"
}
report() {
    local reward
    for reward in $rewards; do
        printf '\n== trained by the %s reward, %d updates: mean of %d seed(s) +- half of the 95 %% interval\n' "$reward" "$updates" "$seeds"
        awk -F, -v group="$reward" -v items="sft $methods" '
            $1 == group { cell[$2, $3] = $6 == "" ? sprintf("%.3f", $5) : sprintf("%.3f +- %.3f", $5, ($7 - $6) / 2)
                          low[$2, $3] = $6; high[$2, $3] = $7 }
            END {
                k = split(items, item, " ")
                printf "  %-12s %-17s %-17s %-17s %-17s %-17s %s\n", "", "true reward", "gain over SFT", "lost since best", "KL",
                    "at equal KL", "there, against DPO"
                for (i = 1; i <= k; i++) {
                    m = item[i]
                    d = m "-dpo"
                    word = ""
                    if ((d, "at_equal_kl") in cell)
                        word = cell[d, "at_equal_kl"] (low[d, "at_equal_kl"] > 0 ? "  above" : high[d, "at_equal_kl"] < 0 ? "  below" : "  not separated")
                    printf "  %-12s %-17s %-17s %-17s %-17s %-17s %s\n", m, cell[m, "reward"], cell[m, "gain"], cell[m, "lost"], cell[m, "kl"],
                        cell[m, "at_equal_kl"], word
                }
            }' "$run/table.csv"
    done
}

study_seeds world
await_seeds
collect
report | tee "$run/table.txt"
plot online-study
say "all of it in $run"
