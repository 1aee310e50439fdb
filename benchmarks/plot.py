"""Plots of what the studies and benchmarks write: python benchmarks/plot.py KIND INPUT... --output FILE.png

np-study FOLDER   accuracy against the number of context pairs, beside the published curves (jobs/np-study.sh)
real-study FOLDER held-out loss, margin, accuracy and rewards along training, by subset (jobs/real-study.sh)
steer-study FOLDER  accuracies and sampled text against the number of a user's choices (jobs/steer-study.sh)
shallow-study FOLDER  accuracy by cut, reward against KL by rule, KL by position (jobs/shallow-study.sh)
online-study FOLDER  true reward against KL from the SFT policy along training, by method and reward (jobs/online-study.sh)
selection JSON... similarities of all candidates and of the selected: the reports of `collimate select`
run RUN...        loss, margins, accuracies and gradient norm of training runs: their folders (or metrics.jsonl), beside each other
drift JSONL...    how far embeddings have moved: what `collimate inspect` writes to inspect.report, in the files' order
kl JSON...        KL by position of the response: what `collimate evaluate` gives with evaluate.kl_positions
scaling CSV       efficiency against ranks, weak and strong, by task (benchmarks/scaling.sh)

FILE's ending says what it is: .png, .svg, .pdf. A kind is a function below and a row in `kinds`. Needs matplotlib.
"""
import argparse
import csv
import glob
import json
import math
import os
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import matplotlib.ticker  # noqa: E402


def standard_error(values):
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0


def np_study(inputs, output):
    folder, = inputs
    sizes = [0, 1, 3, 5, 10]
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    axes.plot(sizes, [76.4, 86.6, 94.7, 97.4, 98.9], "k--", marker="s", label="published NP-BTL")
    axes.axhline(76.4, color="gray", linestyle=":", label="published BTL")
    seeds = sorted(glob.glob(os.path.join(folder, "np-seed*", "result.json")))
    curves = []
    for path in seeds:
        with open(path) as file:
            rows = json.load(file)["evaluation"]
        curves.append([100 * row["paper_unseen"] for row in rows])
        axes.plot(sizes, curves[-1], color="tab:blue", alpha=0.25, linewidth=0.8)
    mean = [statistics.mean(values) for values in zip(*curves)]
    axes.errorbar(sizes, mean, [standard_error(values) for values in zip(*curves)], marker="o", markersize=3, capsize=2,
                  color="tab:blue", label=f"NP-BTL: mean of {len(seeds)} seeds, standard error")
    for name in ["np-latent", "btl", "dpl"]:
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


def steer_study(inputs, output):
    folder, = inputs
    cells = {}
    with open(os.path.join(folder, "table.csv")) as file:
        for row in csv.DictReader(file):
            low, high = (float(row[end] or row["mean"]) for end in ("low", "high"))
            cells[row["group"], row["item"], row["measure"]] = float(row["mean"]), (high - low) / 2
    worlds = list(dict.fromkeys(world for world, _, _ in cells))
    texts = ["text asked", "text other"]
    if not any(measure == "text asked" for _, _, measure in cells):
        texts = sorted({measure for _, _, measure in cells if measure.startswith("bytes ")} - {"bytes nobody"})
    figure, axes = plt.subplots(len(worlds), 2, figsize=(10, 3.8 * len(worlds)), squeeze=False)
    for (left, right), world in zip(axes, worlds):
        def curve(axis, prefix, measure, **style):
            points = [(int(item[len(prefix):]), *value) for (w, item, m), value in cells.items()
                      if w == world and m == measure and item.startswith(prefix)]
            if points:
                k, mean, half = zip(*sorted(points))
                axis.errorbar(k, mean, half, marker="o", markersize=3, capsize=2, **style)
        for prefix, name, line in [("k = ", "NP-DPO", "-"), ("published k = ", "published recipe", ":")]:
            curve(left, prefix, "sum", linestyle=line, label=name, color="tab:blue")
            for measure, color in zip(texts, ["tab:blue", "tab:red"]):
                curve(right, prefix, measure, linestyle=line, label=f"{name}: {measure}", color=color)
        for item, style in [("alone", "--"), ("mixture", "-.")]:
            for axis, measure in [(left, "sum"), (right, "text asked")]:
                if (world, item, measure) in cells:
                    axis.axhline(cells[world, item, measure][0], color="gray", linestyle=style, label=f"DPO, {item}")
        left.set_ylabel("sum of the users' accuracies, %")
        right.set_ylabel("sampled text, %" if texts[0] == "text asked" else "sampled text, bytes")
        left.set_title(f"users: {world}")
        for axis in (left, right):
            axis.set_xlabel("choices that the policy is told")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(output, dpi=150)
    plt.close(figure)


