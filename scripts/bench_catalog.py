#!/usr/bin/env python3
"""Measures the catalog at ten million names, and a directory of a million through the mount (make bench-catalog).

The origin is the tests' list server: it gives pages of a thousand names, each after a latency. Prints a table, writes
bench/results/catalog.json, and ends with status 1 when a row misses its target and is not in bench/known-losses.toml.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from rows import limit_row, machine, ratio_row, table, verdict, write  # noqa: E402  (beside this file)
from support.forebay import Forebay  # noqa: E402
from support.process import CACHE, built, wait_until  # noqa: E402

NAMES = 10_000_000
# Page after page: as many names, of the same shape, as half a thousand pages have.
SEQUENTIAL = 500_000
LISTERS = 16
# Latency of a page in milliseconds: how many times page after page the first listing has to be.
TIMES = {20: 6.0, 100: 10.0}
CPU_PER_NAME_MAX = 3e-6
MEMORY_MAX = 256 << 20
FIRST_NAMES_MAX = 1.0
RESTART_MAX = 5.0
LOOKUPS_MIN = 200_000
# A directory that is looked at by programs.
DIRECTORY = 1_000_000
STAT_TARGET = 0.95
SCRATCH = CACHE / "bench-catalog"
CONDITIONS = [
    f"Names come from a server that computes them ({LISTERS} requests at one time; a thousand names a page, each after the latency); it shares "
    "the cores with us. First listing: from the start of `ls -U DIR | head` in the mount until the catalog has all names, by `status`.",
    "Page after page: the same origin code with one lister, without a catalog, on half a million names; the whole would take 20 times that.",
    "Ceiling: what the server delivers to a client that knows the ranges and counts `<Key>`, with as many requests at one time.",
    "CPU a name: of the whole process (listing, catalog, mount), system time included. Memory: RssAnon of the whole process, "
    "ten times a second.",
    "Lookups in process: random names of ten million, with content ids, on two threads; the catalog's file is in the page cache. Restart: from the "
    "start of the process that was killed by -9 until `stat` of a name in the mount has answered.",
    "Directory of a million: the native one has empty files of the same names. find: `find DIR -type f | wc -l` in turns; of the mount the first one "
    "makes the kernel's inodes, as the first of the native side does after its caches were dropped.",
]


def note(text: str):
    print(f"bench-catalog: {text}", file=sys.stderr, flush=True)


@contextmanager
def names_server(count: int, latency: int) -> Iterator[str]:
    """The address of a server of `count` names in the bucket's root."""
    command = [built("forebay-listserver", "FOREBAY_LISTSERVER"), "serve", "--latency", str(latency), "--count", str(count), "--root", ""]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(running.stdout.readline())["listen"]
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=10)


