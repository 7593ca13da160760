"""torch: symmetric InfoNCE with gradients; `dense` keeps the whole similarity matrix, `blocked` a band of rows.

    python torch_infonce.py [--pairs 4096] [--dim 256] [--how dense|blocked]
"""
import argparse

import common

parser = argparse.ArgumentParser()
parser.add_argument("--pairs", type=int, default=4096)
parser.add_argument("--dim", type=int, default=256)
parser.add_argument("--how", choices=["dense", "blocked"], default="dense")
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--threads", type=int, default=common.cores())
args = parser.parse_args()
common.set_threads(args.threads)

import torch  # noqa: E402
from torch.nn.functional import cross_entropy, normalize  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)
TAU, BAND = 0.07, 1024
left = torch.randn(args.pairs, args.dim)
right = 0.5 * left + torch.randn(args.pairs, args.dim)


class Banded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        rows, columns = torch.empty(len(x)), torch.full((len(x),), -torch.inf)
        for at in range(0, len(x), BAND):
            scores = x[at:at + BAND] @ y.T / TAU
            rows[at:at + BAND] = scores.logsumexp(1)
            columns = torch.logaddexp(columns, scores.logsumexp(0))
        ctx.save_for_backward(x, y, rows, columns)
        own = (x * y).sum(1) / TAU
        return ((rows - own).mean() + (columns - own).mean()) / 2

    @staticmethod
    def backward(ctx, upstream):
        x, y, rows, columns = ctx.saved_tensors
        dx, dy = torch.empty_like(x), torch.zeros_like(y)
        for at in range(0, len(x), BAND):
            scores = x[at:at + BAND] @ y.T / TAU
            weights = (scores - rows[at:at + BAND, None]).exp() + (scores - columns).exp()
            weights.diagonal(at).sub_(2)
            weights *= upstream / (2 * len(x) * TAU)
            dx[at:at + BAND] = weights @ y
            dy.addmm_(weights.T, x[at:at + BAND])
        return dx, dy


def both():
    x, y = left.clone().requires_grad_(), right.clone().requires_grad_()
    a, b = normalize(x, dim=1), normalize(y, dim=1)
    if args.how == "blocked":
        loss = Banded.apply(a, b)
    else:
        scores, own = a @ b.T / TAU, torch.arange(args.pairs)
        loss = (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2
    loss.backward()


before = common.peak_mib()
seconds = common.timed(args.runs, both)
flop = 8.0 * args.pairs**2 * args.dim
common.report("infonce", args.threads, seconds, flop / 1e9, "GFLOP/s", how=args.how, before_mib=before)
