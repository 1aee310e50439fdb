"""What a training step costs on p ranks: a model, its fit to measured collectives, and its predictions.

  cost_model.py fit COMM.csv                        latency and bandwidth from `collimate bench bench.kind=comm output=COMM.csv`
  cost_model.py check RUNS.json                     predicted beside measured steps (benchmarks/network.sh)
  cost_model.py predict [--option VALUE ...]        weak efficiency up to 1024 ranks; --help lists the assumptions

The sum of n bytes over p = 2^k ranks is made as mpi/sum.c and mpi/bucket.c make it. Buckets of B bytes leave one after the
other; each begins with a meeting of all ranks, k rounds of m seconds, and goes through k rounds of recursive halving and k of
doubling (on one host in pieces of 1 MiB). In round i = 1..k two ranks swap x = B / 2^i bytes, in chunks of C bytes of which two
are under way. An exchange costs a latency a (another one, a', above the eager limit of E bytes, where the receiver must first
answer) and s seconds a byte: a + x s, or, where two chunks do not fill the line, (a' + C s) / 2 for each chunk. Where the line
is full that sums up to

    T(n, p) = (n / B) (k m + 2 k a') + 2 (p - 1) / p n s

A step is T(p) = T1 + exposed + waiting. T1: forward, backward, optimizer of one rank, measured or from FLOPs. exposed: what of
the sum is left when the backward pass of the last forest is over (buckets leave in the last forest only), at least the last
bucket, and the closing sum of a few numbers. waiting: the slowest of p ranks whose times scatter by a standard deviation v comes
v sqrt(2 ln p) later than the mean. Weak efficiency is T(1) / T(p).
"""
import argparse
import csv
import json
import math
import statistics
import sys

CHUNK = 256 << 10       # mpi/sum_internal.h: half of SUM_SCRATCH_BYTES
EAGER = 64 << 10        # Open MPI's btl_tcp_eager_limit
PIECE = 1 << 20         # mpi/bucket.c, where all ranks are on one host
BUCKET = 4 << 20        # train.bucket_bytes
CLOSING = 4             # exchanges' worth of small collectives that close a step


class Network:
    """Seconds: latency of a small and of a large message, per byte, of a round of a meeting. one_host: buckets go in pieces."""

    def __init__(self, latency, large_latency, per_byte, meet, one_host=False):
        self.latency, self.large_latency, self.per_byte, self.meet = latency, large_latency, per_byte, meet
        self.one_host = one_host

    def line(self, size):
        return (self.latency if size <= EAGER else self.large_latency) + size * self.per_byte

    def window(self, size):
        return size / CHUNK / 2 * (self.large_latency + CHUNK * self.per_byte)

    def exchange(self, size):
        return self.line(size) if size <= 2 * CHUNK else max(self.line(size), self.window(size))

    def describe(self):
        rate = f"{1e-6 / self.per_byte:.1f} MB/s" if self.per_byte > 0 else "no limit"
        return (f"latency {self.latency * 1e6:.0f} us small, {self.large_latency * 1e6:.0f} us large; {rate}; meeting "
                f"{self.meet * 1e6:.0f} us")


def rounds(p):
    if p & (p - 1):
        raise ValueError(f"{p} ranks: the tree needs a power of two")
    return p.bit_length() - 1


def sum_tree(net, n, p):
    """One array through the tree."""
    return sum(2 * net.exchange(n / 2 ** i) for i in range(1, rounds(p) + 1))


def pieces(n, size):
    """(how many, of what size) with what is left at the end."""
    whole, rest = divmod(n, size)
    return [(whole, size)] + ([(1, rest)] if rest else [])


def sum_buckets(net, n, p, bucket=BUCKET):
    """Seconds that the sums of n bytes take, without anything beside."""
    if p == 1:
        return 0.0
    total = 0.0
    for count, size in pieces(n, bucket):
        inside = sum(k * sum_tree(net, x, p) for k, x in pieces(size, min(bucket, PIECE) if net.one_host else bucket))
        total += count * (net.meet * rounds(p) + inside)
    return total


