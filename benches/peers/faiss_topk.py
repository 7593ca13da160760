"""faiss: exact inner-product search, IndexFlatIP.

    python faiss_topk.py [--queries 10000] [--items 100000] [--dim 256] [--k 32]
"""
import argparse

import common

parser = argparse.ArgumentParser()
parser.add_argument("--queries", type=int, default=10_000)
parser.add_argument("--items", type=int, default=100_000)
parser.add_argument("--dim", type=int, default=256)
parser.add_argument("--k", type=int, default=32)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--threads", type=int, default=common.cores())
args = parser.parse_args()
common.set_threads(args.threads)

import faiss  # noqa: E402
import numpy as np  # noqa: E402

faiss.omp_set_num_threads(args.threads)
rng = np.random.default_rng(0)
queries = rng.standard_normal((args.queries, args.dim), dtype=np.float32)
index = faiss.IndexFlatIP(args.dim)
index.add(rng.standard_normal((args.items, args.dim), dtype=np.float32))
seconds = common.timed(args.runs, lambda: index.search(queries, args.k))
flop = 2.0 * args.queries * args.items * args.dim
common.report("topk", args.threads, seconds, flop / 1e9, "GFLOP/s", faiss=faiss.__version__)
