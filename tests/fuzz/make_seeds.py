#!/usr/bin/env python3
# Makes tests/fuzz/seeds/ from the fixtures and from the text below: python3 tests/fuzz/make_seeds.py
import gzip
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures")


def put(target, name, data):
    folder = os.path.join(HERE, "seeds", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


def get(*path):
    with open(os.path.join(FIXTURES, *path), "rb") as file:
        return file.read()


def sections(**files):
    return b"".join(b"%%% " + name.replace("__", ".").encode() + b"\n" + (data if isinstance(data, bytes) else
                    data.encode()) + b"\n" for name, data in files.items())


def lines(*records):
    return "".join(json.dumps(r) + "\n" for r in records)


# Records.
turn = lambda role, content: {"role": role, "content": content}
hh = "\n\nHuman: Is it so?\n\nAssistant:"
put("records", "hh", lines({"chosen": hh + " Yes.", "rejected": hh + " No!"},
                           {"chosen": hh + " a\n\nHuman: b\n\nAssistant: c", "rejected": hh + " a\n\nHuman: b\n\nAssistant: d"}))
put("records", "preference", lines({"prompt": "2+2=", "chosen": "4", "rejected": "5", "margin": 0.5},
                                   {"prompt": [turn("system", "s"), turn("user", "u")],
                                    "chosen": [turn("assistant", "a")], "rejected": [turn("assistant", "b")]}))
put("records", "implicit", lines({"chosen": [turn("user", "u"), turn("assistant", "a")],
                                  "rejected": [turn("user", "u"), turn("assistant", "b")], "chosen_score": 3,
                                  "rejected_score": 1.5}))
put("records", "completion", lines({"prompt": "p", "completion": "c", "label": True},
                                   {"prompt": "p", "completion": "c", "label": False}))
put("records", "messages", lines({"messages": [turn("user", "u"), turn("assistant", "a")]}, {"prompt": "p"}))
put("records", "prompt", lines({"prompt": "\u00e9\u4e2d\ud83d\ude00"}))
put("records", "responses", lines({"prompt": "p", "responses": [{"text": "a", "score": 1}, {"text": "b", "score": 2.5},
                                                                {"text": "b"}], "worth": [1, 2, 3]},
                                  {"prompt": "p", "responses": ["a", "b"]}))
shp = {"post_id": "x", "history": "how?", "human_ref_A": "so", "human_ref_B": "or so", "labels": 1, "score_A": 9,
       "score_B": 2, "score_ratio": 4.5}
put("records", "shp", lines(shp, dict(shp, human_ref_B="not", labels=0, score_A=1), dict(shp, post_id="y")))
rating = lambda r: {"annotations": {k: {"Rating": r} for k in
                                    ("instruction_following", "honesty", "truthfulness", "helpfulness")}, "response": "r" + r}
put("records", "ultrafeedback", lines({"instruction": "do", "completions": [rating("4"), rating("2"), rating("N/A")]}))
put("records", "alpaca", lines({"instruction": "add", "input": "1 2", "output": "3", "system": "s", "history": [["a", "b"]]},
                               {"instruction": "q", "output": ["good", "bad"]},
                               {"instruction": "q", "input": None, "chosen": "good", "rejected": "bad"}))
put("records", "strings", lines({"text": "once"}, {"chosen": "The sky is bl\u00fce.", "rejected": "The sky is bl\u00f6d."},
                                {"prompt": hh, "chosen": "a", "rejected": "b"}, {"prompt": "p", "response": "r"},
                                {"chosen": hh + " Yes.", "rejected": hh + " No!"}))
put("records", "numbered", lines({"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 1},
                                 {"prompt": "p", "response_0": None, "response_1": "b"}))
put("records", "turns", lines({"chosen": [turn("user", "u"), turn("assistant", "a"), turn("user", "v"), turn("assistant", "b")],
                               "rejected": [turn("user", "u"), turn("assistant", "c")]},
                              {"prompt": [turn("user", "u")], "completion": [turn("assistant", "a"), turn("user", "v"), turn("assistant", "b")]}))
put("records", "array", json.dumps([{"prompt": "p", "chosen": "c", "rejected": "r"}] * 2, indent=1))
put("records", "ends", '\ufeff{"prompt": "a\\u0000b\\ud800", "completion": 1e999}\r\n\r\n{"prompt": 1}\n[]\n{')
put("records", "gzip", gzip.compress(lines({"prompt": "p", "completion": "c"}).encode(), mtime=0))

# Tokenizers: the fixtures with most of their vocabulary and merges taken out.
for name in ("cased-style", "llama3-style", "mistral-style", "neox", "qwen-style", "rules", "tinystories"):
    tokenizer = json.loads(get("tokenizers", name, "tokenizer.json"))
    model = tokenizer["model"]
    merges = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]][:24]
    needed = {part for m in merges for part in (m[0], m[1], m[0] + m[1])}
    keep = lambda t: t in needed or len(t) == 1 and ord(t) < 128 or len(t) == 6 and t.startswith("<0x") and t[4] == "0"
    vocabulary = [t for t in sorted(model["vocab"], key=model["vocab"].get) if keep(t)]
    added = tokenizer.get("added_tokens") or []
    ids = {t: i for i, t in enumerate(vocabulary)}
    for token in added:
        token["id"] = ids.setdefault(token["content"], len(ids))
    if model.get("unk_token"):
        ids.setdefault(model["unk_token"], len(ids))
    model["vocab"] = ids
    model["merges"] = [m for m in merges if m[0] in ids and m[1] in ids and m[0] + m[1] in ids]
    folder = os.path.join(FIXTURES, "tokenizers", name)
    beside = {n.replace(".json", "__json"): get("tokenizers", name, n)
              for n in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
              if os.path.exists(os.path.join(folder, n))}
    put("tokenizer", name, sections(tokenizer__json=json.dumps(tokenizer, ensure_ascii=False), text="Hi there  we'll 12\n",
                                    **beside))
