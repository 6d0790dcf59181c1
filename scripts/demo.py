#!/usr/bin/env python3
"""The demo (make demo): real files behind a slow origin, read through the mount cold and hot, beside the plain directory.

Only Python's standard library. DATA=DIR takes your own files; else openclipart-png's where it is installed, else generated ones.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import queue
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIPART = Path("/usr/share/openclipart/png")
LATENCY_MS = 20
COLD_READERS = 8
HOT_READERS = 2
# So that the demo ends in minutes whatever DATA holds.
FILES_MAX = 20_000
BYTES_MAX = 4 << 30


def data_directory(scratch: Path) -> Path:
    if os.environ.get("DATA"):
        path = Path(os.environ["DATA"]).resolve()
        if not path.is_dir():
            sys.exit(f"demo: DATA={path} is not a directory")
        return path
    if CLIPART.is_dir():
        return CLIPART
    print("openclipart-png is not installed: generating 5,000 files")
    root = scratch / "data"
    rng = random.Random(1)
    for number in range(5000):
        folder = root / f"class{number % 20:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05d}.bin").write_bytes(rng.randbytes(int(7000 * rng.lognormvariate(0, 1))))
    return root


def files_of(root: Path) -> tuple[list[str], int]:
    names, total = [], 0
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            total += os.path.getsize(path)
            names.append(os.path.relpath(path, root))
            if len(names) >= FILES_MAX or total >= BYTES_MAX:
                print(f"the first {len(names):,} files are taken")
                return names, total
    return names, total


def read_all(label: str, root: Path, names: list[str], total: int, readers: int) -> float:
    """Reads every file and returns the seconds that it took."""
    done = [0, 0]
    lock = threading.Lock()
    ended = threading.Event()
    begun = time.monotonic()

    def read(name: str):
        size = 0
        with open(root / name, "rb", buffering=0) as f:
            while part := f.read(1 << 20):
                size += len(part)
        with lock:
            done[0] += 1
            done[1] += size

    def progress():
        terminal = sys.stderr.isatty()
        while not ended.wait(0.2 if terminal else 5):
            took = time.monotonic() - begun
            rate = done[1] / took
            left = (total - done[1]) / rate if rate else 0
            line = f"{label}: {done[0]:,} of {len(names):,} files, {rate / 1e6:,.0f} MB/s, {left:.0f} s left"
            print(f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    reporter = threading.Thread(target=progress)
    reporter.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(readers) as pool:
            for _ in pool.map(read, names):
                pass
    finally:
        took = time.monotonic() - begun
        ended.set()
        reporter.join()
    if done[1] != total:
        sys.exit(f"demo: {label}: {done[1]:,} bytes were read instead of {total:,}")
    return took


def origin_counters(admin: str) -> tuple[int, int]:
    """Requests to the origin and bytes from it, from /metrics."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    sums = {"forebay_origin_requests_total": 0.0, "forebay_origin_bytes_total": 0.0}
    for line in text.splitlines():
        name = line.partition(" ")[0].partition("{")[0]
        if name in sums:
            sums[name] += float(line.rpartition(" ")[2])
    return int(sums["forebay_origin_requests_total"]), int(sums["forebay_origin_bytes_total"])


def start(scratch: Path, origin: Path) -> tuple[subprocess.Popen, dict]:
    target = Path(os.environ.get("CARGO_TARGET_DIR") or "target")
    binary = os.environ.get("FOREBAY_BIN") or str(ROOT / target / "release" / "forebay")
    command = [binary, "up", f"file://{origin}", "--name", "demo", "--mount", str(scratch / "mnt")]
    command += ["--cache", f"{scratch / 'cache'}:8GiB", "--admin", "127.0.0.1:0", "--socket", str(scratch / "node.sock")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    environment |= {"FOREBAY_ORIGIN_INJECTED_LATENCY": f"{LATENCY_MS}ms", "XDG_RUNTIME_DIR": str(scratch)}
    print("$ FOREBAY_ORIGIN_INJECTED_LATENCY=20ms " + " ".join(command).replace(str(ROOT) + "/", ""))
    log = open(scratch / "forebay.log", "wb")
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    lines: queue.Queue = queue.Queue()

    def pump():
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=pump, daemon=True).start()
    try:
        ready = json.loads(lines.get(timeout=30) or "{}")
    except (queue.Empty, ValueError):
        ready = {}
    if ready.get("event") != "ready":
        process.kill()
        sys.exit(f"demo: forebay did not become ready:\n{(scratch / 'forebay.log').read_text(errors='replace')[-3000:]}")
    return process, ready


