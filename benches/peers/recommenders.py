"""EASE, item-kNN, implicit's ALS and the most rated items, on the rows of a finished run.

    rallrec run RECIPE --out RUN --until graph
    rallrec export rows RUN --to rows.csv
    python benches/peers/recommenders.py RUN rows.csv ratings.csv

Each peer is fitted on the training rows; its settings are the best of a small grid by NDCG@10 on the
validation part. A user's history is what stands in the parts before. Judged are all users with a held-out
like, over all items that they have not met. The rankers of the run are read from the ranking.json
of its graph stage: they are judged on the same users, which is checked. ratings.csv (user, item, rating, time) has the rows that
are no samples because nothing stands before them: the first of each user, with data.min_history = 1.
They are a part of training where they are no later than its last row, and of the history in any case.
"""
import csv
import json
import pathlib
import sys
import time

import numpy as np
from scipy import sparse

import common

CUT = 10
PARTS = ("train", "valid", "test")
# Of no part: known of the user, and not learnt from.
KNOWN = 3


def read(path, ratings, threshold):
    parts, last = {}, 0
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            part = parts[row["user"], row["item"]] = PARTS.index(row["part"])
            last = max(last, int(row["time"])) if part == 0 else last
    users, items, rows = {}, {}, []
    with open(ratings, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            user = users.setdefault(row["user"], len(users))
            item = items.setdefault(row["item"], len(items))
            first = 0 if int(row["time"]) <= last else KNOWN
            part = parts.get((row["user"], row["item"]), first)
            rows.append((user, item, float(row["rating"]) > threshold, part))
    return np.array(rows, dtype=np.int64), len(users), len(items)


class Log:
    """The rows as tables of users and items."""

    def __init__(self, rows, users, items):
        self.rows, self.shape = rows, (users, items)

    def table(self, parts, likes=True):
        keep = np.isin(self.rows[:, 3], parts)
        if likes:
            keep &= self.rows[:, 2] == 1
        rows = self.rows[keep]
        table = sparse.csr_matrix((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), self.shape)
        table.data[:] = 1.0
        return table

    def judge(self, scores, part):
        """Mean precision@10 and NDCG@10, and the number of users. `scores` of a block of users come from a function."""
        before = [*range(part), KNOWN]
        seen, relevant = self.table(before, likes=False), self.table([part])
        relevant = relevant - relevant.multiply(seen)
        relevant.eliminate_zeros()
        asked = np.flatnonzero(np.asarray(relevant.sum(1)).ravel() > 0)
        discount = 1 / np.log2(np.arange(2, CUT + 2))
        precision, gain = [], []
        for begin in range(0, len(asked), 512):
            users = asked[begin : begin + 512]
            block = np.array(scores(users), dtype=np.float64)
            block[seen[users].nonzero()] = -np.inf
            top = np.argsort(-block, axis=1, kind="stable")[:, :CUT]
            wanted = relevant[users].toarray()
            hits = np.take_along_axis(wanted, top, 1)
            count = wanted.sum(1).astype(int)
            best = np.cumsum(discount)[np.minimum(count, CUT) - 1]
            precision.extend(hits.mean(1))
            gain.extend((hits * discount).sum(1) / best)
        return float(np.mean(precision)), float(np.mean(gain)), len(asked)


def ease(likes, ridge):
    gram = (likes.T @ likes).toarray()
    gram[np.diag_indices_from(gram)] += ridge
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices_from(weights)] = 0
    return lambda history: lambda users: history[users] @ weights


def neighbours(likes, most):
    gram = (likes.T @ likes).toarray()
    counts = np.diag(gram).copy()
    cosine = gram / np.sqrt(np.maximum(np.outer(counts, counts), 1e-12))
    cosine[np.diag_indices_from(cosine)] = 0
    if most < len(cosine):
        least = np.partition(cosine, -most, axis=1)[:, -most]
        cosine[cosine < least[:, None]] = 0
    return lambda history: lambda users: history[users] @ cosine


def als(likes, settings):
    from implicit.als import AlternatingLeastSquares

    factors, regularization, alpha = settings
    model = AlternatingLeastSquares(
        factors=factors, regularization=regularization, alpha=alpha, iterations=15, random_state=42, num_threads=common.cores()
    )
    model.fit(likes.astype(np.float32).tocsr(), show_progress=False)

    def scorer(history):
        history = history.astype(np.float32).tocsr()
        return lambda users: np.stack([model.recalculate_user(u, history[u]).ravel() for u in users]) @ model.item_factors.T

    return scorer


GRIDS = {
    "EASE": (ease, (100.0, 300.0, 1000.0)),
    "item-kNN": (neighbours, (50, 100, 200)),
    # (factors, regularization, alpha)
    "implicit's ALS": (
        als,
        ((32, 0.1, 1.0), (64, 0.1, 1.0), (32, 5.0, 1.0), (64, 5.0, 1.0), (32, 5.0, 10.0), (64, 10.0, 10.0), (64, 50.0, 10.0), (128, 50.0, 10.0), (32, 1.0, 40.0)),
    ),
}


def ranking(run):
    """What the graph stage says of its rankers; of several artifacts the newest."""
    found = sorted(run.glob("artifacts/graph.ranking-*/ranking.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"{run} has no ranking: rallrec run RECIPE --out {run} --until graph")
    return json.loads(found[-1].read_text())


def main():
    run, rows, ratings = sys.argv[1:4]
    results = ranking(pathlib.Path(run))
    threshold = float(sys.argv[4]) if len(sys.argv) > 4 else 3.0
    log = Log(*read(rows, ratings, threshold))
    train, rated = log.table([0]), log.table([0], likes=False)
    ours = {table["split"]: table for table in results["tables"]}
    popular = np.asarray(rated.sum(0)).ravel()
    p, gain, users = log.judge(lambda some: np.tile(popular, (len(some), 1)), 2)
    assert users == ours["test"]["users"], f"{users} users here, {ours['test']['users']} in the run"
    print(f"{users} users of the test part\n\n| ranked by | settings | precision@10 | NDCG@10 | seconds of the fit |\n| --- | --- | --- | --- | --- |")
    print(f"| most rated | | {p:.4f} | {gain:.4f} | |")
    for name, (fit, grid) in GRIDS.items():
        best = None
        for settings in grid:
            begun = time.perf_counter()
            scorer = fit(train, settings)
            seconds = time.perf_counter() - begun
            valid = log.judge(scorer(log.table([0, KNOWN])), 1)[1] if "valid" in ours else 0.0
            if best is None or valid > best[0]:
                best = (valid, settings, scorer, seconds)
        _, settings, scorer, seconds = best
        p, gain, _ = log.judge(scorer(log.table([0, 1, KNOWN])), 2)
        print(f"| {name} | {settings} | {p:.4f} | {gain:.4f} | {seconds:.1f} |", flush=True)
    for row in ours["test"]["rows"]:
        p, gain = (row["metrics"][f"{metric}@10"]["value"] for metric in ("precision", "ndcg"))
        print(f"| rallrec: {row['name']} | | {p:.4f} | {gain:.4f} | |")
    print("\n" + next((note for note in results.get("notes", []) if "`recommend` ranks by" in note), ""))


if __name__ == "__main__":
    common.set_threads(common.cores())
    main()
