#!/usr/bin/env python3
"""Measures the mount against the plain local file system and against the best plain downloads (make bench-mount).

Both sides of a row alternate in slices of about a second; the median of the ratios of at least 7 pairs counts. Prints a table,
writes bench/results/mount.json, and ends with status 1 when a row misses its target and is not in bench/known-losses.toml.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from rows import limit_row, machine, ratio_row, table, verdict, write  # noqa: E402  (beside this file)
from support import data  # noqa: E402
from support.forebay import Forebay  # noqa: E402
from support.process import CACHE, built, program, run  # noqa: E402
from support.weed import ACCESS_KEY, REGION, SECRET_KEY, Weed  # noqa: E402

BIG = "big-1g-v1"
BIG_BYTES = 1 << 30
MEMORY_MAX = 300 << 20
START_MAX = 1.0
# Each round keeps what the disk can take beside the reads: a few are enough on any disk.
FILL_ROUNDS = 10

# id, mount kind, work, readers, caches dropped, target (ratio to native).
ROWS = [
    ("files.hot.112k.1", "files", "files", 1, False, 0.95),
    ("files.hot.112k.4", "files", "files", 4, False, 0.95),
    ("files.hot.sequential", "files", "sequential", 1, False, 0.95),
    ("files.hot.random-4k", "files", "random", 1, False, 0.90),
    ("files.hot.sequential.4k-folios", "files", "sequential", 1, False, 0.95),
    ("files.hot.random-4k.4k-folios", "files", "random", 1, False, 0.90),
    ("files.hot.stat", "files", "stat", 1, False, 0.95),
    ("streams.hot.sequential", "streams", "sequential", 1, False, 0.95),
    ("streams.hot.random-4k", "streams", "random", 1, False, 0.90),
    ("streams.hot.112k.4", "streams", "files", 4, False, 0.45),
    ("files.dropped.112k.1", "files", "files", 1, True, 0.75),
    ("files.dropped.112k.4", "files", "files", 4, True, 1.0),
    ("streams.dropped.sequential", "streams", "sequential", 1, True, 0.90),
    ("streams.dropped.random-4k", "streams", "random", 1, True, 0.90),
]


# The rows against plain downloads, and the kind of mount of each.
COLD_ROWS = {"cold.sequential.1g": "files", "cold.sequential.1g.streams": "streams"}

# Rows whose plain file lies in the page cache as FUSE keeps it: in folios of 4 KiB. They tell what of a miss is the kernel's.
SMALL_FOLIOS = ".4k-folios"


class MemoryWatch:
    """The highest RssAnon of every process under test, sampled ten times a second."""

    def __init__(self):
        self.highest = 0
        self.samples = 0
        self._running: Forebay | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def watch(self, running: Forebay | None):
        self._running = running

    def _sample(self):
        while not self._ended.wait(0.1):
            running = self._running
            if running is None:
                continue
            with contextlib.suppress(OSError, KeyError):
                self.highest = max(self.highest, running.memory()["RssAnon"])
                self.samples += 1

    def end(self):
        self._ended.set()


def note(text: str):
    print(f"bench-mount: {text}", file=sys.stderr, flush=True)


def big_file() -> Path:
    """1 GiB of random bytes, made once."""
    path = CACHE / "bench" / BIG
    if not path.exists() or path.stat().st_size != BIG_BYTES:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as f:
            for _ in range(BIG_BYTES >> 22):
                f.write(os.urandom(1 << 22))
    return path


def big_file_in_small_folios() -> Path:
    """A copy of the big file, brought into the page cache by 4 KiB, which the kernel then keeps in folios of that size."""
    path = CACHE / "bench-folios" / BIG
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size != BIG_BYTES:
        shutil.copyfile(big_file(), path)
    os.sync()
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        buffer = bytearray(4096)
        for offset in range(0, BIG_BYTES, len(buffer)):
            os.preadv(fd, [buffer], offset)
    finally:
        os.close(fd)
    return path


def settled(fb: Forebay) -> int:
    """Bytes in the cache once no more are added: pages are kept behind the reader's back."""
    before, now = -1, fb.resident_bytes()
    while now != before:
        time.sleep(1)
        before, now = now, fb.resident_bytes()
    return now


