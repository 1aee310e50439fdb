#!/usr/bin/env bash
# compare_builds.sh OLD_BINARY NEW_BINARY [JOB ...]: whether two builds of the program give the same bits.
#
# Small jobs run with both, side by side, on what synth and init make and on tests/fixtures. Then every file that a job wrote
# is compared, whatever its name, and its standard output; also NEW goes on from OLD's checkpoints and reads OLD's files. One line
# a job: "same", or "DIFFERS" and where. The exit code is 1 if one differs. JOB: only jobs whose names match one of these
# patterns (what they need of others' is made all the same). KEEP=1 leaves the folder.
#
#   HDF5                 data sets bit by bit, attributes, types and shapes; without: the attribute program; of a checkpoint's
#                        state the fact device and the keys that only NEW has
#   JSON, JSON Lines     all but time, program, source, seconds, …_per_s, …runtime, mfu, tflops and time/…
#   config.yaml          what is set; defaults are compared by --help
#   --help               each key of OLD with its type, default and choices; keys that only NEW has are named, and allowed
#   environment.json, log.txt, standard error   not compared: they tell of the machine and the hour
#   all else             byte by byte (model.safetensors, texts, tables)
set -u
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
old_binary=$(realpath -e "$1") && new_binary=$(realpath -e "$2") || exit 2
shift 2
wanted=("$@")
tests=$(cd "$(dirname "$0")" && pwd)
. "$tests/../jobs/env.sh"
command -v h5dump > /dev/null || { echo "h5dump is missing (hdf5-tools)"; exit 2; }
export OMP_NUM_THREADS=1
room=$(df --output=avail /dev/shm 2> /dev/null | tail -n 1)
[ "${room:-0}" -gt 1000000 ] && [ -w /dev/shm ] && room=/dev/shm || room=${TMPDIR:-/tmp}
work=$(mktemp -d -p "$room")
trap '[ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"' EXIT
mkdir "$work/old" "$work/new" "$work/mixed" && cd "$work" || exit 1
ln -s "$tests/fixtures" old/fixtures && ln -s "$tests/fixtures" new/fixtures
jobs=0 different=0
only_new= # keys

# Comparing files.

# first_difference WHAT OLD NEW: prints the first lines that differ.
first_difference() {
    diff "$2" "$3" > "$work/difference" && return
    echo "$1$(grep -m 1 '^<' "$work/difference" | cut -c 3-100) | $(grep -m 1 '^>' "$work/difference" | cut -c 3-100)"
}

