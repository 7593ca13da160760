#!/usr/bin/env python3
"""Runs our stages and the tools that a user would pick instead, in turn, several times, on this machine; prints the
median of each, the spread, and the ratio of the pairs that ran next to each other. See README.md beside this file.

    python benches/peers/run.py --peers VENV/bin/python --model HF_FOLDER --gguf FILE.gguf --split FOLDER --ml-1m FOLDER
"""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

from common import build

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the peers (requirements.txt)")
    parser.add_argument("--model", help="SmolLM2-135M-Instruct as a Hugging Face folder, f32")
    parser.add_argument("--gguf", help="the same model as GGUF, F16: for llama.cpp and for our decoding")
    parser.add_argument("--gguf-q4", help="the same model as GGUF, Q4_1: for llama.cpp's decoding of one sample")
    parser.add_argument("--gguf-q8", help="the same model as GGUF, Q8_0: for llama.cpp's 8-bit products, against ours")
    parser.add_argument("--split", help="folder with LightGCN's train.txt[.gz] and test.txt[.gz] of MovieLens-1M")
    parser.add_argument("--ml-1m", help="MovieLens-1M's raw folder")
    parser.add_argument("--dtype", default="float32,bfloat16", help="numbers of transformers and peft: float32, bfloat16 or both; ours then "
                                                                    "multiplies in f32, or in bf16")
    parser.add_argument("--only", default="", help="comma-separated names; default: all whose inputs are given")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs, ours first and theirs first in turn")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--stages", help="the built bench program; default: cargo builds it")
    parser.add_argument("--write", help="a JSON file to write all figures to")
    return parser.parse_args()


# Numbers of peers: what they add to a work's name, what they are called, what ours is given.
DTYPES = {"float32": ("", "f32", []), "bfloat16": ("-bf16", "bf16", ["--dtype", "products-bf16"])}


def text(folder, name):
    """The file, plain or .gz."""
    plain = pathlib.Path(folder) / name
    return str(plain if plain.exists() else plain.with_name(name + ".gz"))


def pairs(args):
    """(name, what the peer is, our arguments, the peer's arguments) of each comparison whose inputs are given."""
    if args.split:
        files = [text(args.split, "train.txt"), text(args.split, "test.txt")]
        theirs = ["torch_lightgcn.py", *files, "--steps", "100"]
        yield "lightgcn", "PyTorch CSR", ["lightgcn", *files, "--steps", "100"], theirs
        yield "lightgcn-bf16", "PyTorch CSR", ["lightgcn", *files, "--steps", "100", "--bf16"], theirs
    yield "topk", "faiss IndexFlatIP", ["topk", "--runs", "2"], ["faiss_topk.py", "--runs", "2"]
    for pairs_ in ("4096", "16384"):
        ours = ["infonce", "--pairs", pairs_, "--runs", "2"]
        for how in ("dense", "blocked"):
            yield f"infonce-{pairs_}-{how}", f"torch {how}", ours, ["torch_infonce.py", "--pairs", pairs_, "--how", how, "--runs", "2"]
    if args.model:
        for dtype in args.dtype.split(","):
            if dtype not in DTYPES:
                raise SystemExit(f"--dtype {dtype}: is none of {', '.join(DTYPES)}")
            suffix, short, ours = DTYPES[dtype]
            theirs = ["--dtype", dtype]
            yield f"prefill{suffix}", f"transformers {short}", ["prefill", args.model, *ours], ["hf_llm.py", "prefill", args.model, *theirs]
            tune = ["lora", args.model, "--runs", "3", *ours]
            for name, peer, rows, more in (("lora", "peft", [], []), ("lora-ragged", "peft, padded", ["--rows", "ragged"], ["--rows", "ragged"]),
                                           ("lora-answer", "peft, logits of the answer only", [], ["--logits", "answer"])):
                yield f"{name}{suffix}", f"{peer}, {short}", [*tune, *rows], ["peft_lora.py", args.model, *more, *theirs]
            for samples in ("1", "16"):
                work = ["decode", args.model, "--samples", samples, "--runs", "3"]
                yield f"decode-{samples}{suffix}", f"transformers {short}", [*work, *ours], ["hf_llm.py", *work, *theirs]
    if args.gguf:
        yield "prefill-f16", "llama.cpp F16", ["prefill", args.gguf], ["gguf_llm.py", "prefill", args.gguf]
        for samples in ("1", "16"):
            ours = ["decode", args.gguf, "--samples", samples, "--runs", "3"]
            yield f"decode-{samples}-f16", "llama.cpp F16", ours, ["gguf_llm.py", "decode", args.gguf, "--samples", samples, "--runs", "3"]
    if args.gguf_q4:
        ours = ["decode", args.gguf_q4, "--samples", "1", "--runs", "3"]
        yield "decode-1-q4", "llama.cpp Q4_1", ours, ["gguf_llm.py", "decode", args.gguf_q4, "--samples", "1", "--runs", "3"]
        yield "prefill-q4", "llama.cpp Q4_1", ["prefill", args.gguf_q4], ["gguf_llm.py", "prefill", args.gguf_q4]
    if args.gguf_q8:
        ours = lambda *work: [*work[:1], args.gguf_q8, *work[1:], "--dtype", "int8"]
        yield "prefill-int8", "llama.cpp Q8_0", ours("prefill"), ["gguf_llm.py", "prefill", args.gguf_q8]
        for samples in ("1", "16"):
            more = ["--samples", samples, "--runs", "3"]
            yield f"decode-{samples}-int8", "llama.cpp Q8_0", ours("decode", *more), ["gguf_llm.py", "decode", args.gguf_q8, *more]
    if args.ml_1m:
        yield "samples", "pandas", ["samples", args.ml_1m, "--runs", "3"], ["pandas_samples.py", args.ml_1m, "--runs", "1"]


