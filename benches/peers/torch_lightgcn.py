"""LightGCN in PyTorch (d 64, 3 layers, batch 2048): CSR products with a backward that uses the matrix's symmetry,
which is faster than what the public codes do.

    python torch_lightgcn.py TRAIN TEST [--steps 100]
"""
import argparse
import gzip
import time

import common

parser = argparse.ArgumentParser()
parser.add_argument("train")
parser.add_argument("test")
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--threads", type=int, default=common.cores())
args = parser.parse_args()
common.set_threads(args.threads)

import numpy as np  # noqa: E402
import scipy.sparse as sparse  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(2020)
rng = np.random.default_rng(2020)
DIM, LAYERS, BATCH, DECAY = 64, 3, 2048, 1e-4


def pairs(path):
    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path)
    with opened as lines:
        rows = [[int(word) for word in line.split()] for line in lines]
    users = np.repeat([row[0] for row in rows if row], [len(row) - 1 for row in rows if row])
    return users, np.array([item for row in rows for item in row[1:]])


users, items = pairs(args.train)
more_users, more_items = pairs(args.test)
U, I = max(users.max(), more_users.max()) + 1, max(items.max(), more_items.max()) + 1
ratings = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(U, I))
adjacency = sparse.bmat([[None, ratings], [ratings.T, None]]).tocsr()
scale = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1)))
adjacency = (scale @ adjacency @ scale).tocsr().astype(np.float32)
adjacency.sort_indices()
A = torch.sparse_csr_tensor(torch.from_numpy(adjacency.indptr).int(), torch.from_numpy(adjacency.indices).int(),
                            torch.from_numpy(adjacency.data), size=adjacency.shape)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return A @ x

    @staticmethod
    def backward(ctx, gradient):
        return A @ gradient.contiguous()


table = torch.nn.Parameter(torch.randn(U + I, DIM) * 0.1)
optimiser = torch.optim.Adam([table], lr=1e-3)
known = np.zeros((U, I), bool)
known[users, items] = True
order = rng.permutation(len(users))


def step(n):
    chosen = order[n * BATCH % len(order):][:BATCH]
    u, i = users[chosen], items[chosen]
    j = rng.integers(0, I, len(u))
    while len(seen := np.flatnonzero(known[u, j])):
        j[seen] = rng.integers(0, I, len(seen))
    u, i, j = torch.from_numpy(u), torch.from_numpy(i + U), torch.from_numpy(j + U)
    layer, total = table, table
    for _ in range(LAYERS):
        layer = Product.apply(layer)
        total = total + layer
    final = total / (LAYERS + 1)
    a, b, c = final[u], final[i], final[j]
    loss = torch.nn.functional.softplus((a * c).sum(1) - (a * b).sum(1)).mean()
    loss = loss + DECAY * sum(table[rows].pow(2).sum() for rows in (u, i, j)) / (2 * len(u))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


seconds = []
for n in range(args.steps + 1):
    start = time.perf_counter()
    step(n)
    seconds.append(time.perf_counter() - start)
common.report("lightgcn", args.threads, seconds[1:], BATCH, "edges/s", torch=torch.__version__)
