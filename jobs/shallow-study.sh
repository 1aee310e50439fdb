#!/usr/bin/env bash
# The study of shallow preference signals as one command: whether what makes a response better stands in its first
# tokens, and what follows from that.
#   cuts      reward models and DPO on responses cut to 100, 50, 40, 33 and 25 % of their tokens, evaluated on whole pairs
#   decoding  reward against KL where the aligned model speaks only in part: mixed with the reference (mix), for the
#             first tokens only (Length Control), or only where the two differ (KL Threshold)
#   bash jobs/shallow-study.sh                    two worlds of text whose truth is known, several seeds: `early`, where
#                                                 the first words of a response decide, and `late`, the control
#   bash jobs/shallow-study.sh PAIRS.jsonl[.gz]   your pairs; MODEL=folder is a model to begin with
#   STUDY=quick bash jobs/shallow-study.sh        the first of these in little: to see it work, not to learn from it
# Writes to RUN (runs/shallow-study): table.txt; table.csv (means and intervals), cuts.csv, curves.csv (reward and KL at
# each value of each rule), shares.csv (of the full policy's gain in reward at shares of its KL), positions.csv (KL by
# position), shallow-study.png. Intervals are Student's at 95 % over seeds, differences are paired by seed. What is
# finished is not run again: after an interruption the same command goes on. FRESH=1 begins anew.
set -euo pipefail
input=${1:+$(realpath "$1")}
base=${MODEL:+$(realpath "$MODEL")}
cd "$(dirname "$0")/.."

# ---- settings: each can be set in the environment --------------------------------------------------------------------
run=${RUN:-runs/shallow-study}
ranks=${RANKS:-1} # of each run; the numbers stay the same
at_once=${AT_ONCE:-} # seeds side by side; where not set: as many as there are cores for

# Three words of some 24 to 30 decide, so that a response has a part that does not matter; pairs are few and updates few and
# large, so that the policy does not learn which part that is: a good share of its KL is spent there. This is what the
# decoding rules can save. With pairs without end DPO comes close to the best policy at its KL; then mixing is that policy
# at every smaller KL, and no rule can lie above it.
# Real records are longer, and MODEL, if given, is trained already: smaller steps, one pass, fewer seeds.
if [ -n "$input" ]; then
    : "${SEEDS:=2}" "${SFT_EPOCHS:=1}" "${SFT_RATE:=1e-3}" "${DPO_RATE:=5e-4}" "${BETA:=0.1}" "${REWARD_EPOCHS:=1}" \
        "${REWARD_RATE:=1e-3}" "${TOKENS:=1,2,4,8,16,32,64}"
fi
case ${STUDY:-full} in
full) seeds=${SEEDS:-6} plain=${PLAIN:-4000} pairs=${PAIRS:-400} heldout=${HELDOUT:-300} ;;
quick) seeds=${SEEDS:-2} plain=${PLAIN:-200} pairs=${PAIRS:-100} heldout=${HELDOUT:-40} ;;
*) echo "STUDY=$STUDY: full or quick" >&2 && exit 2 ;;
esac
worlds=${WORLDS:-early late}
cuts=${CUTS:-100 50 40 33 25} # per cent of a response's tokens; the first is the policy that is decoded with
length=${LENGTH:-24} marked=${MARKED:-3} # words of a response, about, and how many of them decide
noise=${NOISE:-0.1}           # of the labels that are trained on
mixes=${MIXES:-0,0.15,0.3,0.45,0.6,0.7,0.8,0.9,1}
# Thresholds are told in times the policy's own mean KL of a token on held-out responses: policies differ in that.
thresholds=${THRESHOLDS:-0.5,1,1.25,1.5,1.75,2,2.5,3,4,6}
batch=${BATCH:-32} beta=${BETA:-0.3}
shape=${SHAPE:-configs/models/llama-mini.json} # where MODEL is not set
sft=(train.epochs="${SFT_EPOCHS:-3}" train.learning_rate="${SFT_RATE:-3e-3}")
dpo=(train.epochs="${DPO_EPOCHS:-1}" train.learning_rate="${DPO_RATE:-1e-3}" dpo.beta="$beta")
reward=(train.epochs="${REWARD_EPOCHS:-4}" train.learning_rate="${REWARD_RATE:-3e-3}")
common=(train.batch="$batch" train.schedule=cosine train.warmup_steps=10 train.deterministic=true)
tokens=${TOKENS:-1,2,3,4,6,9,13,18,24}
answer=(generate.temperature=1 generate.batch=64 generate.max_new_tokens="${ANSWER:-$((2 * length))}")
limit=()
if [ -n "$input" ]; then
    # A seed has first weights, an order and, up to ten, a tenth of the records to hold out that no other seed has: intervals
    # speak of all of these (the rows that are trained on are shared in part). Rewards are those of a reward model that was trained
    # on other rows, whole.
    worlds=$(basename "${input%.gz}" .jsonl)
    limit=(truncate.max_length="${MAX_LENGTH:-256}")
    answer=(generate.temperature=1 generate.batch=32 generate.max_new_tokens="${ANSWER:-96}" generate.limit="${PROMPTS:-64}")
