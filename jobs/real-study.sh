#!/usr/bin/env bash
# The study of REAL (which preference pairs to train on, by the similarity of their responses' embeddings) as one
# command: SFT on the preferred responses, embeddings of the SFT model, subsets of the training pairs (random; easy: the
# least alike; hard: the most alike; centroid where a prompt has several responses), DPO on each subset with the SFT
# model as policy and reference, all evaluated on the same held-out pairs along training.
#   bash jobs/real-study.sh                    worlds of text whose truth is known, several seeds
#   bash jobs/real-study.sh PAIRS.jsonl[.gz]   your records: pairs, or prompts with several scored responses;
#                                              MODEL=folder is a model to begin with
#   STUDY=quick bash jobs/real-study.sh        the first of these in little: to see it work, not to learn from it
# Writes to RUN (runs/real-study): table.txt; final.csv, curves.csv (loss, accuracy, margins, rewards along training),
# labels.csv (share of each subset's labels that the truth or a reward model agrees with), drift.csv (how far
# embeddings move in training), budget.csv (labels until a margin is reached), similarity.csv (of the responses of a
# pair meanwhile), real-study.png. Intervals are Student's at 95 % over seeds, differences between subsets are paired
# by seed. What is finished is not run again: after an interruption the same command goes on. FRESH=1 begins anew.
set -euo pipefail
input=${1:+$(realpath "$1")}
base=${MODEL:+$(realpath "$MODEL")}
cd "$(dirname "$0")/.."

# ---- settings: each can be set in the environment --------------------------------------------------------------------
run=${RUN:-runs/real-study}
ranks=${RANKS:-1} # of each run; the numbers stay the same
at_once=${AT_ONCE:-} # seeds side by side; where not set: as many as there are cores for

# Seeds draw everything anew: the world's rows, the first weights, the order of rows, the random subset. With six, an
# interval reaches 1.05 standard deviations to each side. DPO makes one pass, as the paper does. Real records are longer
# and MODEL, if given, is trained already: fewer seeds and updates.
if [ -n "$input" ] && [ "${STUDY:-full}" = full ]; then
    : "${SEEDS:=4}" "${SFT_STEPS:=40}"
fi
case ${STUDY:-full} in
full) seeds=${SEEDS:-6} rows=${ROWS:-4000} heldout=${HELDOUT:-500} sft_steps=${SFT_STEPS:-300} batch=${BATCH:-32} ;;
quick) seeds=${SEEDS:-2} rows=${ROWS:-400} heldout=${HELDOUT:-100} sft_steps=${SFT_STEPS:-40} batch=${BATCH:-16} ;;
*) echo "STUDY=$STUDY: full or quick" >&2 && exit 2 ;;
esac

# The worlds, and why their constants are what they are:
#   similar  the paper's reason for its order, and nothing else, built in: the more alike two responses are, the less
#            their label says. A label is a coin's toss from a word overlap (Jaccard) of 0.4 on, which is the upper
#            quarter of all pairs (synth.noise_full_at); at 1, the overlap of equal responses, one label in seven
#            would be turned, and there would be little to choose by.
#   even     the control, with WORLDS="similar even": as many labels are turned, but similarity has nothing to do with
#            it.
#   lists    as similar, with four responses to a prompt, scored. Only neighbors in worth exchange scores, which turns
#            fewer labels: so a toss from an overlap of 0.25 on.
worlds=${WORLDS:-similar lists}
# shellcheck disable=SC2034 # draw_data reads these by name
{
    text_similar=(synth.length=8)
    noise_similar=(synth.noise_similarity=1 synth.noise_full_at=0.4)
    text_even=(synth.length=8)
    noise_even=(synth.noise=0.32)
    text_lists=(synth.length=8 synth.responses=4)
    noise_lists=(synth.noise_similarity=1 synth.noise_full_at=0.25)
}

# SUBSETS="random easy" would leave the others out.

