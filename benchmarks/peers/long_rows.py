"""Of long_rows.sh.
long_rows.py texts TRANSCRIPTS.jsonl[.gz] TOKENS COUNT: so many texts of more than so many tokens, of transcripts in a line each
("chosen"), as JSON Lines with "text".
long_rows.py train --model FOLDER --data FILE.h5 --tokens N --steps S --type fp32|bf16: fine-tuning in a plain PyTorch loop over a
transformers model (its own loss, scaled_dot_product_attention, AdamW), a row of `collimate prepare`'s file a step. Weights, gradients
and state are fp32, bf16 is autocast. Prints one JSON object: seconds and loss of each step."""
import argparse
import gzip
import json
import sys
import time

CHARACTERS = 7  # of a token, at most, in the mean of a text


def texts(path, tokens, count):
    opener = gzip.open if path.endswith(".gz") else open
    text = ""
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            text += json.loads(line)["chosen"]
            if len(text) > CHARACTERS * tokens:
                print(json.dumps({"text": text}))
                text, count = "", count - 1
                if count == 0:
                    return
    sys.exit(f"{path}: too short by {count} texts")


def train(given):
    import h5py
    import torch
    import transformers
    from plain_step import autocast, optimizer_of, update
    torch.set_num_threads(given.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    optimizer = optimizer_of(model)
    with h5py.File(given.data) as file:
        ids, offsets = file["responses/tokens"][:], file["responses/offsets"][:]
    seconds, losses = [], []
    for step in range(given.steps):
        row = torch.from_numpy(ids[offsets[step]:offsets[step + 1]][:given.tokens].astype("int64")).unsqueeze(0)
        start = time.perf_counter()
        with autocast(given.type):
            loss = model(input_ids=row, labels=row).loss
        update(model, optimizer, loss)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "losses": losses}))


if sys.argv[1] == "texts":
    texts(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
else:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("train",))
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--type", choices=("fp32", "bf16"), default="fp32")
    train(parser.parse_args())