vocabulary = json.loads(get("tokenizers", "gpt2", "vocab.json"))
merges = get("tokenizers", "gpt2", "merges.txt").decode().split("\n")[:20]
needed = {p for m in merges[1:] for p in (*m.split(" "), m.replace(" ", ""))}
small = {t: i for i, t in enumerate(t for t in vocabulary if len(t) == 1 or t in needed or t.startswith("<|"))}
put("tokenizer", "gpt2", sections(vocab__json=json.dumps(small), merges__txt="\n".join(merges),
                                  tokenizer_config__json='{"eos_token": "<|endoftext|>", "add_bos_token": false, '
                                                         '"bos_token": {"content": "<|endoftext|>"}}'))

# SentencePiece models with their first pieces, alone and with a configuration; a folder of a slow tokenizer; Unigram.
def shortened(name, n):
    """The model with its first n pieces (a piece is a field of its own) and everything else."""
    data, at, kept, pieces = get("tokenizers", name, "tokenizer.model"), 0, b"", 0
    while at < len(data):
        start, key = at, data[at]
        size = shift = 0
        at += 1
        while True:
            size |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        at += size
        pieces += key == 10
        kept += data[start:at] if key != 10 or pieces <= n else b""
    return kept


for name, n in (("unigram-model", 60), ("bpe-model", 60), ("bpe-bytes-model", 300), ("unigram-bytes-model", 300)):
    put("tokenizer", name, sections(tokenizer__model=shortened(name, n), text="Hi there  <m> 12\n"))
config = {"tokenizer_class": "LlamaTokenizer", "legacy": True, "added_tokens_decoder": {
    "300": {"content": "<m>", "lstrip": True, "normalized": True, "special": False}}}
