"""Of dpo.sh.
dpo_table.py steps METRICS.jsonl BATCH: a run of collimate as the peers' JSON object, with the seconds of each step.
dpo_table.py table FOLDER WARM_UP: of all SHAPE.TYPE.PROGRAM.ROUND.json, pairs/s by the median of a round's counted steps, the median,
least and most of all rounds, and how many times as fast collimate is in the same type, by the median over rounds."""
import json
import pathlib
import statistics
import sys


def steps(path, batch):
    lines = [json.loads(line) for line in open(path)]
    lines = [line for line in lines if "pairs_per_s" in line and "loss" in line]
    print(json.dumps({"peer": "collimate dpo", "batch": batch, "seconds": [batch / line["pairs_per_s"] for line in lines],
                      "losses": [line["loss"] for line in lines]}))


def table(folder, warm_up):
    rates, peers, losses = {}, {}, {}
    for path in sorted(pathlib.Path(folder).glob("*.json"), key=lambda p: p.stat().st_mtime):
        shape, kind, program, number = path.name.removesuffix(".json").rsplit(".", 3)
        result = json.loads(path.read_text())
        rate = result["batch"] / statistics.median(result["seconds"][warm_up:])
        rates.setdefault((shape, kind), {}).setdefault(program, {})[int(number)] = rate
        peers[program] = result["peer"]
        losses[shape, kind, program] = result["losses"][-1]
    print("; ".join(f"{program}: {peer}" for program, peer in peers.items() if program != "collimate"))
    print(f"{'shape':14s} {'type':5s} {'program':10s} {'pairs/s':>8s} {'min':>7s} {'max':>7s} {'rounds':>6s} {'ratio':>6s} {'loss':>7s}")
    for (shape, kind), programs in rates.items():
        for program, rounds in programs.items():
            ours = programs.get("collimate", {})
            ratios = [ours[r] / rate for r, rate in rounds.items() if r in ours]
            ratio = f"{statistics.median(ratios):6.2f}" if ratios else f"{'':6s}"
            values = rounds.values()
            print(f"{shape:14s} {kind:5s} {program:10s} {statistics.median(values):8.3f} {min(values):7.3f} {max(values):7.3f} "
                  f"{len(values):6d} {ratio} {losses[shape, kind, program]:7.4f}")


if sys.argv[1] == "steps":
    steps(sys.argv[2], int(sys.argv[3]))
else:
    table(sys.argv[2], int(sys.argv[3]))
