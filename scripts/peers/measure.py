"""What is measured of one system, step by step within its time; a step that fails is kept as what it said."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from support.process import REPOSITORY, built, run

from .ground import BIG, LATENCIES, SMALL_AT, Ground
from .peer import Peer

# A pass that takes longer is judged by what it has read by then.
PASS_SECONDS = 15.0
# A pass of less is done again, up to PASSES_MAX times: the median counts.
PASS_SHORT = 4.0
PASSES_MAX = 3
PAIRS = 3
FILL_SECONDS = 60.0
# Beside the seconds that a step is to take: start, walk, the last file.
SLACK_SECONDS = 30

# id, order, readers. Each begins with empty caches.
COLD = [("listing.1", "listing", 1), ("random.1", "random", 1), ("random.8", "random", 8)]
# id, work, readers, of the large file.
HOT = [
    ("hot.small.1", "files", 1, False),
    ("hot.small.4", "files", 4, False),
    ("hot.stat", "stat", 1, False),
    ("hot.sequential", "sequential", 1, True),
    ("hot.random-4k", "random", 1, True),
]
LIST = """
import os, sys, time
begun = time.monotonic()
with os.scandir(sys.argv[1]) as entries:
    count = sum(entry.is_file() for entry in entries)
print(count, time.monotonic() - begun)
"""


def cold_ids() -> list[str]:
    return [f"cold.{name}.{latency}ms" for latency in LATENCIES for name in ["list", *[name for name, _, _ in COLD]]]


def all_ids() -> list[str]:
    return cold_ids() + [name for name, *_ in HOT]


@dataclass
class Figure:
    """One measured row of one system. `of_native` is there when it was measured in turns with the plain file system."""

    value: float
    unit: str
    runs: list[float]
    of_native: float | None = None
    native: list[float] = field(default_factory=list)


class Measured:
    """The figures of one system, and what went wrong."""

    def __init__(self, name: str, expected: list[str] | None = None):
        self.name = name
        self.expected = expected if expected is not None else all_ids()
        self.figures: dict[str, Figure] = {}
        self.failed: dict[str, str] = {}
        self.seconds = 0.0
        # kind (mount or download), version, settings, remark.
        self.about: dict = {"kind": "mount", "version": name, "settings": [], "remark": ""}


class OutOfTime(Exception):
    """The system's minutes are over."""