def fill(fb: Forebay, source: Path, watch: MemoryWatch, options: dict):
    """Reads everything through the mount, compared byte for byte, until the cache holds all of it.

    A fill never delays a read: what the disk could not take in time was not kept, and is read again after a restart, which
    empties the kernel's cache. The last restart lets files that were open while they were filled be passed through.
    """
    wanted = data.tree_bytes(source)
    fb.start()
    for _ in range(FILL_ROUNDS):
        watch.watch(fb)
        done = run([sys.executable, str(ROOT / "tests/support/reader.py"), "compare", str(source), str(fb.mount)], 300)
        if done.returncode != 0:
            raise RuntimeError(f"the mount's bytes differ: {done.stdout}{done.stderr}")
        kept = settled(fb)
        watch.watch(None)
        fb.stop()
        fb.restart(**options)
        watch.watch(fb)
        if kept >= wanted:
            return
        note(f"{kept:,} of {wanted:,} bytes are in the cache: reading once more")
    raise RuntimeError(f"after {FILL_ROUNDS} rounds the cache does not hold {wanted:,} bytes")


def local_rows(pairs: int, only: str, watch: MemoryWatch) -> list[dict]:
    """The rows against the plain local file system."""
    rows = []
    trees = {"files": data.jpegs(), "big": big_file().parent}
    for kind in ("files", "streams"):
        wanted = [row for row in ROWS if row[1] == kind and only in row[0]]
        for tree in ("files", "big"):
            rows_here = [row for row in wanted if (row[2] in ("sequential", "random")) == (tree == "big")]
            if not rows_here:
                continue
            source = trees[tree]
            note(f"{kind}: filling the cache from file://{source}")
            options = {"kind": kind, "cache": "8GiB", "freshness": "immutable", "limit": 1500}
            fb = Forebay(f"file://{source}", **options)
            try:
                fill(fb, source, watch, options)
                for row in rows_here:
                    rows.append(local_row(row, source, fb, pairs))
            finally:
                watch.watch(None)
                fb.end()
    order = [row[0] for row in ROWS]
    return sorted(rows, key=lambda row: order.index(row["id"]))


def local_row(row, source: Path, fb: Forebay, pairs: int) -> dict:
    name, _, work, readers, dropped, target = row
    if not dropped:
        # Hot is what was read, not what was written: the kernel keeps the two in folios of different sizes.
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    baseline = "plain local file system"
    if name.endswith(SMALL_FOLIOS):
        source = big_file_in_small_folios().parent
        baseline += ", page cache in 4 KiB folios"
    command = [built("forebay-bench", "FOREBAY_BENCH_BIN"), work, "--native", str(source), "--mount", str(fb.mount)]
    command += ["--readers", str(readers), "--pairs", str(pairs)]
    if work in ("sequential", "random"):
        command += ["--file", BIG]
    if dropped:
        command.append("--drop")
    done = run(command, 60 + 12 * pairs)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr}")
    report = json.loads(done.stdout)
    runs = [[pair["mount"], pair["native"]] for pair in report["pairs"]]
    made = ratio_row(name, runs, baseline, target, report["unit"], higher_is_better=True)
    note(f"{name}: {made['ratio']:.2f} (target {target})")
    return made


