#!/usr/bin/env python3
"""Holds a load on `rallrec serve` and says how long answers took:

    benches/serve.py RALLREC RUN [--rates 20,50,100] [--seconds 60] [--connections 8] [--top 10]

Starts the server on a free port of loopback. Requests are due at even intervals, whether the answers before them have come
or not, and a request counts from when it was due: a server that falls behind shows it. Two thirds ask for users of the run,
one third gives a history. Prints a row of a table for each rate.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time


def arguments():
    said = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said.add_argument("rallrec")
    said.add_argument("run")
    said.add_argument("--rates", default="20,50,100")
    said.add_argument("--seconds", type=float, default=60.0)
    said.add_argument("--connections", type=int, default=8)
    said.add_argument("--top", type=int, default=10)
    said.add_argument("--users", type=int, default=900, help="users 1 to N are asked for")
    said.add_argument("--items", type=int, default=1000, help="histories hold items 1 to N")
    return said.parse_args()


def bodies(said):
    """Requests as they are sent, drawn once."""
    draw = random.Random(7)
    out = []
    for n in range(2000):
        if n % 3:
            body = {"user": draw.randint(1, said.users), "top": said.top}
        else:
            met = draw.sample(range(1, said.items + 1), 20)
            body = {"history": [{"item": item, "rating": draw.randint(1, 5)} for item in met], "top": said.top}
        out.append(json.dumps(body).encode())
    return out


def hold(address, rate, said, all_bodies):
    """Milliseconds of each answer, and counts of statuses."""
    begun = time.perf_counter() + 0.2
    count = int(rate * said.seconds)
    times, statuses, lock = [], {}, threading.Lock()
    following = iter(range(count))

    def client():
        connection = http.client.HTTPConnection(address, timeout=30)
        while True:
            with lock:
                at = next(following, None)
            if at is None:
                return
            due = begun + at / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("POST", "/recommend", all_bodies[at % len(all_bodies)])
            answer = connection.getresponse()
            answer.read()
            took = 1000 * (time.perf_counter() - due)
            with lock:
                times.append(took)
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

    threads = [threading.Thread(target=client) for _ in range(said.connections)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return sorted(times), statuses, time.perf_counter() - begun


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    said = arguments()
    begun = time.perf_counter()
    server = subprocess.Popen(
        [said.rallrec, "serve", said.run, "--address", "127.0.0.1:0", "--quiet"], stdout=subprocess.PIPE, text=True)
    address = server.stdout.readline().split("http://")[1].strip()
    print(f"ready after {time.perf_counter() - begun:.2f} s", flush=True)
    print("| asked, 1/s | answered, 1/s | p50, ms | p90, ms | p99, ms | largest, ms | statuses | server's CPU, cores | load of the machine |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    all_bodies = bodies(said)
    for rate in [float(rate) for rate in said.rates.split(",")]:
        before = cpu_of(server.pid)
        times, statuses, seconds = hold(address, rate, said, all_bodies)
        used = (cpu_of(server.pid) - before) / seconds
        at = lambda share: times[min(len(times) - 1, int(share * len(times)))]
        print(f"| {rate:g} | {len(times) / seconds:.1f} | {at(0.5):.1f} | {at(0.9):.1f} | {at(0.99):.1f} | {times[-1]:.1f} | "
              f"{', '.join(f'{s}: {n}' for s, n in sorted(statuses.items()))} | {used:.2f} | {os.getloadavg()[0]:.1f} |", flush=True)
    server.send_signal(signal.SIGTERM)
    raise SystemExit(server.wait(timeout=30))


if __name__ == "__main__":
    main()
