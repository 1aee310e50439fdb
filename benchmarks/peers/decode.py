"""Decoding with transformers beside `collimate bench bench.kind=decode`: random weights of a config.json on the CPU.

python benchmarks/peers/decode.py CONFIG.json [--prompt 64] [--steps 20] [--threads N] [--batches 1,4,16] [--dtype fp32|bf16]

Prints, for each batch, milliseconds and processor milliseconds of a step (a run with all steps less one with the prompts
alone) and tokens per second. On a busy machine compare the processor's time, on one thread.
"""
import argparse
import json
import time

import torch
import transformers


def run(model, ids, steps):
    wall, processor = time.time(), time.process_time()
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=steps, min_new_tokens=steps,
                       do_sample=True, top_k=0, pad_token_id=0)
    return time.time() - wall, time.process_time() - processor


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--batches", default="1,4,16")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    with open(given.config) as file:
        raw = json.load(file)
    config = transformers.AutoConfig.for_model(raw.pop("model_type"), **raw)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if given.dtype == "bf16" else torch.float32).eval()
    print(f"# transformers {transformers.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, {given.dtype}")
    print("#  batch     step/ms  processor/ms       tokens/s")
    for batch in map(int, given.batches.split(",")):
        ids = torch.randint(0, config.vocab_size, (batch, given.prompt))
        run(model, ids, 1)
        short, whole = run(model, ids, 1), run(model, ids, given.steps + 1)
        step, processor = ((b - a) / given.steps for a, b in zip(short, whole))
        print(f"{batch:8d} {1e3 * step:11.2f} {1e3 * processor:13.2f} {batch / step:14.1f}", flush=True)


if __name__ == "__main__":
    main()
