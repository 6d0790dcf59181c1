#!/usr/bin/env python3
"""Measures the page store against foyer's block engine and a plain file (make bench-store).

The binary of bench/store, a workspace of its own, measures both sides in turns in slices of about a second; the median of the ratios of
at least 7 pairs counts. The rows for the store alone come from its epochs and from crates/store/examples/ten_million.rs. Prints a
table, writes bench/results/store.json, and ends with status 1 when a row misses its target and is not in bench/known-losses.toml.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rows import ROOT, limit_row, machine, ratio_row, table, verdict, write  # beside this file

SCRATCH = ROOT / ".cache" / "bench-store"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BENCH = TARGET / "release" / "forebay-bench-store"
TEN_MILLION = TARGET / "release" / "examples" / "ten_million"
# The store's own limits, from its design.
BYTES_PER_OBJECT_MAX = 48
RECOVERY_MAX = 30
WRITTEN_MAX = 1.05
MISSES_MAX = 0.51
# What most rows against foyer are to reach.
MOST = 1.5
# Bytes free on the disk, without which it would end half way.
FREE_MIN = 40 << 30

CONDITIONS = [
    "Both sides lie on the same file system, 1 GiB resident on each. Rows `get`, `mixed`, `plain`: all in the kernel's page cache. Rows"
    " `cold`: both read with O_DIRECT what the page cache does not hold.",
    "foyer is its block engine alone (`storage().load`, `storage_writer`): a memory tier of 1 byte, blocks of 64 MiB, write buffers of 64"
    " MiB, one flusher, no compression, checksums as by default. psync or io_uring, O_DIRECT or not for inserts, reads by threads or by"
    " tasks of its runtime: what was fastest in short slices before each row; the row names it.",
    "Our read fills a buffer of the caller; foyer's load gives a value of its own, which it allocates. foyer checks each load's checksum"
    " (XXH64); we check a page or object when it is first read after a restart of the machine, which none of these was.",
    "Mixed is nine reads and one insert, and waits until every insert is kept (as below), where a node would rather not keep a page than"
    " have a reader wait. What we inserted leaves the page cache once it is on the disk, as behind a mount (`Caching::Drop` for fills),"
    " which foyer cannot do alone. Each insert slice comes after one of the same side that does not count, in an empty directory.",
    "Inserts wait for what each side calls kept: ours for the callback (written, in the index log, readable; what was written 256 MiB"
    " before is on the disk), foyer's for `wait` (written, readable). Neither waits for an fsync. In rows `.synced` both wait for"
    " `syncfs`. Checksums are made within that time on both sides.",
    "Memory and recovery: objects of 100-500 bytes; each start is a process of its own, the files that recovery reads are in the page"
    " cache. Memory is RssAnon less that of an empty store, trimmed.",
]


def note(text: str):
    print(f"bench-store: {text}", file=sys.stderr, flush=True)


def output_of(command: list, limit: int) -> str:
    """Its standard output; what it says of its progress goes where ours goes."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, timeout=limit)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}")
    return done.stdout


def against_others(pairs: int, only: str) -> list[dict]:
    """The rows against foyer and the plain file."""
    command = [BENCH, "rows", "--dir", SCRATCH / "rows", "--pairs", pairs, "--only", only]
    made = []
    for line in output_of(command, 1800).splitlines():
        row = json.loads(line)
        made.append(ratio_row(row["id"], row["runs"], row["baseline_name"], row["target"], row["unit"], row["higher_is_better"]))
    return made


def most_row(rows: list[dict]) -> dict:
    """Of the rows against foyer, the part that reaches `MOST`."""
    rivals = [row for row in rows if row["baseline_name"].startswith("foyer")]
    part = sum(row["ratio"] >= MOST for row in rivals) / len(rivals)
    return {
        "id": "store.most-rows",
        "ours": None,
        "baseline": None,
        "baseline_name": f"part of the rows against foyer with a ratio of at least {MOST}",
        "unit": "",
        "ratio": round(part, 3),
        "target": 0.5,
        "met": part > 0.5,
        "runs": [row["ratio"] for row in rivals],
    }


def epochs_rows() -> list[dict]:
    """Shuffled epochs over twice the cache."""
    note("shuffled epochs over twice the cache")
    made = json.loads(output_of([BENCH, "epochs", "--dir", SCRATCH / "epochs"], 600))
    written, misses = made["written_per_filled"], made["misses"]
    return [
        limit_row("store.epochs.written", written, WRITTEN_MAX, "bytes/byte kept", [written]),
        limit_row("store.epochs.misses", misses, MISSES_MAX, "of reads", [misses]),
    ]


def ten_million_rows() -> list[dict]:
    """Index and recovery of ten million small objects."""
    note("ten million objects")
    made = json.loads(output_of([TEN_MILLION, SCRATCH / "ten-million"], 900))
    each, seconds = made["rss_bytes_per_object"], made["recovery_seconds"]
    return [
        limit_row("store.index.10m", each, BYTES_PER_OBJECT_MAX, "bytes/object", [each]),
        limit_row("store.recovery.10m", seconds, RECOVERY_MAX, "seconds", [seconds]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7, help="pairs a row; at least 7 count as a measurement")
    parser.add_argument("--only", default="", help="only rows whose id contains this; nothing is written then")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench-store: it needs root, to drop the kernel's caches")
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    if shutil.disk_usage(SCRATCH).free < FREE_MIN:
        sys.exit(f"bench-store: it needs {FREE_MIN >> 30} GiB free below {SCRATCH}")

    begun = time.monotonic()
    try:
        rows = against_others(options.pairs, options.only)
        if not options.only:
            rows.append(most_row(rows))
        if options.only in "store.epochs":
            rows += epochs_rows()
        if options.only in "store.index.10m" or options.only in "store.recovery.10m":
            rows += ten_million_rows()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    for condition in CONDITIONS:
        print(f"- {condition}")
    print(table(rows))
    note(f"took {(time.monotonic() - begun) / 60:.1f} minutes")
    if not options.only:
        path = write("store", rows, machine(), CONDITIONS)
        note(f"written: {path.relative_to(ROOT)} and bench/RESULTS.md")
    return verdict(rows)


if __name__ == "__main__":
    sys.exit(main())
