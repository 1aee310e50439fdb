#!/bin/bash
# synth -> prepare -> embed -> select -> dpo on data with several responses to a prompt: the same files on 1, 2 and 4
# ranks, an embedding run that is killed goes on, easy and hard share nothing, one job does it all, and SHP records
# come together by post.
set -u
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() { echo "test_select: $1" >&2; failures=$((failures + 1)); }
run() { timeout 60 "$COLLIMATE" --quiet "$@" || bad "failed: $*"; }
ranks() { local n=$1; shift; timeout 60 mpirun -q -n "$n" "$COLLIMATE" --quiet "$@" || bad "failed on $n ranks: $*"; }
field() { grep -o '"'"$1"'": [0-9]*' "$2" | head -1 | grep -o '[0-9]*$'; }
cat > config.json <<'J'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 258, "hidden_size": 32,
 "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "hidden_act": "silu"}
J
run init init.config=config.json tokenizer=bytes output=model
run synth synth.rows=120 synth.responses=4 seed=3 output=text.jsonl
run prepare input=text.jsonl output=text.h5 tokenizer=bytes

# Embeddings: 1, 2 and 4 ranks, and a run killed in the middle.
embed=(embed data=text.h5 model=model train.micro_tokens=256 output=e.h5)
for n in 1 2 4; do
  rm -f e.h5
  ranks $n "${embed[@]}"
  mv e.h5 e$n.h5
done
cmp -s e1.h5 e2.h5 && cmp -s e1.h5 e4.h5 || bad "embeddings differ between rank counts"
cc -shared -fPIC -O -o die_in_write.so "${FIXTURES%/fixtures}/e2e/die_in_write.c" || bad "no compiler"
for write in 5 60 200; do # while the file is made, and between rounds
  LD_PRELOAD=$PWD/die_in_write.so DIE_FILE=/e.h5 DIE_WRITE=$write \
    ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0 \
    timeout 60 "$COLLIMATE" "${embed[@]}" train.micro_tokens=64 2> killed
  [ $? -eq 137 ] || bad "no kill in write $write: $(tail -1 killed)"
done
timeout 60 "$COLLIMATE" "${embed[@]}" train.micro_tokens=64 2> resumed || bad "embedding does not go on: $(tail -1 resumed)"
grep -q ' [1-9][0-9]* were there; 0 cut, 0 empty' resumed || bad "nothing was there: $(tail -3 resumed)"
cp e.h5 resumed.h5
rm e.h5
run "${embed[@]}" train.micro_tokens=64
cmp -s e.h5 resumed.h5 || bad "a resumed embedding differs"
"$COLLIMATE" "${embed[@]}" embed.end=true 2> stale && bad "another recipe's file is taken"
grep -q 'was computed for something else: recipe' stale || bad "no word of the recipe: $(cat stale)"

# Within prompts.
for strategy in random easy hard centroid easy:0.5,hard:0.5; do
  case $strategy in random | centroid) counts="2 4" ;; *) counts=4 ;; esac
  for n in 1 $counts; do
    ranks $n select data=text.h5 embeddings=e1.h5 select.strategy=$strategy output=v.h5
    mv v.h5 v$n.h5 && mv v.json v$n.json
  done
  for n in $counts; do
    cmp -s v1.h5 v$n.h5 || bad "$strategy differs between 1 and $n ranks"
  done
  cp v1.h5 "${strategy%%:*}.h5"
done
run select data=text.h5 embeddings=e1.h5 select.strategy=easy output=v.h5 select.compare=hard.h5
[ "$(field shared v.json)" = 0 ] || bad "easy and hard share pairs"
run select data=text.h5 select.strategy=random output=v.h5
cmp -s <("$COLLIMATE" inspect input=v.h5 | grep pairs) <("$COLLIMATE" inspect input=random.h5 | grep pairs) ||
  bad "random needs no embeddings, but differs without"