# Small enough for many seeds on two cores; SFT long enough that alike to the model means alike in words (their
# correlation over pairs is 0.47 after 300 updates, 0.30 after 100).
shape=${SHAPE:-configs/models/llama-mini.json} # where MODEL is not set
embed_with=${EMBED_WITH:-sft}                  # sft, or base: the model before SFT
fraction=${FRACTION:-0.5}                      # of the pairs in a subset; of lists: one pair from each prompt
sft=(train.steps="$sft_steps" train.learning_rate="${SFT_RATE:-3e-3}")
dpo=(train.learning_rate="${DPO_RATE:-5e-4}" dpo.beta="${BETA:-0.1}")
reward=(train.epochs=1 train.learning_rate="${REWARD_RATE:-1e-3}")
common=(train.batch="$batch" train.schedule=cosine train.warmup_steps=10 train.deterministic=true)
evaluations=6 # along a training of DPO
kept=$([ "${STUDY:-full}" = full ] && echo 2 || echo 1) # checkpoints of it, whose embeddings are looked at
limit=()
if [ -n "$input" ]; then
    # A tenth of the records is held out, three tenths train the reward model that judges labels and nothing else, the
    # rest is the training set. Seeds change weights, order and the random subset: intervals speak of those, not of
    # other data.
    worlds=$(basename "${input%.gz}" .jsonl)
    limit=(truncate.max_length="${MAX_LENGTH:-256}")
fi
# ----------------------------------------------------------------------------------------------------------------------

. jobs/study.sh

# Data of a seed of a synthetic world: what is trained on, an independent draw for the reward model, held-out pairs as
# they are labeled, and the same with true labels.
draw_data() {
    local world=$1 seed=$2 part
    local -n text=text_$1 noise=noise_$1
    once synth-train synth "${text[@]}" "${noise[@]}" synth.rows="$rows" seed="${seed}1" output="$dir/train.jsonl"
    once synth-audit synth "${text[@]}" "${noise[@]}" synth.rows="$((rows / 2))" seed="${seed}2" \
        output="$dir/audit.jsonl"
    once synth-heldout synth "${text[@]}" "${noise[@]}" synth.rows="$heldout" seed="${seed}3" \
        output="$dir/heldout.jsonl"
    once synth-truth synth "${text[@]}" synth.rows="$heldout" seed="${seed}3" output="$dir/truth.jsonl"
    for part in train audit heldout truth; do
        once "prepare-$part" prepare input="$dir/$part.jsonl" tokenizer=bytes output="$dir/$part.h5"
    done
}
# What subsets there are: centroid needs several responses to a prompt.
subsets_of() {
    local n
    n=$(size "$1" responses)
    echo random easy hard
    if [ "$n" -gt $((2 * $(size "$1" prompts))) ]; then
        echo centroid
    fi
}
fewest_pairs() {
    local subset
    for subset in $subsets; do
        size "$dir/$subset" pairs
    done | sort -n | head -n 1
}

