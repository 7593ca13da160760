"""What the peers' scripts share: threads, timing, one line of JSON in the same form as `stages` prints."""
import json
import os
import pathlib
import resource
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def set_threads(n):
    """Before torch, numpy or faiss are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(n)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def cores():
    return len(os.sched_getaffinity(0))


def timed(runs, body):
    """Seconds of each of `runs` calls, after one that is not counted."""
    body()
    seconds = []
    for _ in range(max(runs, 1)):
        start = time.perf_counter()
        body()
        seconds.append(time.perf_counter() - start)
    return seconds


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(work, threads, seconds, units, unit, **more):
    middle = statistics.median(seconds)
    line = {"work": work, "threads": threads, "median_s": middle, "seconds": seconds, "rate": units / middle,
            "unit": unit, "peak_mib": peak_mib(), "more": more}
    print(json.dumps(line), flush=True)


def build():
    """The path of our bench program, built."""
    command = ["cargo", "bench", "--bench", "stages", "--no-run", "--message-format", "json"]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "stages":
            if message.get("executable"):
                return message["executable"]
    raise SystemExit("cargo built no program named stages")