def answer(command: list, limit: float) -> dict:
    """The last line that a program prints, which is JSON."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True, timeout=limit)
    return json.loads(done.stdout.strip().splitlines()[-1])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def up(address: str, **options) -> Forebay:
    return Forebay("s3://names", endpoint=f"http://{address}", freshness="immutable", cache="2GiB", limit=600, **options)


def first_names(running: Forebay) -> float:
    """Seconds until `ls -U | head` has ended."""
    begun = time.monotonic()
    shown = subprocess.run(f"ls -U {running.mount} | head", shell=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    took = time.monotonic() - begun
    assert len(shown.split()) == 10, f"ls showed {shown!r}"
    return took


def listed(running: Forebay) -> bool:
    return not running.status()["listings"]


def first_listing(latency: int, again: bool) -> dict:
    """Lists all names through a mount, once; and what they take after a kill, if `again`."""
    with names_server(NAMES, latency) as address:
        running = up(address)
        try:
            running.start()
            before, begun, memory = cpu_seconds(running.pid), time.monotonic(), 0
            made = {"first_names": first_names(running)}
            # The listing is still going on: this is what the first names are worth something for.
            assert not listed(running), "the listing was over before the first names were shown"
            while not listed(running):
                memory = max(memory, running.memory()["RssAnon"])
                assert time.monotonic() - begun < 500, "the listing does not end"
                time.sleep(0.1)
            made["seconds"] = time.monotonic() - begun
            made["cpu"] = (cpu_seconds(running.pid) - before) / NAMES
            made["memory"] = memory
            made["disk"] = running.status()["catalog"]["disk_bytes"]
            if again:
                running.kill()
                begun = time.monotonic()
                running.restart()
                os.stat(running.path(f"{NAMES // 2:08d}.jpg"))
                made["restart"] = time.monotonic() - begun
                asked = [value for name, value in running.metrics().items() if name.startswith("forebay_origin_requests_total")]
                assert sum(asked) == 0, "the origin was asked after the restart"
            return made
        finally:
            running.end()


def plain_listing(way: str, count: int, latency: int) -> float:
    """Names a second: page after page (`sequential`), or counted only (`ceiling`)."""
    with names_server(count, latency) as address:
        if way == "sequential":
            program = [ROOT / "target" / "release" / "examples" / "list_many", address, "", "1"]
        else:
            program = [built("forebay-listserver", "FOREBAY_LISTSERVER"), "count", "--server", address, "--clients", LISTERS]
            program += ["--count", count, "--root", ""]
        return answer(program, 600)["entries_per_second"]


def listing_rows(latency: int, rounds: int) -> list[dict]:
    pairs, made, ceilings = [], [], []
    for number in range(rounds):
        note(f"first listing of {NAMES:,} names at {latency} ms a page, round {number + 1} of {rounds}")
        sequential = plain_listing("sequential", SEQUENTIAL, latency)
        made.append(first_listing(latency, again=latency == min(TIMES)))
        ceilings.append(plain_listing("ceiling", NAMES, latency))
        pairs.append([NAMES / made[-1]["seconds"], sequential])
    rates = [pair[0] for pair in pairs]
    name = f"catalog.listing.{latency}ms"
    rows = [
        ratio_row(name, pairs, "page after page", TIMES[latency], "names/s", True),
        ratio_row(f"{name}.of-ceiling", [list(pair) for pair in zip(rates, ceilings, strict=True)], "counted only", 0.7, "names/s", True),
    ]
    if latency == min(TIMES):

        def limit(name: str, field: str, most: float, unit: str, scale: float = 1.0) -> dict:
            runs = [one[field] * scale for one in made]
            return limit_row(name, statistics.median(runs), most * scale, unit, runs)

        rows += [
            limit("catalog.cpu", "cpu", CPU_PER_NAME_MAX, "us/name", 1e6),
            limit("catalog.memory", "memory", MEMORY_MAX, "bytes"),
            limit("catalog.first-names", "first_names", FIRST_NAMES_MAX, "seconds"),
            limit("catalog.restart", "restart", RESTART_MAX, "seconds"),
        ]
    return rows


def in_process_rows() -> list[dict]:
    """The catalog alone: what it can be asked a second, and what a name takes."""
    note(f"lookups among {NAMES:,} names in process")
    example = ROOT / "target" / "release" / "examples" / "ten_million_names"
    made = answer([example, "--entries", NAMES], 600)
    rate = made["lookups_per_s_2"]
    lookups = {
        "id": "catalog.lookups",
        "ours": rate,
        "baseline": LOOKUPS_MIN,
        "baseline_name": "what is asked for",
        "unit": "lookups/s",
        "ratio": round(rate / LOOKUPS_MIN, 3),
        "target": 1.0,
        "met": rate > LOOKUPS_MIN,
        "runs": [made["lookups_per_s_1"], rate],
    }
    each, memory = made["bytes_per_entry"], made["written"]["write_rss_anon"]
    return [
        lookups,
        limit_row("catalog.disk", each, 64.0, "bytes/name", [each]),
        limit_row("catalog.memory.alone", memory, MEMORY_MAX, "bytes", [memory]),
    ]


def native_directory() -> Path:
    path = SCRATCH / "native"
    path.mkdir(parents=True)
    for number in range(DIRECTORY):
        os.close(os.open(path / f"{number:08d}.jpg", os.O_CREAT | os.O_WRONLY))
    return path


def find(path: Path) -> float:
    begun = time.monotonic()
    found = subprocess.run(f"find {path} -type f | wc -l", shell=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout
    assert int(found) == DIRECTORY, f"find counts {found.strip()} of {DIRECTORY} in {path}"
    return time.monotonic() - begun


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def directory_rows() -> list[dict]:
    """A million names in one directory, as programs see it."""
    note(f"making {DIRECTORY:,} files")
    native = native_directory()
    with names_server(DIRECTORY, min(TIMES)) as address:
        running = up(address)
        try:
            running.start()
            drop_caches()
            note("find in both, first and again")
            first_native, first = find(native), find(running.mount)
            wait_until(lambda: listed(running), 60, "the listing's end")
            again = [[find(running.mount), find(native)] for _ in range(3)]
            note("stat in both, in turns")
            stat = [built("forebay-bench", "FOREBAY_BENCH"), "stat", "--native", native, "--mount", running.mount, "--pairs", "7"]
            report = answer(stat, 300)
            pairs = [[pair["mount"], pair["native"]] for pair in report["pairs"]]
            memory = running.memory()["RssAnon"]
        finally:
            running.end()
    plain = "plain local file system"
    return [
        ratio_row("catalog.directory.find.first", [[first, first_native]], plain, 0.0, "seconds", False),
        ratio_row("catalog.directory.find", again, plain, 0.0, "seconds", False),
        ratio_row("catalog.directory.stat", pairs, plain, STAT_TARGET, "stats/s", True),
        limit_row("catalog.directory.memory", memory, 300 << 20, "bytes", [memory]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the first listing at each latency")
    parser.add_argument("--only", choices=["listing", "lookups", "directory"], help="one part; nothing is written then")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench-catalog: it needs root, to drop the kernel's caches")
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    begun, rows = time.monotonic(), []
    try:
        if options.only in (None, "listing"):
            for latency in TIMES:
                rows += listing_rows(latency, options.rounds)
        if options.only in (None, "lookups"):
            rows += in_process_rows()
        if options.only in (None, "directory"):
            rows += directory_rows()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    for condition in CONDITIONS:
        print(f"- {condition}")
    print(table(rows))
    note(f"took {(time.monotonic() - begun) / 60:.1f} minutes")
    if not options.only:
        path = write("catalog", rows, machine(), CONDITIONS)
        note(f"written: {path.relative_to(ROOT)} and bench/RESULTS.md")
    return verdict(rows)


if __name__ == "__main__":
    sys.exit(main())