# masked_json FILE: without what no two runs have in common, one member a line.
masked_json() {
    sed -E 's/, "(time\/[a-z_/]+|[a-z_]+_per_s|mfu|tflops|seconds|[a-z_]+_per_second|[a-z_]*runtime)": [^,}]*//g
        s/"(time|program|source)": "[^"]*"/"\1": ""/g; s/, "/,\n"/g' "$1"
}
# masked_state FILE: a checkpoint's state, one fact a line.
masked_state() {
    local bytes=$work/bytes.$BASHPID # two of these run side by side
    h5dump -d /state -b LE -o "$bytes" "$1" > /dev/null
    sed 's/, "/,\n"/g; s/{"/{\n"/g' "$bytes" |
        sed -E 's/^"device": .*//; s/}+$//; s/,$//' | grep -vxF '' |
        awk -F'"' -v keys="$only_new" 'BEGIN { n = split(keys, k, " "); for (i = 1; i <= n; i++) extra[k[i]] = 1 }
            !($2 in extra)'
}
# shape FILE: groups, data sets, their types, and attributes; each line with the name of what it is about.
shape() {
    h5dump -A "$1" | sed '1d; /ATTRIBUTE "program" {/,/^   }/d; /DATASET "state\(.check\)\?" {/,/}/d' |
        awk '$1 ~ /^(ATTRIBUTE|DATASET|GROUP)$/ { name = $2 } { print name, $0 }' | tr -s ' '
}
h5_sets() {
    h5ls -r "$1" | awk '$2 == "Dataset" && $1 != "/state" && $1 != "/state.check" { print $1 }'
}
# h5_differs OLD NEW: prints where, or nothing.
h5_differs() {
    local name
    cmp -s "$1" "$2" && return
    first_difference "" <(shape "$1") <(shape "$2")
    for name in $(h5_sets "$1"); do
        h5dump -d "$name" -b LE -o "$work/a" "$1" > /dev/null && h5dump -d "$name" -b LE -o "$work/b" "$2" > /dev/null &&
            cmp -s "$work/a" "$work/b" || echo "$name"
    done
    if h5ls "$1" | grep -q '^state '; then
        first_difference "state: " <(masked_state "$1") <(masked_state "$2")
    fi
}
# file_differs OLD NEW
file_differs() {
    case $1 in
    */environment.json | */log.txt) ;;
    *.h5 | *.h5.damaged) h5_differs "$1" "$2" ;;
    *.json | *.jsonl | *.out) first_difference "" <(masked_json "$1") <(masked_json "$2") ;;
    */config.yaml) cmp -s <(grep -vE '^ *#' "$1") <(grep -vE '^ *#' "$2") || echo "what is set" ;;
    *) cmp "$1" "$2" 2>&1 | sed 's/.* differ: //' ;;
    esac
}
# written FOLDER: what is newer than the stamp.
written() {
    (cd "$1" && find . -type f -newer "$work/stamp" ! -name '*.err' ! -name '*.rc' ! -size 0 -printf '%P\n')
}
# folders_differ OLD NEW: compares what the job wrote in either; it must have written something.
folders_differ() {
    local name where found=0
    while read -r name; do
        found=1
        if [ ! -e "$1/$name" ]; then
            echo "$name: only by new"
        elif [ ! -e "$2/$name" ]; then
            echo "$name: only by old"
        else
            where=$(file_differs "$1/$name" "$2/$name" | head -4 | paste -sd ' ')
            [ -z "$where" ] || echo "$name: $where"
        fi
    done < <({ written "$1" && written "$2"; } | sort -u)
    [ $found = 1 ] || echo "nothing was written"
}

# Running jobs.

