"""Steps of a check on a GPU that is lent for minutes: each is a process of its own under a time limit, none stops what comes after it,
and what it said is on the disk before the next one begins. Bash, coreutils and the standard library of Python are all it takes."""
import dataclasses
import json
import os
import re
import signal
import subprocess
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# What a driver says once a kernel has gone wrong: the context of that process is dead from there on.
FAULT = re.compile(
    r"CUDA_ERROR_(?:ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION|MISALIGNED_ADDRESS|INVALID_ADDRESS_SPACE|INVALID_PC|LAUNCH_FAILED|LAUNCH_TIMEOUT"
    r"|HARDWARE_STACK_ERROR|ASSERT|ECC_UNCORRECTABLE)|illegal memory access|misaligned address|unspecified launch failure", re.I)
WRONG = re.compile(r"\bWRONG\b|\bare wrong\b|\bdiffer\b|test result: FAILED|ERROR SUMMARY: [1-9]|RACECHECK SUMMARY: [1-9]")
# Verdicts that are worth another look.
BAD = ("wrong", "fault", "crash", "hang", "failed")
LOG_BYTES = 64 << 20
KEPT_BYTES = 256 << 10
TAIL = 3000


@dataclasses.dataclass
class Step:
    """A command and what it may take. `kind` and `subject` say what is done to what: stage C finds by them what to do again."""

    kind: str
    subject: str
    command: list
    limit: float = 20.0
    env: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self):
        return f"{self.kind} {self.subject}".strip()


def fault_of(text):
    found = FAULT.search(text)
    return found.group(0) if found else None


def verdict(code, timed_out, text):
    """One word and what explains it."""
    started = re.findall(r"^test (\S+) \.\.\.", text, re.M)
    at = f" in {started[-1]}" if started else ""
    if timed_out:
        return "hang", f"killed at its limit{at}"
    fault = fault_of(text)
    if fault and code != 0:
        return "fault", fault + at
    if code < 0:
        return "crash", signal.Signals(-code).name + at
    if code > 128 and code - 128 in list(signal.Signals):
        return "crash", signal.Signals(code - 128).name + at
    if code in (126, 127):
        return "failed", "the program does not start"
    if code != 0:
        return ("wrong" if WRONG.search(text) else "failed"), f"exit {code}"
    return "passed", ""


def failing_tests(text):
    """Names that a test program lists as failed, or the one that it did not come back from."""
    names = re.findall(r"^test (\S+) \.\.\. FAILED", text, re.M)
    listed = text.split("\nfailures:\n")
    if len(listed) > 1:
        names += re.findall(r"^    (\S+)$", listed[-1], re.M)
    return sorted(set(names))


