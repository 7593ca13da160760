#!/usr/bin/env python3
"""What the dashboard costs, by the real program:

    benches/dashboard.py idle RALLREC RUN...      CPU of a dashboard that only shows (tmux, 200 x 50), per cent of one core
    benches/dashboard.py loss RALLREC [PAIRS]     training with and without a dashboard, with and without --profile, in turn
    benches/dashboard.py open OPEN [LINES]        opens a run of LINES events (10 million); OPEN is the example `open` of
                                                  rallrec-events: cargo build --release -p rallrec-events --example open
    benches/dashboard.py many RALLREC RUN [COUNT] lists COUNT folders (10,000) with the files of RUN, at 120 x 36

A busy machine makes wall times worthless; CPU times of the process itself are what is compared, with their spread.
"""

import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")


def cpu_of(pid):
    """Seconds of CPU that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Watcher:
    """A dashboard in a terminal of its own."""

    def __init__(self, rallrec, run, size=("200", "50"), at="."):
        self.mux = ["tmux", "-L", f"bench-{os.getpid()}-{id(self)}", "-f", "/dev/null"]
        config = tempfile.mkdtemp()
        command = f"exec env XDG_CONFIG_HOME={config} {rallrec} watch {run}"
        place = ["-x", size[0], "-y", size[1], "-c", at]
        subprocess.run([*self.mux, "new-session", "-d", "-s", "m", *place, command], check=True)
        out = subprocess.run([*self.mux, "list-panes", "-F", "#{pane_pid}"], check=True, capture_output=True, text=True)
        self.pid = int(out.stdout)

    def text(self):
        return subprocess.run([*self.mux, "capture-pane", "-p"], check=True, capture_output=True, text=True).stdout

    def close(self):
        subprocess.run([*self.mux, "kill-server"], check=False)


def idle(rallrec, runs):
    for run in runs:
        watcher = Watcher(rallrec, run)
        time.sleep(10)
        shares = []
        for _ in range(4):
            before, began = cpu_of(watcher.pid), time.monotonic()
            time.sleep(15)
            shares.append(100 * (cpu_of(watcher.pid) - before) / (time.monotonic() - began))
        watcher.close()
        print(f"{run}: {statistics.median(shares):.2f} % of one core (15 s each: {min(shares):.2f} to {max(shares):.2f})")


# What a dashboard costs when it starts is not what it costs while it shows.
SETTLED = 5


def train(rallrec, how):
    """One training of LightGCN, from SETTLED seconds after its start: (steps a second, the engine's CPU seconds a thousand
    steps, the watcher's share of a core)."""
    folder = tempfile.mkdtemp()
    args = [rallrec, "demo", "--out", folder, "--quiet", "--until", "graph"]
    args += ["--set", "graph.lightgcn.epochs=500", "--set", "graph.lightgcn.early_stop=500"]
    args += ["--set", "data.synthetic.users=1500", "--set", "data.synthetic.ratings=60000"]
    if "profiled" in how:
        args.append("--profile")
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL)
    watcher = None
    # What comes before the training (with --profile the machine's ceilings are measured once) is not counted.
    file = pathlib.Path(folder, "events.jsonl")
    while not (file.exists() and '"stage_started","stage":"graph"' in file.read_text()):
        time.sleep(0.02)
    if "watched" in how:
        watcher = Watcher(rallrec, folder)
    time.sleep(SETTLED)
    before, at, began = cpu_of(process.pid), 1000 * time.time(), time.monotonic()
    shown = cpu_of(watcher.pid) if watcher else 0.0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    share = 0.0
    if watcher:
        share = 100 * (cpu_of(watcher.pid) - shown) / (time.monotonic() - began)
        watcher.close()
    if status:
        sys.exit(f"the engine ended with {status}")
    steps = []
    for line in file.read_text().splitlines():
        event = json.loads(line)
        if event.get("kind") == "train_step" and event["stage"] == "graph" and event["t_ms"] >= at:
            steps.append((event["t_ms"] / 1000, event["step"]))
    shutil.rmtree(folder)
    (first, low), (last, high) = steps[0], steps[-1]
    return (high - low) / (last - first), 1000 * (usage.ru_utime + usage.ru_stime - before) / (high - low), share


def loss(rallrec, pairs, ways=("alone", "watched", "profiled", "profiled watched")):
    rates, cpu, shares = ({w: [] for w in ways} for _ in range(3))
    for i in range(pairs):
        # Another order each time, so that a drift of the machine hits all alike.
        turn = i % len(ways)
        for way in ways[turn:] + ways[:turn]:
            r, c, share = train(rallrec, way)
            rates[way].append(r)
            cpu[way].append(c)
            shares[way].append(share)
            print(f"{way}: {r:.1f} steps/s, {c:.3f} s of CPU a thousand steps", file=sys.stderr, flush=True)
    spread = lambda v, d: f"{statistics.median(v):.{d}f} ({min(v):.{d}f} to {max(v):.{d}f})"
    base_rate, base_cpu = statistics.median(rates["alone"]), statistics.median(cpu["alone"])
    print("| way | steps a second | against alone | CPU of the engine, s a thousand steps | against alone | dashboard, % of one core |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way in ways:
        slower = 100 * (statistics.median(rates[way]) / base_rate - 1)
        dearer = 100 * (statistics.median(cpu[way]) / base_cpu - 1)
        share = f"{statistics.median(shares[way]):.1f}" if "watched" in way else ""
        print(f"| {way} | {spread(rates[way], 1)} | {slower:+.1f} % | {spread(cpu[way], 3)} | {dearer:+.1f} % | {share} |")


def opening(program, lines):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "events.jsonl")
        subprocess.run([program, "--make", str(file), str(lines)], check=True)
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            out = subprocess.run([program, folder], check=True, capture_output=True, text=True).stdout.splitlines()[0]
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{out}; {used:.2f} s of CPU; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)


def many(rallrec, run, count):
    rallrec, run = pathlib.Path(rallrec).resolve(), pathlib.Path(run)
    with tempfile.TemporaryDirectory() as place:
        for i in range(count):
            folder = pathlib.Path(place, "runs", f"many-{i}")
            (folder / "artifacts").mkdir(parents=True)
            (folder / ".lock").touch()
            for name in ("recipe.toml", "results.json", "events.jsonl"):
                # The same file under many names: it is read as often as there are names.
                os.link(shutil.copy(run / name, place) if i == 0 else pathlib.Path(place, name), folder / name)
        began = time.monotonic()
        watcher = Watcher(rallrec, "", ("120", "36"), place)
        while "many-" not in watcher.text():
            time.sleep(0.01)
        print(f"{time.monotonic() - began:.2f} s to the first names", flush=True)
        used = 0.0
        for seconds in (10, 30, 30, 60, 60):
            time.sleep(seconds)
            now = cpu_of(watcher.pid)
            print(f"the next {seconds} s: {now - used:.2f} s of CPU, {100 * (now - used) / seconds:.2f} % of one core", flush=True)
            used = now
        watcher.close()


def main():
    match sys.argv[1:]:
        case ["idle", rallrec, *runs] if runs:
            idle(rallrec, runs)
        case ["loss", rallrec, *rest]:
            loss(rallrec, int(rest[0]) if rest else 5)
        case ["open", program, *rest]:
            opening(program, int(rest[0]) if rest else 10_000_000)
        case ["many", rallrec, run, *rest]:
            many(rallrec, run, int(rest[0]) if rest else 10_000)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