# launch FOLDER BINARY NAME RANKS ARGUMENTS...: its standard output is NAME.out, its exit code NAME.rc.
launch() (
    cd "$1" || exit 1
    binary=$2 name=$3 ranks=$4
    shift 4
    start=()
    [ "$ranks" -eq 1 ] || start=(mpirun -q -n "$ranks")
    timeout 120 "${start[@]}" "$binary" "$@" > "$name.out" 2> "$name.err"
    echo $? > "$name.rc"
)
is_wanted() {
    local pattern
    for pattern in "${wanted[@]}"; do
        # shellcheck disable=SC2053
        [[ $1 == $pattern ]] && return 0
    done
    [ ${#wanted[@]} -eq 0 ]
}
# verdict NAME WHERE [REMARK]
verdict() {
    jobs=$((jobs + 1))
    if [ -n "$2" ]; then
        different=$((different + 1))
        printf '%-24s DIFFERS %s\n' "$1" "$(echo "$2" | head -3 | paste -sd ';')"
    else
        printf '%-24s same%s\n' "$1" "${3:+, $3}"
    fi
}
# failed NAME FOLDER...: what a run said that should have succeeded, which is a difference too.
failed() {
    local folder name=$1
    shift
    for folder; do
        [ "$(cat "$folder/$name.rc")" = 0 ] || echo "$folder: rc $(cat "$folder/$name.rc"), $(tail -n 1 "$folder/$name.err")"
    done
}
# job NAME RANKS ARGUMENTS...: with both builds, each in its folder.
job() {
    local name=$1 where
    touch "$work/stamp"
    sleep 0.02 # file times are no finer than this
    launch old "$old_binary" "$@" &
    launch new "$new_binary" "$@"
    wait
    is_wanted "$name" || return 0
    where=$(failed "$name" old new)
    verdict "$name" "${where:-$(folders_differ old new)}"
}
# on_old NAME RANKS SAYS ARGUMENTS...: OLD in its folder, NEW in a copy of it, so that NEW goes on from OLD's files. NEW's
# standard error must match SAYS where that is not empty.
on_old() {
    local name=$1 ranks=$2 says=$3 where
    shift 3
    is_wanted "$name" || return 0
    rm -rf mixed && cp -a old mixed && touch "$work/stamp"
    sleep 0.02
    launch old "$old_binary" "$name" "$ranks" "$@" &
    launch mixed "$new_binary" "$name" "$ranks" "$@"
    wait
    where=$(failed "$name" old mixed)
    [ -n "$where" ] || where=$(folders_differ old mixed)
    [ -z "$says" ] || grep -qE "$says" "mixed/$name.err" || where="$where NEW does not say: $says"
    verdict "$name" "$where"
}

# The command line.

# keys BINARY COMMAND: "key type default, choices" of each.
keys() {
    "$1" "$2" --help | awk '/^  [a-z]/ { if (line) print line; line = $0 } /^      one of / { line = line " " $3 }
        END { print line }' | tr -s ' '
}
help_of() {
    local where extra
    diff <(keys "$old_binary" "$1") <(keys "$new_binary" "$1") > "$work/difference"
    where=$(sed -n 's/^< *//p' "$work/difference" | head -2)
    extra=$(comm -13 <(keys "$old_binary" "$1" | awk '{ print $1 }' | sort) \
        <(keys "$new_binary" "$1" | awk '{ print $1 }' | sort))
    extra=$(echo "$extra" | paste -sd ' ')
    only_new="$only_new $extra"
    is_wanted "help-$1" && verdict "help-$1" "$where" "${extra:+new keys: $extra}"
}

for command in prepare init sft dpo reward score preflight evaluate embed select few-shot generate synth inspect bench; do
    help_of $command
done

# Data.
cat > old/config.json << 'J'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 258,
 "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-06, "hidden_act": "silu",
 "tie_word_embeddings": true, "initializer_range": 0.08, "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32"}
J
printf '%s\n' '{"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no, sorry"}' \
    '{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}' > old/hh.jsonl
printf '%s\n' '{"prompt": "héllo", "chosen": "ab", "rejected": "c", "margin": 1.5, "truth": 1}' \
    '{"prompt": "q", "chosen": "a", "rejected": "b", "chosen_score": 1, "rejected_score": 2, "worth": [1, 0]}' > old/preference.jsonl
printf '%s\n' '{"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]}' > old/chat.jsonl
printf '%s\n' '{"prompt": "x", "completion": "yy"}' '{"prompt": "x", "completion": ""}' > old/prompt_completion.jsonl
printf '%s\n' '{"prompt": "abc"}' '{"prompt": "de"}' > old/prompt.jsonl
printf '%s\n' '{"prompt": "p", "responses": [{"text": "a", "score": 2}, {"text": "bb", "score": 1}, {"text": " ", "score": 4}, {"text": "ccc", "score": 2}]}' > old/responses.jsonl
shp() { echo "{\"post_id\": \"$1\", \"history\": \"h$1\", \"human_ref_A\": \"$2\", \"human_ref_B\": \"$3\", \"labels\": $4, \"score_A\": $5, \"score_B\": $6}"; }
{ shp 1 a b 1 30 10; shp 2 x y 0 4 5; shp 1 c a 0 10 30; shp 3 long answer 1 9 3; shp 1 a d 1 30 2; } > old/shp.jsonl
rating() { echo "{\"response\": \"$1\", \"annotations\": {\"helpfulness\": {\"Rating\": \"$2\"}, \"honesty\": {\"Rating\": \"$2\"}, \"truthfulness\": {\"Rating\": \"$2\"}, \"instruction_following\": {\"Rating\": \"$2\"}}}"; }
echo "{\"instruction\": \"i\", \"completions\": [$(rating a 1), $(rating b 5), $(rating c N/A)]}" > old/ultrafeedback.jsonl
printf '%s\n' '{"prompt": "p", "chosen": "a", "rejected": "b", "subset": "one"}' \
    '{"prompt": "q", "chosen": "c", "rejected": "d", "subset": "two"}' > old/subsets.jsonl
awk 'BEGIN { t[1] = "It'"'"'s 2,345 naïve tests"; t[2] = "日本語 und  Zahlen 12 345"; t[3] = "don'"'"'t\\n\\n\\tstop"
    for (i = 1; i <= 3; i++) printf "{\"prompt\": \"%s\", \"chosen\": \"%s\", \"rejected\": \"%s\"}\n", t[i], t[i % 3 + 1], t[(i + 1) % 3 + 1] }' > old/words.jsonl
