"""What a user of PyTorch would run instead of a kernel, for the works and sizes of `rallrec bench --device cuda --json`.

Each function takes a `Case` and returns (name of the rival, inputs made once for each set, a function of such inputs). Storage is the
kernel's; products in f32 are f32, not tf32. Works without a rival in one or a few calls are left out.
"""
import math
import warnings

import torch
import torch.nn.functional as F

warnings.filterwarnings("ignore", message="Sparse")

STORED = {"f32": torch.float32, "bf16": torch.bfloat16, "f64": torch.float64}
TAU = 0.2


class Case:
    """A work of our list: sizes as attributes of `n`, and ways to make inputs."""

    def __init__(self, line, device):
        self.op, self.work, self.storage = line["op"], line["work"], line["storage"]
        self.n = {name.replace(" ", "_"): size for name, size in line["sizes"].items()}
        self.device, self.type = device, STORED.get(line["storage"])

    def rows(self, *shape, type=None):
        return torch.randn(*shape, device=self.device).to(type or self.type)

    def whole(self, below, *shape):
        return torch.randint(below, shape, device=self.device)


RIVALS = {}


def rival(op, *works):
    def keep(make):
        for work in works:
            RIVALS[op, work] = make
        return make
    return keep


def adjacency(c):
    """Users and items, some items far more often than others; as many edges as ours."""
    users, items, wanted = c.n["users"], c.n["items"], c.n["edges"]
    pairs = torch.empty(0, dtype=torch.int64)
    while len(pairs) < wanted:
        item = (torch.rand(wanted) ** 2 * items).long().clamp_(max=items - 1)
        pairs = torch.unique(torch.cat([pairs, torch.randint(users, (wanted,)) * items + item]))
    pairs = pairs[torch.randperm(len(pairs))[:wanted]]
    user, item = pairs // items, users + pairs % items
    at = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    degree = torch.bincount(at[0], minlength=users + items).clamp_(min=1).float()
    values = (degree[at[0]] * degree[at[1]]).rsqrt()
    nodes = users + items
    return torch.sparse_coo_tensor(at, values, (nodes, nodes)).coalesce().to_sparse_csr().to(c.device)


@rival("spmm", "ML-1M, 3 layers", "books, 3 layers", "rows beyond the cache, 3 layers")
def spmm(c):
    graph = adjacency(c)

    def run(x):
        total = layer = x
        for _ in range(c.n["layers"]):
            layer = graph @ layer
            total = total + layer
        return total / (c.n["layers"] + 1)
    # Also beside rows in 16 bits: the goal is counted against f32.
    return "cuSPARSE CSR, f32", lambda: (c.rows(c.n["users"] + c.n["items"], c.n["width"], type=torch.float32),), run


@rival("bpr", "loss and gradient")
def bpr(c):
    def inputs():
        e = c.rows(c.n["nodes"], c.n["width"], type=torch.float32).requires_grad_()
        return e, [c.whole(c.n["nodes"], c.n["triples"]) for _ in range(3)]

    def run(e, triples):
        user, liked, other = (e[t] for t in triples)
        loss = F.softplus((user * (other - liked)).sum(1)).mean()
        return torch.autograd.grad(loss, e)
    return "torch, gradient of all rows, f32", inputs, run


@rival("bpr", "sort of keys")
def sort(c):
    return "torch.sort", lambda: (c.whole(2**62, c.n["keys"]),), lambda keys: torch.sort(keys)


@rival("adam", "all rows")
def adam(c):
    def inputs():
        p = c.rows(c.n["rows"], c.n["width"], type=torch.float32).requires_grad_()
        p.grad = torch.randn_like(p)
        # The parameters go along, so that the sets' sizes are known.
        return torch.optim.Adam([p], lr=1e-3, fused=c.device.type == "cuda"), p
    return "torch fused Adam, f32", inputs, lambda optimiser, p: optimiser.step()


@rival("infonce", "loss and gradients")
def infonce(c):
    n, width = c.n["pairs"], c.n["width"]
    own = torch.arange(n, device=c.device)

    def run(x, y):
        scores = (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).float() / TAU
        loss = F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)
        return torch.autograd.grad(loss, (x, y))
    return "torch, the whole matrix", lambda: tuple(c.rows(n, width).requires_grad_() for _ in range(2)), run


