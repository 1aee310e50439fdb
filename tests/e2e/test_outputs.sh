#!/usr/bin/env bash
# What a result may take the place of: no input, whatever its name; no file that is not an earlier result of the same command,
# unless overwrite=true says so; nothing that is no regular file. Links stay and streams take text. And inputs that would be waited
# for, limits on a file's size, paths with a colon.
set -u
root=$PWD
. tests/common.sh
tiny_world 45
model="model=init train.micro_tokens=512"
# keeps FILE CODE WORDS ARGUMENTS...: refused, and the file is as it was.
keeps() {
    local file=$1 before
    shift
    before=$(sha256sum "$file")
    refuses "$@"
    [ "$(sha256sum "$file")" = "$before" ] || bad "$file has changed: $*"
    [ -z "$(compgen -G "*-*.$file.tmp")" ] || bad "a temporary file of $file is left: $*"
}

# Inputs, by device and inode: under their own name, by a link of either kind, as a file of a model's folder, as what a view
# selects from. overwrite=true does not change that.
run 1 embed data=train.h5 $model output=e.h5
run 1 select data=train.h5 embeddings=e.h5 select.strategy=easy output=view.h5
ln train.h5 hard.h5
echo '{{ messages[0].content }}' > chat.jinja
ln -s train.h5 soft.h5
for more in overwrite=false overwrite=true; do
    keeps train.jsonl 2 'is the input' prepare input=train.jsonl tokenizer=bytes output=train.jsonl $more
    keeps train.jsonl 2 'is the input' prepare input=view.h5,train.jsonl tokenizer=bytes output=./train.jsonl $more
    keeps train.h5 2 'is the input' select data=train.h5 select.strategy=random output=train.h5 $more
    keeps train.h5 2 'is the input' select data=train.h5 select.strategy=random output=hard.h5 $more
    keeps train.h5 2 'is the input' score data=train.h5 $model output=soft.h5 $more
    keeps train.h5 2 'is the input' select data=view.h5 select.strategy=random output=train.h5 $more
    keeps view.h5 2 'is the input' select data=view.h5 select.strategy=random output=view.h5 $more
    keeps e.h5 2 'is the input' select data=train.h5 embeddings=e.h5 select.strategy=easy output=e.h5 $more
    keeps chat.jinja 2 'is the input' prepare input=train.jsonl tokenizer=bytes prepare.chat_template=chat.jinja output=chat.jinja $more
    keeps e.h5 2 'is the input' evaluate data=train.h5 $model reference=init dpo.reference_file=e.h5 output=e.h5 $more
    keeps init/model.safetensors 2 'is the input' score data=train.h5 $model output=init/model.safetensors $more
    keeps init/config.json 2 'is the input' init init.config=init/config.json output=init seed=5 $more
    keeps init/model.safetensors 2 'is the input' sft data=train.h5 $model output=init train.steps=1 $more
done
run 1 sft data=train.h5 $model output=first train.steps=1 train.batch=8
keeps first/model/model.safetensors 2 'where its input' sft data=train.h5 model=first/model output=first train.steps=2
keeps first/checkpoints/step-1.h5 2 'where its input' sft data=train.h5 model=first/checkpoints/step-1.h5 output=first train.steps=2

# Files of others.
strange() { echo '{"prompt": "what somebody wrote"}' > "$1"; }
strange mine
for command in "prepare input=train.jsonl tokenizer=bytes" "select data=train.h5 select.strategy=random" "score data=train.h5 $model" \
    "generate data=train.h5 $model generate.limit=1 generate.max_new_tokens=2" "evaluate data=train.h5 $model evaluate.bootstrap=0" \
    "synth synth.rows=3" "embed data=train.h5 $model" "bench bench.kind=comm bench.repeats=1 bench.largest=1024"; do
    # shellcheck disable=SC2086
    keeps mine 2 'no earlier result' $command output=mine
    # shellcheck disable=SC2086
    keeps mine 2 'no earlier result' --dry-run $command output=mine
done
for command in "sft data=train.h5 $model train.steps=1" "init init.config=config.json tokenizer=bytes"; do
    # shellcheck disable=SC2086
    keeps mine 2 'is a file, where a folder' $command output=mine
