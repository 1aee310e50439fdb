"""Causal attention in PyTorch beside `collimate bench bench.kind=attention`: the batched-matmul formulation
(softmax(Q K^T) V by torch.matmul, with a mask) and scaled_dot_product_attention, forward and backward, on the same rows.

python benchmarks/peers/attention.py [--heads 8] [--kv-heads 8] [--head-dim 64] [--threads 2] [--repeats 5]
                                     [--dtypes float32,bfloat16] [--collimate "COMMAND"]

With --collimate the command is run before and after each type of PyTorch's, so that both meet the same machine. Prints
medians in ms and GFLOP/s of the keys that a query sees (backward: five products), and how many times as fast as the
batched matmul SDPA and ours (the mean of both runs) are.
"""
import argparse
import math
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F

TOKENS = 4096


def batched(q, k, v, mask, group):
    k, v = (t.repeat_interleave(group, 1) if group > 1 else t for t in (k, v))
    scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    return torch.matmul(torch.softmax(scores + mask, -1), v)


def fused(q, k, v, mask, group):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=group > 1)


def measure(attend, given, tokens, dtype):
    rows, group = TOKENS // tokens, given.heads // given.kv_heads
    shapes = (given.heads, given.kv_heads, given.kv_heads)
    q, k, v = (torch.randn(rows, heads, tokens, given.head_dim).to(dtype).requires_grad_() for heads in shapes)
    mask = torch.full((tokens, tokens), -math.inf, dtype=dtype).triu(1)
    seconds = {"forward": [], "backward": []}
    slope = torch.randn(rows, given.heads, tokens, given.head_dim).to(dtype)
    for _ in range(given.repeats + 1):
        start = time.perf_counter()
        out = attend(q, k, v, mask, group)
        middle = time.perf_counter()
        torch.autograd.grad(out, (q, k, v), slope)
        seconds["forward"].append(middle - start)
        seconds["backward"].append(time.perf_counter() - middle)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def ours(command, dtype):
    """Milliseconds by (pass, tokens) of one run, whose table is printed."""
    compute = {"float32": "fp32", "bfloat16": "bf16"}[dtype]
    run = subprocess.run(command.split() + ["compute=" + compute], check=True, stdout=subprocess.PIPE, text=True)
    print(run.stdout, end="", flush=True)
    rows = [line.split() for line in run.stdout.splitlines()]
    return {(row[0], int(row[1])): float(row[3]) for row in rows if row and row[0] in ("forward", "backward")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, default in (("heads", 8), ("kv-heads", 8), ("head-dim", 64), ("threads", 2), ("repeats", 5)):
        parser.add_argument("--" + key, type=int, default=default)
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--collimate", default="")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(f"# torch {torch.__version__}, {given.threads} threads, {given.heads} heads, {given.kv_heads} key heads, "
          f"head_dim {given.head_dim}")
    for dtype in given.dtypes.split(","):
        before = ours(given.collimate, dtype) if given.collimate else {}
        rows = []
        for tokens in (512, 2048, 4096):
            took = [measure(attend, given, tokens, getattr(torch, dtype)) for attend in (batched, fused)]
            for name, products in (("forward", 4), ("backward", 10)):
                flops = products * given.heads * given.head_dim * TOKENS * (tokens + 1) / 2
                ms = [1e3 * t[name] for t in took]
                rows.append((name, tokens, flops, ms))
        after = ours(given.collimate, dtype) if given.collimate else {}
        print(f"{'attention':<10} {'tokens':>6} {'type':>9} {'matmul ms':>10} {'SDPA ms':>10} {'matmul GFLOP/s':>15} "
              f"{'SDPA GFLOP/s':>13} {'SDPA ratio':>11} {'ours ms':>9} {'ours ratio':>11}")
        for name, tokens, flops, ms in rows:
            both = [run[name, tokens] for run in (before, after) if run]
            mine = f"{statistics.mean(both):9.2f} {ms[0] / statistics.mean(both):11.2f}" if both else f"{'-':>9} {'-':>11}"
            print(f"{name:<10} {tokens:6d} {dtype:>9} {ms[0]:10.2f} {ms[1]:10.2f} {flops / ms[0] / 1e6:15.1f} "
                  f"{flops / ms[1] / 1e6:13.1f} {ms[0] / ms[1]:11.2f} {mine}", flush=True)


if __name__ == "__main__":
    main()
