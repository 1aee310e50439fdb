"""Of step_profile.sh. step_profile_table.py FOLDER: a table for each SHAPE.TYPE of its SHAPE.TYPE.ROUND.jsonl: by operation, calls and
seconds of a step, share of it, and the rate (of products GFLOP/s, else what has to be read and written in GB/s); medians over rounds.
"host": what lies between operations (reading batches, objectives, the loop)."""
import json
import pathlib
import statistics
import sys


def profile_of(path):
    """Of a run: seconds of a step, and by operation (calls of a step, seconds of a step, rate, unit)."""
    line = next(line for line in map(json.loads, open(path)) if "profile" in line)
    steps, profile = line["step"], line["profile"]
    rows = {}
    for name, of in profile["operations"].items():
        unit, rate = ("GFLOP/s", of["gflop_per_s"]) if "gflop_per_s" in of else ("GB/s", of["gb_per_s"])
        rows[name] = of["calls"] / steps, of["seconds"] / steps, rate, unit
    seconds = profile["seconds"] / steps
    rows["host"] = 0, seconds - sum(row[1] for row in rows.values()), 0, ""
    return seconds, rows


runs = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jsonl"), key=lambda p: p.stat().st_mtime):
    shape, kind, _ = path.name.removesuffix(".jsonl").rsplit(".", 2)
    runs.setdefault((shape, kind), []).append(profile_of(path))
for (shape, kind), rounds in runs.items():
    whole = statistics.median(seconds for seconds, _ in rounds)
    least, most = min(seconds for seconds, _ in rounds), max(seconds for seconds, _ in rounds)
    print(f"{shape}, {kind}: {whole:.3f} s a step ({least:.3f} to {most:.3f} in {len(rounds)} rounds)\n")
    print("| operation | calls | seconds | share | rate |\n|---|---:|---:|---:|---:|")
    rows = {name: [statistics.median(of[name][i] for _, of in rounds) for i in range(3)] for name in rounds[0][1]}
    for name, (calls, seconds, rate) in sorted(rows.items(), key=lambda item: -item[1][1]):
        shown = f"{rate:.3g} {rounds[0][1][name][3]}" if rate > 0 else ""
        print(f"| {name} | {calls:.0f} | {seconds:.4f} | {100 * seconds / whole:.1f} % | {shown} |")
    print()
