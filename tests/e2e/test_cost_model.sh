#!/usr/bin/env bash
# The arithmetic of benchmarks/cost_model.py against sums done by hand, its fit against times that it made itself, and its
# predictions' limits.
set -u
command -v python3 > /dev/null || { echo "skipped: no python3"; exit 77; }
PYTHONPATH=benchmarks PYTHONDONTWRITEBYTECODE=1 python3 - << 'PYTHON' || exit 1
import argparse
import math
import random
import sys
import tempfile

import cost_model as m

failures = []


def near(what, got, want, bound=1e-9):
    if not abs(got - want) <= bound * max(abs(want), 1e-30):
        failures.append(f"{what}: {got!r}, not {want!r}")


# One exchange a round each way; message sizes halve. 8 bytes a microsecond.
net = m.Network(latency=1e-4, large_latency=3e-4, per_byte=1.25e-7, meet=1e-5)
near("2 ranks, small", m.sum_tree(net, 1024, 2), 2 * (1e-4 + 512 * 1.25e-7))
near("4 ranks, small", m.sum_tree(net, 1024, 4), 2 * (2e-4 + (512 + 256) * 1.25e-7))
near("2 ranks, above the eager limit", m.sum_tree(net, 1 << 18, 2), 2 * (3e-4 + (1 << 17) * 1.25e-7))
# Bytes on the wire are a ring's, 2 (p - 1) / p, whatever p.
wire = m.Network(0, 0, 1, 0)
for p in (2, 4, 64, 1024):
    near(f"traffic of {p} ranks", m.sum_buckets(wire, 64 << 20, p), 2 * (p - 1) / p * (64 << 20))
# A line that two chunks do not fill: a long one is paid once for every two chunks.
far = m.Network(1e-2, 1e-2, 1e-9, 0)
near("window", far.exchange(16 * m.CHUNK), 8 * (1e-2 + m.CHUNK * 1e-9))
near("no window", far.exchange(2 * m.CHUNK), 1e-2 + 2 * m.CHUNK * 1e-9)
# Buckets: 10 MiB are two of 4 and one of 2; each begins with a meeting of log2(p) rounds. Pieces of 1 MiB on one host only.
MiB = 1 << 20
near("buckets", m.sum_buckets(net, 10 * MiB, 4),
     2 * (2e-5 + m.sum_tree(net, 4 * MiB, 4)) + 2e-5 + m.sum_tree(net, 2 * MiB, 4))
host = m.Network(1e-4, 3e-4, 1.25e-7, 1e-5, one_host=True)
near("pieces", m.sum_buckets(host, 4 * MiB, 2), 1e-5 + 4 * m.sum_tree(net, MiB, 2))
near("one rank", m.sum_buckets(net, MiB, 1), 0)
try:
    m.sum_tree(net, 1024, 3)
    failures.append("3 ranks are taken")
except ValueError:
    pass

# The fit finds what made the times, line-bound and latency-bound, from 2 ranks; with 2 % of noise, nearly.
for name, truth in (("line", net), ("latency", m.Network(1e-3, 5e-3, 1e-9, 2e-4)), ("no latency", m.Network(0, 0, 1e-9, 0))):
    def times(noise):
        draw = random.Random(1)
        return [(op, n, 2, m.sum_of(truth, op, n, 2, MiB) * (1 + noise * draw.uniform(-1, 1)))
                for op, sizes in (("tree", range(10, 24, 2)), ("buckets", range(20, 26, 2))) for n in (1 << k for k in sizes)]
    found, error = m.fit(times(0), MiB)
    for what in ("latency", "large_latency", "per_byte", "meet"):
        near(f"fit, {name}, {what}", getattr(found, what) + 1e-9, getattr(truth, what) + 1e-9, 1e-5)
    near(f"fit, {name}, error", error + 1, 1, 1e-6)
    found, error = m.fit(times(0.02), MiB)
    near(f"fit with noise, {name}, rate", found.per_byte, truth.per_byte, 0.1)