@rival("mlp", "forward and backward")
def mlp(c):
    sizes = [c.n[name] for name in ("in", "hidden", "out")]

    def inputs():
        weights = [c.rows(b, a).requires_grad_() for a, b in zip(sizes, sizes[1:])]
        biases = [c.rows(b).requires_grad_() for b in sizes[1:]]
        return c.rows(c.n["rows"], sizes[0]), weights + biases, c.rows(c.n["rows"], sizes[2])

    def run(x, p, by_out):
        out = F.linear(F.linear(x, p[0], p[2]).relu(), p[1], p[3])
        return torch.autograd.grad(out, p, by_out)
    return "torch", inputs, run


@rival("linear", "A B^T", "A B", "A^T B")
def gemm(c):
    m, n, k = (c.n[name] for name in "mnk")
    a, b = {"A B^T": ((m, k), (n, k)), "A B": ((m, k), (k, n)), "A^T B": ((k, m), (k, n))}[c.work]
    turn = {"A B^T": lambda a, b: a @ b.T, "A B": lambda a, b: a @ b, "A^T B": lambda a, b: a.T @ b}[c.work]
    return "cuBLASLt", lambda: (c.rows(*a), c.rows(*b)), turn


@rival("topk", "catalogue", "RAFT's shape", "few queries")
def topk(c):
    q, n, width, k = (c.n[name] for name in ("queries", "items", "width", "k"))
    return "matmul and torch.topk", lambda: (c.rows(q, width), c.rows(n, width)), lambda q, x: torch.topk(q @ x.T, k)


def layer(c):
    m, inp, out, rank = (c.n[name] for name in ("rows", "in", "out", "rank"))
    # x, W, A, B, dY, S, dS.
    shapes = [(m, inp), (out, inp), (rank, inp), (out, rank), (m, out), (m, rank), (m, rank)]
    return lambda: tuple(c.rows(*shape) for shape in shapes), rank


@rival("lora", "forward", "forward, f32 output", "forward by wgmma")
def lora_forward(c):
    inputs, rank = layer(c)

    def run(x, w, a, b, dy, s, ds):
        y = x @ w.T
        return y.addmm_(x @ a.T, b.T, alpha=0.5) if rank else y
    return ("cuBLASLt, separate calls" if rank else "cuBLASLt"), inputs, run


@rival("lora", "input gradient", "input gradient, f32 output")
def lora_backward(c):
    inputs, rank = layer(c)

    def run(x, w, a, b, dy, s, ds):
        dx = dy @ w
        return dx.addmm_(dy @ b, a, alpha=0.5) if rank else dx
    return ("cuBLASLt, separate calls" if rank else "cuBLASLt"), inputs, run


@rival("lora", "adapter gradient")
def lora_gradient(c):
    return "cuBLASLt, separate calls", layer(c)[0], lambda x, w, a, b, dy, s, ds: (dy.T @ s, ds.T @ x)


@rival("lora", "forward and backward")
def lora_both(c):
    def run(x, w, a, b, dy, s, ds):
        s = x @ a.T
        y = (x @ w.T).addmm_(s, b.T, alpha=0.5)
        ds = dy @ b
        dx = (dy @ w).addmm_(ds, a, alpha=0.5)
        return y, dx, (dy.T @ s).mul_(0.5), (ds.T @ x).mul_(0.5)
    return "cuBLASLt, separate calls", layer(c)[0], run


@rival("linear_decode", "bf16 weight", "bf16 weight, SmolLM2's head", "Q8_0 weight", "Q4_0 weight", "Q4_1 weight")
def decode(c):
    m, inp, out = (c.n[name] for name in ("rows", "in", "out"))
    inputs = lambda: (c.rows(m, inp, type=torch.bfloat16), c.rows(out, inp, type=torch.bfloat16))
    return "cuBLASLt, bf16 weight", inputs, F.linear


def heads(c, rows_, sequences, keys):
    group = c.n["heads"] // c.n["kv_heads"]
    kv = lambda: c.rows(sequences, c.n["kv_heads"], keys, c.n["width"]).repeat_interleave(group, 1).contiguous()
    return c.rows(sequences, c.n["heads"], rows_, c.n["width"]), kv(), kv()


@rival("attention", "forward, causal")
def attention(c):
    n = c.n["rows"]
    run = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return "torch SDPA, kv heads repeated before", lambda: heads(c, n, 1, n), run