for name, change in (("llama", {}), ("gemma", {"tokenizer_class": "GemmaTokenizer"}), ("parts", {"tokenizer_class": "PreTrainedTokenizer"})):
    put("tokenizer", "model-" + name, sections(tokenizer__model=shortened("bpe-bytes-model", 300), text="Hi <m></s>12",
                                               tokenizer_config__json=json.dumps(dict(config, **change))))
put("tokenizer", "qwen-slow", sections(vocab__json=json.dumps(small), merges__txt="\n".join(merges), text="12 \n\n<m>",
                                       added_tokens__json=json.dumps({"<m>": len(small)}),
                                       tokenizer_config__json='{"tokenizer_class": "Qwen2TokenizerFast", "pad_token": "<m>"}'))
for i, row in enumerate(json.loads(get("tokenizers", "sections.json"))["rows"]):
    if row["tokenizer"]["model"]["type"] == "Unigram" or i < 15 or row["tokenizer"]["normalizer"]:
        put("tokenizer", f"section-{i}", sections(tokenizer__json=json.dumps(row["tokenizer"]), text="a --b  </s>\u0130 x"))

# Models: every family's configuration; safetensors single and sharded; one whole small folder.
for family in sorted(os.listdir(os.path.join(FIXTURES, "models"))):
    path = os.path.join(FIXTURES, "models", family)
    if os.path.exists(os.path.join(path, "config.json")):
        put("model", "config-" + family, sections(config__json=get("models", family, "config.json")))
put("model", "mixed", sections(model__safetensors=get("safetensors", "mixed", "model.safetensors")))
shard = lambda n: get("safetensors", "sharded", f"model-0000{n}-of-00002.safetensors")
sharded = {"model__safetensors__index__json": get("safetensors", "sharded", "model.safetensors.index.json"),
           "model-00001-of-00002__safetensors": shard(1), "model-00002-of-00002__safetensors": shard(2)}
put("model", "sharded", sections(**sharded))
config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 4, "n_layer": 1, "n_head": 1,
          "n_positions": 4, "vocab_size": 5, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
shapes = {"wte.weight": [5, 4], "wpe.weight": [4, 4], "h.0.ln_1.weight": [4], "h.0.ln_1.bias": [4],
          "h.0.attn.c_attn.weight": [4, 12], "h.0.attn.c_attn.bias": [12], "h.0.attn.c_proj.weight": [4, 4],
          "h.0.attn.c_proj.bias": [4], "h.0.ln_2.weight": [4], "h.0.ln_2.bias": [4], "h.0.mlp.c_fc.weight": [4, 16],
          "h.0.mlp.c_fc.bias": [16], "h.0.mlp.c_proj.weight": [16, 4], "h.0.mlp.c_proj.bias": [4], "ln_f.weight": [4],
          "ln_f.bias": [4]}
header, at = {}, 0
for name, shape in shapes.items():
    size = 2
    for n in shape:
        size *= n
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
put("model", "whole", sections(config__json=json.dumps(config),
                               model__safetensors=struct.pack("<Q", len(text)) + text + bytes(at)))

