"""Plots of what the studies and benchmarks write: python benchmarks/plot.py KIND INPUT... --output FILE.png

np-study FOLDER   accuracy against the number of context pairs, beside the published curves (jobs/np-study.sh)

A kind is a function below and a row in `kinds`. Needs matplotlib.
"""
import argparse
import json
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def np_study(inputs, output):
    folder, = inputs
    sizes = [0, 1, 3, 5, 10]
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    axes.plot(sizes, [76.4, 86.6, 94.7, 97.4, 98.9], "k--", marker="s", label="published NP-BTL")
    axes.axhline(76.4, color="gray", linestyle=":", label="published BTL")
    for name in ["np-seed0", "np-seed1", "np-latent", "btl", "dpl"]:
        with open(os.path.join(folder, name, "result.json")) as file:
            rows = json.load(file)["evaluation"]
        measure = "paper_unseen" if len(rows) > 1 else "accuracy"
        k = [row["context"] for row in rows]
        mean = [100 * row[measure] for row in rows]
        error = [100 * row[measure + "_error"] for row in rows]
        if len(rows) == 1:  # no context: the same at any size
            k, mean, error = sizes, mean * len(sizes), error * len(sizes)
        axes.errorbar(k, mean, error, marker="o", markersize=3, capsize=2, label=name)
    axes.set_xlabel("context pairs of a user")
    axes.set_ylabel("accuracy on the user's pairs from position k on, %")
    axes.set_title("Two users who want opposite things")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(output, dpi=150)
    plt.close(figure)


kinds = {"np-study": np_study}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(kinds))
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    kinds[arguments.kind](arguments.inputs, arguments.output)
