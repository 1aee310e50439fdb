"""Of step_profile.sh. step_profile_table.py FOLDER: a table for each SHAPE.TYPE of its SHAPE.TYPE.ROUND.jsonl, less what
SHAPE.TYPE.ROUND.warm.jsonl has: by operation, calls and seconds of a step, share of it, and the rate (of products GFLOP/s, else what
has to be read and written in GB/s); medians over rounds. "host": what lies between operations (reading, objectives, the loop)."""
import json
import pathlib
import statistics
import sys


def totals_of(path):
    """Of a run: steps, their seconds with the last update, and by operation (calls, seconds, 1e9 of work, unit)."""
    lines = [json.loads(line) for line in open(path)]
    steps = [line for line in lines if "time/step" in line]
    rows = {}
    for name, of in next(line for line in lines if "profile" in line)["profile"]["operations"].items():
        unit, rate = ("GFLOP/s", of["gflop_per_s"]) if "gflop_per_s" in of else ("GB/s", of["gb_per_s"])
        rows[name] = of["calls"], of["seconds"], rate * of["seconds"], unit
    return len(steps), sum(step["time/step"] for step in steps) + steps[-1]["time/optimizer"], rows


def steps_of(path):
    """Of the steps after the warm-up: seconds of one, and by operation (calls, seconds, rate, unit)."""
    (n, seconds, rows), (warm_n, warm_seconds, warm) = totals_of(path), totals_of(path.with_suffix(".warm.jsonl"))
    n -= warm_n
    out = {}
    for name, (calls, taken, work, unit) in rows.items():
        calls, taken, work = (a - b for a, b in zip((calls, taken, work), warm.get(name, (0, 0, 0))))
        out[name] = calls / n, taken / n, work / taken if taken > 0 else 0, unit
    seconds = (seconds - warm_seconds) / n
    out["host"] = 0, seconds - sum(row[1] for row in out.values()), 0, ""
    return seconds, out


runs = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*[0-9].jsonl"), key=lambda p: p.stat().st_mtime):
    shape, kind, _ = path.name.removesuffix(".jsonl").rsplit(".", 2)
    runs.setdefault((shape, kind), []).append(steps_of(path))
for (shape, kind), rounds in runs.items():
    times = [seconds for seconds, _ in rounds]
    whole = statistics.median(times)
    print(f"{shape}, {kind}: {whole:.3f} s a step ({min(times):.3f} to {max(times):.3f} in {len(rounds)} rounds)\n")
    print("| operation | calls | seconds | share | rate |\n|---|---:|---:|---:|---:|")
    rows = {name: [statistics.median(of[name][i] for _, of in rounds) for i in range(3)] for name in rounds[0][1]}
    for name, (calls, seconds, rate) in sorted(rows.items(), key=lambda item: -item[1][1]):
        shown = f"{rate:.3g} {rounds[0][1][name][3]}" if rate > 0 else ""
        print(f"| {name} | {calls:.0f} | {seconds:.4f} | {100 * seconds / whole:.1f} % | {shown} |")
    print()
