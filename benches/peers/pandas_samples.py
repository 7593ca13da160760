"""pandas: MovieLens-1M's raw ratings to samples with histories (at least 5 earlier ratings, the newest 60 of them,
rating above 3 = liked), in order of time, split 8 : 1 : 1.

    python pandas_samples.py FOLDER
"""
import argparse
import os

import common

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--runs", type=int, default=3)
args = parser.parse_args()
common.set_threads(1)

import pandas  # noqa: E402

count = 0


def path(name):
    plain = os.path.join(args.folder, name)
    return plain if os.path.exists(plain) else plain + ".gz"


def samples():
    global count
    ratings = pandas.read_csv(path("ratings.dat"), sep="::", engine="python", names=["user", "item", "rating", "time"])
    pandas.read_csv(path("movies.dat"), sep="::", engine="python", names=["item", "title", "genres"], encoding="latin-1")
    pandas.read_csv(path("users.dat"), sep="::", engine="python", names=["user", "gender", "age", "job", "zip"])
    ratings["label"] = (ratings.rating > 3).astype(int)
    ratings = ratings.sort_values(["time", "user", "item"], kind="stable")
    rows = []
    for user, own in ratings.groupby("user", sort=False):
        items, labels, times = own.item.tolist(), own.label.tolist(), own.time.tolist()
        for n in range(5, len(items)):
            first = max(0, n - 60)
            rows.append((user, items[n], labels[n], times[n], items[first:n], labels[first:n]))
    table = pandas.DataFrame(rows, columns=["user", "item", "label", "time", "history", "liked"])
    table = table.sort_values(["time", "user", "item"], kind="stable")
    first, second = int(len(table) * 0.8), int(len(table) * 0.9)
    parts = table[:first], table[first:second], table[second:]
    count = sum(map(len, parts))


seconds = common.timed(args.runs, samples)
common.report("samples", 1, seconds, count, "samples/s", samples=count, pandas=pandas.__version__)