def read_curves(path):
    """{world: {subset: {step: {measure: [value of each seed]}}}}"""
    worlds = {}
    with open(path) as file:
        for row in csv.DictReader(file):
            step = worlds.setdefault(row["world"], {}).setdefault(row["subset"], {}).setdefault(int(row["step"]), {})
            for measure, value in row.items():
                if measure not in ("world", "seed", "subset", "step"):
                    step.setdefault(measure, []).append(float(value))
    return worlds


def real_study(inputs, output):
    folder, = inputs
    worlds = read_curves(os.path.join(folder, "curves.csv"))
    panels = [("loss", "loss"), ("margin_raw", "margin, not times beta"), ("accuracy", "accuracy"),
              ("reward_chosen", "rewards: chosen, rejected (dashed)")]
    colors = {"random": "tab:gray", "easy": "tab:green", "hard": "tab:red", "centroid": "tab:blue"}
    figure, rows = plt.subplots(len(worlds), len(panels), figsize=(15, 3.2 * len(worlds)), squeeze=False)
    for line, (world, subsets) in zip(rows, worlds.items()):
        for axes, (measure, title) in zip(line, panels):
            for subset, steps in subsets.items():
                place = sorted(steps)
                for name, style in (measure, "-"), ("reward_rejected", "--"):
                    if name != measure and measure != "reward_chosen":
                        continue
                    seeds = [steps[step][name] for step in place]
                    mean = [sum(values) / len(values) for values in seeds]
                    error = [standard_error(values) for values in seeds]
                    axes.plot(place, mean, style, color=colors[subset], marker=".", label=subset if style == "-" else None)
                    axes.fill_between(place, [m - e for m, e in zip(mean, error)],
                                      [m + e for m, e in zip(mean, error)], color=colors[subset], alpha=0.2)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("updates")
            axes.grid(alpha=0.3)
        line[0].set_ylabel(world, fontsize=10)
        line[1].legend(fontsize=8)
    figure.suptitle("Held-out pairs along DPO on each subset; bands: standard error over seeds", fontsize=11)
    figure.tight_layout()
    figure.savefig(output, dpi=90)
    plt.close(figure)


def read_groups(path, keys):
    """{values of keys: {measure: [value of each seed]}}, in the file's order; lines without a number are left out."""
    groups = {}
    with open(path) as file:
        for row in csv.DictReader(file):
            group = groups.setdefault(tuple(row[key] for key in keys), {})
            for measure, value in row.items():
                if measure not in keys and measure != "seed" and value not in ("", None):
                    group.setdefault(measure, []).append(float(value))
    return groups


def read_tradeoffs(path):
    """{(world, rule): [(mean KL, rewards of the seeds)]}, a point for each place among a rule's values (a seed's thresholds are its
    own); every rule begins at the reference and ends at the policy, which are mixing with 0 and 1."""
    points, ends = {}, {}
    with open(path) as file:
        for row in csv.DictReader(file):
            seeds = points.setdefault((row["world"], row["rule"]), {})
            seeds.setdefault(row["seed"], []).append((float(row["kl"]), float(row["reward"])))
            if row["rule"] == "mix" and float(row["value"]) in (0, 1):
                ends.setdefault((row["world"], float(row["value"])), []).append((float(row["kl"]), float(row["reward"])))
    curves = {}
    for (world, rule), seeds in points.items():
        columns = list(zip(*seeds.values()))
        if rule != "mix":
            columns += [ends[world, end] for end in (0, 1) if (world, end) in ends]
        curves[world, rule] = sorted((statistics.mean(kl for kl, _ in column), [reward for _, reward in column])
                                     for column in columns)
    return curves


