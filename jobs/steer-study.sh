#!/usr/bin/env bash
# Does one policy follow each of several users who want opposite things? As one command: SFT on all responses of a world
# of text, DPO for each user alone, DPO on the mixture of all, and NP-DPO, which is told k of a user's choices: with this
# program's way to begin and rates that fit the models here, and by the published recipe.
#   bash jobs/steer-study.sh                       a world of two users and one of three, several seeds
#   bash jobs/steer-study.sh RESPONSES.jsonl[.gz]  {prompt, responses: [{text, score}]}: the score against brevity;
#                                                  MODEL=folder is a model to begin with
# Writes to RUN (runs/steer-study): table.txt, table.csv (means and Student's intervals at 95 % over the seeds), values.csv
# (one line a seed), steer-study.png. What is finished is not run again; FRESH=1 begins anew. SEEDS=n, WORLDS="two three".
#
# Accuracies are of implicit rewards on held-out pairs on which the users differ, none of them among the choices. A policy
# that knows no user has a sum of 100 % over two of them. Text is sampled at temperature 1 for held-out prompts; it fulfils
# the wish of the user whose words (synth_users.c: kind, harsh, grand) it has most of: "asked" is the share that fulfils the
# wish of the user whose choices the policy was told (alone: the user that it was trained for), "other" that of another.
set -euo pipefail
input=${1:+$(realpath "$1")}
base=${MODEL:+$(realpath "$MODEL")}
cd "$(dirname "$0")/.."

# ---- settings: each can be set in the environment --------------------------------------------------------------------
run=${RUN:-runs/steer-study}
ranks=${RANKS:-1}
at_once=${AT_ONCE:-}
seeds=${SEEDS:-3}
counts=${COUNTS:-0 1 3 5 10} # of a user's choices
contexts=${CONTEXTS:-3}      # of each user that text is sampled under
prompts=${PROMPTS:-100}      # that text is sampled for
rows=${ROWS:-2000} heldout=${HELDOUT:-400}
updates=${UPDATES:-400} # of NP-DPO, 8 users with PAIRS pairs each,
alone=${ALONE:-100}     # and of the policies of one user, 32 pairs
pairs=${PAIRS:-16}
rate=${RATE:-2e-3} # of NP-DPO
worlds=${WORLDS:-two three}
declare -A users=([two]="kind harsh" [three]="kind harsh grand" [real]="judge brevity")
shape=${SHAPE:-}
sft=(train.steps="${SFT_STEPS:-150}" train.batch=64 train.learning_rate=3e-3)
dpo=(dpo.beta=0.5 train.learning_rate=1e-3)
steer=(lora.rank=8 lora.alpha=16 steer.layers=all steer.hidden=128 steer.targets="$pairs" steer.context_max="$pairs"
    train.batch=$((8 * pairs)) train.steps="$updates" train.learning_rate="$rate" steer.rate="$rate" train.schedule=linear
    dpo.loss="${LOSS:-sigmoid+0.15*sft}") # sigmoid alone breaks some texts off
# As published (Kobalczyk et al.): FiLM from zero, raw embeddings, wide adapters on two projections, small steps; as many
# pairs as above.
# shellcheck disable=SC2054 # a list of targets
published=(lora.rank=128 lora.alpha=256 lora.dropout=0.1 lora.targets=q_proj,v_proj steer.layers=all steer.start=film
    steer.standardize=false steer.bounded=false steer.targets=9 steer.context_max=6 train.batch=18 train.steps=$((updates * 8 * pairs / 18))
    train.learning_rate=1e-5 steer.rate=1e-5 train.epsilon=3e-5 dpo.beta=0.05)
tokens=(generate.max_new_tokens=24)
limit=()
if [ -n "$input" ]; then
    worlds=real
    limit=(truncate.max_length="${MAX_LENGTH:-256}")
    tokens=(generate.max_new_tokens="${NEW_TOKENS:-160}")
    [ -n "$shape" ] || shape=configs/models/llama-tiny.json
fi
. jobs/study.sh