# No unknown is negative, whatever the times are.
found, _ = m.fit([("tree", 1 << k, 2, 1e-3 / k) for k in range(10, 24, 2)], MiB)
if min(found.latency, found.large_latency, found.per_byte, found.meet) < 0:
    failures.append("a negative latency or rate")

# Steps: what does not fit beside the last backward pass is exposed, at least the last bucket; the slowest rank is waited for.
quick = m.Network(0, 0, 1e-9, 0)
step = m.Step(own=2.0, window=0.01, gradient_bytes=64 * MiB)
near("one rank's step", m.step_time(quick, step, 1)[0], 2)
near("exposed", m.step_time(quick, step, 2)[1], 64 * MiB * 1e-9 - 0.01)
near("hidden but the last bucket", m.step_time(quick, m.Step(2, 1, 64 * MiB), 2)[1], 4 * MiB * 1e-9)
near("shared cores", m.step_time(quick, m.Step(2, 0, 0), 4, slowdown=2)[0], 4)
near("slowest of 1024", m.step_time(quick, m.Step(2, 0, 0, scatter=0.1), 1024)[2], 0.1 * math.sqrt(2 * math.log(1024)))
near("scatter of a known spread", m.scatter_of([i / 100 for i in range(101)]), 0.8 / 2.56)

# The table: 100 % on one rank, and the tokens that it names are the fewest that reach the target.
options = argparse.Namespace(ranks=1024, parameters=7e9, tokens=4096, forest_tokens=4096, flops=2e13, memory_rate=2e11,
                             gradient_bytes=4, scatter=0.005, gbit=100, line_share=0.9, latency_us=5, large_latency_us=15, meet_us=30,
                             overlap=0.5, target=0.9, bucket_bytes=64 * MiB)
lines = m.predict(options).splitlines()
first, last = (next(line.split() for line in lines if line.split()[:1] == [str(p)]) for p in (1, 1024))
near("weak efficiency of one rank", float(first[-1]), 100)
net = m.Network(5e-6, 15e-6, 1 / (12.5e9 * 0.9), 30e-6)
own = 6 * 7e9 * 4096 / 2e13 + 28 * 7e9 / 2e11
near("own time from FLOPs", m.from_flops(options).own, own)
near("weak efficiency of 1024", float(last[-1]), 100 * own / m.step_time(net, m.from_flops(options), 1024, 64 * MiB)[0], 1e-3)
tokens = m.tokens_for(net, options)
for n, reaches in ((tokens, True), (tokens - 4096, False)):
    s = m.from_flops(argparse.Namespace(**dict(vars(options), tokens=n))) if n else None
    if s and (s.own / m.step_time(net, s, 1024, 64 * MiB)[0] >= 0.9) != reaches:
        failures.append(f"{n} tokens: the target is {'not ' if reaches else ''}reached")

# Predicted beside measured: runs that the model made itself come out with no error.
truth = m.Network(1e-3, 2e-3, 1e-8, 1e-4)
with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    file.write("bytes,op,ranks,time_us\n")
    for op, sizes in (("tree", range(10, 24, 2)), ("buckets", range(20, 26, 2))):
        for k in sizes:
            file.write(f"{1 << k},{op},2,{1e6 * m.sum_of(truth, op, 1 << k, 2, MiB):.9g}\n")
    file.flush()
    step = m.Step(0.5, 0.2, 32 * MiB)
    line = {"time/step": 0.5, "time/backward": 0.2, "time/communication": 0.0, "time/wait_rank": 0.0}
    seen = {p: dict(line, **{"time/step": m.step_time(truth, step, p, MiB, max(1, p / 2))[0]}) for p in (2, 4)}
    rows = m.check({"shapes": [{"name": "x", "comm": file.name, "bytes": 32 * MiB, "bucket": MiB, "cores": 2, "one": [line] * 5,
                                "steps": {str(p): [seen[p]] * 3 for p in seen}}]})
for row in rows:
    near(f"check on {row['nodes']} nodes", 1 + row["error"], 1, 1e-4)
near("rows of the check", len(rows), 2)
print("\n".join(failures))
sys.exit(bool(failures))
PYTHON
echo ok