# How far held-out responses, alone and after their prompts, have moved from where the SFT model puts them, at the
# checkpoints of DPO, and how alike the two of a pair are by then. Called by study_seed and reads its variables.
drift() {
    local text subset file name moved
    for text in response full; do
        once "drift-$text-sft" embed data="$dir/$held.h5" model="$policy" embed.text="$text" \
            output="$dir/drift-$text-sft.h5"
        moved=()
        for subset in $subsets; do
            for file in "$dir/dpo-$subset/checkpoints"/step-*.h5; do
                name=drift-$text-$subset-$(basename "$file" .h5)
                once "$name" embed data="$dir/$held.h5" model="$file" embed.text="$text" output="$dir/$name.h5"
                moved+=("$dir/$name.h5")
            done
        done
        once "drift-$text" inspect input="$(IFS=, && echo "${moved[*]}")" \
            inspect.against="$dir/drift-$text-sft.h5" inspect.report="$dir/drift-$text.jsonl"
    done
    for file in "$dir"/drift-response-*.h5; do
        name=${file##*/drift-response-}
        once "similarity-${name%.h5}" select data="$dir/$held.h5" embeddings="$file" select.strategy=random \
            output="$dir/similarity-$name"
    done
}

# SFT, embeddings, subsets, DPO on each, evaluation: everything of one seed of a world.
study_seed() {
    local world=$1 seed=$2 dir=$run/$1/seed-$2 begin=$base
    local subset part steps subsets kinds held=heldout test=heldout
    mkdir -p "$dir"
    if [ -n "$input" ]; then
        for part in train audit heldout; do
            ln -sfn "../$part.h5" "$dir/$part.h5"
        done
    else
        draw_data "$world" "$seed"
        test=truth
    fi
    if [ -z "$begin" ]; then
        begin=$dir/init
        once init init init.config="$shape" tokenizer=bytes output="$begin" seed="$seed"
    fi
    once sft sft data="$dir/train.h5" model="$begin" output="$dir/sft" "${sft[@]}" "${common[@]}" "${limit[@]}" \
        seed="$seed"
    local policy=$dir/sft/model embedder=$dir/sft/model
    [ "$embed_with" = sft ] || embedder=$begin
    once embed embed data="$dir/train.h5" model="$embedder" output="$dir/train.embeddings.h5"

    mkdir -p "$dir/log"
    kinds=$(subsets_of "$dir/train")
    subsets=${SUBSETS:-$kinds}
    if [[ $kinds == *centroid* ]]; then # held-out lists: one random pair of each prompt
        for part in $held ${test/$held/}; do
            once "pairs-$part" select data="$dir/$part.h5" select.strategy=random output="$dir/$part-pairs.h5"
        done
        held=$held-pairs test=$test-pairs
    fi
    once reward reward data="$dir/audit.h5" model="$policy" output="$dir/judge" "${reward[@]}" "${common[@]}" \
        "${limit[@]}" seed="$seed"
    for subset in $subsets; do
        local how=(select.strategy="$subset" embeddings="$dir/train.embeddings.h5")
        [[ $kinds == *centroid* ]] || how+=(select.fraction="$fraction")
        once "select-$subset" select data="$dir/train.h5" "${how[@]}" output="$dir/$subset.h5" seed="$seed"
        once "labels-$subset" evaluate data="$dir/$subset.h5" model="$dir/judge/model" "${limit[@]}" \
            output="$dir/labels-$subset.json"
    done

    # As many updates for every subset as one pass over the smallest takes (ties leave subsets of unequal size).
    steps=$(($(fewest_pairs) / batch))
    [ "$steps" -gt 0 ] || die "$dir: a subset has less than $batch pairs"
    local every=$(((steps + evaluations - 1) / evaluations))
    for subset in $subsets; do
        once "dpo-$subset" dpo data="$dir/$subset.h5" eval_data="$dir/$test.h5" model="$policy" \
            output="$dir/dpo-$subset" "${dpo[@]}" "${common[@]}" "${limit[@]}" train.steps="$steps" \
            train.evaluate_every="$every" \
            train.checkpoint_every="$(((steps + kept - 1) / kept))" train.checkpoint_keep="$kept" \
            seed="$seed"
        for split in $held ${test/$held/}; do
            once "evaluate-$subset-$split" evaluate data="$dir/$split.h5" model="$dir/dpo-$subset/model" \
                reference="$policy" "${limit[@]}" dpo.beta="${BETA:-0.1}" output="$dir/evaluate-$subset-$split.json"
        done
    done
    [ "$seed" != 1 ] || drift
    say "$world, seed $seed: done"
}

# Rows of the CSV files of one seed: what evaluate said in the end, the lines with eval_ of metrics.jsonl, and so on.
collect_seed() {
    local world=$1 seed=$2 dir=$run/$1/seed-$2 subset file split json name
    for file in "$dir"/dpo-*/metrics.jsonl; do
        subset=$(basename "$(dirname "$file")")
        subset=${subset#dpo-}
        awk -v head="$world,$seed,$subset" -v beta="${BETA:-0.1}" '
            function get(name) {
                if (match($0, "\"eval_" name "\": [-0-9.e+]+")) {
                    return substr($0, RSTART + length(name) + 9, RLENGTH - length(name) - 9)
                }
                return ""
            }
            /"eval_loss"/ {
                match($0, /"step": [0-9]+/)
                step = substr($0, RSTART + 8, RLENGTH - 8)
                margin = get("rewards/margins")
                if (!(step in seen)) {
                    printf "%s,%d,%s,%s,%s,%.6g,%s,%s\n", head, step, get("loss"), get("rewards/accuracies"), margin,
                        margin / beta, get("rewards/chosen"), get("rewards/rejected")
                }
                seen[step] = 1
            }' "$file" >> "$run/curves.csv"
        for split in truth heldout; do
            for json in "$dir/evaluate-$subset-$split.json" "$dir/evaluate-$subset-$split-pairs.json"; do
                [ -e "$json" ] || continue
                for name in loss rewards/accuracies rewards/margins margin_raw rewards/chosen rewards/rejected; do
                    echo "$world,$seed,$subset,$split $name,$(value "$json" $name)"
                done
            done
        done >> "$run/final.csv"
        for name in labels/agree_with_truth accuracy truth_accuracy; do
            echo "$world,$seed,$subset,$name,$(value "$dir/labels-$subset.json" $name)"
        done >> "$run/labels.csv"
    done
    [ -e "$dir/drift-full.jsonl" ] || return 0
    for file in "$dir"/similarity-*.json; do
        name=${file##*/similarity-} name=${name%.json}
        grep -oE '"all": [{][^[]*' "$file" | awk -v head="$world,$seed,${name%-step-*},${name##*-}" -F'[:,] *' '{
            print head "," $5 "," $7 "," $9 "," $11 }'
    done >> "$run/similarity.csv"
    awk -v head="$world,$seed" '
        function mean(name,    s) {
            match($0, "\"" name "\": [{]\"mean\": [-0-9.e+]+")
            s = substr($0, RSTART, RLENGTH)
            sub(/.*: /, "", s)
            return s
        }
        {
            match($0, /drift-[a-z]+-[a-z]+-step-[0-9]+/)
            split(substr($0, RSTART, RLENGTH), part, "-")
            print head "," part[3] "," part[5] "," part[2] "," mean("relative_l2") "," mean("cosine")
        }' "$dir/drift-response.jsonl" "$dir/drift-full.jsonl" >> "$run/drift.csv"
}
collect() {
    local world seed
    echo 'world,seed,subset,step,loss,accuracy,margin,margin_raw,reward_chosen,reward_rejected' > "$run/curves.csv"
    echo 'world,seed,subset,measure,value' | tee "$run/final.csv" > "$run/labels.csv"
    echo 'world,seed,subset,step,text,relative_l2,cosine' > "$run/drift.csv"
    echo 'world,seed,subset,step,mean,deviation,least,most' > "$run/similarity.csv"
    for world in $worlds; do
        for ((seed = 1; seed <= seeds; seed++)); do
            collect_seed "$world" "$seed"
        done
    done
    awk -F, -v pairs='easy-random random-hard easy-hard centroid-random centroid-easy' -f jobs/intervals.awk \
        <(cat "$run/final.csv" "$run/labels.csv") > "$run/table.csv"
    budget > "$run/budget.csv"
}

# What labels buy: how many pairs of each subset had been trained on when the held-out margin first was what random's
# is in the end (or MARGIN), by straight lines between evaluations; nothing where it never was.
budget() {
    echo 'world,seed,subset,margin,labels,of'
    awk -F, -v batch="$batch" -v given="${MARGIN:-}" '
        FNR == 1 { next }
        {
            run = $1 "," $2
            n[run, $3]++
            step[run, $3, n[run, $3]] = $4
            margin[run, $3, n[run, $3]] = $7
            subsets[$3] = runs[run] = 1
        }
        function reached(run, subset, goal,    i, a, b, last) {
            for (i = 1; i <= n[run, subset]; i++) {
                b = margin[run, subset, i]
                if (b >= goal) {
                    last = i > 1 ? step[run, subset, i - 1] : 0
                    a = i > 1 ? margin[run, subset, i - 1] : 0
                    return batch * (last + (b > a ? (goal - a) / (b - a) : 1) * (step[run, subset, i] - last))
                }
            }
            return ""
        }
        END {
            for (run in runs) {
                for (subset in subsets) {
                    goal = given != "" ? given : margin[run, "random", n[run, "random"]]
                    if (n[run, subset] && goal != "") {
                        of = batch * step[run, subset, n[run, subset]]
                        print run "," subset "," goal "," reached(run, subset, goal) "," of
                    }
                }
            }
        }' "$run/curves.csv" | sort
}
budget_table() {
    printf '\nlabels until the held-out margin is %s, and the share of them that random would have taken as well\n' \
        "${MARGIN:-what random reaches in the end}"
    awk -F, -v world="$1" '
        FNR == 1 || $1 != world { next }
        $5 == "" { never[$3]++; seen[$3] = 1; next }
        { labels[$3] += $5; n[$3]++; of[$3] = $6; seen[$3] = 1 }
        END {
            k = split("random easy hard centroid", item, " ")
            for (i = 1; i <= k; i++) {
                s = item[i]
                if (!seen[s]) continue
                if (!n[s]) { printf "  %-16s never, in %d seeds\n", s, never[s]; continue }
                mean = labels[s] / n[s]
                printf "  %-16s %7.0f of %d", s, mean, of[s]
                if (n["random"]) printf ", %3.0f %%", 100 * mean / (labels["random"] / n["random"])
                printf never[s] ? " (never in %d of the seeds)\n" : "\n", never[s]
            }
        }' "$run/budget.csv"
}
# Which differences an interval separates from 0, in words.
verdict() {
    awk -F, -v world="$1" -v labels="$2" '
        $1 == world && $2 ~ /-/ && index($3, labels " ") == 1 && $6 != "" && $3 !~ /(chosen|rejected|_raw)$/ {
            better = ($5 > 0) != ($3 ~ /loss/)
            names = $2
            divide = index(names, "-")
            a = substr(names, 1, divide - 1)
            b = substr(names, divide + 1)
            word = (better ? a : b) " is better"
            if ($6 * $7 <= 0) {
                word = "not separated"
            }
            text[names] = text[names] sprintf("%s%s: %s", text[names] == "" ? "" : ", ",
                                              substr($3, length(labels) + 2), word)
            if (!(names in seen)) {
                seen[names] = 1
                order[++n] = names
            }
        }
        END { for (i = 1; i <= n; i++) printf "  %-16s %s\n", order[i], text[order[i]] }' "$run/table.csv"
}
drift_table() {
    printf '\nembeddings of held-out responses along DPO, seed 1: distance from where SFT puts them, relative to their norm,\n'
    printf 'alone and behind their prompts, and the cosine of the two of a pair (%s after SFT)\n' \
        "$(awk -F, -v world="$1" '$1 == world && $3 == "sft" { print $5 " +- " $6 }' "$run/similarity.csv")"
    awk -F, -v world="$1" '
        $1 != world { next }
        FILENAME ~ /drift/ {
            moved[$3, $4, $5] = $6
            next
        }
        $3 != "sft" {
            printf "  %-10s after %3d updates: alone %.3f, with prompt %.3f; of a pair %.3f +- %.3f\n", $3, $4,
                moved[$3, $4, "response"], moved[$3, $4, "full"], $5, $6
        }' "$run/drift.csv" "$run/similarity.csv"
}
report() {
    local world split title differences='easy-random random-hard easy-hard centroid-random centroid-easy'
    for world in $worlds; do
        printf '\n== %s: mean of %s seed(s) +- half of the 95 %% interval\n' "$world" "$seeds"
        for split in truth heldout; do
            grep -q "^$world,.*,$split " "$run/table.csv" || continue
            title='their labels as they are'
            [ $split = heldout ] || title='true labels'
            printf '\nheld-out pairs, %s; differences are paired by seed\n' "$title"
            table "$world" "random easy hard centroid $differences" "$split loss" "$split rewards/accuracies" \
                "$split rewards/margins" "$split margin_raw"
            table "$world" "random easy hard centroid" "$split rewards/chosen" "$split rewards/rejected"
            verdict "$world" "$split"
        done
        printf '\nlabels of the subset: share that the truth agrees with, that a reward model agrees with (trained on\n'
        printf 'other rows), and how often that reward model finds the truth\n'
        table "$world" 'random easy hard centroid' labels/agree_with_truth accuracy truth_accuracy
        budget_table "$world"
        drift_table "$world"
    done
}

study_worlds real-study split_records