cp old/*.json* new/

job synth-text 1 synth output=train.jsonl synth.rows=61 synth.length=6 synth.noise=0.1 synth.noise_similarity=0.5 seed=1
job synth-eval 2 synth output=eval.jsonl synth.rows=23 synth.length=6 seed=2
job synth-lists 1 synth output=lists.jsonl synth.rows=40 synth.responses=4 synth.length=6 seed=3
job synth-users 1 synth synth.kind=pairs synth.rows=500 output=users.csv
for format in hh preference prompt_completion prompt responses shp ultrafeedback; do
    job prepare-$format 1 prepare input=$format.jsonl prepare.format=$format tokenizer=bytes output=$format.h5
done
job prepare-chat 1 prepare input=chat.jsonl tokenizer=bytes output=chat.h5 tokenize.begin=true
job prepare-subsets 1 prepare input=subsets.jsonl tokenizer=bytes output=subsets.h5 prepare.token_chars=false tokenize.end=false
job prepare-shp-filters 2 prepare input=shp.jsonl tokenizer=bytes output=filters.h5 prepare.max_pairs_per_post=2 prepare.min_score_ratio=1.1
for folder in "$tests"/fixtures/tokenizers/*/; do
    name=$(basename "$folder")
    [ "$name" = rules ] || job "prepare-$name" 1 prepare input=words.jsonl tokenizer="fixtures/tokenizers/$name" output="words-$name.h5"
done
job prepare-train 2 prepare input=train.jsonl tokenizer=bytes output=train.h5
job prepare-eval 1 prepare input=eval.jsonl tokenizer=bytes output=eval.h5
job prepare-lists 1 prepare input=lists.jsonl tokenizer=bytes output=lists.h5

# Models.
job init 1 init init.config=config.json tokenizer=bytes output=init seed=3
job init-other 1 init init.config=config.json tokenizer=bytes output=other seed=4
cut="truncate.max_length=48 train.batch=8 train.learning_rate=1e-3 truncate.max_prompt=24"
for family in gemma gemma2 gpt2 llama llama-bias mistral neox neox-sequential phi qwen2 qwen3; do
    for side in old new; do
        sed -E 's/"vocab_size": [0-9]+/"vocab_size": 258/' "$tests/fixtures/models/$family/config.json" > $side/$family.json
    done
    job init-$family 1 init init.config=$family.json tokenizer=bytes output=init-$family seed=5
    # shellcheck disable=SC2086
    job dpo-$family 1 dpo model=init-$family data=train.h5 output=dpo-$family $cut train.steps=2
done

