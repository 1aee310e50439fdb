"""A results folder as a page: report.py RESULTS > RESULTS/README.md (scaling.csv, network.csv, environment.json; the cost model)"""
import argparse
import csv
import json
import os
import sys

import cost_model

# Clusters that are predicted, not measured: name, and what differs from cost_model.py's defaults.
CLUSTERS = [
    ("a rank is a host of many cores, 2 TFLOP/s reached", {}),
    ("a rank is an accelerator, 400 TFLOP/s reached, its memory not the host's: sums begin when backward is over",
     {"flops": 4e14, "memory_rate": 2.5e12, "tokens": 65536, "forest_tokens": 16384, "overlap": 0.0}),
    ("the same accelerator with sums beside the backward pass of the last forest",
     {"flops": 4e14, "memory_rate": 2.5e12, "tokens": 65536, "forest_tokens": 16384}),
]


def rows_of(folder, name):
    try:
        with open(os.path.join(folder, name)) as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def percent(text):
    return f"{100 * float(text):.0f} %" if text else "-"


def seconds(text):
    return f"{float(text):.3f}" if text else "-"


def scaling(rows):
    out = []
    for r in rows:
        out.append([r["task"], r["mode"], r["ranks"], r["threads"], seconds(r["step_s_median"]), seconds(r["wait_rank_s"]),
                    seconds(r["communication_s"]), percent(r["efficiency"]) if r["valid"] == "yes" else "-", percent(r["other_load"]),
                    r["valid"]])
    return markdown(["task", "scaling", "ranks", "threads", "step, s", "waiting for the slowest, s", "communication, s", "efficiency",
                     "other load", "valid"], out)


def beside(rows):
    """Ranks of one thread beside one rank of as many threads."""
    out = []
    for r in rows:
        for other in rows:
            if (r["mode"], other["mode"], other["task"], other["ranks"]) == ("threads", "strong", r["task"], r["threads"]):
                ratio = float(other["efficiency"]) / float(r["efficiency"])
                out.append(f"{r['task']} {100 * ratio:.0f} %")
    return ", ".join(out)


def network(rows):
    out = [[r["network"], r["nodes"], seconds(r["predicted_exposed_s"]), seconds(r["measured_exposed_s"]),
            seconds(r["predicted_step_s"]), seconds(r["measured_step_s"]), f"{100 * float(r['error']):+.0f} %"] for r in rows]
    return markdown(["network", "nodes", "exposed, predicted", "measured", "step, predicted", "measured", "error of the step"], out)


def clusters():
    parts = []
    for name, changes in CLUSTERS:
        options = argparse.Namespace(**dict(vars(cost_model.predict_options([])), **changes))
        parts.append(f"{name[0].upper()}{name[1:]}:\n\n```\n{cost_model.predict(options)}\n```")
    return "\n\n".join(parts)


def main():
    folder = sys.argv[1]
    with open(os.path.join(folder, "environment.json")) as file:
        facts = json.load(file)
    runs, shaped = rows_of(folder, "scaling.csv"), rows_of(folder, "network.csv")
    print(f"# {facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB\n")
    print(f"Made by `benchmarks/report.sh` on {runs[0]['date']} from {runs[0]['git']}; libraries in `environment.json`.\n")
    print(f"## Scaling (measured)\n\n{runs[0]['model']}, definitions at the top of `benchmarks/scaling.sh` and in `table.txt`. "
          f"More ranks than cores share them: at most {facts['cores']} can help.\n\n{scaling(runs)}\n")
    print(f"Rate of 2 ranks of one thread as a share of one rank of 2 threads: {beside(runs)}.\n")
    if shaped:
        print("## The cost model against shaped networks (predicted and measured)\n\nNodes are namespaces of this machine and share its "
              f"cores; `network.txt` has what was fitted.\n\n{network(shaped)}\n")
    print("## A 7B model on up to 1024 ranks (predicted: nothing here was measured)\n\n" + clusters())


if __name__ == "__main__":
    main()
