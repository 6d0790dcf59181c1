"""Files that are fetched before a program opens them: programs that read a directory one file after the other do not wait for each."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from support.process import run

FILES = 500
LEN = 20_000
# Of each answer of the origin.
LATENCY = 0.02

# What a loader with so many workers does: worker w reads batch w, w + workers, and so on.
LOADER = """
import os, sys
folder, workers, batch, worker = sys.argv[1], *map(int, sys.argv[2:5])
names = sorted(os.listdir(folder))
for nth, name in enumerate(names):
    if nth // batch % workers == worker:
        with open(os.path.join(folder, name), "rb") as f:
            assert f.read() == (name.encode() * 3_000)[:20_000]
"""


@pytest.fixture
def far(weed, s3, proxy, forebay):
    """A mount of a directory of files at an origin that is far away."""
    names = [f"{nth:05d}.bin" for nth in range(FILES)]
    for name in names:
        s3.put(f"d/{name}", body(name))
    proxy.faults({"fault": "latency", "ms": int(LATENCY * 1000)})

    def make(**options):
        fb = forebay(s3.url, endpoint=proxy.endpoint, **options)
        assert sorted(os.listdir(fb.path("d"))) == names
        proxy.reset()
        return fb, names

    return make


def body(name: str) -> bytes:
    return (name.encode() * 3_000)[:LEN]


def read(fb, names: list[str]) -> float:
    """Reads files one after the other; gives how long it took."""
    begun = time.monotonic()
    for name in names:
        assert fb.path(f"d/{name}").read_bytes() == body(name), name
    return time.monotonic() - begun


def ahead(fb) -> tuple[int, int]:
    """Files that were fetched ahead, and those of them that were read."""
    fetch = fb.status()["fetch"]
    return fetch["files_ahead_bytes"] // LEN, fetch["files_ahead_used_bytes"] // LEN


def test_in_order(far):
    """500 files at an origin that takes 20 ms for an answer are read in a fifth of 500 times that."""
    fb, names = far()
    took = read(fb, names)
    assert took < FILES * LATENCY / 5, f"{took:.2f} s"
    fetched, used = ahead(fb)
    # A reader that catches up with what is fetched for it asks for a file itself.
    assert fetched == used >= FILES * 8 // 10


def test_switched_off(far, proxy):
    """With `read_ahead.files` and `.directories = no` nothing is asked of the origin that no program has asked for."""
    fb, names = far(settings={"READ_AHEAD_FILES": "no", "READ_AHEAD_DIRECTORIES": "no"})
    took = read(fb, names[:100])
    assert took > 100 * LATENCY
    assert ahead(fb) == (0, 0)
    assert sum(request["method"] == "GET" and ".bin" in request["target"] for request in proxy.requests()) == 100


def test_shuffled(far, proxy):
    """Of a directory that is read in no order the rest is fetched, each file once: few are waited for."""
    fb, names = far()
    random.Random(1).shuffle(names)
    took = read(fb, names)
    assert took < FILES * LATENCY / 3, f"{took:.2f} s"
    fetched, used = ahead(fb)
    assert fetched == used >= FILES * 6 // 10, f"{fetched} fetched, {used} used"
    asked = [request["target"] for request in proxy.requests() if request["method"] == "GET" and ".bin" in request["target"]]
    assert len(asked) == len(set(asked)) == FILES


def test_shuffled_directories_off(far):
    """With `read_ahead.directories = no` files that are read in no order are not fetched ahead."""
    fb, names = far(settings={"READ_AHEAD_DIRECTORIES": "no"})
    random.Random(1).shuffle(names)
    read(fb, names)
    fetched, used = ahead(fb)
    assert fetched <= FILES // 10, f"{fetched} fetched, {used} used"


def test_sample(far):
    """Who reads a few files in no order and stops has four more fetched for each at most."""
    fb, names = far()
    random.Random(2).shuffle(names)
    read(fb, names[:15])
    assert ahead(fb) == (0, 0)
    read(fb, names[15:40])
    time.sleep(1)
    assert 60 <= ahead(fb)[0] <= 160, ahead(fb)


def test_programs(far):
    """`find | xargs cat`, `tar` and `cp -r` read in some order of their own, and wait for few files."""
    for command in (
        "find . -name '*.bin' -print0 | sort -z | xargs -0 cat | wc -c",
        "tar cf - --sort=name . | wc -c",
        "cp -r . \"$0\" && du -sb --apparent-size \"$0\" | cut -f1",
    ):
        fb, _ = far()
        begun = time.monotonic()
        done = subprocess.run(
            ["sh", "-c", command, str(fb.base / "copy")], cwd=fb.path("d"), capture_output=True, text=True, timeout=60, check=False
        )
        took = time.monotonic() - begun
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= FILES * LEN
        assert took < FILES * LATENCY / 3, f"{command}: {took:.2f} s"
        fb.stop()


def test_loader(far):
    """Workers that take batches in turns find most of their files there."""
    fb, names = far()
    workers = [
        subprocess.Popen([sys.executable, "-c", LOADER, str(fb.path("d")), "4", "16", str(worker)], stderr=subprocess.PIPE)
        for worker in range(4)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert worker.returncode == 0, errors
    fetched, used = ahead(fb)
    assert used >= len(names) * 7 // 10, f"{used} of {len(names)}"
    assert fetched <= used + 32


def test_listing_alone(far, proxy):
    """Looking at names and attributes fetches no bytes."""
    fb, _ = far()
    done = run(["sh", "-c", "ls -l . | wc -l && find . -size +1k | wc -l"], 30, cwd=fb.path("d"))
    assert done.returncode == 0
    assert ahead(fb) == (0, 0)
    assert fb.status()["fetch"]["wanted_bytes"] == 0