def draw_points(axes, points, **style):
    """points: [(x, values of the seeds)]; their means, with standard errors."""
    x = [place for place, _ in points]
    axes.errorbar(x, [statistics.mean(values) for _, values in points], [standard_error(values) for _, values in points],
                  marker="o", markersize=3, capsize=2, linewidth=1.2, **style)


def shallow_study(inputs, output):
    folder, = inputs
    cuts = read_groups(os.path.join(folder, "cuts.csv"), ("world", "cut", "measure"))
    curves = read_tradeoffs(os.path.join(folder, "curves.csv"))
    positions = read_groups(os.path.join(folder, "positions.csv"), ("world", "position"))
    worlds = list(dict.fromkeys(world for world, _ in curves))
    names = {"mix": "mixing", "length": "Length Control", "threshold": "KL Threshold"}
    figure, rows = plt.subplots(len(worlds), 3, figsize=(13, 3.6 * len(worlds)), squeeze=False)
    for (left, middle, right), world in zip(rows, worlds):
        for measure in ("reward accuracy", "dpo accuracy"):
            draw_points(left, [(float(cut), group["value"]) for (w, cut, m), group in cuts.items() if (w, m) == (world, measure)],
                        label=measure.split()[0] + (" model" if measure.startswith("reward") else ""))
        left.set_xlabel("trained on, % of a response's tokens")
        left.set_ylabel(f"{world}: accuracy on whole pairs")
        for rule, name in names.items():
            draw_points(middle, curves[world, rule], label=name)
        middle.set_xlabel("KL(drawn || reference) of a response, nats")
        middle.set_ylabel("reward")
        draw_points(right, [(int(position), group["kl"]) for (w, position), group in positions.items() if w == world])
        right.set_xlabel("position in the response, tokens")
        right.set_ylabel("KL(policy || reference), nats")
        for axes in (left, middle, right):
            axes.grid(alpha=0.3)
        left.legend(fontsize=8)
        middle.legend(fontsize=8)
    figure.suptitle("Where the preference stands, and what follows; bars: standard error over seeds", fontsize=11)
    figure.tight_layout()
    figure.savefig(output, dpi=100)
    plt.close(figure)


def selection(inputs, output):
    reports = []
    for path in inputs:
        with open(path) as file:
            reports.append(json.load(file))
    reports = [report for report in reports if "similarity" in report]
    if not reports:
        raise SystemExit("no report has similarities: random without embeddings")
    figure, rows = plt.subplots(len(reports), 1, figsize=(6.4, 1.2 + 2.2 * len(reports)), squeeze=False, sharex=True)
    for axes, report in zip(rows[:, 0], reports):
        bins = report["similarity"]
        left = [bins["low"] + i * bins["bin_width"] for i in range(len(bins["all"]["bins"]))]
        for name, color in ("all", "lightgray"), ("selected", "tab:blue"):
            counts = bins[name]["bins"]
            axes.bar(left, counts, width=bins["bin_width"], align="edge", color=color,
                     label=f"{name}: {bins[name]['pairs']} pairs, mean {bins[name]['mean']:.3f}")
        axes.set_title(f"{report['strategy']} over {report['scope']}", fontsize=10)
        axes.set_ylabel("pairs")
        axes.legend(fontsize=8)
    rows[-1, 0].set_xlabel("cosine of the two responses' embeddings")
    figure.tight_layout()
    figure.savefig(output, dpi=150)
    plt.close(figure)


def read_run(path):
    """{measure: [(step, value)]}; a value that was not finite is a gap, half a line of a run that goes on is left out."""
    if os.path.isdir(path):
        path = os.path.join(path, "metrics.jsonl")
    if not os.path.isfile(path):
        raise SystemExit(f"{path}: is not there; RUN is a folder that sft, dpo, reward or few-shot wrote")
    series = {}
    with open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                row = json.loads(line)
            except ValueError as error:
                raise SystemExit(f"{path}, line {number}: {error}")
            for measure, value in row.items():
                if "step" in row and (value is None or isinstance(value, (int, float))):
                    series.setdefault(measure, []).append((row["step"], float("nan") if value is None else value))
    if "loss" not in series:
        raise SystemExit(f"{path}: has no update yet")
    return series