def once(command, threads):
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def work_of(name):
    """The work itself, whatever the numbers and whoever the peer."""
    name = name.removesuffix("-bf16").removesuffix("-dense").removesuffix("-blocked")
    return "lora" if name == "lora-answer" else name


def best(figures):
    """For each work that several pairs have done: our fastest run of it against the fastest of its peers."""
    print("\n| work | our best | the best peer | its rate | times faster |\n| --- | --- | --- | --- | --- |")
    for work in dict.fromkeys(work_of(f["work"]) for f in figures):
        rows = [f for f in figures if work_of(f["work"]) == work]
        # Pairs of a work count the same units, but for those that are told in seconds.
        timed = rows[0]["unit"] == "s"
        figure = lambda f, side: statistics.median(r["median_s" if timed else "rate"] for r in f[side])
        speed = lambda f, side: 1 / figure(f, side) if timed else figure(f, side)
        ours, theirs = max(rows, key=lambda f: speed(f, "ours")), max(rows, key=lambda f: speed(f, "theirs"))
        times = speed(ours, "ours") / speed(theirs, "theirs")
        print(f"| {work} | {figure(ours, 'ours'):.4g} ({ours['work']}) | {theirs['peer']} | {figure(theirs, 'theirs'):.4g} | {times:.2f} |")


def spread(values):
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def main():
    args = arguments()
    for name in ("model", "gguf", "gguf_q4", "gguf_q8", "split", "ml_1m"):
        if getattr(args, name):
            setattr(args, name, os.path.abspath(getattr(args, name)))
    stages = os.path.abspath(args.stages) if args.stages else build()
    # An interpreter of a virtual environment is a link that must not be resolved.
    peers = os.path.abspath(args.peers) if os.sep in args.peers else args.peers
    wanted = [w for w in args.only.split(",") if w]
    figures = []
    print("| work | ours | peer | its rate | unit | ratio | our peak MiB | its peak MiB | load before |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, peer, ours, theirs in pairs(args):
        if wanted and name not in wanted:
            continue
        load = os.getloadavg()[0]
        commands = [[stages, *ours], [peers, *theirs] + ([] if theirs[0] == "pandas_samples.py" else ["--threads", str(args.threads)])]
        results = ([], [])
        for round_ in range(args.rounds):
            for which in (0, 1) if round_ % 2 == 0 else (1, 0):
                results[which].append(once(commands[which], args.threads))
        rates = [[r["rate"] for r in side] for side in results]
        # The two may count FLOP differently; seconds for the same work are what is compared there.
        by_time = results[0][0]["unit"] == "GFLOP/s" or name == "samples"
        key = (lambda r: 1 / r["median_s"]) if by_time else (lambda r: r["rate"])
        ratios = [key(a) / key(b) for a, b in zip(*results)]
        peaks = [max(r["peak_mib"] or 0 for r in side) for side in results]
        unit = results[0][0]["unit"]
        if by_time:
            rates, unit = [[r["median_s"] for r in side] for side in results], "s"
        print(f"| {name} | {spread(rates[0])} | {peer} | {spread(rates[1])} | {unit} | {spread(ratios)} | {peaks[0]:.0f} | "
              f"{peaks[1]:.0f} | {load:.2f} |", flush=True)
        figures.append({"work": name, "peer": peer, "unit": unit, "ours": results[0], "theirs": results[1], "ratios": ratios,
                        "load_before": load})
    best(figures)
    if args.write:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
        head = {"date": datetime.date.today().isoformat(), "commit": commit, "threads": args.threads}
        temporary = pathlib.Path(args.write + ".tmp")
        temporary.write_text(json.dumps(head | {"figures": figures}, indent=1) + "\n")
        temporary.replace(args.write)


main()
