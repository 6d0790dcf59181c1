#!/usr/bin/env python3
"""Measures Forebay against other caches and plain downloaders over one origin (make bench-peers).

One tree, one `weed`, one disk; each system with its best documented settings for read-only training, read by the same program. Prints
a schedule, the settings, every system's figures and the rows; writes bench/results/peers.json and peers.svg, and ends with status 1
when a row misses its target and is not in bench/known-losses.toml. PEERS=a,b selects peers; nothing in bench/ is written then.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from peers.alluxio import Alluxio  # noqa: E402  (beside this file)
from peers.downloads import Downloads  # noqa: E402
from peers.forebay import Ours, OursOnNginx  # noqa: E402
from peers.ground import LATENCIES, Ground  # noqa: E402
from peers.juicefs import JuiceFS  # noqa: E402
from peers.measure import Course, Figure, Measured  # noqa: E402
from peers.plot import picture  # noqa: E402
from peers.rclone import Rclone  # noqa: E402
from peers.s3fs import S3fs  # noqa: E402
from peers.tools import tool  # noqa: E402
from peers.verdicts import as_json, conditions, rows_of, systems_table  # noqa: E402
from peers.weed import WeedMount  # noqa: E402
from rows import commit, machine, table, verdict, write  # noqa: E402
from support.process import built  # noqa: E402

# In this order: what matters most comes first, if a run is cut short.
SYSTEMS = [Ours, Alluxio, WeedMount, JuiceFS, Rclone, S3fs, OursOnNginx]
# All of it, without builds: 40 minutes less 8.
MINUTES = 32.0
# Loading the tree, and the downloads.
GROUND_MINUTES, DOWNLOAD_MINUTES = 1.5, 2.5
DISK_MIN = 20 << 30
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_once(number: int, _frame):
    """Ended from outside, it still unmounts and ends what it has started; a second signal does not cut that short."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(f"bench-peers: ended by signal {number}")


def note(text: str):
    print(f"bench-peers: {text}", file=sys.stderr, flush=True)


def chosen() -> list[type]:
    wanted = [name.strip() for name in os.environ.get("PEERS", "").split(",") if name.strip()]
    known = {system.name: system for system in SYSTEMS}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"bench-peers: unknown in PEERS: {', '.join(unknown)}; known: {', '.join(known)}")
    return [system for system in SYSTEMS if not wanted or system.name in wanted or system is Ours]


def schedule(systems: list[type]):
    """Says what comes when at the latest, and how long each may take."""
    at = 0.0
    steps = [("tree and origin", GROUND_MINUTES), ("downloads", DOWNLOAD_MINUTES), *((system.name, system.minutes) for system in systems)]
    for name, minutes in steps:
        note(f"schedule: {name:<16} at most {minutes:4.1f} minutes, from minute {at:4.1f} at the latest")
        at += minutes
    note(f"schedule: it ends by minute {MINUTES:g}, mostly by 27; what is not measured by then is a row that says so")


def measure_downloads(ground: Ground) -> list[Measured]:
    downloads = Downloads(ground)
    made = []
    for name in downloads.commands("", ""):
        out = Measured(name)
        begun = time.monotonic()
        for latency in LATENCIES:
            try:
                rates = downloads.measure(name, latency, note)
                out.figures[f"download.{latency}ms"] = Figure(statistics.median(rates), "files/s", rates)
            except Exception as error:  # noqa: BLE001 - as with a peer: a row that says what it said
                out.failed[f"download.{latency}ms"] = str(error)[-600:]
                note(f"{name}, {latency} ms: FAILED: {error}")
        out.seconds = time.monotonic() - begun
        out.about = {"kind": "download", "version": downloads.version(name), "settings": downloads.settings(name), "remark": ""}
        made.append(out)
    return made


def measure_system(ground: Ground, system: type, until: float) -> Measured:
    peer = system(ground)
    about = {"kind": "mount", "version": "unknown", "settings": [], "remark": peer.remark}
    try:
        about |= {"version": peer.version(), "settings": peer.settings()}
    except Exception as error:  # noqa: BLE001 - it will say so again when it is to start
        note(f"{peer.name}: {error}")
    note(f"{peer.name}: {about['version']}")
    for line in about["settings"]:
        print(f"  {line}", flush=True)
    out = Course(ground, peer, until, lambda text: note(f"{peer.name}: {text}")).run()
    out.about = about
    shutil.rmtree(peer.base, ignore_errors=True)
    note(f"{peer.name}: took {out.seconds / 60:.1f} minutes")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a twentieth of the files, to see that all works; bench/ is left as it is")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="the whole run ends by then")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench-peers: it needs root, to drop the kernel's caches and to mount")
    systems = chosen()
    try:
        for name in ("forebay", "forebay-bench", "forebay-proxy"):
            built(name, name.upper().replace("-", "_") + "_BIN")
        for name in ("weed", "s5cmd", "rclone", "nginx"):
            tool(name)
    except RuntimeError as error:
        sys.exit(f"bench-peers: {error}")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    target.mkdir(exist_ok=True)
    if shutil.disk_usage(target).free < DISK_MIN:
        sys.exit(f"bench-peers: it needs {DISK_MIN >> 30} GiB free below {target}")

    for number in SIGNALS:
        signal.signal(number, end_once)
    begun = time.monotonic()
    end = begun + options.minutes * 60
    schedule(systems)
    measured: list[Measured] = []
    with contextlib.ExitStack() as held:
        ground = Ground(Path(tempfile.mkdtemp(prefix="bench-peers-", dir=target)), options.small)
        held.callback(ground.end)
        note(f"the tree is loaded: {(time.monotonic() - begun) / 60:.1f} minutes")
        measured += measure_downloads(ground)
        for system in systems:
            measured.append(measure_system(ground, system, min(end, time.monotonic() + system.minutes * 60)))

    expected = [system.name for system in systems]
    rows = rows_of(measured, expected)
    print(systems_table(measured))
    print(table(rows))
    for one in measured:
        for what, said in one.failed.items():
            print(f"not measured: {one.name}, {what}: {said}")
    note(f"took {(time.monotonic() - begun) / 60:.1f} minutes")
    whole = not options.small and len(systems) == len(SYSTEMS)
    extra = {"systems": [as_json(one) for one in measured]}
    if whole:
        path = write("peers", rows, machine(), conditions(ground, measured), extra)
        (path.parent / "peers.svg").write_text(picture(measured, commit()))
        note(f"written: {path.relative_to(ROOT)}, peers.svg beside it, and bench/RESULTS.md")
    else:
        path = target / "bench-peers.svg"
        path.write_text(picture(measured, commit()))
        note(f"written: {path}; bench/ is left as it was")
    return verdict(rows)


if __name__ == "__main__":
    sys.exit(main())
