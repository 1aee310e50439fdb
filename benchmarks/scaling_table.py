"""From the runs of scaling.sh to scaling.csv, table.txt and environment.json: scaling_table.py WORK RESULTS"""
import argparse
import csv
import datetime
import glob
import json
import os
import re
import statistics
import subprocess

COLUMNS = ("date,git,machine,task,mode,nodes,ranks,threads,device,model,rows_tokens,global_batch,micro_tokens,steps,step_s_median,"
           "step_s_p10,step_s_p90,first_step_s,tokens_per_s,rows_per_s,tflops,mfu,communication_s,wait_rank_s,wait_most_s,imbalance,"
           "mem_peak_gib,speedup,efficiency,efficiency_low,efficiency_high,other_load,loss_at_n,valid").split(",")
BOUND = 1e-3  # relative, on a loss after a few steps in fp32


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def read(path, default=""):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return default


def device_of(description):
    """As environment.json has it: "LEVEL kernels, THREADS" (older runs: a library before it) or "GPU-UUID, device N, NAME, ..."."""
    return "cpu" if " kernels, " in description else description.split(", ")[2]


def training(folder, warm_up):
    """Steps of a run after its warm-up, and what the rest of the table needs."""
    lines = [json.loads(line) for line in read(os.path.join(folder, "metrics.jsonl")).splitlines()]
    steps = [line for line in lines if "time/step" in line]
    counted = steps[warm_up:]
    rate = [key for key in counted[0] if key in ("pairs_per_s", "sequences_per_s", "rows_per_s", "prompts_per_s")]
    peak = re.search(r"peak memory (\d+) MiB", read(os.path.join(folder, "log.txt")))

    def middle(key):
        return statistics.median(line.get(key, float("nan")) for line in counted)

    return {
        "seconds": [line["time/step"] for line in counted],
        "first": steps[0]["time/step"],
        "tokens": statistics.mean(line["tokens_per_s"] * line["time/step"] for line in counted),
        "rows": statistics.mean(line[rate[0]] * line["time/step"] for line in counted) if rate else None,
        "tflops": middle("tflops"),
        "mfu": middle("mfu"),
        "communication": middle("time/communication"),
        "wait": middle("time/wait_rank"),
        "wait_most": middle("time/wait_most"),
        "imbalance": middle("time/imbalance"),
        "device": device_of(json.loads(read(os.path.join(folder, "environment.json")))["device"]),
        "losses": [line["loss"] for line in steps],
        "memory": int(peak[1]) / 1024 if peak else None,
    }


def embedding(folder, batch):
    tokens, seconds = map(float, read(os.path.join(folder, "seconds.txt")).split())
    report = read(os.path.join(folder, "drift.jsonl")).splitlines()
    nothing = dict.fromkeys(("first", "tflops", "mfu", "communication", "wait", "wait_most", "imbalance", "memory", "device"))
    return dict(nothing, seconds=[seconds], tokens=tokens, rows=batch, losses=[], drift=json.loads(report[-1]) if report else None)


def collect(work, warm_up):
    """{(task, mode, ranks, threads): [run, ...] in rounds}, and the reference losses by (task, batch)."""
    groups, references = {}, {}
    for path in sorted(glob.glob(os.path.join(work, "raw", "*", "run.json"))):
        run = json.loads(read(path))
        folder = os.path.dirname(path)
        if run["mode"] == "warm":
            continue
        if run["task"] == "embed":
            run.update(embedding(folder, run["batch"]))
        else:
            run.update(training(folder, 0 if run["mode"] == "reference" else warm_up))
        if run["mode"] == "reference":
            references[run["task"], run["batch"]] = run["losses"]
        else:
            groups.setdefault((run["task"], run["mode"], run["ranks"], run["threads"]), {})[run["round"]] = run
    return groups, references


def is_valid(run, reference, n):
    """(loss after n steps, does it agree with one rank's?)"""
    if run["task"] == "embed":
        drift = run["drift"]
        return None, bool(drift) and drift["l2"]["mean"] <= 1e-5
    if len(run["losses"]) < n or not reference or len(reference) < n:
        return None, False
    ours, theirs = run["losses"][n - 1], reference[n - 1]
    return ours, abs(ours - theirs) <= BOUND * (abs(theirs) + 1e-3)


def efficiencies(mode, base, runs):
    """Of each round that has both."""
    result = []
    for number, run in runs.items():
        if number not in base:
            continue
        ratio = statistics.median(base[number]["seconds"]) / statistics.median(run["seconds"])
        workers = run["ranks"] * run["threads"] / (base[number]["ranks"] * base[number]["threads"])
        result.append(ratio if mode == "weak" else ratio / workers)
    return result