fi
# ----------------------------------------------------------------------------------------------------------------------

. jobs/study.sh
# Data of a seed of a world: text without a preference (labels are a coin's toss) that the reference learns to write, few
# pairs with labels, held-out pairs with true labels; and a model of as many ids as there are words.
draw_data() {
    local world=$1 seed=$2 part
    local -A rows=([plain]=$plain [train]=$pairs [heldout]=$heldout) wrong=([plain]=0.5 [train]=$noise [heldout]=0)
    for part in plain train heldout; do
        once "synth-$part" synth synth.rule="$world" synth.length="$length" synth.marked="$marked" synth.rows="${rows[$part]}" \
            synth.noise="${wrong[$part]}" seed="$seed${#part}" output="$dir/$part.jsonl"
    done
    [ -e "$dir/words/tokenizer.json" ] ||
        sed -E 's/.*"Q:([^?]*)\?.*"chosen": "([^"]*)", "rejected": "([^"]*)".*/\1 \2 \3/; s/[.]//g' "$dir/plain.jsonl" |
        word_tokenizer "$dir/words"
    for part in plain train heldout; do
        once "prepare-$part" prepare input="$dir/$part.jsonl" tokenizer="$dir/words" output="$dir/$part.h5"
    done
    sed -E "s/\"vocab_size\": *[0-9]+/\"vocab_size\": $(grep -o '", -\?[0-9]*\]' "$dir/words/tokenizer.json" | wc -l)/;
        s/\"(bos|eos)_token_id\": *[0-9]+/\"\1_token_id\": 0/" "$shape" > "$dir/config.json"
}

# sweep NAME KEY=VALUE...: answers for each value of a rule's parameter.
sweep() {
    local name=$1
    shift
    once "answers-$name" generate data="$dir/heldout.h5" model="$dir/dpo-100/model" generate.reference="$dir/sft/model" \
        "${answer[@]}" "${limit[@]}" "${judge[@]}" "$@" seed="$seed" output="$dir/answers-$name.jsonl"
}

# The thresholds in nats: the JSON file $1 has the policy's KL by position, and how many responses have that position.
nats_of() {
    grep -oE '"[0-9]+": [{]"kl": [-0-9.e+]+, "responses": [0-9]+' "$1" | sed -E 's/.*"kl": ([^,]*), "responses": /\1 /' |
        awk -v times="$thresholds" '
            { kl += $1 * $2; n += $2 }
            END {
                values = split(times, t, ",")
                for (i = 1; i <= values; i++) {
                    printf "%s%.6g", (i > 1 ? "," : ""), t[i] * kl / n
                }
            }'
}
# Everything of one seed of a world.
study_seed() {
    local world=$1 seed=$2 dir=$run/$1/seed-$2 begin=$base taught=plain part cut ratio judge=()
    mkdir -p "$dir"
    if [ -n "$input" ]; then
        taught=train
        split_records $((seed - 1))
    else
        draw_data "$world" "$seed"
    fi
    if [ -z "$begin" ]; then
        begin=$dir/init
        if [ -n "$input" ]; then
            once init init init.config="$shape" tokenizer=bytes output="$begin" seed="$seed"
        else
            once init init init.config="$dir/config.json" tokenizer="$dir/words" output="$begin" seed="$seed"
        fi
    fi
    once sft sft data="$dir/$taught.h5" model="$begin" output="$dir/sft" "${sft[@]}" "${common[@]}" "${limit[@]}" seed="$seed"
    for cut in $cuts; do
        ratio=$(awk -v c="$cut" 'BEGIN { print c / 100 }')
        once "reward-$cut" reward data="$dir/train.h5" model="$dir/sft/model" output="$dir/reward-$cut" \
            truncate.ratio="$ratio" "${reward[@]}" "${common[@]}" "${limit[@]}" seed="$seed"
        once "evaluate-reward-$cut" evaluate data="$dir/heldout.h5" model="$dir/reward-$cut/model" "${limit[@]}" \
            output="$dir/evaluate-reward-$cut.json"
        once "dpo-$cut" dpo data="$dir/train.h5" model="$dir/sft/model" output="$dir/dpo-$cut" \
            truncate.ratio="$ratio" "${dpo[@]}" "${common[@]}" "${limit[@]}" seed="$seed"
        once "evaluate-dpo-$cut" evaluate data="$dir/heldout.h5" model="$dir/dpo-$cut/model" reference="$dir/sft/model" \
            "${limit[@]}" dpo.beta="$beta" output="$dir/evaluate-dpo-$cut.json"
    done
    once positions evaluate data="$dir/heldout.h5" model="$dir/dpo-100/model" reference="$dir/sft/model" "${limit[@]}" \
        evaluate.kl_positions="${POSITIONS:-64}" output="$dir/positions.json"
    if [ -n "$input" ]; then
        once judge reward data="$dir/audit.h5" model="$dir/sft/model" output="$dir/judge" "${reward[@]}" "${common[@]}" \
            "${limit[@]}" seed="$seed"
        judge=(reward_model="$dir/judge/model")
    fi
    sweep mix generate.rule=mix generate.mix="$mixes"
    sweep length generate.rule=length_control generate.tokens="$tokens"
    sweep threshold generate.rule=kl_threshold generate.threshold="$(nats_of "$dir/positions.json")"
    say "$world, seed $seed: done"
}

