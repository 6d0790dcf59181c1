"""Traces: what a running process was asked to read, replayed by `bench eviction`."""

from __future__ import annotations

import json
import os
import stat
from collections import defaultdict
from pathlib import Path

import pytest

from support import readers
from support.data import body
from support.process import forebay_binary, run, wait_until

FILES, SIZE = 12, 6_000_000
PART = 4 << 20
"""`cat` asks for so many bytes at once."""
PARTS = -(-SIZE // PART)


@pytest.fixture
def running(scratch, forebay):
    """A process whose cache holds half of its origin."""
    root = scratch / "origin"
    root.mkdir()
    for n in range(FILES):
        (root / f"f{n}").write_bytes(body(f"trace {n}", SIZE))
    return forebay(f"file://{root}", cache="36MiB", kind="streams")


def start(fb, file: Path, *flags: str) -> dict:
    return json.loads(fb.cli("trace", "start", str(file), *flags, "--json", check=True).stdout)


def stop(fb, *file: str) -> dict:
    return json.loads(fb.cli("trace", "stop", *file, "--json", check=True).stdout)


def cat(fb, n: int):
    assert len(fb.cli("cat", f"/data/f{n}", text=False, check=True).stdout) == SIZE


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def replay(file: Path, *flags: str):
    done = run([forebay_binary(), "bench", "eviction", "--trace", str(file), *flags], 60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def replay_json(file: Path) -> tuple[dict, list[dict]]:
    head, *rows = (json.loads(line) for line in replay(file, "--json").splitlines())
    return head, rows


def test_every_read_is_recorded_and_replayed(running, scratch):
    """Each read that reaches the process is a line of the trace, hit or miss; `bench eviction` replays them all."""
    fb, file = running, scratch / "reads.jsonl"
    assert start(fb, file)["state"] == "running"
    for n in (*range(FILES), *range(FILES), 3, 3):
        cat(fb, n)
    shown = wait_until(lambda: (t := fb.status()["trace"]) and t["reads"] and t, 10, "reads in the status")
    assert shown["file"] == str(file)
    assert shown["state"] == "running"
    stopped = stop(fb, str(file))
    reads = PARTS * (2 * FILES + 2)
    assert stopped == {
        "event": "trace", "file": str(file), "state": "stopped", "reads": reads, "dropped": 0, "bytes": file.stat().st_size,
    }  # fmt: skip
    assert fb.status()["trace"] is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    head, *read, last = lines(file)
    assert head["forebay_trace"] == 1
    assert last == {"dropped": 0}
    ranges = defaultdict(list)
    for line in read:
        assert line["size"] == SIZE
        ranges[line["id"]].append((line["offset"], line["len"]))
    assert len(ranges) == FILES
    once = [(0, PART), (PART, SIZE - PART)]
    assert sorted(len(of) for of in ranges.values()) == [2 * PARTS] * (FILES - 1) + [4 * PARTS]
    assert all(sorted(set(of)) == once for of in ranges.values())
    text = file.read_text()
    assert "data" not in text and "origin" not in text and "/" not in text, "a trace names no path"

    head, rows = replay_json(file)
    named = FILES * SIZE
    assert head == {"trace": "whole", "reads": reads, "contents": FILES, "named_bytes": named, "dropped": 0}
    assert {row["reads"] for row in rows} == {reads}
    assert sorted({row["cache_bytes"] for row in rows}) == [named * times // 8 for times in (1, 2, 4, 8, 16)]
    # With room for all, each part of each file misses once.
    best = [row["hits"] for row in rows if row["cache_bytes"] >= 2 * named]
    assert set(best) == {reads - PARTS * FILES}
    plot = scratch / "plot.svg"
    text = replay(file, "--cache", "36MiB", "--plot", str(plot))
    assert text.splitlines()[-1].startswith("twice the disk (75.5 MB): 0.5"), text
    assert plot.read_text().startswith("<svg ") and "1/4 x, 9.44 MB" in plot.read_text()


def test_reads_of_a_mount_are_recorded(running, scratch):
    """What a mount asks for is recorded; a file that is given to the kernel whole is one read of all of it."""
    fb, file = running, scratch / "reads.jsonl"
    before = fb.status()["reads"]
    start(fb, file)
    assert readers.read_file(fb.path("f0")) == body("trace 0", SIZE)
    after = fb.status()["reads"]
    asked = sum(after[what] - before[what] for what in ("here", "waited"))
    wait_until(lambda: fb.resident_bytes() >= SIZE, 20, "the file in the cache")
    opens = fb.metrics()["forebay_fuse_passthrough_opens_total"]
    assert readers.read_file(fb.path("f0")) == body("trace 0", SIZE)
    opens = int(fb.metrics()["forebay_fuse_passthrough_opens_total"] - opens)
    again = sum(fb.status()["reads"][what] - after[what] for what in ("here", "waited"))
    assert stop(fb)["reads"] == asked + opens + again
    read = lines(file)[1:-1]
    assert {line["size"] for line in read} == {SIZE}
    covered = 0
    for line in sorted(read[:asked], key=lambda line: line["offset"]):
        assert line["offset"] <= covered
        covered = max(covered, line["offset"] + line["len"])
    assert covered == SIZE
    assert opens == (1 if fb.ready["passthrough"] == "active" else 0)
    if opens:
        assert (read[-1]["offset"], read[-1]["len"]) == (0, SIZE)


def test_one_trace_to_a_new_file(running, scratch):
    """A second trace is refused and the first is named; a file that is there is never written."""
    fb, file, other = running, scratch / "reads.jsonl", scratch / "other"
    assert "no trace is running" in fb.cli("trace", "stop").stderr
    other.write_text("kept")
    link = scratch / "link"
    os.symlink(scratch / "aim", link)
    for taken in (other, link):
        done = fb.cli("trace", "start", str(taken))
        assert done.returncode == 1
        assert f"{taken} exists already" in done.stderr
    assert other.read_text() == "kept" and not (scratch / "aim").exists()
    said = fb.cli("trace", "start", str(file), check=True).stdout
    assert str(file) in said and "537 MB" in said
    for command in (["start", str(scratch / "second")], ["stop", str(other)]):
        done = fb.cli("trace", *command)
        assert done.returncode == 1
        assert str(file) in done.stderr
    assert not (scratch / "second").exists()
    assert fb.cli("trace", "stop", check=True).stdout == f"0 reads, 0 dropped, {file.stat().st_size} B in {file}\n"
    assert fb.cli("trace", "start", str(scratch / "small"), "--limit", "1KiB").returncode == 1


def test_a_trace_ends_at_its_limit(running, scratch):
    """A trace takes no more than its limit, ends by itself there, and lets the next begin."""
    fb, file = running, scratch / "reads.jsonl"
    start(fb, file, "--limit", "4096")
    for n in range(24):
        cat(fb, n % FILES)
    wait_until(lambda: fb.status()["trace"]["state"] == "full", 10, "the trace's end")
    assert file.stat().st_size <= 4096
    assert lines(file)[-1] == {"dropped": 0}
    said = fb.cli("trace", "stop", check=True).stdout
    assert f"{len(lines(file)) - 2} reads" in said and "at its limit" in said
    start(fb, scratch / "next")


def test_a_full_disk_ends_a_trace(running, scratch):
    """A trace whose disk is full ends; the log and `trace stop` say so, and reads go on."""
    fb, disk = running, scratch / "disk"
    disk.mkdir()
    done = run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(disk)], 10)
    assert done.returncode == 0, done.stderr
    try:
        file = disk / "reads.jsonl"
        start(fb, file)
        for n in range(24):
            cat(fb, n % FILES)
        wait_until(lambda: fb.status()["trace"]["state"] == "failed", 10, "the trace's end")
        done = fb.cli("trace", "stop", "--json")
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert "trace ended" in fb.errors() and "No space left" in fb.errors()
        stopped = json.loads(done.stdout)
        head, _ = replay_json(file)
        assert head["reads"] == stopped["reads"] > 0
        assert stopped["dropped"] > 0
        cat(fb, 0)
    finally:
        run(["umount", str(disk)], 10)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_trace_outlives_its_process(running, scratch, end):
    """A process that is stopped ends its trace; one that is killed leaves a trace that is read to where it was cut."""
    fb, file = running, scratch / "reads.jsonl"
    start(fb, file)
    for n in range(FILES):
        cat(fb, n)
    wait_until(lambda: fb.status()["trace"]["reads"] == PARTS * FILES, 10, "all reads in the file")
    getattr(fb, end)()
    head, _ = replay_json(file)
    assert head["reads"] == PARTS * FILES
    assert head["trace"] == ("cut" if end == "kill" else "whole")
    if end == "kill":
        assert "the trace was cut" in replay(file)
        with open(file, "a") as f:
            f.write('{"t":99,"id":"00')
        assert replay_json(file)[0] == head