class Course:
    """Takes one system through all steps."""

    def __init__(self, ground: Ground, peer: Peer, until: float, say: Callable[[str], None]):
        self.ground, self.peer, self.until, self.say = ground, peer, until, say
        self.out = Measured(peer.name, all_ids() if peer.hot else cold_ids())
        self.warm: Path | None = None

    def run(self) -> Measured:
        begun = time.monotonic()
        steps: list[tuple[str, Callable[[], None]]] = [("preparing", self.peer.prepare)]
        for latency in LATENCIES:
            for name, order, readers in COLD:
                steps.append((f"cold.{name}.{latency}ms", lambda a=(latency, name, order, readers): self.cold(*a)))
            if latency == 0 and self.peer.hot:
                # On what the last pass, the quickest, has left behind.
                steps += [("hot.small", lambda: self.hot(False)), ("hot.big", lambda: self.hot(True))]
        try:
            for what, step in steps:
                try:
                    self.left()
                    step()
                except Exception as error:  # noqa: BLE001 - whatever a peer does is a row, and the next step may work
                    said = " ".join(str(error).split()) or type(error).__name__
                    if isinstance(error, subprocess.TimeoutExpired):
                        said = f"no end after {error.timeout:.0f} s: {os.path.basename(error.cmd[0])} {self.peer.said()}"
                    self.out.failed[what] = said[-600:]
                    self.say(f"{what}: FAILED: {said[-300:]}")
                    self.warm = None
                    self.peer.stop()
                    if what == "preparing" or isinstance(error, OutOfTime):
                        break
        finally:
            self.peer.stop()
            self.peer.end()
        self.out.seconds = time.monotonic() - begun
        return self.out

    def left(self) -> float:
        """Seconds of its time."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise OutOfTime(f"its time was over (at most {self.peer.minutes:g} minutes, and the end of the run)")
        return left

    def keep(self, name: str, figure: Figure):
        self.out.figures[name] = figure
        native = f", {figure.of_native:.2f} of native" if figure.of_native is not None else ""
        self.say(f"{name}: {figure.value:,.0f} {figure.unit}{native}")

    def start(self, latency: int, big: bool = False) -> Path:
        self.warm = None
        self.peer.stop()
        self.ground.forget()
        return self.peer.start(latency, big)

    def cold(self, latency: int, name: str, order: str, readers: int):
        folder = SMALL_AT[latency]
        lists, rates = [], []
        for _ in range(PASSES_MAX):
            mount = self.start(latency)
            self.pass_of(mount, "before", "random", 8, self.peer.before_seconds)
            lists.append(self.list(mount / folder, folder))
            report = self.pass_of(mount, folder, order, readers, PASS_SECONDS)
            rates.append(report["rate"])
            if report["seconds"] > PASS_SHORT:
                break
        self.warm = mount if latency == 0 else None
        # Whichever row comes first measures the listing: all of them begin with it.
        listed = f"cold.list.{latency}ms"
        known = self.out.figures[listed].runs if listed in self.out.figures else []
        lists = known + lists
        self.out.figures[listed] = Figure(statistics.median(lists), "names/s", lists)
        self.keep(f"cold.{name}.{latency}ms", Figure(statistics.median(rates), "files/s", rates))

    def list(self, folder: Path, name: str) -> float:
        """Names a second of the first listing."""
        done = run([sys.executable, "-c", LIST, str(folder)], min(60, self.left() + 1))
        if done.returncode != 0:
            raise RuntimeError(f"listing: {done.stderr[-300:]}")
        count, seconds = done.stdout.split()
        if int(count) != self.ground.folders[name][0]:
            raise RuntimeError(f"the listing has {count} files, not {self.ground.folders[name][0]}")
        return int(count) / float(seconds)

    def pass_of(self, mount: Path, folder: str, order: str, readers: int, seconds: float) -> dict:
        """Each file of a folder once, or as many as can be read in so many seconds."""
        options = ["--cold", order, "--readers", str(readers), "--slice", str(seconds)]
        return self.bench("files", mount / folder, folder, options, seconds)

    def bench(self, work: str, mount: Path, folder: str, options: list[str], seconds: float) -> dict:
        """One run of forebay-bench over a folder of the tree."""
        self.left()
        command = [built("forebay-bench", "FOREBAY_BENCH_BIN"), work]
        command += ["--native", str(self.ground.native / folder), "--mount", str(mount)]
        done = run(command + options, seconds + SLACK_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-400:])
        return json.loads(done.stdout)

    def hot(self, big: bool):
        """Reads all once, compares it with the plain files, then measures in turns with them."""
        if big:
            mount = self.start(0, big=True)
            done = run(["cmp", str(self.ground.native / BIG), str(mount / BIG)], FILL_SECONDS)
        else:
            folder = SMALL_AT[0]
            mount = self.warm or self.start(0)
            self.pass_of(mount, folder, "random", 8, FILL_SECONDS)
            reader = str(REPOSITORY / "tests/support/reader.py")
            done = run([sys.executable, reader, "compare", str(self.ground.native / folder), str(mount / folder)], FILL_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(f"its bytes differ from the origin's: {(done.stdout + done.stderr)[-300:]}")
        if big:
            # Hot is what was read, not what was written: the kernel keeps the two in folios of different sizes (as in bench_mount.py).
            # Of the small files all sides have read both by now.
            self.ground.forget()
        for name, work, readers, of_big in HOT:
            if of_big != big:
                continue
            try:
                folder = "big" if big else SMALL_AT[0]
                options = ["--readers", str(readers), "--pairs", str(PAIRS)] + (["--file", Path(BIG).name] if big else [])
                report = self.bench(work, mount / folder, folder, options, FILL_SECONDS)
                pairs = report["pairs"]
                ours, native = [pair["mount"] for pair in pairs], [pair["native"] for pair in pairs]
                ratio = statistics.median(a / b for a, b in zip(ours, native, strict=True))
                self.keep(name, Figure(statistics.median(ours), report["unit"], ours, ratio, native))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                self.out.failed[name] = " ".join(str(error).split())[-600:]
                self.say(f"{name}: FAILED: {error}")