def smooth(values, window):
    """Mean over the last `window` that are numbers."""
    out = []
    for i in range(len(values)):
        part = [value for value in values[max(0, i - window + 1):i + 1] if math.isfinite(value)]
        out.append(sum(part) / len(part) if part else float("nan"))
    return out


def run_names(paths):
    """The shortest ends of the paths that differ from each other."""
    parts = [[part for part in os.path.normpath(path).split(os.sep) if part != "metrics.jsonl"] for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(map(tuple, parts))):
            break
    return names


def draw_series(axes, series, measure, color, name):
    """Updates: as they are, pale, and their running mean; evaluations: dashed, with marks. Whether there is anything."""
    train, evaluation = series.get(measure, []), series.get("eval_" + measure, [])
    if train:
        steps, values = zip(*train)
        window = max(1, len(values) // 25)
        axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.3 if window > 1 else 1,
                  label=None if window > 1 else name)
        if window > 1:
            axes.plot(steps, smooth(values, window), color=color, linewidth=1.5, label=name)
    if evaluation:
        axes.plot(*zip(*evaluation), color=color, linestyle="--", marker="o", markersize=3,
                  label=None if train else name)
    return bool(train or evaluation)


def run(inputs, output):
    panels = [(("loss",), "loss"), (("rewards/margins", "margin"), "margins"),
              (("rewards/accuracies", "accuracy", "mean_token_accuracy"), "accuracies"), (("grad_norm",), "gradient norm")]
    runs = list(zip(run_names(inputs), map(read_run, inputs)))
    figure, places = plt.subplots(2, 2, figsize=(10, 6.4))
    for axes, (measures, title) in zip(places.flat, panels):
        drawn = set()
        for i, (name, series) in enumerate(runs):
            has = [m for m in measures if m in series or "eval_" + m in series]
            if has and draw_series(axes, series, has[0], f"C{i % 10}", name):
                drawn.add(has[0])
        axes.set_title(f"{title} ({', '.join(sorted(drawn))})" if drawn - {"loss", "grad_norm"} else title, fontsize=10)
        axes.set_xlabel("updates")
        axes.grid(alpha=0.3)
        if not drawn:
            axes.text(0.5, 0.5, "none in " + ("these runs" if len(runs) > 1 else "this run"), ha="center", va="center",
                      transform=axes.transAxes, color="gray")
        if drawn == {"grad_norm"}:
            axes.set_yscale("log")
    places[0, 0].legend(fontsize=8)
    kind = "pale: each update; solid: their running mean" if any(len(s["loss"]) >= 50 for _, s in runs) else "solid: each update"
    figure.suptitle(kind + ("; dashed: held-out rows" if any("eval_loss" in s for _, s in runs) else ""), fontsize=10)
    figure.tight_layout()
    figure.savefig(output, dpi=110)
    plt.close(figure)


