"""The table of dpo.sh: median pairs/s of the counted steps of each round, and ratios round by round."""
import json
import statistics
import sys

WARM_UP = 2
folder, rounds = sys.argv[1], int(sys.argv[2])
rates = {"collimate": [], "trl": [], "plain": []}
names = {"collimate": "collimate dpo"}
for r in range(1, rounds + 1):
    lines = [json.loads(line) for line in open(f"{folder}/collimate.{r}.jsonl")]
    steps = [line for line in lines if "pairs_per_s" in line and "loss" in line]
    rates["collimate"].append(statistics.median(s["pairs_per_s"] for s in steps[WARM_UP:]))
    for peer in ("trl", "plain"):
        result = json.load(open(f"{folder}/{peer}.{r}.json"))
        names[peer] = result["peer"]
        rates[peer].append(result["batch"] / statistics.median(result["seconds"][WARM_UP:]))
print(f"{'what':60s} {'pairs/s':>8s} {'min':>7s} {'max':>7s} {'ratio':>7s}")
for what, values in rates.items():
    ratio = statistics.median(c / v for c, v in zip(rates["collimate"], values))
    print(f"{names[what]:60s} {statistics.median(values):8.2f} {min(values):7.2f} {max(values):7.2f} {ratio:7.2f}")
