# What step_profile.sh and peers/dpo.sh share, sourced where $root is this repository: settings by environment, a folder to work in,
# and the models and pairs of their runs.
threads=${THREADS:-2}
under=${UNDER:-}          # a command that each measured run is started with
output=${OUTPUT:-}        # a folder for all that is measured, and of earlier calls; empty: a temporary one
python=${PYTHON:-python3} # peers/dpo.sh: has torch, transformers, trl and datasets (python3 -m venv; pip install torch transformers trl)
. "$root/jobs/env.sh"     # sets COLLIMATE
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
output=${output:-$work/measured}
mkdir -p "$output"

prepare_pairs() { # PAIRS TOKENIZER, to $work/pairs.h5
    "$COLLIMATE" prepare input="$1" tokenizer="$2" tokenize.begin=false output="$work/pairs.h5" --quiet
}
make_model() { # SHAPE TOKENIZER, to $work/SHAPE; the tokenizer may not have the shape's end id
    sed -E 's/"([be]os_token_id)": [0-9]+/"\1": 0/' "$root/configs/models/$1.json" > "$work/config.json"
    "$COLLIMATE" init init.config="$work/config.json" tokenizer="$2" output="$work/$1" --quiet
}
