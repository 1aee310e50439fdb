"""The `tokenizers` package on the work of `collimate prepare`: HH transcripts to ids.

usage: prepare.py PAIRS.jsonl TOKENIZER.json OUT.npz
Prints pairs a minute of the encoding alone (one batch in memory, the faster of encode_batch and
encode_batch_fast) and of the whole way from file to file.
"""
import json
import sys
import time

import numpy as np
from tokenizers import Tokenizer

path, tokenizer_path, out = sys.argv[1:4]
tokenizer = Tokenizer.from_file(tokenizer_path)
start = time.perf_counter()
texts = []
marker = "\n\nAssistant:"
with open(path, encoding="utf-8") as lines:
    for line in lines:
        pair = json.loads(line)
        at = pair["chosen"].rfind(marker) + len(marker)
        if pair["rejected"][:at] == pair["chosen"][:at]:
            texts += [pair["chosen"][:at], pair["chosen"][at:], pair["rejected"][at:]]
read_s = time.perf_counter() - start
pairs = len(texts) // 3
encode_s = cpu_s = float("inf")
for encode in (tokenizer.encode_batch, tokenizer.encode_batch_fast):
    begin, cpu_begin = time.perf_counter(), time.process_time()
    encoded = encode(texts, add_special_tokens=False)
    encode_s = min(encode_s, time.perf_counter() - begin)
    cpu_s = min(cpu_s, time.process_time() - cpu_begin)
begin = time.perf_counter()
lengths = np.array([len(e) for e in encoded], dtype=np.int64)
ids = np.concatenate([np.array(e.ids, dtype=np.int32) for e in encoded])
np.savez_compressed(out, ids=ids, offsets=np.concatenate(([0], np.cumsum(lengths))))
write_s = time.perf_counter() - begin
whole_s = read_s + encode_s + write_s
print(f"tokenizers: {pairs} pairs, {len(ids)} tokens")
print(f"tokenizers: encode only {encode_s:.2f} s = {60 * pairs / encode_s:.0f} pairs/min; "
      f"{cpu_s:.2f} CPU s = {60 * pairs / cpu_s:.0f} pairs per CPU minute")
print(f"tokenizers: file to file {whole_s:.2f} s = {60 * pairs / whole_s:.0f} pairs/min")