class Book:
    """Runs steps until the stage's time is over, and writes down what became of each."""

    def __init__(self, stage, out, work, seconds, say=print):
        self.stage, self.out, self.work, self.say = stage, Path(out), Path(work), say
        self.out.mkdir(parents=True, exist_ok=True)
        self.logs = self.work / f"logs-{stage}"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.begun, self.share = time.monotonic(), 0.0
        # Packing needs some of it.
        self.seconds = seconds
        self.end = self.begun + max(seconds - 6.0, seconds * 0.8)
        self.records, self.running, self.files = [], {}, []
        self.lock = threading.Lock()
        self.stopped = None
        (self.out / f"{stage}.jsonl").write_text("")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.stop)

    def stop(self, number, _frame):
        """Ends what runs; all later steps are noted as not begun, and what is there is packed."""
        self.stopped = signal.Signals(number).name
        self.end = 0.0
        for process in list(self.running.values()):
            kill(process, signal.SIGKILL)

    def left(self):
        return self.end - time.monotonic()

    def group(self, share, steps, jobs=1):
        """Steps that together get this share of the stage's time, and what groups before left over. One that hangs takes at most half of
        what is left, so that those behind it run; the last leaves time to be killed in."""
        self.share = min(self.share + share, 1.0)
        until = min(self.end, self.begun + self.share * (self.end - self.begun)) if self.end else 0.0
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            done = list(pool.map(lambda step: self.run(step, until, 0.8 if step is steps[-1] else 0.5), steps))
        self.pack()
        return done

    def run(self, step, until=None, part=1.0):
        left = part * (min(self.end, self.end if until is None else until) - time.monotonic())
        if left < 0.3:
            why = f"stopped by {self.stopped}" if self.stopped else "no time left for it"
            return self.note(step, "not begun", why, None, 0.0, "", None)
        log = self.logs / (re.sub(r"[^A-Za-z0-9._-]+", "-", step.name) + ".txt")
        limit, began = min(step.limit, left), time.monotonic()
        # A flood of output ends its own step; no core files.
        command = ["bash", "-c", f'ulimit -c 0; ulimit -f {LOG_BYTES >> 10}; exec "$@"', "bash", *map(str, step.command)]
        timed_out = False
        with open(log, "wb") as file:
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                           env={**os.environ, **step.env}, cwd=self.work, start_new_session=True)
            except OSError as error:
                return self.note(step, "failed", f"cannot start: {error}", None, 0.0, "", log)
            self.running[process.pid] = process
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                timed_out, code = True, end(process)
            # What it started and left behind.
            kill(process, signal.SIGKILL)
            self.running.pop(process.pid, None)
        text = read(log)
        word, why = verdict(code if code is not None else -9, timed_out, text)
        if timed_out and code is None:
            why += "; it does not end even so"
        if self.stopped:
            word, why = "not begun", f"stopped by {self.stopped}"
        return self.note(step, word, why, code, time.monotonic() - began, text, log)

    def left_out(self, kind, subject, why):
        return self.note(Step(kind, subject, []), "left out", why, None, 0.0, "", None)

    def note(self, step, word, why, code, seconds, text, log):
        record = {"stage": self.stage, "kind": step.kind, "subject": step.subject, "verdict": word, "why": why, "exit": code,
                  "seconds": round(seconds, 2), "command": [str(part) for part in step.command], "env": step.env,
                  "tests": failing_tests(text), "tail": text[-TAIL:], "log": log.name if log else None}
        with self.lock:
            self.records.append(record)
            with open(self.out / f"{self.stage}.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.page()
            self.say(f"{word:9}  {step.name:34} {seconds:6.1f} s  {why}")
        return record

    def keep(self, path):
        """A file that is packed whole."""
        self.files.append(Path(path))

    def page(self):
        """What happened so far, for people."""
        lines = [f"# Stage {self.stage}", "", "| step | verdict | seconds | |", "| --- | --- | ---: | --- |"]
        for r in self.records:
            lines.append(f"| {r['kind']} {r['subject']} | {r['verdict']} | {r['seconds']} | {r['why']} |".replace("\n", " "))
        shown = [r for r in self.records if r["verdict"] in BAD or r["kind"] in ("facts", "bench", "rivals", "compare")]
        for r in shown:
            lines += ["", f"## {r['kind']} {r['subject']}: {r['verdict']}", "", "    " + " ".join(r["command"]), "", "```text",
                      r["tail"].rstrip().replace("```", "'''"), "```"]
        part = self.out / f"{self.stage}.md.part"
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        part.replace(self.out / f"{self.stage}.md")

    def pack(self):
        """All logs so far in one file; long ones without their middle."""
        part = self.work / f"{self.stage}.tar.gz.part"
        with tarfile.open(part, "w:gz", compresslevel=6) as tar:
            for log in sorted(self.logs.glob("*")):
                shorten(log)
                tar.add(log, f"logs-{self.stage}/{log.name}")
            for file in self.files:
                if file.is_file():
                    tar.add(file, file.name)
        # Another file system, perhaps.
        target = self.out / f"{self.stage}.tar.gz"
        target.write_bytes(part.read_bytes())
        part.unlink()


def read(path, most=4 << 20):
    """The end of a log, without what no file should hold."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - most))
        return file.read().decode("utf-8", "replace").replace("\0", "")


def shorten(path):
    size = os.path.getsize(path)
    if size <= KEPT_BYTES + 200:
        return
    with open(path, "rb") as file:
        head = file.read(KEPT_BYTES // 4)
        file.seek(size - KEPT_BYTES * 3 // 4)
        tail = file.read()
    path.write_bytes(head + b"\n[.. %d bytes left out ..]\n" % (size - len(head) - len(tail)) + tail)


def kill(process, number):
    """The process and all that it started; it leads a session of its own."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def end(process):
    """Asks it to end, then kills it; None where even that does not end it (it waits within the driver)."""
    for number, patience in ((signal.SIGTERM, 0.7), (signal.SIGKILL, 3.0)):
        kill(process, number)
        try:
            return process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    return None
