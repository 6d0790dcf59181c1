"""Starts, stops and kills of a Forebay that programs use from the first moment: each must find all names and the right bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from pathlib import Path

from . import readers
from .data import body

# How long starts are repeated; the soak says more.
SECONDS = float(os.environ.get("FOREBAY_TEST_SECONDS", "6"))
PROGRAMS = 4


def tree(seed: int) -> dict[str, bytes]:
    """Some hundred small files, in directories of one to 200 files, up to three levels deep."""
    rng = random.Random(seed)
    files = {"at the top": b"x" * 10, "empty": b""}
    for directory in range(5):
        for number in range(rng.choice([1, 5, 40, 200])):
            below = "".join(f"/s{rng.randrange(3)}" for _ in range(rng.randrange(3)))
            name = f"d{directory}{below}/f{number:03d}"
            files[name] = body(name, rng.choice([0, 1, 100, 4096, 70_000, 300_000]))
    return files


def check(forebay, url: str, options: dict, files: dict[str, bytes], scratch: Path, seed: int = 1):
    """Starts it again and again, of both kinds, with each freshness, with a cache that holds all or not, anew or on what a stop or a
    kill has left; four programs read the tree as soon as it is ready."""
    rng, starts, running = random.Random(seed), 0, None
    sums = scratch / "sums.json"
    sums.write_text(json.dumps({name: hashlib.sha256(content).hexdigest() for name, content in files.items()}))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or starts < 3:
        if running is None:
            kind, freshness = rng.choice(["files", "streams"]), rng.choice([None, "immutable", "check", "ttl=1s"])
            running = forebay(url, kind=kind, freshness=freshness, cache=rng.choice(["4GiB", "64MiB"]), **options)
        else:
            running.restart()
        starts += 1
        seeds = [rng.randrange(1 << 30) for _ in range(PROGRAMS)]
        readers.together(*(("meet", running.mount, sums, seed) for seed in seeds))
        after = rng.choice(["kill", "stop", "end"])
        if after == "kill":
            running.kill()
        elif after == "stop":
            running.stop()
        else:
            running.end()
            running = None
