#!/bin/bash
# A chat model end to end: a folder with a chat template through init, prepare, sft, dpo and generate; what is trained of a
# chat is what its turns are apart; rows as text; the same file on two ranks; the template goes with the model.
set -u
. "$(dirname "$FIXTURES")/common.sh"
chat=$FIXTURES/chat
cat > config.json <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 48, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 259,
 "max_position_embeddings": 256, "rms_norm_eps": 1e-06, "hidden_act": "silu", "tie_word_embeddings": false,
 "initializer_range": 0.3}
JSON
cp -r "$chat/tokenizer" base && mkdir base/additional_chat_templates && echo 'tools' > base/additional_chat_templates/rag.jinja
run 1 --quiet init init.config=config.json tokenizer=base output=model

# Pairs, on one rank and on two; what is said of them.
run 1 prepare input="$chat/pairs.jsonl" tokenizer=model output=pairs.h5
grep -q 'messages go through the chat template of model' err.txt || bad "no word of the template: $(cat err.txt)"
grep -q 'the first row' err.txt && grep -q '⟦Blue.‹<|im_end|>›↵' err.txt || bad "no row is shown: $(cat err.txt)"
run 2 --quiet prepare input="$chat/pairs.jsonl" tokenizer=model output=two.h5
contents() { "$COLLIMATE" inspect input="$1" | awk '$1 == "contents" { print $3 }'; }
[ "$(contents pairs.h5)" = "$(contents two.h5)" ] || bad "another file on two ranks"
run 1 inspect input=pairs.h5 inspect.rows=9
[ "$(grep -c '^row ' out.txt)" -eq 3 ] && grep -q '^  rejected, 7 tokens, 7 trained' out.txt &&
    grep -q 'chat template hash' out.txt || bad "inspect.rows: $(cat out.txt)"
run 1 inspect input=pairs.h5 inspect.rows=1 tokenizer=model
refuses 65 'was not tokenized with bytes' inspect input=pairs.h5 inspect.rows=1 tokenizer=bytes

# Strings are turns where that is asked for: the same rows as from messages; strings among messages are dropped.
cat > strings.jsonl <<'JSON'
{"chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why?\n\nAssistant: No."}
{"prompt": "Hi", "chosen": "a", "rejected": "b"}
JSON
m() { printf '{"role": "%s", "content": "%s"}' "$1" "$2"; }
{ printf '{"chosen": [%s, %s, %s, %s], ' "$(m user Hi)" "$(m assistant Yes?)" "$(m user Why?)" "$(m assistant So.)"
  printf '"rejected": [%s, %s, %s, %s]}\n' "$(m user Hi)" "$(m assistant Yes?)" "$(m user Why?)" "$(m assistant No.)"
  printf '{"prompt": [%s], "chosen": [%s], "rejected": [%s]}\n' "$(m user Hi)" "$(m assistant a)" "$(m assistant b)"; } > turns.jsonl
run 1 --quiet prepare input=strings.jsonl tokenizer=model output=strings.h5 prepare.strings_as_chat=true
run 1 --quiet prepare input=turns.jsonl tokenizer=model output=turns.h5
[ "$(contents strings.h5)" = "$(contents turns.h5)" ] || bad "strings as turns are other rows than turns"
echo '{"history": "Hi", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}' > shp.jsonl
run 1 --quiet prepare input=shp.jsonl tokenizer=model output=shp.h5 prepare.strings_as_chat=true
tail -1 turns.jsonl > one.jsonl && run 1 --quiet prepare input=one.jsonl tokenizer=model output=one.h5
run 1 inspect input=one.h5 inspect.rows=1 && sed -n '/^row/,$p' out.txt > one.txt
run 1 inspect input=shp.h5 inspect.rows=1 && sed -n '/^row/,$p' out.txt | diff - one.txt || bad "SHP through the template"
{ cat turns.jsonl; tail -1 strings.jsonl; } > mixed.jsonl
run 1 prepare input=mixed.jsonl tokenizer=model output=mixed.h5
grep -q 'dropped 1: strings among messages; the first: mixed.jsonl, line 3' err.txt || bad "strings among messages: $(cat err.txt)"
refuses 2 'has no chat template' prepare input=strings.jsonl tokenizer=bytes output=x.h5 prepare.strings_as_chat=true

