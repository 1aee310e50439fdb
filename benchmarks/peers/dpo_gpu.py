"""DPO steps in PyTorch over a transformers model on one device: SDPA, chosen and rejected in one forward pass, logits of
the response's positions only, reference log-probs computed before the clock starts, fused AdamW, no clipping (bench step
has none). Random tokens, all of one length, so nothing is padded. Prints one JSON object: seconds of each step, peak memory, and the device's own peaks."""
import argparse
import json
import time

import torch
import torch.nn.functional as F
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

WARM_UP = 3


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def rate(device, work, run):
    """work per second of run(): the best of five, after two that warm up."""
    best = 0.0
    for i in range(7):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        if i >= 2:
            best = max(best, work / (time.perf_counter() - start))
    return best


def peaks(device, dtype):
    edge = 8192 if device == "cuda" else 768
    a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
    count = 256 << 20 if device == "cuda" else 16 << 20
    x, y = (torch.randn(count, device=device) for _ in range(2))
    return rate(device, 2.0 * edge**3, lambda: a @ b), rate(device, 12.0 * count, lambda: x.add_(y))


def sequence_logps(model, ids, prompt):
    targets = ids[:, prompt:]
    kept = targets.shape[1] + 1  # a token's logits stand one place before it
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits[:, :-1].float()
    return torch.gather(F.log_softmax(logits, -1), 2, targets.unsqueeze(-1)).squeeze(-1).sum(-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compute", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--precision", default="autocast", choices=["autocast", "pure"])
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    device, dtype = options.device, torch.bfloat16 if options.compute == "bf16" else torch.float32
    autocast = options.compute == "bf16" and options.precision == "autocast"
    flops_per_s, bytes_per_s = peaks(device, dtype)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(options.config)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa",
                                             dtype=torch.float32 if autocast else dtype).to(device)
    model.train()
    response = options.tokens // 4
    prompt = options.tokens - 2 * response
    tokens = torch.randint(config.vocab_size, (options.batch, options.tokens), device=device)
    start_of = {"chosen": prompt, "rejected": prompt + response}

    def sequences(first):
        rows = tokens[first:first + options.micro]
        return torch.cat([torch.cat([rows[:, :prompt], rows[:, at:at + response]], 1) for at in start_of.values()])

    def logps(first):
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            return sequence_logps(model, sequences(first), prompt)

    starts = range(0, options.batch, options.micro)
    with torch.no_grad():
        reference = {first: logps(first) for first in starts}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=device == "cuda")
    seconds, losses = [], []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP + options.steps):
        wait(device)
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for first in starts:
            chosen, rejected = (logps(first) - reference[first]).chunk(2)
            loss = -F.logsigmoid(0.1 * (chosen - rejected)).sum() / options.batch
            loss.backward()
            total += loss.detach()
        optimizer.step()
        losses.append(total.item())
        seconds.append(time.perf_counter() - began)
    print(json.dumps({
        "peer": f"transformers {transformers.__version__}, torch {torch.__version__}, {options.compute}"
                + (f" {options.precision}" if options.compute == "bf16" else ""),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "batch": options.batch,
        "seconds": seconds[WARM_UP:], "losses": losses, "flops_per_s": flops_per_s, "bytes_per_s": bytes_per_s,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None}))


if __name__ == "__main__":
    main()