# Training. 61 rows in updates of 12: the last one of an epoch has one row.
common="train.batch=12 train.learning_rate=3e-3 train.micro_tokens=700"
exact="$common train.deterministic=true"
# shellcheck disable=SC2086
{
    job sft 1 sft model=init data=train.h5 eval_data=eval.h5 output=sft $common train.epochs=1 train.weight_decay=0.1 train.clip=0.5
    job sft-sequence-sum 2 sft model=init data=lists.h5 output=sft-sum $common train.steps=3 sft.loss=sequence_sum train.schedule=cosine train.warmup_steps=1
    for loss in sigmoid ipo ipo_sum hinge robust apo_zero apo_down sigmoid_norm 0.7*sigmoid+0.3*hinge sigmoid+0.2*sft ipo+0.5*sigmoid+0.1*sft; do
        name=$(echo "$loss" | tr -d '.*')
        job "dpo-$name" 1 dpo model=sft/model reference=init data=train.h5 eval_data=eval.h5 output=dpo-$name $common train.steps=3 dpo.loss="$loss"
    done
    job dpo-smoothed 1 dpo model=init data=train.h5 output=smoothed $common train.steps=3 dpo.label_smoothing=0.1 train.optimizer=rmsprop train.momentum=0.9
    job dpo-robust-smoothed 1 dpo model=init data=train.h5 output=robust-smoothed $common train.steps=3 dpo.loss=robust dpo.label_smoothing=0.2 train.optimizer=sgd train.momentum=0.5
    job dpo-free 1 dpo model=init data=train.h5 output=free $common train.steps=3 dpo.reference_free=true train.optimizer=adam train.weight_decay=0.1
    job dpo-lists 1 dpo model=init data=lists.h5 output=dpo-lists $common train.steps=3 dpo.reference_file=lists.reference.h5
    job dpo-exact-1 1 dpo model=init reference=other data=train.h5 eval_data=eval.h5 output=exact1 $exact train.steps=4 train.evaluate_every=2 train.schedule=linear
    job dpo-exact-2 2 dpo model=init reference=other data=train.h5 eval_data=eval.h5 output=exact2 $exact train.steps=4 train.recompute=layers
    job dpo-sharded-2 2 dpo model=init reference=other data=train.h5 output=sharded $exact train.steps=4 train.shard_optimizer=true train.bucket_bytes=4096
    job dpo-fast-2 2 dpo model=init reference=other data=train.h5 output=fast2 $common train.steps=3
    ! grep -q amx_bf16 /proc/cpuinfo || job dpo-bf16 1 dpo model=init data=train.h5 output=bf16 $common train.steps=2 compute=bf16
    job dpo-check 1 dpo model=init data=train.h5 output=check $common train.steps=2 device=check:cpu
    job dpo-cut-end 1 dpo model=init data=train.h5 output=cut-end $common train.steps=3 truncate.max_length=40 truncate.max_prompt=20
    job dpo-cut-start 1 dpo model=init data=train.h5 output=cut-start $common train.steps=3 truncate.max_length=40 truncate.keep=start truncate.end_after_cut=false
    job dpo-cut-tokens 1 dpo model=init data=train.h5 output=cut-tokens $common train.steps=2 truncate.ratio=0.5 truncate.max_response=20
    job dpo-cut-chars 1 dpo model=init data=train.h5 output=cut-chars $common train.steps=2 truncate.ratio=0.6 truncate.unit=chars
    job reward 1 reward model=init data=lists.h5 eval_data=eval.h5 output=judge $common train.steps=4 reward.centering=0.01
    job reward-exact-2 2 reward model=init data=train.h5 output=judge2 $exact train.steps=3 train.shard_optimizer=true reward.margin=false
    job dpo-select 1 dpo model=init data=train.h5 output=dpo-select $common train.steps=2 select.strategy=easy select.fraction=0.5 select.model=other

    # What reads models and writes files.
    job embed-mean 1 embed data=train.h5 model=init output=mean.h5
    job embed-last 2 embed data=train.h5 model=init output=last.h5 embed.pooling=last embed.end=true embed.masked_end=true
    job embed-layer 1 embed data=lists.h5 model=init output=lists.embeddings.h5 embed.layer=1
    job embed-full 1 embed data=train.h5 model=init output=full.h5 embed.text=full embed.max_length=60
    for strategy in random easy hard balanced easy:0.5,random:0.5; do
        name=${strategy//[:,.]/-}
        job select-$name 1 select data=train.h5 embeddings=mean.h5 select.strategy=$strategy output=$name.h5
    done
    job select-seeding 2 select data=train.h5 embeddings=mean.h5 select.strategy=balanced select.seeding=plus_plus select.clusters=4 output=plus.h5
    for strategy in random easy hard centroid; do
        job select-lists-$strategy 1 select data=lists.h5 embeddings=lists.embeddings.h5 select.strategy=$strategy output=lists-$strategy.h5
    done
    job dpo-view 1 dpo model=init data=easy.h5 output=dpo-view $common train.steps=2
    job score 2 score data=eval.h5 model=dpo-sigmoid/model reference=init score.per_token=true output=scores.jsonl
    job score-reward 1 score data=lists.h5 model=judge/model output=values.jsonl
    job score-checkpoint 1 score data=eval.h5 model=exact1/checkpoints/step-4.h5
    job evaluate 2 evaluate data=eval.h5 model=dpo-sigmoid/model reference=init dpo.loss=sigmoid+0.3*sft evaluate.bootstrap=100 output=evaluated.json
    job evaluate-alone 1 evaluate data=lists.h5 model=init evaluate.bootstrap=100
    job evaluate-reward 1 evaluate data=lists.h5 model=judge/model evaluate.bootstrap=100 reward.centering=0.01 output=judged.json
    job evaluate-labels 1 evaluate data=train.h5 evaluate.bootstrap=100
    job evaluate-subsets 1 evaluate data=subsets.h5 model=init evaluate.bootstrap=100
    job generate-greedy 1 generate data=eval.h5 model=sft/model generate.max_new_tokens=12 output=greedy.jsonl
    job generate-sampled 2 generate data=eval.h5 model=sft/model generate.max_new_tokens=12 generate.temperature=0.9 generate.top_k=50 generate.top_p=0.9 seed=7
}

# Few-shot models.
few="few_shot.hidden=16 few_shot.batch=8 few_shot.targets=12 few_shot.learning_rate=0.01 threads=1 few_shot.steps=12 few_shot.checkpoint_every=6"
world="$few few_shot.world_rows=500"
# shellcheck disable=SC2086
{
    job few-shot-btl 1 few-shot $world few_shot.model=btl output=btl
    job few-shot-dpl 1 few-shot $world few_shot.model=dpl output=dpl
    job few-shot-np 1 few-shot $world few_shot.heads=2 few_shot.norm_batches=11 output=np
    job few-shot-latent 2 few-shot $world few_shot.heads=2 few_shot.latent=true few_shot.objective=elbo output=latent
    job few-shot-sum 1 few-shot $world few_shot.aggregate=sum few_shot.inner=linear output=np-sum
    job few-shot-data 1 few-shot data=train.h5,easy.h5 embeddings=mean.h5 $few few_shot.heads=2 few_shot.targets=6 few_shot.batch=4 few_shot.context_max=4 few_shot.holdout=0.5 output=few-data
    job few-shot-again 1 few-shot model=np few_shot.hidden=16 few_shot.heads=2 few_shot.batch=8 few_shot.targets=12 threads=1 few_shot.world_rows=500 output=np-again
}

# NEW on OLD's files.

# OLD's few-shot run that is asked to stop after its first checkpoint: a finished one leaves none.
stop_few_shot() {
    (
        cd old || exit 1
        # shellcheck disable=SC2086
        "$old_binary" few-shot $world few_shot.heads=2 few_shot.steps=100000 output=part-few 2> part-few.err &
        for _ in {1..200}; do
            [ ! -e part-few/checkpoints/latest ] || break
            sleep 0.1
        done
        kill -USR1 $! && wait $!
        [ $? -eq 85 ] || echo "OLD does not stop: $(tail -n 1 part-few.err)"
    )
}
stopped_at() { sed 's/[^0-9]*\([0-9]*\).h5/\1/' old/part-few/checkpoints/latest; }
# shellcheck disable=SC2086
{
    part="model=init reference=other data=train.h5 $exact train.checkpoint_every=2"
    job part-dpo 2 dpo $part output=part train.steps=2 train.shard_optimizer=true
    on_old resume-dpo 1 'after step 2' dpo $part output=part train.steps=4
    job part-sft 1 sft model=init data=train.h5 $exact output=part-sft train.steps=2
    on_old resume-sft 2 'after step 2' sft model=init data=train.h5 $exact output=part-sft train.steps=3 train.shard_optimizer=true
    job part-reward 1 reward model=init data=lists.h5 $exact output=part-reward train.steps=2
    on_old resume-reward 1 'after step 2' reward model=init data=lists.h5 $exact output=part-reward train.steps=3
    stop_few_shot
    on_old resume-few-shot 2 'going on after update' few-shot $world few_shot.heads=2 few_shot.steps=$(($(stopped_at) + 6)) output=part-few
    on_old read-reference 1 'reference scores: 0 rows computed' dpo model=init reference=other data=train.h5 $exact output=read train.steps=1
    on_old read-embeddings 1 ' were there' embed data=train.h5 model=init output=mean.h5
    on_old read-view 1 '' select data=train.h5 embeddings=mean.h5 select.strategy=hard select.compare=easy.h5 output=read.h5
    on_old read-checkpoint 1 '' score data=eval.h5 model=sharded/checkpoints/step-4.h5
    for file in train.h5 easy.h5 mean.h5 lists.reference.h5 sft hh.h5 subsets.h5; do
        on_old inspect-${file%.h5} 1 '' inspect input=$file
    done
    on_old inspect-checkpoint 1 '' inspect input=sharded/checkpoints/step-4.h5
}
echo "$different of $jobs jobs differ"
exit $((different > 0))
