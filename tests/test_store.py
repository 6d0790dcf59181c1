"""`forebay store`: a cache directory looked at without its process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support import readers
from support.data import body
from support.forebay import Forebay
from support.process import wait_until

SMALL, LARGE = 20, 3
SMALL_SIZE, LARGE_SIZE = 5_000, 5_000_000


@pytest.fixture
def killed(scratch, forebay) -> Forebay:
    """A process that has read everything and was killed."""
    root = scratch / "origin"
    root.mkdir()
    for i in range(SMALL):
        (root / f"small{i}").write_bytes(body(f"small{i}", SMALL_SIZE))
    for i in range(LARGE):
        (root / f"large{i}").write_bytes(body(f"large{i}", LARGE_SIZE))
    fb = forebay(f"file://{root}", cache=[(scratch / "cache", "1GiB")])
    fb.root = root
    assert readers.ask("compare", root, fb.mount)["files"] == SMALL + LARGE
    wait_until(lambda: fb.resident_bytes() >= SMALL * SMALL_SIZE + LARGE * LARGE_SIZE, 20, "all is kept")
    wait_until(lambda: len(objects(fb, "ls", 0)) == SMALL + LARGE, 20, "the log says so")
    # In use: said, and no reason not to look.
    used = fb.cli("store", "stat", str(directory(fb)), "--json")
    assert used.returncode == 0 and "has the cache directory open" in used.stderr
    assert json.loads(used.stdout)["in_use_by"] == str(fb.pid)
    fb.kill()
    return fb


def directory(fb: Forebay) -> Path:
    return fb.caches[0][0]


def objects(fb: Forebay, command: str, code: int) -> list[dict]:
    done = fb.cli("store", command, str(directory(fb)), "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def state(of: Path) -> dict:
    """Every file with its length, its times and its bytes."""
    files = [Path(folder) / name for folder, _, names in os.walk(of) for name in names]
    return {f: (f.stat().st_size, f.stat().st_mtime_ns, f.stat().st_ctime_ns, f.read_bytes()) for f in files}


def test_a_killed_process_leaves_a_whole_store(killed):
    """After kill -9 `store check`, `ls` and `stat` find all that was kept, and change nothing."""
    before = state(directory(killed))
    *events, summary = objects(killed, "check", 0)
    assert summary["event"] == "checked" and summary["whole"]
    assert summary["contents"] == SMALL + LARGE
    assert summary["resident_bytes"] == SMALL * SMALL_SIZE + LARGE * LARGE_SIZE
    assert {event["event"] for event in events} == {"log", "pack", "large"}
    assert sum(event["entries"] for event in events if event["event"] == "pack") == SMALL

    listed = objects(killed, "ls", 0)
    assert sorted(content["size"] for content in listed) == [SMALL_SIZE] * SMALL + [LARGE_SIZE] * LARGE
    assert all(content["verified"] and content["resident_bytes"] == content["size"] for content in listed)

    (stat,) = objects(killed, "stat", 0)
    assert stat["format"] == 1 and not stat["closed_in_order"] and stat["believed"] and stat["in_use_by"] is None
    assert stat["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert stat["kinds"]["small"] == {"contents": SMALL, "resident_bytes": SMALL * SMALL_SIZE}
    assert stat["kinds"]["large"] == {"contents": LARGE, "resident_bytes": LARGE * LARGE_SIZE}
    assert sum(group["contents"] for group in stat["groups"].values()) == SMALL + LARGE

    for command in ["check", "ls", "stat"]:
        shown = killed.cli("store", command, str(directory(killed)), check=True).stdout
        assert str(SMALL + LARGE) in shown or shown.count("\n") == SMALL + LARGE
    assert state(directory(killed)) == before


def test_a_flipped_byte_is_named(killed):
    """`store check` names a damaged byte by content, file and offset, and ends with 1; so it does for a file that is missing."""
    first, second, _ = (content for content in objects(killed, "ls", 0) if content["kind"] == "large")
    offset = 3_000_000
    with open(directory(killed) / first["file"], "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    (found,) = (event for event in objects(killed, "check", 1) if event["event"] == "finding")
    assert (found["content"], found["file"], found["flaw"]) == (first["content"], first["file"], "data")
    assert found["offset"] <= offset < found["offset"] + found["bytes"]
    # The machine was not started anew and the log is believed, but not of a file that was changed after it.
    assert found["fate"] == "dropped"
    done = killed.cli("store", "check", str(directory(killed)))
    assert done.returncode == 1
    for part in [first["content"], first["file"], "checksum is wrong", "is not whole"]:
        assert part in done.stdout

    (directory(killed) / second["file"]).unlink()
    found = [event for event in objects(killed, "check", 1) if event["event"] == "finding"]
    assert {event["flaw"]: event["fate"] for event in found} == {"data": "dropped", "missing": "dropped"}

    # What is damaged or missing is fetched anew.
    killed.restart(cache=killed.caches)
    assert readers.ask("compare", killed.root, killed.mount)["files"] == SMALL + LARGE
    killed.stop()
    assert objects(killed, "check", 0)[-1]["whole"]


def test_what_is_no_store_is_refused(scratch, forebay):
    """A directory that holds no store is named, with what was expected; nothing is made there."""
    (scratch / "empty").mkdir()
    fb = forebay(f"file://{scratch}", cache=[(scratch / "cache", "1GiB")])
    for command in ["check", "ls", "stat"]:
        for path in [scratch / "empty", scratch / "absent"]:
            done = fb.cli("store", command, str(path))
            assert done.returncode == 1 and str(path) in done.stderr and "index.log" in done.stderr
        assert fb.cli("store", command).returncode == 2
    assert not (scratch / "absent").exists() and not list((scratch / "empty").iterdir())