def cpu_seconds(pid: int | None = None) -> float:
    """CPU time of a process so far, the kernel's work for it included; without `pid`, of this one's children that have ended."""
    if pid is None:
        used = os.times()
        return used.children_user + used.children_system
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cold_rows(pairs: int, watch: MemoryWatch) -> list[dict]:
    """One object of 1 GiB, cold: one reader through each kind of mount, and the best of two parallel downloads of the same object."""
    note("cold: starting weed and loading 1 GiB")
    server = Weed(CACHE)
    scratch = Path(tempfile.mkdtemp(prefix="cold-", dir=CACHE))
    runs = {"files": [], "streams": []}
    names = []
    try:
        bucket = server.bucket("bench")
        server.s3.upload_file(str(big_file()), bucket, BIG)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(scratch),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "RCLONE_CONFIG": "/dev/null",
        }
        remote = f":s3,provider=SeaweedFS,env_auth=true,region={REGION},endpoint='{server.endpoint}':{bucket}/{BIG}"
        downloads = {
            "rclone copyto": [program("rclone"), "copyto", remote, "TARGET", "--multi-thread-streams", "8"],
            "aws s3 cp": [program("aws"), "--endpoint-url", server.endpoint, "s3", "cp", "--quiet", f"s3://{bucket}/{BIG}", "TARGET"],
        }

        def download(name: str) -> float:
            target = scratch / "target"
            command = [str(target) if word == "TARGET" else word for word in downloads[name]]
            begun, at_server, here = time.monotonic(), cpu_seconds(server.child.pid), cpu_seconds()
            done = run(command, 60, env=environment)
            took = time.monotonic() - begun
            note(f"cold: {name} {took:.2f} s; CPU {cpu_seconds() - here:.2f} s, server {cpu_seconds(server.child.pid) - at_server:.2f} s")
            if done.returncode != 0 or target.stat().st_size != BIG_BYTES:
                raise RuntimeError(f"{name}: {done.stderr[-500:]}")
            target.unlink()
            return took

        def through_mount(kind: str) -> float:
            cache = [(scratch / "cache", "4GiB")]
            fb = Forebay(f"s3://{bucket}", kind=kind, endpoint=server.endpoint, cache=cache, limit=120)
            try:
                fb.start()
                watch.watch(fb)
                begun, at_server, ours, here = time.monotonic(), cpu_seconds(server.child.pid), cpu_seconds(fb.pid), cpu_seconds()
                done = run(["dd", f"if={fb.path(BIG)}", "of=/dev/null", "bs=1M", "status=none"], 100)
                took = time.monotonic() - begun
                ours, reader = cpu_seconds(fb.pid) - ours, cpu_seconds() - here
                note(f"cold: {kind} {took:.2f} s; CPU {ours:.2f} s, reader {reader:.2f} s, server {cpu_seconds(server.child.pid) - at_server:.2f} s")
                if done.returncode != 0:
                    raise RuntimeError(f"reading through the mount: {done.stderr}")
                return took
            finally:
                watch.watch(None)
                fb.end()
                shutil.rmtree(scratch / "cache", ignore_errors=True)

        download("rclone copyto")  # The server's own caches are warm for everybody.
        for number in range(pairs):
            best = min((download(name), name) for name in downloads)
            names.append(best[1])
            # Whoever comes first shares the disk with what the downloads have left to be written.
            for kind in runs if number % 2 == 0 else reversed(runs):
                ours = through_mount(kind)
                runs[kind].append([ours, best[0]])
                note(f"cold {number + 1}/{pairs}: {kind} {ours:.2f} s, {best[1]} {best[0]:.2f} s")
    finally:
        server.end()
        shutil.rmtree(scratch, ignore_errors=True)
    baseline = f"best of rclone copyto and aws s3 cp (mostly {max(set(names), key=names.count)})"
    return [ratio_row(id, runs[kind], baseline, 0.90, "seconds", higher_is_better=False) for id, kind in COLD_ROWS.items()]


def start_row(pairs: int) -> dict:
    """From the start of the process until the mount answers."""
    seconds = []
    for _ in range(pairs):
        fb = Forebay(f"file://{big_file().parent}", cache="1GiB", limit=60)
        try:
            begun = time.monotonic()
            fb.start()
            os.stat(fb.path(BIG))
            seconds.append(time.monotonic() - begun)
        finally:
            fb.end()
    return limit_row("start.usable", statistics.median(seconds), START_MAX, "seconds", seconds)


def machine_with_fuse() -> dict:
    parameter = Path("/sys/module/fuse/parameters/enable_uring")
    io_uring = parameter.exists() and parameter.read_text().strip() == "Y"
    return machine() | {"fuse_over_io_uring": io_uring}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15, help="pairs a row; at least 7 count as a measurement")
    parser.add_argument("--only", default="", help="only rows whose id contains this; nothing is written then")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench-mount: it needs root, to drop the kernel's caches and to mount with passthrough")

    # Ended from outside, it still unmounts and ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench-mount: ended by SIGTERM"))
    watch = MemoryWatch()
    rows = []
    begun = time.monotonic()
    if any(options.only in row[0] for row in ROWS):
        rows += local_rows(options.pairs, options.only, watch)
    if any(options.only in name for name in COLD_ROWS):
        rows += cold_rows(max(7, options.pairs - 2), watch)
    if options.only in "start.usable":
        rows.append(start_row(7))
    watch.end()
    if watch.samples:
        rows.append(limit_row("memory.rss-anon", watch.highest, MEMORY_MAX, "bytes", [watch.highest]))

    print(table(rows))
    note(f"took {(time.monotonic() - begun) / 60:.1f} minutes")
    if not options.only:
        path = write("mount", rows, machine_with_fuse(), [])
        note(f"written: {path.relative_to(ROOT)} and bench/RESULTS.md")
    return verdict(rows)


if __name__ == "__main__":
    sys.exit(main())
