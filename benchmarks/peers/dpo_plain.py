"""DPO steps in a plain PyTorch loop over a transformers model: padded, chosen and rejected in one forward pass, full
logits, reference log-probs computed before the clock starts. Weights, gradients and state are fp32, bf16 is autocast. Prints one
JSON object with the seconds of each step."""
import argparse
import json
import time

import torch
import torch.nn.functional as F
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from dpo_data import read_pairs
from plain_step import autocast, optimizer_of, update


def collate(pairs, tokenizer, end, max_length):
    rows = []
    for side in ("chosen", "rejected"):
        for pair in pairs:
            prompt = tokenizer.encode(pair["prompt"], add_special_tokens=False)
            response = tokenizer.encode(pair[side], add_special_tokens=False) + [end]
            prompt = prompt[-max(1, max_length - len(response)):] if len(response) < max_length else prompt[-1:]
            response = response[: max_length - len(prompt)]
            rows.append((prompt, response))
    longest = max(len(p) + len(r) for p, r in rows)
    ids = torch.full((len(rows), longest), end)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for i, (prompt, response) in enumerate(rows):
        n = len(prompt) + len(response)
        ids[i, :n] = torch.tensor(prompt + response)
        mask[i, :n] = 1
        labels[i, len(prompt):n] = torch.tensor(response)
    return ids, mask, labels


def sequence_logps(model, batch):
    ids, mask, labels = batch
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    targets = labels[:, 1:]
    scored = targets != -100
    logps = torch.gather(F.log_softmax(logits, -1), 2, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (logps * scored).sum(-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--type", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--output", help="not used: nothing is written")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=options.model + "/tokenizer.json")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    pairs = read_pairs(options.data, options.batch * options.steps)
    batches = [collate(pairs[i:i + options.batch], tokenizer, end, options.max_length)
               for i in range(0, len(pairs), options.batch)]

    with torch.no_grad(), autocast(options.type):
        reference = [sequence_logps(model, batch) for batch in batches]
    optimizer = optimizer_of(model)
    seconds, losses = [], []
    for batch, cached in zip(batches, reference):
        start = time.perf_counter()
        with autocast(options.type):
            logps = sequence_logps(model, batch)
        chosen, rejected = (logps - cached).chunk(2)
        loss = -F.logsigmoid(0.1 * (chosen - rejected)).mean()
        update(model, optimizer, loss)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"peer": f"plain loop, transformers {transformers.__version__}, torch {torch.__version__}",
                      "batch": options.batch, "seconds": seconds, "losses": losses}))


if __name__ == "__main__":
    main()