def drift(inputs, output):
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.8))
    for path in inputs:
        with open(path) as file:
            rows = [json.loads(line) for line in file]
        place = range(1, len(rows) + 1)
        for axes, measure in zip(panels, ("relative_l2", "cosine")):
            middle = [row[measure]["quantiles"]["0.5"] for row in rows]
            low = [row[measure]["quantiles"]["0.05"] for row in rows]
            high = [row[measure]["quantiles"]["0.95"] for row in rows]
            line, = axes.plot(place, middle, marker="o", markersize=3, label=rows[0]["embeddings"])
            axes.fill_between(place, low, high, alpha=0.2, color=line.get_color())
    for axes, name in zip(panels, ("L2 distance / length", "cosine")):
        axes.set_xlabel("file (checkpoint) in order")
        axes.set_title(name + ": median, 5 to 95 %", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(output, dpi=150)
    plt.close(figure)


def kl(inputs, output):
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    for path in inputs:
        with open(path) as file:
            result = json.load(file)
        for name, style in (("kl_given", "-"), ("kl_sampled", "--")):
            places = sorted((int(place), row) for place, row in result.get(name, {}).items())
            if not places:
                continue
            x = [place for place, _ in places]
            line, = axes.plot(x, [row["kl"] for _, row in places], style, label=f"{path}: {name[3:]} responses")
            if all("interval" in row and None not in row["interval"] for _, row in places):
                axes.fill_between(x, [row["interval"][0] for _, row in places], [row["interval"][1] for _, row in places],
                                  alpha=0.2, color=line.get_color())
    axes.set_xlabel("position in the response, tokens")
    axes.set_ylabel("KL(model || reference), nats")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(output, dpi=150)
    plt.close(figure)


def scaling(inputs, output):
    path, = inputs
    with open(path) as file:
        rows = [row for row in csv.DictReader(file) if row["valid"] == "yes"]
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for axes, mode in zip(panels, ("strong", "weak")):
        for task in sorted({row["task"] for row in rows}):
            # The smallest rank count is the same run for both.
            lines = [row for row in rows if row["task"] == task and row["mode"] in ("strong", mode)]
            first = min(int(row["ranks"]) for row in lines)
            lines = [row for row in lines if row["mode"] == mode or int(row["ranks"]) == first]
            ranks = [int(row["ranks"]) for row in lines]
            middle, low, high = ([100 * float(row[name]) for row in lines]
                                 for name in ("efficiency", "efficiency_low", "efficiency_high"))
            error = [[m - a for m, a in zip(middle, low)], [b - m for m, b in zip(middle, high)]]
            axes.errorbar(ranks, middle, error, marker="o", markersize=4, capsize=2, label=task)
        axes.axhline(100, color="gray", linestyle=":")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({int(row["ranks"]) for row in rows}))
        axes.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
        axes.set_xlabel("ranks")
        axes.set_title(mode)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("efficiency, %")
    panels[0].set_ylim(bottom=0)
    panels[1].legend()
    figure.suptitle(rows[0]["machine"], fontsize=9)
    figure.tight_layout()
    figure.savefig(output, dpi=100)
    plt.close(figure)


def online_study(inputs, output):
    folder, = inputs
    with open(os.path.join(folder, "points.csv")) as file:
        rows = list(csv.DictReader(file))
    rewards = list(dict.fromkeys(row["reward_by"] for row in rows))
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if m != "sft"]
    figure, all_axes = plt.subplots(1, len(rewards), figsize=(6.4 * len(rewards), 4.6), sharey=True, squeeze=False)
    for axes, reward in zip(all_axes[0], rewards):
        own = [row for row in rows if row["reward_by"] == reward]
        start = statistics.mean(float(row["reward"]) for row in own if row["method"] == "sft")
        axes.axhline(start, color="gray", linestyle=":", label="SFT")
        for method in methods:
            steps = sorted({int(row["updates"]) for row in own if row["method"] == method})
            at = [[row for row in own if row["method"] == method and int(row["updates"]) == step] for step in steps]
            kl = [[float(row["kl"]) for row in some] for some in at]
            gained = [[float(row["reward"]) for row in some] for some in at]
            axes.errorbar([0] + [statistics.mean(x) for x in kl], [start] + [statistics.mean(y) for y in gained],
                          [0] + [standard_error(y) for y in gained], [0] + [standard_error(x) for x in kl], marker="o",
                          markersize=3, capsize=2, linewidth=1, label=method)
        axes.set_title("trained by the true reward" if reward == "truth" else "trained by a learned reward")
        axes.set_xlabel("KL from the SFT policy, nats a response")
        axes.set_xscale("symlog", linthresh=1)
    all_axes[0][0].set_ylabel("true reward of held-out responses")
    all_axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(output, dpi=150)


kinds = {"run": run, "np-study": np_study, "real-study": real_study, "shallow-study": shallow_study,
         "online-study": online_study, "steer-study": steer_study, "selection": selection, "drift": drift, "kl": kl,
         "scaling": scaling}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(kinds))
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    kinds[arguments.kind](arguments.inputs, arguments.output)