def main():
    scratch = Path(tempfile.mkdtemp(prefix="forebay-demo-"))
    (scratch / "mnt").mkdir()
    process = None
    try:
        origin = data_directory(scratch)
        names, total = files_of(origin)
        if not names:
            sys.exit(f"demo: {origin} has no files")
        print(f"{len(names):,} files, {total / 1e6:,.1f} MB, at an origin that takes {LATENCY_MS} ms to answer: {origin}\n")
        process, ready = start(scratch, origin)
        mount = Path(ready["mount"])
        shuffled = names[:]
        random.Random(2).shuffle(shuffled)

        begun = time.monotonic()
        listed = sum(len(files) for _, _, files in os.walk(mount))
        listing = time.monotonic() - begun
        print(f"listed {listed:,} names through the mount in {listing:.1f} s", file=sys.stderr)
        cold = listing + read_all(f"cold, {COLD_READERS} readers", mount, names, total, COLD_READERS)
        requests, received = origin_counters(ready["admin"])
        hot = read_all("hot, first time", mount, shuffled, total, HOT_READERS)
        plain = read_all("plain directory, first time", origin, shuffled, total, HOT_READERS)
        rounds = []
        for _ in range(3):
            rounds.append((read_all("hot", mount, shuffled, total, HOT_READERS), read_all("plain", origin, shuffled, total, HOT_READERS)))
        hot = statistics.median([hot, *(mine for mine, _ in rounds)])
        plain = statistics.median([plain, *(theirs for _, theirs in rounds)])
        requests_after, received_after = origin_counters(ready["admin"])

        passes = 1 + 4
        direct_requests, direct_bytes = passes * len(names), passes * total
        print()
        print(f"{'':<34}{'seconds':>10}{'files/s':>12}{'MB/s':>10}{'of plain':>10}")
        for label, took in ((f"cold, with listing ({COLD_READERS} readers)", cold), ("hot", hot), ("plain directory", plain)):
            print(f"{label:<34}{took:>10.2f}{len(names) / took:>12,.0f}{total / took / 1e6:>10,.0f}{plain / took:>10.2f}")
        print()
        print(f"the origin, for {passes} passes over the data{'':<6}{'requests':>12}{'MB':>12}")
        print(f"{'  read directly, one GET a file':<42}{direct_requests:>12,}{direct_bytes / 1e6:>12,.0f}")
        print(f"{'  through Forebay':<42}{requests_after:>12,}{received_after / 1e6:>12,.0f}")
        spared = 1 - requests_after / direct_requests, 1 - received_after / direct_bytes
        print(f"{'  spared':<42}{spared[0]:>11.0%}{spared[1]:>13.0%}")
        print(f"\nonly the cold pass asked the origin: {requests:,} requests, {received / 1e6:,.0f} MB; later {requests_after - requests:,} more")
    finally:
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
        # Asked of the kernel's table: a dead mount answers no stat.
        for command in (["umount", "-l"], ["fusermount3", "-u", "-z"]):
            if is_mounted(scratch / "mnt"):
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    subprocess.run([*command, str(scratch / "mnt")], timeout=10)
        if not is_mounted(scratch / "mnt"):
            shutil.rmtree(scratch, ignore_errors=True)


def is_mounted(path: Path) -> bool:
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


if __name__ == "__main__":
    main()