# Model configurations whose meaning hangs on what is not said in them.
shape = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
shape_gpt2 = {"model_type": "gpt2", "vocab_size": 8, "n_embd": 8, "n_layer": 2, "n_head": 2, "scale_attn_weights": False}
yarn = lambda original: {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": original}
for name, config in {
        "all-windows": dict(shape, model_type="gemma2", sliding_window=4, layer_types=["sliding_attention"] * 2),
        "no-windows": dict(shape, model_type="gemma2", sliding_window=4, layer_types=["full_attention"] * 2),
        "windows-from": dict(shape, model_type="qwen2", sliding_window=4, use_sliding_window=True, max_window_layers=0),
        "yarn-far": dict(shape, model_type="llama", rope_scaling=yarn(1e300)),
        "yarn-near": dict(shape, model_type="llama", rope_scaling=yarn(0.5)),
        "yarn-mscale": dict(shape, model_type="llama", rope_scaling=dict(yarn(4), mscale=1e308, mscale_all_dim=1e308, factor=1e308)),
        "share": dict(shape, model_type="gpt_neox", hidden_size=44, num_attention_heads=1, rotary_pct=0.69),
        "unscaled": shape_gpt2}.items():
    put("model", "meaning-" + name, sections(config__json=json.dumps(config)))

# Configuration.
put("yaml", "plain", "data: [a.h5, b.h5]\ntrain:\n  steps: 3 # three\n  learning_rate: 1e-4\n  shuffle: false\n")
put("yaml", "styles", "model: 'it''s'\n\"seed\": 16\ntrain: {steps: 7, clip: .inf}\ndata: |\n  two\n  lines\noutput: >-\n  folded\n"
                      "eval_data:\n- one\n- two\n...\n")
put("yaml", "refused", "a: &x 1\nb: *x\n? [complex]\n: {}\n<<: {seed: 1}\n---\nsecond: document\n")
put("yaml", "arguments", sections(command="dpo", config__yaml="dpo:\n  beta: 0.1\n  loss: sigmoid+0.1*sft\n",
                                  arguments="seed=3\ntrain.optimizer=rmsprop\ntrain.alpha=0.9\nmodel=a=b\ndata=x,\"y\",#z\n"))
put("yaml", "select", sections(command="select", config__yaml="select: {strategy: easy, fraction: 0.25}\n",
                               arguments="embeddings=\toutput: x\n"))
put("yaml", "few-shot", sections(command="few-shot", config__yaml="few_shot:\n  steps: 10\n  model: np\n"))
put("yaml", "prepare", sections(command="prepare", config__yaml="prepare:\n  format: hh\ntokenize: {begin: auto, end: true}\n"))
put("yaml", "controls", sections(command="select", config__yaml='embeddings: "\\t\\x7f\\N\\L\\P\\ufeff\\uffff"\noutput: "null"\n',
                                 arguments=b"data=\tdata: \xc2\x85\x7f\x1b\xf0\x9f\x98\x80\nseed=-0\n"))
put("yaml", "not-utf8", sections(command="dpo", arguments=b"\xff=\xff\noutput=caf\xe9\n"))
put("yaml", "damaged-gzip", b"\x1f\x8b")
put("yaml", "synth", sections(command="synth", config__yaml="synth: {rows: 10}\noutput: x\n"))

# Chat templates with a row: those of the fixtures, and blocks of every kind.
templates = json.loads(gzip.decompress(get("templates", "templates.json.gz")))
conversations = json.loads(get("templates", "conversations.json"))
for i, name in enumerate(("trl/gemma4", "trl/gptoss_training", "trl/llama3_1", "trl/qwen3_training", "trl/deepseekv3", "trl/glm4moe",
                          "trl/nemotron_3_nano", "trl/cohere2", "trl/lfm2_v2", "trl/phi3", "trl/smolvlm")):
    put("template", os.path.basename(name), sections(template=templates[name], row=json.dumps(conversations[4 + i % 8])))
for i, (block, _) in enumerate(json.loads(get("templates", "expressions.json"))):
    if i % 3 == 0 or block.startswith("{%"):
        put("template", f"block-{i}", block)

# HDF5: edits (target, operation, position, value) of a base file (tests/fuzz/fuzz_hdf5.c).
edit = lambda target, operation, position, value: struct.pack("<BBHq", target, operation, position, value)
for base, name in enumerate(("data", "view", "reference", "embeddings", "checkpoint")):
    put("hdf5", name, bytes([base]))
    for operation, title in enumerate(("element", "extent", "absent", "type")):
        put("hdf5", f"{name}-{title}", bytes([base]) + edit(1, operation, 2, 1 << 40) + edit(2, operation, 3, 7))
    put("hdf5", f"{name}-attribute", bytes([base]) + edit(0, 4, 0, -1) + edit(3, 4, 1, 1 << 33) + edit(5, 6, 0, 0))