# Rows of the CSV files of one seed.
collect_seed() {
    local world=$1 seed=$2 dir=$run/$1/seed-$2 cut rule
    for cut in $cuts; do
        echo "$world,$seed,$cut,reward accuracy,$(value "$dir/evaluate-reward-$cut.json" accuracy)"
        echo "$world,$seed,$cut,reward margin,$(value "$dir/evaluate-reward-$cut.json" margin)"
        echo "$world,$seed,$cut,dpo accuracy,$(value "$dir/evaluate-dpo-$cut.json" rewards/accuracies)"
        echo "$world,$seed,$cut,dpo margin,$(value "$dir/evaluate-dpo-$cut.json" rewards/margins)"
    done >> "$run/cuts.csv"
    for rule in mix length threshold; do
        rewards "$world" "$dir/answers-$rule.jsonl" | paste -d ' ' - "$dir/answers-$rule.jsonl" |
            awk -v head="$world,$seed,$rule" '
                function get(name,    s) {
                    if (!match($0, "\"" name "\": [-0-9.e+]+")) {
                        return ""
                    }
                    s = substr($0, RSTART, RLENGTH)
                    sub(/.*: /, "", s)
                    return s
                }
                BEGIN { split(head, part, ","); key["mix"] = "mix"; key["length"] = "tokens"; key["threshold"] = "threshold" }
                {
                    at = get(key[part[3]])
                    if (!(at in n)) {
                        order[++values] = at
                    }
                    n[at]++
                    reward[at] += $1
                    kl[at] += get("kl")
                }
                END {
                    for (i = 1; i <= values; i++) {
                        at = order[i]
                        printf "%s,%s,%.6g,%.6g\n", head, at, kl[at] / n[at], reward[at] / n[at]
                    }
                }' >> "$run/curves.csv"
    done
    grep -oE '"kl_given": [{].*' "$dir/positions.json" | grep -oE '"[0-9]+": [{]"kl": [-0-9.e+]+' |
        sed -E "s/\"([0-9]+)\".* /$world,$seed,\1,/" >> "$run/positions.csv"
}
# A line for each answer: what it is worth by the world's truth, or by the reward model.
rewards() {
    if [ -n "$input" ]; then
        sed -E 's/.*"reward": ([-0-9.e+]+).*/\1/' "$2"
    else
        awk -v rule="$1" -v marked="$marked" -f jobs/worth.awk "$2"
    fi
}
# The share of the full policy's gain in reward that a rule has at a share of the full policy's KL: straight lines between
# its values in the order of their KL, from the reference (mix = 0) to the policy (mix = 1), which every rule reaches.
shares() {
    echo 'world,seed,rule,measure,value'
    awk -F, '
        function add(run, rule, kl, reward,    i) {
            for (i = ++n[run, rule]; i > 1 && x[run, rule, i - 1] > kl; i--) {
                x[run, rule, i] = x[run, rule, i - 1]
                y[run, rule, i] = y[run, rule, i - 1]
            }
            x[run, rule, i] = kl
            y[run, rule, i] = reward
        }
        function at(run, rule, kl,    i, a) {
            for (i = 2; i < n[run, rule] && x[run, rule, i] < kl; i++);
            a = x[run, rule, i] - x[run, rule, i - 1]
            a = a > 0 ? (kl - x[run, rule, i - 1]) / a : 1
            return y[run, rule, i - 1] + a * (y[run, rule, i] - y[run, rule, i - 1])
        }
        FNR == 1 { next }
        $3 == "mix" && $4 == 0 { low[$1 "," $2] = $6 }
        $3 == "mix" && $4 == 1 { most[$1 "," $2] = $5; high[$1 "," $2] = $6 }
        { row[++rows] = $0 }
        END {
            for (r = 1; r <= rows; r++) {
                split(row[r], f, ",")
                run = f[1] "," f[2]
                if (f[3] != "mix" && !((run, f[3]) in n)) {
                    add(run, f[3], 0, low[run])
                    add(run, f[3], most[run], high[run])
                }
                if (f[5] < most[run] || f[3] == "mix") {
                    add(run, f[3], f[5], f[6])
                }
                if (!((run, f[3]) in seen)) {
                    seen[run, f[3]] = 1
                    runs[++n_runs] = run
                    rules[n_runs] = f[3]
                }
            }
            for (r = 1; r <= n_runs; r++) {
                run = runs[r]
                rule = rules[r]
                area = 0
                for (q = 1; q <= 100; q++) {
                    area += (at(run, rule, most[run] * (q - 0.5) / 100) - low[run]) / 100
                }
                gain = high[run] - low[run]
                for (q = 1; q <= 3; q++) {
                    printf "%s,%s,at %d/4 of the KL,%.6g\n", run, rule, q, (at(run, rule, most[run] * q / 4) - low[run]) / gain
                }
                printf "%s,%s,mean over all KL,%.6g\n", run, rule, area / gain
                if (rule == "mix") {
                    printf "%s,policy,KL,%.6g\n%s,policy,reward,%.6g\n%s,reference,reward,%.6g\n", run, most[run], run,
                        high[run], run, low[run]
                }
            }
        }' "$run/curves.csv"
}
collect() {
    local world seed
    echo 'world,seed,cut,measure,value' > "$run/cuts.csv"
    echo 'world,seed,rule,value,kl,reward' > "$run/curves.csv"
    echo 'world,seed,position,kl' > "$run/positions.csv"
    for world in $worlds; do
        for ((seed = 1; seed <= seeds; seed++)); do
            collect_seed "$world" "$seed"
        done
    done
    shares > "$run/shares.csv"
    awk -F, -v pairs='50-100 40-100 33-100 25-100 policy-reference length-mix threshold-mix' -f jobs/intervals.awk \
        <(cat "$run/cuts.csv" "$run/shares.csv") > "$run/table.csv"
}

