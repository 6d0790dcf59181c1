"""`forebay bench mount`, on a plain directory and on real mounts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from support.data import body
from support.process import forebay_binary, run, wait_until

SMALL = ["--files", "40", "--size", "20KiB", "--large", "4MiB", "--threads", "2", "--seconds", "5"]


def bench(*arguments, seconds: float = 60) -> list[dict]:
    done = run([forebay_binary(), "bench", "mount", *map(str, arguments), "--json"], seconds)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def rates(objects: list[dict]) -> dict:
    return {(row["row"], row["cold"], row["readers"]): row["rate"] for row in objects[1:]}


def test_plain_directories(scratch):
    """Two plain directories: all rows have figures on both sides, hot reads are alike, and nothing is left behind."""
    for name in ("here", "native"):
        (scratch / name).mkdir()
    begun = time.monotonic()
    head, *rows = bench(scratch / "here", "--native", scratch / "native", *SMALL)
    assert time.monotonic() - begun < 40
    assert (head["data"], head["files"], head["large_files"]) == ("made", 40, 3)
    assert {(row["row"], row["cold"], row["readers"]) for row in rows} == {
        *((work, True, readers) for work in ("files", "sequential") for readers in (1, 2)),
        ("random", True, 1),
        *((work, False, readers) for work in ("files", "sequential", "random", "stat") for readers in (1, 2)),
        ("list", False, 1),
    }
    for row in rows:
        assert row["rate"] > 0 and row["native_rate"] > 0 and row["p50_us"] > 0 and row["p99_us"] >= row["p50_us"], row
        if not row["cold"]:
            assert 0.1 < row["ratio"] < 10, row
    assert os.listdir(scratch / "here") == os.listdir(scratch / "native") == []


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_a_mount(scratch, forebay, kind):
    """A mount is measured by the files that it shows, beside a copy on the plain file system."""
    root = scratch / "origin"
    (root / "sub").mkdir(parents=True)
    for number in range(60):
        (root / "sub" / f"{number:03d}").write_bytes(body(number, 30_000))
    for number in range(3):
        (root / f"large{number}").write_bytes(body(f"large {number}", 16 << 20))
    (scratch / "native").mkdir()
    fb = forebay(f"file://{root}", kind=kind)
    head, *rows = bench(fb.mount, "--native", scratch / "native", *SMALL)
    assert (head["data"], head["files"], head["large_files"], head["file_system"]) == ("taken", 40, 3, "fuse.forebay")
    assert head["large_bytes"] == 3 * (4 << 20)
    assert "first read in this run" in head["cold"]
    for row in rows:
        assert row["rate"] > 0, row
        assert row["row"] == "walk" or row["native_rate"] > 0, row
    assert os.listdir(scratch / "native") == []
    table = run([forebay_binary(), "bench", "mount", str(fb.mount), *SMALL], 60)
    assert table.returncode == 0, table.stderr
    assert "40 of 60 small files" in table.stdout and "random 4 KiB, hot" in table.stdout, table.stdout


def test_a_mount_whose_origin_is_dead(s3, proxy, forebay):
    """Where the origin has died the command ends in time, with the file and the error."""
    for number in range(5):
        s3.put(f"{number}", body(number, 30_000))
    fb = forebay(s3.url, endpoint=proxy.endpoint, settings={"ORIGIN_DEADLINE": "3s"})
    assert len(os.listdir(fb.mount)) == 5
    proxy.faults({"fault": "hang"})
    done = run([forebay_binary(), "bench", "mount", str(fb.mount), *SMALL], 60)
    assert done.returncode == 1
    assert str(fb.mount) in done.stderr, done.stderr
    assert "Input/output error" in done.stderr or "timed out" in done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(scratch, number):
    """Ctrl-C ends it soon, and what it had made is removed."""
    command = [forebay_binary(), "bench", "mount", str(scratch), *SMALL[:-1], "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: any(scratch.glob("forebay-bench-*/large2")), 20, "the data to be made")
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "interrupted" in errors
    assert os.listdir(scratch) == []