def rows_of(groups, references, facts, n):
    rows = []
    for key in sorted(groups, key=lambda k: (k[0], {"strong": 0, "threads": 1, "weak": 2}[k[1]], k[2])):
        task, mode, ranks, threads = key
        runs = groups[key]
        smallest = min(k[2] for k in groups if k[0] == task and k[1] == "strong")
        base = groups[next(k for k in groups if k[:3] == (task, "strong", smallest))]
        seconds = [s for run in runs.values() for s in run["seconds"]]
        some = next(iter(runs.values()))
        eff = efficiencies(mode, base, runs) or [float("nan")]
        median = statistics.median(seconds)
        checks = [is_valid(run, references.get((task, run["batch"])), n) for run in runs.values()]
        workers = ranks * threads / (smallest * next(iter(base.values()))["threads"])
        middle = statistics.median(eff)

        def over(name):
            values = [run[name] for run in runs.values() if run[name] is not None]
            return statistics.median(values) if values else ""

        rows.append(dict(facts, task=task, mode=mode, nodes=some["nodes"], ranks=ranks, threads=threads,
                         rows_tokens=round(some["tokens"] / some["rows"]) if some["rows"] else "",
                         global_batch=some["batch"], micro_tokens=some.get("micro_tokens", ""), steps=len(seconds), step_s_median=median,
                         step_s_p10=quantile(seconds, .1), step_s_p90=quantile(seconds, .9), first_step_s=over("first"),
                         tokens_per_s=some["tokens"] / median, rows_per_s=some["rows"] / median if some["rows"] else "",
                         tflops=over("tflops"), mfu=over("mfu"), communication_s=over("communication"), wait_rank_s=over("wait"),
                         wait_most_s=over("wait_most"), imbalance=over("imbalance"), mem_peak_gib=over("memory"),
                         speedup=middle * workers, efficiency=middle, efficiency_low=min(eff), efficiency_high=max(eff),
                         other_load=over("other_load"),
                         loss_at_n=checks[0][0] if checks[0][0] is not None else "",
                         valid="yes" if all(ok for _, ok in checks) else "NO"))
    return rows


def number(value, digits=3):
    return "-" if value == "" or value is None else f"{value:.{digits}f}"


def table(rows, rounds, warm_up):
    lines = ["Strong: fixed global batch, E(p) = p0 T(p0) / (p T(p)). Weak: fixed batch a rank, E(p) = T(p0) / T(p). Threads: one",
             "rank with that many threads, E as strong. T: seconds of a step, the slowest rank's, median of "
             f"{rounds} interleaved rounds after",
             f"{warm_up} steps of warm-up; E: median of the rounds' (least-most). wait: for the slowest rank, comm: for the sums",
             "(what the backward pass does not hide), means over the ranks; imb: the slowest rank's own time over the mean. other:",
             "what else kept the machine busy. A row without a valid loss has no rating.", ""]
    head = f"{'task':7} {'mode':7} {'nodes':>5} {'ranks':>5} {'thr':>3} {'batch':>5} {'step s':>8} {'p10-p90':>15} {'rows/s':>7} {'mfu %':>6} " \
           f"{'wait s':>7} {'comm s':>7} {'imb':>5} {'speedup':>7} {'eff %':>6} {'(rounds)':>11} {'other':>6} valid"
    lines += [head, "-" * len(head)]
    for r in rows:
        spread = f"{100 * r['efficiency_low']:.0f}-{100 * r['efficiency_high']:.0f}"
        rated = r["valid"] == "yes"
        lines.append(
            f"{r['task']:7} {r['mode']:7} {r['nodes']:5d} {r['ranks']:5d} {r['threads']:3d} {r['global_batch']:5d} {r['step_s_median']:8.4f} "
            f"{r['step_s_p10']:7.4f}-{r['step_s_p90']:7.4f} {number(r['rows_per_s'], 1):>7} "
            f"{number(100 * r['mfu'], 1) if r['mfu'] != '' else '-':>6} {number(r['wait_rank_s'], 4):>7} "
            f"{number(r['communication_s'], 4):>7} {number(r['imbalance'], 2):>5} {number(r['speedup'], 2) if rated else '-':>7} "
            f"{number(100 * r['efficiency'], 1) if rated else '-':>6} {'(' + spread + ')':>11} {number(r['other_load'], 2):>6} {r['valid']}")
    lines += [""] + beside(rows)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def beside(rows):
    """As many ranks as threads, against one rank with the threads."""
    lines = []
    for r in rows:
        if r["mode"] == "threads":
            for other in rows:
                if (other["task"], other["mode"], other["ranks"], other["threads"]) == (r["task"], "strong", r["threads"], 1):
                    ratio = other["efficiency"] / r["efficiency"]
                    lines.append(f"{r['task']}: {other['ranks']} ranks of one thread run at {100 * ratio:.0f} % of the rate of one "
                                 f"rank of {r['threads']} threads")
    return lines


def environment(work):
    cpu = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    return {"cpu": cpu[1] if cpu else "unknown", "cores": os.cpu_count(), "memory_gib": int(memory[1]) >> 20 if memory else None,
            "kernel": os.uname().release, "program": read(os.path.join(work, "version.txt")).splitlines(),
            "settings": {k: v for k, v in sorted(os.environ.items()) if k.startswith("OMPI_MCA_") or k.startswith("OMP_")}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work")
    parser.add_argument("results")
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--valid-steps", type=int, default=5)
    arguments = parser.parse_args()
    groups, references = collect(arguments.work, arguments.warm_up)
    facts = environment(arguments.work)
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=os.path.dirname(os.path.abspath(__file__)),
                         capture_output=True, text=True).stdout.strip()
    config = json.loads(read(os.path.join(arguments.work, "model", "config.json")))
    devices = [run["device"] for runs in groups.values() for run in runs.values() if run["device"]]
    common = {"date": datetime.date.today().isoformat(), "git": git, "machine": facts["cpu"], "device": (devices + ["auto"])[0],
              "model": f"{config['model_type']} {config.get('num_hidden_layers', config.get('n_layer'))}x"
                       f"{config.get('hidden_size', config.get('n_embd'))}"}
    rows = rows_of(groups, references, common, arguments.valid_steps)
    with open(os.path.join(arguments.results, "scaling.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    rounds = max(len(runs) for runs in groups.values())
    text = table(rows, rounds, arguments.warm_up)
    with open(os.path.join(arguments.results, "table.txt"), "w") as file:
        file.write(text)
    with open(os.path.join(arguments.results, "environment.json"), "w") as file:
        json.dump(facts, file, indent=1)
        file.write("\n")
    print(text, end="")


if __name__ == "__main__":
    main()