# Without the template: transcripts, and what they leave out is named.
run 1 prepare input="$chat/pairs.jsonl" tokenizer=model output=plain.h5 prepare.chat_template=transcript
grep -q 'ignored: .*tool_calls in 1 messages' err.txt && grep -q 'tools in 1 records' err.txt || bad "ignored: $(cat err.txt)"
grep -q 'messages become HH transcripts' err.txt || bad "no word of transcripts: $(cat err.txt)"

# All turns of a chat have the loss that they have one by one, and the same gradient.
say() { printf '{"role": "%s", "content": "%s"}' "$1" "$2"; }
first="$(say user 'A?'), $(say assistant a)"
both="$first, $(say user 'B?'), $(say assistant 'b b')"
printf '{"messages": [%s]}\n' "$both" > whole.jsonl
printf '{"messages": [%s]}\n' "$first" "$both" > apart.jsonl
run 1 --quiet prepare input=whole.jsonl tokenizer=model output=whole.h5
run 1 --quiet prepare input=whole.jsonl tokenizer=model output=marked.h5 prepare.chat_template="$chat/marked.jinja"
run 1 --quiet prepare input=apart.jsonl tokenizer=model output=apart.h5 prepare.train_turns=last
[ "$(contents whole.h5)" = "$(contents marked.h5)" ] || bad "generation blocks mark something else"
for data in whole apart; do
    run 1 --quiet sft data=$data.h5 model=model output=sft-$data train.steps=1 train.batch=2
    sed -n 's/.*"loss": \([^,]*\),.*"grad_norm": \([^,]*\),.*/\1 \2/p' sft-$data/metrics.jsonl > $data.txt
done
paste whole.txt apart.txt | awk '
    { n++; for (i = 1; i <= 2; i++) if (!($i > 0) || ($i - $(i + 2))^2 > (1e-6 * $i)^2) exit 1 }
    END { exit n != 1 }' || bad "all turns against one by one: $(cat whole.txt apart.txt)"
grep -q '"num_tokens": 50' sft-whole/metrics.jsonl || bad "tokens: $(cat sft-whole/metrics.jsonl)"

# The template stays with the model, and the next command takes it.
run 1 --quiet dpo data=pairs.h5 model=model output=run train.steps=1 train.batch=2
cmp "$chat/tokenizer/chat_template.jinja" run/model/chat_template.jinja || bad "the template is gone"
cmp base/additional_chat_templates/rag.jinja run/model/additional_chat_templates/rag.jinja || bad "the second template is gone"
printf '{"prompt": [%s]}\n' "$(say user 'Hello <|im_end|>')" "$(say user 'and?')" > prompts.jsonl
run 1 prepare input=prompts.jsonl tokenizer=run/model output=prompts.h5
grep -q '1 records have special tokens in their messages, kept as tokens.*; the first: prompts.jsonl, line 1' err.txt ||
    bad "special tokens: $(cat err.txt)"
run 1 --quiet generate data=prompts.h5 model=run/model generate.max_new_tokens=8 generate.temperature=1 output=said.jsonl
[ "$(grep -c '"text": ' said.jsonl)" -eq 2 ] && ! grep -q 'im_' said.jsonl || bad "generate: $(cat said.jsonl)"

# Whole chats as prompts.
sed 's/"prompt"/"messages"/' prompts.jsonl > open.jsonl
run 1 --quiet prepare input=open.jsonl tokenizer=run/model output=open.h5 prepare.format=prompt
[ "$(contents open.h5)" = "$(contents prompts.h5)" ] || bad "messages are another prompt than prompt"

# What a template cannot do is said.
echo '{% for m in messages %}{% import "x" %}{% endfor %}' > strange.jinja
refuses 2 'strange.jinja' prepare input=prompts.jsonl tokenizer=model output=x.h5 prepare.chat_template=strange.jinja
refuses 66 'none.jinja' prepare input=prompts.jsonl tokenizer=model output=x.h5 prepare.chat_template=none.jinja
finish