done
strange easy.json
keeps easy.json 2 'easy.json exists and is no earlier' select data=train.h5 select.strategy=random output=easy.h5
strange metrics.jsonl
keeps metrics.jsonl 2 'no earlier result of sft' sft data=train.h5 $model output=. train.steps=1
mkdir theirs && cp init/* theirs && cp first/model/model.safetensors theirs
keeps theirs/model.safetensors 2 'no earlier result of init' init init.config=config.json tokenizer=bytes output=theirs
refuses 2 'no earlier result of sft' preflight preflight.command=sft data=train.h5 $model output=. train.steps=1
keeps first/config.yaml 2 'no earlier result of dpo' dpo data=train.h5 $model output=first train.steps=1

# The same command may replace what it made, an empty file is no loss, and overwrite=true says that all is well.
for command in "prepare input=train.jsonl tokenizer=bytes output=own.h5" "select data=train.h5 select.strategy=random output=half.h5" \
    "score data=train.h5 $model output=own.jsonl" "evaluate data=train.h5 $model evaluate.bootstrap=0 output=own.json" \
    "evaluate data=train.h5 evaluate.bootstrap=0 output=labels.json" \
    "generate data=train.h5 $model generate.limit=1 generate.max_new_tokens=2 output=said.jsonl" "synth synth.rows=3 output=world.jsonl" \
    "synth synth.kind=pairs synth.rows=3 output=world.csv" "init init.config=config.json tokenizer=bytes output=fresh" \
    "bench bench.kind=comm bench.repeats=1 bench.largest=1024 output=comm.csv" "sft data=train.h5 $model output=second train.steps=1 train.batch=8"; do
    for _ in 1 2; do
        # shellcheck disable=SC2086
        run 1 $command
    done
done
keeps own.jsonl 2 'no earlier result of generate' generate data=train.h5 $model generate.limit=1 output=own.jsonl
: > empty
run 1 score data=train.h5 $model output=empty
strange theirs.jsonl
run 1 score data=train.h5 $model output=theirs.jsonl overwrite=true
cmp -s own.jsonl theirs.jsonl || bad "overwrite=true"

# A link stays a link, also one to a file that is not there yet; the result lies beside its target.
mkdir scratch
ln -s scratch/far.jsonl near.jsonl
ln -s scratch/far.h5 near.h5
run 2 score data=train.h5 $model output=near.jsonl
run 2 prepare input=train.jsonl tokenizer=bytes output=near.h5
[ -L near.jsonl ] && [ -L near.h5 ] && cmp -s own.jsonl scratch/far.jsonl || bad "links"
run 1 inspect input=scratch/far.h5

# Streams: a FIFO, a character device, standard output by its name; HDF5 and folders do not go there.
mkfifo pipe
for ranks in 1 2; do
    timeout 60 cat pipe > got &
    run $ranks score data=train.h5 $model output=pipe
    wait $!
    cmp -s own.jsonl got || bad "a FIFO on $ranks ranks"
    run $ranks score data=train.h5 $model output=/dev/fd/1
    cmp -s own.jsonl out.txt || bad "/dev/fd/1 on $ranks ranks"
    run $ranks score data=train.h5 $model
    cmp -s own.jsonl out.txt || bad "standard output on $ranks ranks"
done
[ -p pipe ] || bad "the FIFO is gone"
refuses 2 'is no regular file, where an HDF5 file' prepare input=train.jsonl tokenizer=bytes output=pipe
refuses 2 'is no regular file, where a folder' sft data=train.h5 $model output=pipe
timeout 60 head -c 100 pipe > /dev/null & # a reader that has enough
refuses 73 'pipe: Broken pipe' synth synth.rows=20000 output=pipe
wait $!
if mknod null c 1 3 2> /dev/null; then
    run 1 evaluate data=train.h5 $model evaluate.bootstrap=0 output=null
    [ -c null ] || bad "a device was replaced"
fi

# A file's folder must be there before any work, also where a link leads to.
ln -s nowhere/far.h5 astray.h5
for output in nowhere/new.h5 mine/new.h5 astray.h5; do
    refuses 73 "$output: cannot be written: \(nowhere: No such file\|mine: Not a\)" prepare input=train.jsonl tokenizer=bytes output=$output
    [ ! -s out.txt ] && ! grep -q 'records' err.txt || bad "$output was refused after the work: $(cat out.txt err.txt)"
    refuses 73 "$output: cannot be written" --dry-run prepare input=train.jsonl tokenizer=bytes output=$output
done
for key in "score data=train.h5 $model output" "evaluate data=train.h5 $model output" "embed data=train.h5 $model output" \
    "synth synth.rows=3 output" "select data=train.h5 select.strategy=random output" "select data=train.h5 output=new.h5 select.strategy=random select.report" \
    "generate data=train.h5 $model output" "generate data=train.h5 $model generate.save" "generate data=train.h5 $model generate.report" \
    "inspect input=e.h5 inspect.against=e.h5 inspect.report" "select data=train.h5 output=new.h5 select.strategy=random select.export"; do
    # shellcheck disable=SC2086
    refuses 73 'nowhere/new.[a-z0-9]*: cannot be written: nowhere: No such file or directory' $key=nowhere/new.h5
done
[ ! -e nowhere ] || bad "a folder was made for a file"

# Inputs that an open would wait for, and folders.
mkfifo in.jsonl in.h5 in.yaml
refuses 66 'not a regular file but a pipe' prepare input=in.jsonl tokenizer=bytes output=new.h5
refuses 66 'not a regular file but a pipe' inspect input=in.h5
refuses 66 'not a regular file but a pipe' sft in.yaml
refuses 66 'not a regular file but a pipe' sft data=in.h5 $model output=new train.steps=1
mkdir piped && cp init/* piped && rm piped/model.safetensors && mkfifo piped/model.safetensors
refuses 66 'not a regular file but a pipe' score data=train.h5 model=piped
timeout 60 "$COLLIMATE" --quiet prepare input=/dev/stdin tokenizer=bytes output=stdin.h5 < train.jsonl || bad "a file as standard input"

# A limit on a file's size is a full disk with another name.
for ranks in 1 2; do # in the ranks alone: mpirun itself would not start
    for command in "sft data=train.h5 $model output=limited$ranks train.steps=1 train.batch=8" "synth synth.rows=3000 output=limited$ranks.jsonl"; do
        # shellcheck disable=SC2086
        bash "$root/tests/expect.sh" 73 'File too large' 60 mpirun -q -n $ranks bash -c 'ulimit -f 60; exec "$@"' - "$COLLIMATE" --quiet $command ||
            bad "a size limit on $ranks ranks: $command"
    done
done
refuses 2 'may have' score data=train.h5 $model threads=4096 output=new.jsonl
OMP_NUM_THREADS=1000000 "$COLLIMATE" --quiet score data=train.h5 $model output=threads.jsonl || bad "OMP_NUM_THREADS"

# A word that a key may have instead of a file is no input.
for name in auto transcript bytes; do
    for _ in 1 2; do
        run 1 --quiet sft data=train.h5 $model output=$name train.steps=1 train.batch=8
    done
done
for what in --print-config "sft --print-config" --help "sft --help" --version; do
    # shellcheck disable=SC2086
    "$COLLIMATE" $what > /dev/full 2> err.txt
    [ $? -eq 73 ] && grep -q 'standard output: cannot be written' err.txt || bad "$what cannot be printed, and is done"
done

# MPI-IO takes what stands before a colon for a file system.
mkdir 2026-11-29T22:41:59
for ranks in 1 2; do
    run $ranks dpo data=train.h5 $model output=2026-11-29T22:41:59/run$ranks train.steps=2 train.batch=8 dpo.reference_file=2026-11-29T22:41:59/ufs:$ranks.h5
    [ -s 2026-11-29T22:41:59/run$ranks/checkpoints/step-2.h5 ] || bad "no checkpoint behind a colon"
    (cd 2026-11-29T22:41:59 && run $ranks prepare input=../train.jsonl tokenizer=bytes output=ufs:own.h5 && [ -s ufs:own.h5 ]) || bad "ufs:own.h5"
done
finish
