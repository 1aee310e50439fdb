"""Embeddings of a preference file's responses by transformers: the mean of the last hidden states over a response's tokens,
as `collimate embed` has it. Responses are sorted by length and padded in batches. Prints one JSON object: tokens (padding not
counted), seconds, the share of the batches that is padding, and with --beside the largest difference from embeddings that
`collimate embed` wrote, in units of their largest value.
"""
import argparse
import json
import time

import h5py
import numpy as np
import torch
import transformers


def read_responses(path, most):
    with h5py.File(path) as file:
        tokens, offsets = file["responses/tokens"][:], file["responses/offsets"][:]
        end = int(file.attrs["end_id"])
    rows = [tokens[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
    rows = [row[:-1] if len(row) and row[-1] == end else row for row in rows]
    return [row[:most].astype(np.int64) for row in rows]


def embed(model, rows, batch):
    """Vectors in the rows' order, and how many places the batches had."""
    out = np.zeros((len(rows), model.config.hidden_size), np.float32)
    order = sorted((i for i in range(len(rows)) if len(rows[i])), key=lambda i: len(rows[i]))
    places = 0
    with torch.inference_mode():
        for first in range(0, len(order), batch):
            chosen = order[first:first + batch]
            ids = torch.zeros(len(chosen), len(rows[chosen[-1]]), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for k, i in enumerate(chosen):
                ids[k, :len(rows[i])] = torch.from_numpy(rows[i])
                mask[k, :len(rows[i])] = 1
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            weights = mask.unsqueeze(-1).float()
            out[chosen] = ((hidden * weights).sum(1) / weights.sum(1)).numpy()
            places += ids.numel()
    return out, places


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="of collimate prepare")
    parser.add_argument("--type", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--most", type=int, default=512, help="tokens of a response that are taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--beside", help="embeddings that collimate embed wrote")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = transformers.AutoModel.from_pretrained(
        given.model, dtype=torch.bfloat16 if given.type == "bf16" else torch.float32).eval()
    rows = read_responses(given.data, given.most)
    embed(model, rows[:given.batch], given.batch)  # warm-up
    start = time.perf_counter()
    vectors, places = embed(model, rows, given.batch)
    seconds = time.perf_counter() - start
    tokens = sum(len(row) for row in rows)
    result = {"tokens": tokens, "seconds": seconds, "padding": 1 - tokens / places}
    if given.beside:
        with h5py.File(given.beside) as file:
            theirs = file["values"][:].astype(np.float32)
        result["difference"] = float(np.abs(theirs - vectors).max() / np.abs(theirs).max())
    print(json.dumps(result))


main()