# Fitting: times are linear in (latency, large latency, seconds a byte, meeting) once it is said whether chunks fill the line.

class Unit(Network):
    """One unknown is 1, the others 0; exchanges of more than two chunks fill the line or not, as is assumed."""

    def __init__(self, i, fills, one_host):
        super().__init__(*(float(i == j) for j in range(4)), one_host)
        self.fills = fills

    def exchange(self, size):
        return self.line(size) if size <= 2 * CHUNK or self.fills else self.window(size)


def sum_of(net, op, n, p, bucket):
    return sum_tree(net, n, p) if op == "tree" else sum_buckets(net, n, p, bucket)


def solve(a, b):
    """Gaussian elimination with pivots; singular columns give 0."""
    n = len(b)
    m = [row[:] + [value] for row, value in zip(a, b)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(m[r][i]))
        m[i], m[pivot] = m[pivot], m[i]
        if abs(m[i][i]) < 1e-30:
            continue
        for r in range(n):
            if r != i:
                factor = m[r][i] / m[i][i]
                m[r] = [x - factor * y for x, y in zip(m[r], m[i])]
    return [m[i][n] / m[i][i] if abs(m[i][i]) >= 1e-30 else 0.0 for i in range(n)]


def least_squares(rows, times):
    """Relative errors, no negative unknown: the most negative one is set to 0 until none is."""
    scale = [max(abs(r[i]) for r in rows) or 1.0 for i in range(len(rows[0]))]
    free = [i for i in range(len(scale)) if any(r[i] for r in rows)]
    while True:
        a = [[r[i] / scale[i] / t for i in free] for r, t in zip(rows, times)]
        normal = [[sum(x[i] * x[j] for x in a) for j in range(len(free))] for i in range(len(free))]
        found = solve(normal, [sum(x[i] for x in a) for i in range(len(free))])
        if not found or min(found) >= 0:
            break
        del free[found.index(min(found))]
    result = [0.0] * len(scale)
    for i, value in zip(free, found):
        result[i] = value / scale[i]
    return result


def fit(measured, bucket=BUCKET, one_host=False):
    """measured: (op, bytes, ranks, seconds). (network, median error): the better of the two assumptions."""
    used = [m for m in measured if m[0] in ("tree", "buckets")]
    best = None
    for fills in (True, False):
        rows = [[sum_of(Unit(i, fills, one_host), op, n, p, bucket) for i in range(4)] for op, n, p, _ in used]
        net = Network(*least_squares(rows, [t for _, _, _, t in used]), one_host)
        errors = [abs(sum_of(net, op, n, p, bucket) / t - 1) for op, n, p, t in used]
        if best is None or sum(errors) < best[0]:
            best = sum(errors), net, statistics.median(errors)
    return best[1:]


def read_comm(path):
    with open(path) as file:
        return [(row["op"], int(row["bytes"]), int(row["ranks"]), float(row["time_us"]) * 1e-6) for row in csv.DictReader(file)]


# Steps.

class Step:
    """One rank's own work in a step, seconds; bytes: of all gradients; window: of the backward pass of the last forest."""

    def __init__(self, own, window, gradient_bytes, scatter=0.0):
        self.own, self.window, self.bytes, self.scatter = own, window, gradient_bytes, scatter


def step_time(net, step, p, bucket=BUCKET, slowdown=1.0):
    """(seconds, exposed communication, waiting for the slowest). slowdown: ranks that share a core."""
    own = slowdown * step.own
    if p == 1:
        return own, 0.0, 0.0
    total = sum_buckets(net, step.bytes, p, bucket)
    last = sum_buckets(net, min(step.bytes, bucket), p, bucket)
    exposed = max(total - slowdown * step.window, last) + CLOSING * rounds(p) * net.latency
    waiting = step.scatter * math.sqrt(2 * math.log(p))
    return own + exposed + waiting, exposed, waiting


