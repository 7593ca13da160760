"""Writes clustered.json: two scores of rows that come in clusters, with what plain definitions say.

Needs numpy, scikit-learn and statsmodels. The variance is Obuchowski's (Biometrics 53, 1997), written
over all pairs; Holm's adjustment is that of statsmodels; the area is that of scikit-learn.
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

    def variance(pairs):
        """Of the mean of a matrix positives x negatives."""
        theta = pairs.mean()
        up, down = pairs.mean(axis=1) - theta, pairs.mean(axis=0) - theta
        m, k = pairs.shape
        sums = [
            (up[users[labels] == u].sum(), down[users[~labels] == u].sum(), u in users[labels], u in users[~labels])
            for u in range(40)
        ]
        a, b = np.array([s[0] for s in sums]), np.array([s[1] for s in sums])
        i10, i01 = sum(s[2] for s in sums), sum(s[3] for s in sums)
        s10 = i10 / ((i10 - 1) * m) * (a**2).sum()
        s01 = i01 / ((i01 - 1) * k) * (b**2).sum()
        s11 = 40 / 39 * (a * b).sum()
        return s10 / m + s01 / k + 2 * s11 / (m * k)

    p = [0.04, 0.0004, 0.2, 0.03, 0.03, 0.9]
    found = {
        "users": users.tolist(),
        "labels": labels.astype(int).tolist(),
        "first": first.tolist(),
        "second": second.tolist(),
        "auc": [roc_auc_score(labels, s) for s in (first, second)],
        "error": [np.sqrt(variance(kernel(s))) for s in (first, second)],
        "difference_error": np.sqrt(variance(kernel(first) - kernel(second))),
        "p": p,
        "holm": multipletests(p, method="holm")[1].tolist(),
    }
    json.dump(found, sys.stdout)
    print()


main()
