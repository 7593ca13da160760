#!/usr/bin/env python3
"""The rivals of our GPU kernels on the same card: reads what `rallrec bench --device cuda --json` wrote, times PyTorch, cuBLASLt and
cuSPARSE on the same sizes and storages, and prints a Markdown table of ours, theirs, the ratio and the goal.

    rallrec bench --device cuda --write bench.json
    VENV/bin/python benches/peers/gpu_kernels.py bench.json [--write rivals.json]

Theirs is timed as a user calls it, by CUDA events around each run, on inputs rotated beyond the second-level cache, back to back: gaps
between its launches are in it where its CPU side is slower than the card. Ours is the sum of the launches without gaps.
`--device cpu --tiny` proves that the script works: its figures mean nothing.
"""
import argparse
import datetime
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import common

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
parser.add_argument("bench", help="JSON of `rallrec bench --device cuda`")
parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
parser.add_argument("--tiny", action="store_true", help="two runs of each: proves the script alone")
parser.add_argument("--seconds", type=float, default=0.3, help="for each rival")
parser.add_argument("--only", default="", help="comma-separated operators")
parser.add_argument("--threads", type=int, default=common.cores())
parser.add_argument("--write", help="a JSON file to write all figures to")
args = parser.parse_args()
common.set_threads(args.threads)

import torch  # noqa: E402

from gpu_rivals import RIVALS, Case  # noqa: E402

ROTATED = 256 << 20
RUNS = (2, 2) if args.tiny else (21, 2001)
device = torch.device(args.device)


def goal(line):
    """Our speed in units of the rival's that is wanted, or None."""
    op, work, storage, sizes = line["op"], line["work"], line["storage"], line["sizes"]
    if op == "spmm":
        return 1.5 if storage == "f32" else 2.5
    if op == "infonce" and sizes["pairs"] >= 32_768 and storage == "bf16":
        return 1.5
    if op == "topk" and work in ("catalogue", "RAFT's shape"):
        return 3.0
    if op == "linear" and storage == "bf16":
        return 0.85
    if op == "lora" and storage == "bf16":
        if work == "forward and backward":
            return 1.25
        if work in ("forward", "forward by wgmma", "input gradient") and sizes["rank"] == 0:
            return 0.85
    return None


def size_of(of):
    """Bytes of all tensors of a set of inputs."""
    if isinstance(of, torch.Tensor):
        return of.numel() * of.element_size()
    return sum(map(size_of, of)) if isinstance(of, (list, tuple)) else 0


def times(inputs, run):
    """Seconds of each run on the device, sets in turn."""
    seconds, begun, i = [], time.perf_counter(), 0
    for warm in range(min(3, RUNS[0])):
        run(*inputs[warm % len(inputs)])
    while i < RUNS[0] or (time.perf_counter() - begun < args.seconds and i < RUNS[1]):
        some = []
        for _ in range(min(16, RUNS[1] - i)):
            i += 1
            if device.type == "cpu":
                start = time.perf_counter()
                run(*inputs[i % len(inputs)])
                seconds.append(time.perf_counter() - start)
            else:
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                run(*inputs[i % len(inputs)])
                end.record()
                some.append((start, end))
        if some:
            torch.cuda.synchronize()
            seconds += [start.elapsed_time(end) / 1e3 for start, end in some]
    return seconds