@rival("attention", "backward, causal")
def attention_backward(c):
    n = c.n["rows"]

    def inputs():
        qkv = [x.requires_grad_() for x in heads(c, n, 1, n)]
        out = F.scaled_dot_product_attention(*qkv, is_causal=True)
        return qkv, out, torch.randn_like(out)
    run = lambda qkv, out, by_out: torch.autograd.grad(out, qkv, by_out, retain_graph=True)
    return "torch SDPA, kv heads repeated before", inputs, run


@rival("attention_decode", "samples behind one prompt")
def decode_attention(c):
    keys = c.n["prefix"] + c.n["own"]
    return "torch SDPA, the prompt copied for each sample", lambda: heads(c, 1, c.n["samples"], keys), F.scaled_dot_product_attention


@rival("rmsnorm", "forward", "forward of heads")
def rmsnorm(c):
    width = c.n["width"]
    inputs = lambda: (c.rows(c.n["rows"], c.n["heads"], width), c.rows(width))
    return "torch rms_norm", inputs, lambda x, w: F.rms_norm(x, (width,), w, 1e-5)


@rival("swiglu", "forward")
def swiglu(c):
    inputs = lambda: (c.rows(c.n["rows"], c.n["width"]), c.rows(c.n["rows"], c.n["width"]))
    return "torch, two calls", inputs, lambda gate, up: F.silu(gate) * up


@rival("dropout", "mask")
def dropout(c):
    return "torch dropout", lambda: (c.rows(c.n["rows"], c.n["width"]),), lambda x: F.dropout(x, 0.1)


@rival("rows", "gather")
def gather(c):
    at = 2 * torch.arange(c.n["rows"], device=c.device)
    return "index_select", lambda: (c.rows(2 * c.n["rows"], c.n["width"]),), lambda x: x.index_select(0, at)


@rival("rows", "to places")
def add_rows(c):
    at = 2 * torch.arange(c.n["runs"], device=c.device)
    inputs = lambda: (c.rows(2 * c.n["runs"], c.n["width"]), c.rows(c.n["runs"], c.n["width"]))
    return "index_add_", inputs, lambda to, x: to.index_add_(0, at, x)


def hidden_and_head(c, grad):
    inputs = lambda: (c.rows(c.n["rows"], c.n["width"]).requires_grad_(grad), c.rows(c.n["vocabulary"], c.n["width"]))
    return inputs, c.whole(c.n["vocabulary"], c.n["rows"])


@rival("cross_entropy", "loss and gradient")
def cross_entropy(c):
    inputs, targets = hidden_and_head(c, True)

    def run(h, head):
        return torch.autograd.grad(F.cross_entropy((h @ head.T).float(), targets), h)
    return "torch, all logits", inputs, run


@rival("cross_entropy", "Yes / No")
def answers(c):
    def run(h, head):
        logits = (h @ head.T).float()
        return logits.logsumexp(1), logits[:, [7, 11]]
    return "torch, all logits", hidden_and_head(c, False)[0], run


@rival("sampling", "top-p 0.95", "top-k 50, top-p 0.95", "no cut")
def sampling(c):
    top_p, top_k = ("top-p" in c.work), 50 if "top-k" in c.work else 0

    def run(logits):
        logits = logits / 0.8
        if top_k:
            logits = logits.masked_fill(logits < logits.topk(top_k, 1).values[:, -1:], -math.inf)
        if not top_p:
            return torch.multinomial(logits.softmax(1), 1)
        p, order = logits.softmax(1).sort(1, descending=True)
        p = p.masked_fill(p.cumsum(1) - p > 0.95, 0.0)
        return order.gather(1, torch.multinomial(p, 1))
    return "torch sort and multinomial", lambda: (c.rows(c.n["rows"], c.n["vocabulary"]),), run


@rival("merge", "moments")
def moments(c):
    inputs = lambda: (torch.rand(c.n["rows"], c.n["samples"], device=c.device, dtype=torch.float64),)
    return "torch var_mean", inputs, lambda x: torch.var_mean(x, 1, correction=0)


@rival("merge", "sum")
def total(c):
    inputs = lambda: (torch.rand(c.n["rows"], c.n["columns"], device=c.device, dtype=torch.float64),)
    return "torch sum", inputs, lambda x: x.sum(1)