# What the intervals of the differences say, in words.
verdict() {
    awk -F, -v world="$1" '
        $1 == world && $2 == "policy-reference" && $3 == "reward" && $6 != "" && $6 <= 0 {
            print "  the policy gains no reward that is separated from 0: its shares say nothing"
            nothing = 1
            exit
        }
        $1 == world && ($2 == "length-mix" || $2 == "threshold-mix") && $6 != "" {
            name = $2 == "length-mix" ? "Length Control" : "KL Threshold"
            word = $6 > 0 ? "above mixing" : $7 < 0 ? "below mixing" : "not separated from mixing"
            text[name] = text[name] sprintf("%s%s: %s", text[name] == "" ? "" : ", ", $3, word)
        }
        END { for (name in text) if (!nothing) printf "  %-16s %s\n", name, text[name] }' "$run/table.csv" | sort
}
report() {
    local world judged='the reward model'
    [ -n "$input" ] || judged="the world's truth"
    for world in $worlds; do
        printf '\n== %s: mean of %s seed(s) +- half of the 95 %% interval\n' "$world" "$seeds"
        printf '\ntrained on so many per cent of a response, evaluated on whole held-out pairs; differences are paired by seed\n'
        table "$world" "$cuts 50-100 40-100 33-100 25-100" 'reward accuracy' 'reward margin' 'dpo accuracy' 'dpo margin'
        printf '\nreward (%s) of answers, and the KL of the policy\n' "$judged"
        table "$world" 'reference policy policy-reference' reward KL
        printf '\nshare of that gain that a rule has at a share of that KL\n'
        table "$world" 'mix length threshold length-mix threshold-mix' 'at 1/4 of the KL' 'at 2/4 of the KL' \
            'at 3/4 of the KL' 'mean over all KL'
        verdict "$world"
    done
}

study_worlds shallow-study