def measure(make):
    """Median, tenth and ninetieth of a hundred of a rival's seconds; how many runs."""
    make_inputs, run = make
    inputs = [make_inputs()]
    count = 2 if args.tiny else max(2, min(64, ROTATED // max(size_of(inputs[0]), 1) + 1))
    inputs += [make_inputs() for _ in range(count - 1)]
    ordered = sorted(times(inputs, run))
    at = lambda share: ordered[int((len(ordered) - 1) * share)]
    return {"seconds": statistics.median_low(ordered), "p10": at(0.1), "p90": at(0.9), "runs": len(ordered), "sets": count}


def peak():
    """GFLOP a second of a large product of random values in bf16: what shares of the matrix peak are counted against."""
    n = 64 if args.tiny else 8192
    make = lambda: tuple(torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / measure((make, lambda a, b: a @ b))["seconds"] / 1e9


def card():
    if device.type == "cpu":
        return "CPU: figures mean nothing"
    return torch.cuda.get_device_properties(0).name


def duration(seconds):
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.3f} ms"


def verdict(wanted, got):
    if wanted is None:
        return ""
    if device.type == "cpu":
        return f"{wanted}: not judged here"
    return f"{wanted}: " + ("reached" if got >= wanted else f"missed ({got / wanted:.2f} of the goal)")


def main():
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    if device.type == "cuda":
        torch.backends.cuda.preferred_blas_library("cublaslt")
    bench = json.loads(pathlib.Path(args.bench).read_text())
    ours, theirs_on = bench["about"]["device"], card()
    if device.type == "cuda" and not ours.startswith(theirs_on):
        raise SystemExit(f"the bench ran on '{ours}', this is '{theirs_on}': run both on one card")
    known = {(line["op"], line["work"]) for line in bench["cases"] + bench["left_out"]}
    if stale := sorted(set(RIVALS) - known):
        print(f"rivals of works that this bench does not have: {stale}", file=sys.stderr)
    matrix = peak()
    wanted = [w for w in args.only.split(",") if w]
    print(f"{theirs_on}; torch {torch.__version__}, CUDA {torch.version.cuda}; product of 8192 x 8192 in bf16: {matrix / 1e3:.1f} TFLOP/s\n")
    print("| op | work | stored | shape | ours | rival | its time | 10 - 90 % | ratio | goal |")
    print("| --- | --- | --- | --- | ---: | --- | ---: | ---: | ---: | --- |")
    rows, alone = [], []
    for line in bench["cases"]:
        key = line["op"], line["work"]
        if wanted and key[0] not in wanted:
            continue
        if key not in RIVALS:
            alone.append(", ".join(key))
            continue
        name, *make = RIVALS[key](Case(line, device))
        their = measure(make)
        ratio = their["seconds"] / line["seconds"]
        shape = ", ".join(f"{k} {v}" for k, v in line["sizes"].items())
        print(f"| {key[0]} | {key[1]} | {line['storage']} | {shape} | {duration(line['seconds'])} | {name} | {duration(their['seconds'])} | "
              f"{duration(their['p10'])} - {duration(their['p90'])} | {ratio:.2f} | {verdict(goal(line), ratio)} |", flush=True)
        what = {k: line[k] for k in ("op", "work", "storage", "sizes", "seconds")}
        rows.append(what | {"rival": name, "theirs": their, "ratio": ratio, "goal": goal(line)})
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print("\nGoals that are shares of the matrix peak, against that product in place of mma.sync:\n")
    print("| op | work | shape | share of the peak | goal |\n| --- | --- | --- | ---: | --- |")
    shares = []
    for line in bench["cases"]:
        if not (line["goal"] and "floor" in line["goal"]["goal"] and line["bound"] == "compute"):
            continue
        share = line["floor"]["flops"] / line["seconds"] / 1e9 / matrix
        shape = ", ".join(f"{k} {v}" for k, v in line["sizes"].items())
        print(f"| {line['op']} | {line['work']} | {shape} | {share:.1%} | {verdict(line['goal']['wanted'], share)} |")
        shares.append({"op": line["op"], "work": line["work"], "sizes": line["sizes"], "share": share, "goal": line["goal"]["wanted"]})
    if alone:
        print(f"\nWithout a rival: {'; '.join(sorted(set(alone)))}.")
    if args.write:
        # The commit of the program that was measured, or else of this script; a lent machine may have no git.
        commit = bench["about"].get("commit")
        if not commit and shutil.which("git"):
            asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=common.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            commit = asked.stdout.strip()
        about = {"device": theirs_on, "torch": torch.__version__, "cuda": torch.version.cuda, "commit": commit,
                 "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "bench": bench["about"]}
        temporary = pathlib.Path(args.write + ".tmp")
        head = {"about": about, "peak_gflop_s": matrix}
        temporary.write_text(json.dumps(head | {"rows": rows, "shares": shares}, indent=1) + "\n")
        temporary.replace(args.write)


main()
