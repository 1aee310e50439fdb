"""The table of dpo_gpu.sh: pairs/s, utilisation of the device and peak memory, medians over rounds. Model FLOP are
collimate's count for both (a prompt once for its two responses), so utilisations are in proportion to pairs/s."""
import csv
import json
import statistics
import sys

folder, rounds, precisions = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
steps = [next(csv.DictReader(open(f"{folder}/step.{r}.csv"))) for r in range(1, rounds + 1)]
peers = {p: [json.load(open(f"{folder}/{p}.{r}.json")) for r in range(1, rounds + 1)] for p in precisions}
every = [result for results in peers.values() for result in results]
flops_per_pair = statistics.median(float(s["gflops"]) * 1e9 / float(s["pairs_per_s"]) for s in steps)
product = max([float(s["product_gflops"]) * 1e9 for s in steps] + [p["flops_per_s"] for p in every])
bandwidth = max(p["bytes_per_s"] for p in every)
print(f"# {every[0]['device']}: best product {product / 1e12:.1f} TFLOP/s, best triad {bandwidth / 1e9:.0f} GB/s, measured")
print(f"# {flops_per_pair:.4g} model FLOP a pair; rounds of {len(every[0]['seconds'])} updates, medians")
print(f"{'what':60s} {'pairs/s':>9s} {'min':>9s} {'max':>9s} {'util %':>7s} {'MiB':>9s} {'ratio':>6s}")
ours = [float(s["pairs_per_s"]) for s in steps]
rows = {"collimate bench step": (ours, statistics.median(float(s["mem_peak_mib"]) for s in steps))}
for results in peers.values():
    memory = [r["peak_bytes"] / 2**20 for r in results if r["peak_bytes"]]
    rates = [r["batch"] / statistics.median(r["seconds"]) for r in results]
    rows[results[0]["peer"]] = (rates, statistics.median(memory) if memory else float("nan"))
for name, (rates, memory) in rows.items():
    ratio = statistics.median(a / b for a, b in zip(ours, rates))
    print(f"{name:60s} {statistics.median(rates):9.2f} {min(rates):9.2f} {max(rates):9.2f}"
          f" {100 * statistics.median(rates) * flops_per_pair / product:7.1f} {memory:9.0f} {ratio:6.2f}")