def scatter_of(times):
    """Standard deviation of steps, from their middle 80 %."""
    times = sorted(times)
    return (times[int(0.9 * (len(times) - 1))] - times[int(0.1 * (len(times) - 1))]) / 2.56


def from_flops(options):
    """6 FLOPs a parameter and token (2 forward, 4 backward); the optimizer moves 28 bytes a parameter (weights, gradient and two
    states read, weights and states written), all of it on each rank."""
    per_token = 6 * options.parameters / options.flops
    own = per_token * options.tokens + 28 * options.parameters / options.memory_rate
    window = options.overlap * per_token * 2 / 3 * min(options.forest_tokens, options.tokens)
    return Step(own, window, int(options.gradient_bytes * options.parameters), options.scatter * own)


def predict(options):
    net = Network(options.latency_us * 1e-6, options.large_latency_us * 1e-6,
                  1 / (options.gbit * 1e9 / 8 * options.line_share), options.meet_us * 1e-6)
    step = from_flops(options)
    lines = [f"model: {options.parameters:.3g} parameters, {options.tokens} tokens a rank and step in forests of "
             f"{options.forest_tokens}, gradients of {options.gradient_bytes} bytes",
             f"rank: {options.flops:.3g} FLOP/s reached, {options.memory_rate:.3g} B/s for the optimizer; times scatter by "
             f"{100 * options.scatter:.1f} %",
             f"network: {options.gbit:g} Gbit/s a rank and direction, {100 * options.line_share:.0f} % of it reached, no contention; "
             + net.describe(),
             f"buckets of {options.bucket_bytes / 2 ** 20:g} MiB; {100 * options.overlap:.0f} % of the last forest's backward pass "
             "hides sums", "",
             f"{'ranks':>6} {'step s':>9} {'own s':>9} {'sums s':>8} {'exposed s':>9} {'wait s':>8} {'weak eff %':>10}"]
    base, _, _ = step_time(net, step, 1, options.bucket_bytes)
    p = 1
    while p <= options.ranks:
        total, exposed, waiting = step_time(net, step, p, options.bucket_bytes)
        lines.append(f"{p:6d} {total:9.3f} {step.own:9.3f} {sum_buckets(net, step.bytes, p, options.bucket_bytes):8.3f} "
                     f"{exposed:9.3f} {waiting:8.3f} {100 * base / total:10.1f}")
        p *= 2
    lines += ["", f"{100 * options.target:.0f} % at {options.ranks} ranks from {tokens_for(net, options):,} tokens a rank and step on"]
    return "\n".join(lines)


def tokens_for(net, options):
    """The fewest tokens a rank and step, in whole forests, that reach the target."""
    def efficiency(forests):
        given = argparse.Namespace(**dict(vars(options), tokens=forests * options.forest_tokens))
        step = from_flops(given)
        return step_time(net, step, 1)[0] / step_time(net, step, options.ranks, options.bucket_bytes)[0]

    if efficiency(1 << 30) < options.target:
        raise ValueError("no number of tokens reaches the target: ranks scatter too much")
    low, high = 0, 1
    while efficiency(high) < options.target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if efficiency(middle) >= options.target else (middle, high)
    return high * options.forest_tokens


def check(runs):
    """runs: {"shapes": [{"name", "comm": CSV path, "bytes", "bucket", "cores", "one": [...], "steps": {p: [...]}}]}, where lists
    hold the lines of metrics.jsonl. The network is fitted to the collectives of two ranks, the own work to one rank's steps."""
    rows = []
    for shape in runs["shapes"]:
        net, error = fit(read_comm(shape["comm"]), shape["bucket"])
        one = shape["one"]
        own = statistics.median(line["time/step"] for line in one)
        window = statistics.median(line["time/backward"] for line in one)
        scatter = scatter_of([line["time/step"] for line in one])
        for p, lines in sorted(shape["steps"].items(), key=lambda item: int(item[0])):
            p = int(p)
            slowdown = max(1.0, p / shape["cores"])
            step = Step(own, window, shape["bytes"], scatter)
            predicted, exposed, waiting = step_time(net, step, p, shape["bucket"], slowdown)
            measured = statistics.median(line["time/step"] for line in lines)
            seen = statistics.median(line["time/communication"] + line["time/wait_rank"] for line in lines)
            rows.append({"network": shape["name"], "nodes": p, "fit_latency_us": net.latency * 1e6,
                         "fit_large_latency_us": net.large_latency * 1e6,
                         "fit_mb_per_s": 1e-6 / net.per_byte if net.per_byte else float("inf"), "fit_meet_us": net.meet * 1e6,
                         "fit_error": error, "own_s": own * slowdown, "predicted_exposed_s": exposed + waiting,
                         "measured_exposed_s": seen, "predicted_step_s": predicted, "measured_step_s": measured,
                         "error": predicted / measured - 1, "predicted_weak": own / predicted, "measured_weak": own / measured})
    return rows