# Every response's score, and the brevity of its text (bytes as JSON writes them, below zero).
with_brevity() {
    awk '
        {
            out = ""
            rest = $0
            while (match(rest, /[{]"text": "([^"\\]|\\.)*", "score": [-0-9.eE+]+/)) {
                entry = substr(rest, RSTART, RLENGTH)
                split(entry, parts, /", "score": /)
                score = parts[2]
                length_of = length(entry) - length(score) - 22
                out = out substr(rest, 1, RSTART - 1) entry ", \"scores\": {\"judge\": " score ", \"brevity\": " (-length_of) "}"
                rest = substr(rest, RSTART + RLENGTH)
            }
            print out rest
        }'
}
draw_data() {
    local world=$1 seed=$2 part names=${users[$1]// /,} reader=(cat)
    local -A number=([train]=$rows [heldout]=$heldout) draw=([train]=$seed [heldout]=$((1000 + seed)))
    local n_users tokenizer=$dir/words
    n_users=$(wc -w <<< "${users[$world]}")
    if [ -n "$input" ]; then
        [[ $input == *.gz ]] && reader=(zcat)
        tokenizer=${base:-bytes}
        [ -e "$dir/heldout.jsonl" ] || {
            "${reader[@]}" "$input" | with_brevity | awk -v d="$dir" '{ print > (d "/" (NR % 5 == 0 ? "heldout" : "train") ".part") }'
            mv "$dir/train.part" "$dir/train.jsonl"
            mv "$dir/heldout.part" "$dir/heldout.jsonl"
        }
    else
        for part in train heldout; do
            once "synth-$part" synth synth.kind=users synth.users="$n_users" synth.rows="${number[$part]}" seed="${draw[$part]}" \
                output="$dir/$part.jsonl"
        done
        [ -e "$tokenizer/tokenizer.json" ] ||
            sed -E 's/.*"prompt": "Q:([^?]*)\?[^"]*"/\1/; s/"(responses|scores|text|conflicting)"|"[a-z]+": [0-9]|[^a-z ]|true|false/ /g' \
                "$dir/train.jsonl" | word_tokenizer "$tokenizer"
    fi
    for part in train heldout; do
        once "prepare-$part" prepare input="$dir/$part.jsonl" tokenizer="$tokenizer" prepare.objectives="$names" prepare.splits=false \
            output="$dir/$part.h5"
    done
    [ -n "$base" ] && return
    if [ -z "$shape" ]; then
        cat > "$dir/config.json" << END
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 192, "max_position_embeddings": 128,
 "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": true, "initializer_range": 0.05,
 "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "float32",
 "vocab_size": $(grep -o '", -\?[0-9]*\]' "$tokenizer/tokenizer.json" | wc -l)}
END
    fi
    once init init init.config="${shape:-$dir/config.json}" tokenizer="$tokenizer" seed="$seed" output="$dir/init"
}
# A list of files, one for each user of the world: $1-USER$2.
files() {
    local user list=''
    for user in ${users[$world]}; do
        list+=",$1$user$2"
    done
    echo "${list#,}"
}
# judged NAME MODEL...: accuracies on the held-out pairs of each user.
judged() {
    once "evaluate-$1" evaluate data="$(files "$dir/heldout." .h5)" "${@:2}" reference="$dir/sft/model" "${limit[@]}" \
        steer.draws="${DRAWS:-60}" steer.targets=8 steer.counts="${counts// /,}" seed="$seed" output="$dir/evaluate-$1.json"
}
# said NAME MODEL...: text for the held-out prompts.
said() {
    once "generate-$1" generate data="$dir/heldout.h5" "${@:2}" generate.limit="$prompts" generate.temperature=1 "${tokens[@]}" \
        seed="$seed" output="$dir/generate-$1.jsonl"
}
# Everything of one seed of a world.
study_seed() {
    local world=$1 seed=$2 dir=$run/$1/seed-$2 user part i k name
    mkdir -p "$dir"
    draw_data "$world" "$seed"
    once sft sft data="$dir/train.h5" model="${base:-$dir/init}" "${sft[@]}" "${limit[@]}" seed="$seed" output="$dir/sft"
    said sft model="$dir/sft/model"
    for part in ${users[$world]} mixture; do
        once "dpo-$part" dpo data="$dir/train.$part.h5" model="$dir/sft/model" "${dpo[@]}" train.batch=32 \
            train.steps="$alone" "${limit[@]}" seed="$seed" output="$dir/dpo-$part"
        judged "$part" model="$dir/dpo-$part/model"
        said "$part" model="$dir/dpo-$part/model"
    done
    for user in ${users[$world]}; do
        for ((i = 1; i <= contexts; i++)); do
            once "context-$user$i" select data="$dir/heldout.$user.h5" select.strategy=random select.scope=pairs \
                select.count="${counts##* }" seed="$i" output="$dir/context.$user-$i.h5"
        done
    done
    for name in steered published; do
        local recipe=("${dpo[@]}" "${steer[@]}")
        [ $name = steered ] || recipe=("${published[@]}")
        once $name dpo data="$(files "$dir/train." .h5)" model="$dir/sft/model" "${recipe[@]}" "${limit[@]}" seed="$seed" \
            output="$dir/$name"
        judged $name model="$dir/sft/model" adapter="$dir/$name/adapter"
        for k in $counts; do
            local told=() list=''
            for ((i = 1; i <= contexts && k > 0; i++)); do
                list+=,$(files "$dir/context." "-$i.h5")
            done
            [ "$k" = 0 ] || told=(steer.context="${list#,}" steer.choices="$k")
            said "$name-$k" model="$dir/sft/model" adapter="$dir/$name/adapter" "${told[@]}"
        done
    done
    say "$world, seed $seed: done"
}

# fulfils NAME [ASKED]: of the text in generate-NAME, "asked other", in percent: whose words a text has most of; of a user who is
# not named in the lines, ASKED was. Real text: the mean length in tokens, for each user that was asked.
fulfils() {
    awk -v asked="${2:-}" -v names="${users[$world]}" -v real="$input" '
        BEGIN {
            n = split(names, name, " ")
            class["kind"] = "glad good sweet lovely dear fine happy bright"
            class["harsh"] = "awful bad nasty ugly cruel dull grim vile"
            class["grand"] = "royal noble vast mighty lofty proud epic regal"
            for (i = 1; i <= n; i++) {
                m = split(class[name[i]], words, " ")
                for (j = 1; j <= m; j++) of[words[j]] = i
            }
        }
        {
            user = asked
            if (match($0, /"user": "context[.][a-z]+/)) {
                user = substr($0, RSTART + 17, RLENGTH - 17)
            }
            match($0, /"text": "([^"\\]|\\.)*"/)
            text = substr($0, RSTART + 9, RLENGTH - 10)
            for (i = 1; i <= n; i++) count[i] = 0
            m = split(text, words, /[ .?:]+/)
            for (j = 1; j <= m; j++) if (words[j] in of) count[of[words[j]]]++
            best = most = 0
            for (i = 1; i <= n; i++) {
                if (count[i] > most) { most = count[i]; best = i; tied = 0 } else if (count[i] == most) tied = 1
            }
            best = most > 0 && !tied ? best : 0
            for (i = 1; i <= n; i++) {
                is = user == "" || user == name[i] # nobody was asked for: the share of each, in the mean
                all_asked += is
                hits_asked += is && best == i
                is = user == "" || user != name[i]
                all_other += is
                hits_other += is && best == i
            }
        }
        END { print 100 * hits_asked / all_asked, 100 * hits_other / all_other }' "$dir/generate-$1.jsonl"
}
# lengths NAME: bytes of text under each user, "USER mean".
lengths() {
    awk '{
            user = "nobody"
            if (match($0, /"user": "context[.][a-z]+/)) user = substr($0, RSTART + 17, RLENGTH - 17)
            match($0, /"text": "([^"\\]|\\.)*"/)
            sum[user] += RLENGTH - 10
            n[user]++
        }
        END { for (user in n) print user, sum[user] / n[user] }' "$dir/generate-$1.jsonl"
}
# accuracies NAME K: "USER percent" of evaluate-NAME, at K choices where the policy is told any.
accuracies() {
    sed -E 's/"heldout[.]|"sum": |[{]"choices": /\n&/g' "$dir/evaluate-$1.json" | awk -v k="$2" -v names="${users[$world]}" '
        /^"heldout[.]/ { split($0, part, /[."]/); user = part[3]; seen = 0 }
        /^"sum"/ { user = "" }
        /^[{]"choices": / && user != "" {
            match($0, /"choices": [0-9]+/)
            at = substr($0, RSTART + 11, RLENGTH - 11)
            match($0, /"conflicting": [{]"value": [0-9.e-]+/)
            if (at == k || !seen) found[user] = 100 * substr($0, RSTART + 25, RLENGTH - 25)
            seen = 1 # a policy that is told nothing has this line alone
        }
        END {
            n = split(names, name, " ")
            for (i = 1; i <= n; i++) if (name[i] in found) print name[i], found[name[i]]
        }'
}
# rows_of ITEM EVALUATION K TEXT [USER]: lines of values.csv.
rows_of() {
    local head="$world,$seed,$1" measure number share
    accuracies "$2" "$3" | while read -r measure number; do
        [ -n "${5:-}" ] && [ "$measure" != "${5:-}" ] || echo "$head,$measure,$number"
    done
    if [ -n "$input" ]; then
        lengths "$4" | while read -r measure number; do
            echo "$head,bytes ${5:-$measure},$number"
        done
        return
    fi
    read -r number share < <(fulfils "$4" "${5:-}")
    echo "$head,text ${5:-}asked,$number"
    echo "$head,text ${5:-}other,$share"
}
collect_seed() {
    local world=$1 seed=$2 dir=$run/$1/seed-$2 user k
    for user in ${users[$world]}; do
        rows_of "alone" "$user" 0 "$user" "$user"
    done
    rows_of mixture mixture 0 mixture
    for k in $counts; do
        rows_of "k = $k" steered "$k" "steered-$k"
        rows_of "published k = $k" published "$k" "published-$k"
    done
}
# What a seed has of several users becomes their sum, and the mean of their text.
summed() {
    awk -F, '
        { print }
        $4 ~ /^text .+(asked|other)$/ && $4 !~ /^text (asked|other)$/ {
            key = $1 "," $2 "," $3 ",text " ($4 ~ /asked$/ ? "asked" : "other")
            sum[key] += $5
            n[key]++
            next
        }
        $4 !~ /^(text|bytes) / { total[$1 "," $2 "," $3 ",sum"] += $5 }
        END {
            for (key in sum) print key "," sum[key] / n[key]
            for (key in total) print key "," total[key]
        }'
}
collect() {
    local world seed
    echo 'world,seed,item,measure,value' > "$run/values.csv"
    for world in $worlds; do
        for ((seed = 1; seed <= seeds; seed++)); do
            collect_seed "$world" "$seed"
        done
    done | summed | sort -t, -k1,3 -s >> "$run/values.csv"
    awk -F, -f jobs/intervals.awk "$run/values.csv" > "$run/table.csv"
}
report() {
    local world k names
    for world in $worlds; do
        names=("alone" mixture)
        for k in $counts; do names+=("k = $k"); done
        for k in $counts; do names+=("published k = $k"); done
        printf '\n== %s: users %s; mean of %s seed(s) +- half of the 95 %% interval\n' "$world" "${users[$world]}" "$seeds"
        printf 'accuracy on pairs on which users differ, %%, and text, %%%s\n' "${input:+ (text: its length in bytes)}"
        local measures=(sum "text asked" "text other")
        [ -z "$input" ] || measures=(sum "bytes nobody" "bytes judge" "bytes brevity")
        # shellcheck disable=SC2086
        mean=%6.1f half=%4.1f width=16 table "$world" "$(printf '%s;' "${names[@]}")" ${users[$world]} "${measures[@]}"
    done
}

study_worlds steer-study