# Over pairs, cut in three: an odd count leaves one row in neither half.
run synth synth.rows=101 seed=4 output=pairs.jsonl
run prepare input=pairs.jsonl output=pairs.h5 tokenizer=bytes
run embed data=pairs.h5 model=model output=p.h5
for strategy in easy hard balanced random:0.4,easy:0.6; do
  case $strategy in balanced) counts="2 4" ;; random*) counts=4 ;; *) counts= ;; esac
  for n in 1 $counts; do
    ranks $n select data=pairs.h5 embeddings=p.h5 select.strategy=$strategy output=v.h5
    mv v.h5 v$n.h5
  done
  for n in $counts; do
    cmp -s v1.h5 v$n.h5 || bad "$strategy over pairs differs between 1 and $n ranks"
  done
  [ "$(field selected v.json)" = 50 ] || bad "$strategy: $(field selected v.json) of 101 pairs"
  cp v1.h5 "pairs-${strategy%%:*}.h5"
done
run select data=pairs.h5 embeddings=p.h5 select.strategy=easy output=v.h5 select.compare=pairs-hard.h5
[ "$(field shared v.json)" = 0 ] || bad "easy and hard pairs overlap"

# dpo on a view, and the three in one job, which embeds with another model than it trains: the same steps.
run init init.config=config.json tokenizer=bytes output=policy seed=2
train=(dpo model=policy train.steps=3 train.batch=8 train.learning_rate=1e-3 train.deterministic=true)
run select data=text.h5 embeddings=e1.h5 select.strategy=easy output=easy.h5
ranks 2 "${train[@]}" data=easy.h5 output=two
ranks 2 "${train[@]}" data=text.h5 select.strategy=easy select.model=model output=one
losses() { grep -o '"loss": [^,]*' "$1/metrics.jsonl"; }
[ -n "$(losses one)" ] && [ "$(losses one)" = "$(losses two)" ] || bad "one job and three commands train otherwise"
"$COLLIMATE" "${train[@]}" data=text.h5 output=no embed.end=true 2> no.err && bad "embed.end without a selection is taken"
grep -q 'has no effect' no.err || bad "$(cat no.err)"

# Refusals.
"$COLLIMATE" select data=pairs.h5 embeddings=e1.h5 select.strategy=easy output=no.h5 2> no.err && bad "other data's embeddings are taken"
grep -q 'embeddings of other data' no.err || bad "$(cat no.err)"
"$COLLIMATE" select data=text.h5 embeddings=e1.h5 select.strategy=best output=no.h5 2> no.err && bad "an unknown strategy is taken"
grep -q 'unknown "best"' no.err || bad "$(cat no.err)"

# SHP: posts come together wherever their records stand.
shp() { echo "{\"post_id\": \"$1\", \"history\": \"h$1\", \"human_ref_A\": \"$2\", \"human_ref_B\": \"$3\", \"labels\": $4, \"score_A\": $5, \"score_B\": $6}"; }
{
  shp 1 a b 1 30 10
  shp 2 x y 0 4 5 # 1.25: dropped
  shp 1 c a 0 10 30
  shp 3 long answer 1 9 3
  shp 1 b c 0 10 10 # 1: dropped
  shp 1 a d 1 30 2
} > shp.jsonl
for n in 1 2 4; do
  ranks $n prepare input=shp.jsonl output=shp.h5 tokenizer=bytes prepare.max_pairs_per_post=2
  "$COLLIMATE" inspect input=shp.h5 > shp$n
  mv shp.h5 s$n.h5
  grep -q 'prompts *2,' shp$n && grep -q 'responses *5,' shp$n && grep -q 'pairs *3$' shp$n || bad "SHP on $n ranks: $(head -8 shp$n)"
  grep -q 'dropped *2: score ratio' shp$n && grep -q 'dropped *1: pairs above' shp$n || bad "SHP drops on $n ranks: $(cat shp$n)"
done
cmp -s s1.h5 s2.h5 && cmp -s s1.h5 s4.h5 || bad "SHP files differ between rank counts"
"$COLLIMATE" prepare input=pairs.jsonl output=no.h5 tokenizer=bytes prepare.max_pairs_per_post=2 2> no.err && bad "a key of SHP is taken elsewhere"
exit $((failures > 0))