def check_table(rows):
    head = f"{'network':22} {'nodes':>5} {'fit us':>7} {'large':>7} {'MB/s':>7} {'exposed s':>9} {'measured':>8} {'step s':>7} " \
           f"{'measured':>8} {'error %':>7}"
    lines = [head, "-" * len(head)]
    for r in rows:
        lines.append(f"{r['network']:22} {r['nodes']:5d} {r['fit_latency_us']:7.0f} {r['fit_large_latency_us']:7.0f} "
                     f"{r['fit_mb_per_s']:7.1f} {r['predicted_exposed_s']:9.3f} {r['measured_exposed_s']:8.3f} "
                     f"{r['predicted_step_s']:7.3f} {r['measured_step_s']:8.3f} {100 * r['error']:7.1f}")
    return "\n".join(lines)


def add_predict(one):
    one.add_argument("--ranks", type=int, default=1024, help="up to so many")
    one.add_argument("--parameters", type=float, default=7e9, help="of the model")
    one.add_argument("--tokens", type=int, default=4096, help="a rank and step")
    one.add_argument("--forest-tokens", type=int, default=4096, help="train.micro_tokens")
    one.add_argument("--flops", type=float, default=2e12, help="FLOP/s that a rank reaches")
    one.add_argument("--memory-rate", type=float, default=2e11, help="bytes/s of a rank's memory, for the optimizer")
    one.add_argument("--gradient-bytes", type=int, default=4, help="a parameter on the wire")
    one.add_argument("--scatter", type=float, default=0.005, help="standard deviation of a rank's step, as a share")
    one.add_argument("--gbit", type=float, default=100, help="line rate of a rank, each direction")
    one.add_argument("--line-share", type=float, default=0.9, help="of the line rate that an exchange reaches")
    one.add_argument("--latency-us", type=float, default=5, help="of an exchange of small messages")
    one.add_argument("--large-latency-us", type=float, default=15, help="above the eager limit")
    one.add_argument("--meet-us", type=float, default=30, help="a round of a meeting, before each bucket")
    one.add_argument("--overlap", type=float, default=1, help="share of the last forest's backward pass that hides sums")
    one.add_argument("--target", type=float, default=0.9, help="weak efficiency for which tokens are looked for")
    one.add_argument("--bucket-bytes", type=int, default=64 << 20, help="train.bucket_bytes")


def predict_options(arguments):
    parser = argparse.ArgumentParser()
    add_predict(parser)
    return parser.parse_args(arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fit").add_argument("csv")
    checking = commands.add_parser("check")
    checking.add_argument("runs")
    checking.add_argument("--csv")
    add_predict(commands.add_parser("predict", formatter_class=argparse.ArgumentDefaultsHelpFormatter))
    options = parser.parse_args()
    if options.command == "fit":
        net, error = fit(read_comm(options.csv))
        print(f"{net.describe()}; median error of the fit {100 * error:.0f} %")
    elif options.command == "check":
        with open(options.runs) as file:
            rows = check(json.load(file))
        if options.csv:
            with open(options.csv, "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                for row in rows:
                    writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        print(check_table(rows))
    else:
        print(predict(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
