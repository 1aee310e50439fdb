"""k-means of the rows that `collimate bench bench.kind=kmeans` makes, by scikit-learn (Lloyd) or faiss, from the same
first centers: one line of JSON.
"""
import argparse
import json
import os
import resource
import time

parser = argparse.ArgumentParser()
parser.add_argument("peer", choices=["sklearn", "faiss", "faiss-super"])
parser.add_argument("--rows", type=int, default=1000000)
parser.add_argument("--width", type=int, default=256)
parser.add_argument("--clusters", type=int, default=256)
parser.add_argument("--iterations", type=int, default=10)
parser.add_argument("--decay", type=float, default=0)
parser.add_argument("--threads", type=int, default=2)
a = parser.parse_args()
for name in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS":
    os.environ[name] = str(a.threads)
import numpy as np  # noqa: E402


def mixed(x):
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xbf58476d1ce4e5b9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94d049bb133111eb)
    return x ^ x >> np.uint64(31)


def uniform(index):
    return ((mixed(index * np.uint64(0x9e3779b97f4a7c15)) >> np.uint64(40)) * 2.0 ** -23 - 1).astype(np.float32)


def make_rows():
    columns = np.arange(a.width, dtype=np.uint64)
    hidden = np.arange(1000, dtype=np.uint64)[:, None] * np.uint64(a.width) + columns
    centers = np.float32(.5) * uniform(np.uint64(1 << 48) + hidden)
    scale = (np.arange(1, a.width + 1) ** -a.decay).astype(np.float32)
    rows = np.empty((a.rows, a.width), np.float32)
    for first in range(0, a.rows, 8192):
        i = np.arange(first, min(first + 8192, a.rows), dtype=np.uint64)
        rows[first:first + 8192] = uniform(i[:, None] * np.uint64(a.width) + columns)
        rows[first:first + 8192] += centers[mixed(i + np.uint64(1)) % np.uint64(1000)]
        rows[first:first + 8192] *= scale
    return rows


rows = make_rows()
initial = rows[np.arange(a.clusters) * (a.rows // a.clusters)].copy()
if a.peer == "sklearn":
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits
    with threadpool_limits(a.threads):
        start = time.perf_counter()
        model = KMeans(a.clusters, init=initial, n_init=1, max_iter=a.iterations, tol=0, algorithm="lloyd").fit(rows)
        seconds = time.perf_counter() - start
    iterations, centers = model.n_iter_, model.cluster_centers_
    passes = iterations + 1  # it assigns to the final centers, too
elif a.peer == "faiss-super":  # prunes by chance bounds; takes no first centers: random rows of its own
    import faiss
    faiss.omp_set_num_threads(a.threads)
    start = time.perf_counter()
    model = faiss.SuperKmeans(a.width, a.clusters, niter=a.iterations, min_points_per_centroid=1,
                              max_points_per_centroid=a.rows)
    model.train(rows)
    seconds = time.perf_counter() - start
    iterations, centers = a.iterations, model.centroids
    passes = iterations
else:
    import faiss
    faiss.omp_set_num_threads(a.threads)
    start = time.perf_counter()
    model = faiss.Kmeans(a.width, a.clusters, niter=a.iterations, nredo=1, min_points_per_centroid=1,
                         max_points_per_centroid=a.rows)
    model.train(rows, init_centroids=initial)
    seconds = time.perf_counter() - start
    iterations, centers = a.iterations, model.centroids
    passes = iterations
peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
objective = 0.0  # of the final centers, in double; not timed
norms = (centers.astype(np.float64) ** 2).sum(1)
for first in range(0, a.rows, 8192):
    x = rows[first:first + 8192]
    least = (norms - 2.0 * (x @ centers.T)).min(1)
    objective += float(((x.astype(np.float64) ** 2).sum(1) + least).sum())
print(json.dumps({"peer": a.peer, "iterations": iterations, "seconds": seconds, "pass_seconds": seconds / passes,
                  "objective": objective, "peak_mib": peak_mib}))
