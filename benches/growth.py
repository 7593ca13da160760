#!/usr/bin/env python3
"""How time and memory grow: runs each stage at four sizes and fits time = a size^b. Nothing may grow with the square of
the items; what does grow with a square (InfoNCE in its pairs) says so.

    python benches/growth.py --model MODEL [--only topk,lightgcn] [--write FILE]      # minutes; up to 6 GB
"""
import argparse
import datetime
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))


def split(folder, interactions):
    """A LightGCN split of this many interactions: users and items grow with it, 50 and 100 to each, popular items first."""
    users, items = max(interactions // 50, 10), max(interactions // 100, 10)
    draw = random.Random(7)
    train, test = folder / f"train{interactions}.txt", folder / f"test{interactions}.txt"
    with open(train, "w") as a, open(test, "w") as b:
        for user in range(users):
            seen = sorted({int(items * draw.random() ** 2) for _ in range(50)})
            a.write(" ".join(map(str, [user, *seen[1:]])) + "\n")
            b.write(f"{user} {seen[0]}\n")
    return [str(train), str(test)]


def raw(folder, ratings):
    """A MovieLens-1M folder of this many ratings, 100 a user."""
    users, items = max(ratings // 100, 10), max(ratings // 250, 400)
    draw = random.Random(7)
    to = folder / f"ml{ratings}"
    to.mkdir()
    with open(to / "users.dat", "w") as out:
        out.writelines(f"{u}::F::25::1::00000\n" for u in range(1, users + 1))
    with open(to / "movies.dat", "w") as out:
        out.writelines(f"{i}::Film {i} (1990)::Drama\n" for i in range(1, items + 1))
    with open(to / "ratings.dat", "w") as out:
        for user in range(1, users + 1):
            seen = draw.sample(range(1, items + 1), 100)
            out.writelines(f"{user}::{item}::{draw.randint(1, 5)}::{draw.randint(956703932, 1046454590)}\n" for item in seen)
    return str(to)


def works(model, folder):
    """(name, what grows, sizes, arguments of one size)."""
    yield "lightgcn step", "interactions", [10_000, 100_000, 1_000_000, 10_000_000], lambda n: [
        "lightgcn", *split(folder, n), "--steps", "20"]
    yield "top-32 of 1,000 queries, 128 wide", "items", [1_000, 10_000, 100_000, 1_000_000], lambda n: [
        "topk", "--queries", "1000", "--items", str(n), "--dim", "128", "--runs", "2"]
    yield "InfoNCE, 128 wide", "pairs", [1_024, 2_048, 4_096, 8_192], lambda n: [
        "infonce", "--pairs", str(n), "--dim", "128", "--runs", "2"]
    yield "raw ratings to samples", "ratings", [10_000, 100_000, 1_000_000, 10_000_000], lambda n: [
        "samples", raw(folder, n), "--runs", "2"]
    if model:
        yield "LoRA step", "tokens", [256, 512, 1_024, 2_048], lambda n: [
            "lora", model, "--length", str(n // 4), "--runs", "2"]
        yield "prefill", "tokens", [128, 256, 512, 1_024], lambda n: ["prefill", model, "--tokens", str(n), "--runs", "3"]
        yield "decode, a step of S samples", "samples", [1, 4, 16, 64], lambda n: [
            "decode", model, "--samples", str(n), "--new", "24", "--runs", "2"]


def exponent(sizes, seconds):
    """Least squares on logarithms."""
    x, y = [math.log(s) for s in sizes], [math.log(s) for s in seconds]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", help="a language model (folder or GGUF file)")
    parser.add_argument("--stages", help="the built bench program; default: cargo builds it")
    parser.add_argument("--only", default="", help="words that the names begin with, comma-separated")
    parser.add_argument("--write", help="a JSON file to write all figures to")
    args = parser.parse_args()
    if args.stages:
        stages = os.path.abspath(args.stages)
    else:
        from common import build
        stages = build()
    wanted = [w for w in args.only.split(",") if w]
    figures = []
    print("| work | grows | sizes | seconds | exponent | peak MiB |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, what, sizes, command in works(args.model and os.path.abspath(args.model), pathlib.Path(folder)):
            if wanted and not any(name.startswith(w) for w in wanted):
                continue
            seconds, peaks = [], []
            for size in sizes:
                done = subprocess.run([stages, *command(size)], stdout=subprocess.PIPE, check=True, text=True)
                result = json.loads(done.stdout.splitlines()[-1])
                seconds.append(result["median_s"])
                peaks.append(result["peak_mib"])
            show = lambda values: ", ".join(f"{v:.3g}" for v in values)
            print(f"| {name} | {what} | {', '.join(map(str, sizes))} | {show(seconds)} | {exponent(sizes, seconds):.2f} | {show(peaks)} |", flush=True)
            figures.append({"work": name, "grows": what, "sizes": sizes, "seconds": seconds, "peak_mib": peaks,
                            "exponent": exponent(sizes, seconds)})
    if args.write:
        temporary = pathlib.Path(args.write + ".tmp")
        temporary.write_text(json.dumps({"date": datetime.date.today().isoformat(), "figures": figures}, indent=1) + "\n")
        temporary.replace(args.write)


main()
