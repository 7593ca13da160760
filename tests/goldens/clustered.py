"""Writes clustered.json: two scores of rows that come in clusters, with what plain definitions say.

Needs numpy, scikit-learn and statsmodels. The variance is Obuchowski's (Biometrics 53, 1997), written
over all pairs; by user and item it is that by user, plus that by item, less that by both (Cameron,
Gelbach and Miller, 2011), and at least each of the first two. Holm's adjustment is that of
statsmodels; the area is that of scikit-learn.
"""

import json
import sys

import numpy as np
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests


def main():
    rng = np.random.default_rng(20250206)
    users = np.repeat(np.arange(40), rng.integers(1, 12, 40))
    n = len(users)
    taste = rng.normal(size=40)[users]
    quality = rng.normal(size=n)
    labels = quality + taste + rng.normal(size=n) > 0
    first = np.round(quality + taste + rng.normal(size=n), 1)
    second = np.round(quality + 2 * rng.normal(size=n), 1)

    def kernel(scores):
        x, y = scores[labels][:, None], scores[~labels][None, :]
        return (x > y) + 0.5 * (x == y)

    def variance(pairs, groups):
        """Of the mean of a matrix positives x negatives."""
        theta = pairs.mean()
        up, down = pairs.mean(axis=1) - theta, pairs.mean(axis=0) - theta
        m, k = pairs.shape
        own, other = groups[labels], groups[~labels]
        every = sorted(set(groups))
        sums = [(up[own == g].sum(), down[other == g].sum(), g in own, g in other) for g in every]
        a, b = np.array([s[0] for s in sums]), np.array([s[1] for s in sums])
        i10, i01 = sum(s[2] for s in sums), sum(s[3] for s in sums)
        s10 = i10 / ((i10 - 1) * m) * (a**2).sum()
        s01 = i01 / ((i01 - 1) * k) * (b**2).sum()
        s11 = len(every) / (len(every) - 1) * (a * b).sum()
        return s10 / m + s01 / k + 2 * s11 / (m * k)

    # Rows on which the scores differ alike are of one item; every third is of an item of its user alone.
    items = np.where(np.arange(n) % 3 == 0, 100 + users, np.round(first - second).astype(int) + 50)
    both = 1000 * users + items

    def crossed(pairs):
        by_user, by_item = variance(pairs, users), variance(pairs, items)
        return max(by_user + by_item - variance(pairs, both), by_user, by_item)

    p = [0.04, 0.0004, 0.2, 0.03, 0.03, 0.9]
    found = {
        "users": users.tolist(),
        "labels": labels.astype(int).tolist(),
        "first": first.tolist(),
        "second": second.tolist(),
        "auc": [roc_auc_score(labels, s) for s in (first, second)],
        "error": [np.sqrt(variance(kernel(s), users)) for s in (first, second)],
        "difference_error": np.sqrt(variance(kernel(first) - kernel(second), users)),
        "items": items.tolist(),
        "error_by_both": [np.sqrt(crossed(kernel(s))) for s in (first, second)],
        "difference_error_by_both": np.sqrt(crossed(kernel(first) - kernel(second))),
        "p": p,
        "holm": multipletests(p, method="holm")[1].tolist(),
    }
    json.dump(found, sys.stdout)
    print()


main()
