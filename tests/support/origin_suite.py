"""What every origin must do, as tests: a module gives the fixture `origin` and makes a class of its own from `OriginSuite`."""

from __future__ import annotations

import hashlib
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import cold, readers
from .data import body
from .process import free_port, wait_until

# Names that every one of these servers takes.
NAMES = [
    "plain",
    "inner space",
    "trailing space ",
    "ünïcödé",
    "e\u0301 decomposed",
    "日本語",
    "emoji 🦫",
    "percent%20twenty",
    "100%",
    "%2F",
    "plus+sign",
    "hash#tag",
    "question?mark",
    "amper&sand",
    "equals=sign",
    "semi;colon",
    "at@sign",
    "comma,name",
    "tilde~",
    "'single'",
    "[brackets]{braces}",
    "..two",
    "-dash",
    "n" * 200,
]
# Large enough that reading its start does not bring its end.
LARGE = 40 << 20
FAR = 39 << 20
SHORT_DEADLINE = {"ORIGIN_DEADLINE": "4s"}
SILENT = ("ETIMEDOUT", "EIO")


class Origin:
    """Objects of one test at a server. `options` are what a Forebay is started with to read them."""

    url: str
    options: dict
    # Names of one directory that make several pages of a listing.
    many = 2_300
    # Puts at one time.
    writers = 16

    def put(self, name: str, content: bytes):
        raise NotImplementedError

    def delete(self, name: str):
        raise NotImplementedError

    def put_all(self, files: dict[str, bytes]):
        with ThreadPoolExecutor(self.writers) as pool:
            for _ in pool.map(self.put, files, files.values()):
                pass


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def walked(folder: Path) -> dict[str, str]:
    """Path below `folder` to whole path of each file. A directory that cannot be listed is the listing's error, not an empty directory."""

    def failed(error: OSError):
        raise error

    found = {}
    for above, _, below in os.walk(folder, onerror=failed):
        for name in below:
            path = os.path.join(above, name)
            found[os.path.relpath(path, folder)] = path
    return found


class OriginSuite:
    def test_tree(self, origin, forebay):
        """A tree with names of every kind is walked, and each file read byte by byte."""
        names = [*NAMES, *(f"dir {name}/deeper/{name}" for name in NAMES)]
        files = {name: body(name, 300 + 37 * at) for at, name in enumerate(names)} | {"empty": b""}
        begun = time.time()
        origin.put_all(files)
        fb = forebay(origin.url, **origin.options)
        found = walked(fb.mount)
        assert set(found) == set(files)
        for name, path in found.items():
            known = os.stat(path)
            assert known.st_size == len(files[name])
            assert begun - 60 < known.st_mtime < time.time() + 60, f"{name!r} is of another time"
            assert readers_bytes(path) == files[name], f"{name!r} was read wrong"

    def test_cold_starts(self, origin, forebay, scratch):
        """Programs that are there from a mount's first moment find all names and the right bytes, over stops and kills."""
        files = cold.tree(3)
        origin.put_all(files)
        cold.check(forebay, origin.url, origin.options, files, scratch)

    def test_names_that_are_looked_up(self, origin, forebay):
        """Names are found before their directory was listed, and absent ones are not."""
        origin.put("a b/ü%20/file", b"found")
        fb = forebay(origin.url, **origin.options)
        assert readers.read_file(fb.path("a b/ü%20/file")) == b"found"
        assert readers.read_errno(fb.path("a b/ü%20/other")) == "ENOENT"
        assert readers.read_errno(fb.path("a b/nowhere/file")) == "ENOENT"
        assert os.path.isdir(fb.path("a b/ü%20"))

    def test_large_object(self, origin, forebay):
        """A large object is read in ranges from anywhere, and whole."""
        content = body("large", LARGE + 123)
        origin.put("large", content)
        fb = forebay(origin.url, **origin.options)
        rng = random.Random(5)
        path = fb.path("large")
        for _ in range(12):
            offset = rng.randrange(len(content))
            length = rng.choice([1, 4096, 100_000, 3 << 20])
            assert readers.read_part(path, offset, length) == content[offset : offset + length], (offset, length)
        assert readers.read_part(path, LARGE + 100, 100) == content[LARGE + 100 :]
        assert sha(readers.read_file(path, seconds=60)) == sha(content)

    def test_listing_of_many_pages(self, origin, forebay):
        """A directory of several pages is listed whole, each name once."""
        files = {f"d/{number:06d}.bin": b"%d" % number for number in range(origin.many)}
        origin.put_all(files | {"d/sub/x": b"x", "zz": b"zz"})
        fb = forebay(origin.url, **origin.options)
        with os.scandir(fb.path("d")) as entries:
            found = {entry.name: entry.is_dir() for entry in entries}
        assert found == {name.removeprefix("d/"): False for name in files} | {"sub": True}
        assert len(os.listdir(fb.path("d"))) == origin.many + 1
        last = f"{origin.many - 1:06d}.bin"
        assert readers.read_file(fb.path(f"d/{last}")) == b"%d" % (origin.many - 1)
        assert sorted(os.listdir(fb.mount)) == ["d", "zz"]

    @pytest.mark.parametrize("change", ["changed", "shrunk", "deleted"])
    def test_change_under_an_open_file(self, origin, forebay, scratch, change):
        """An open file stays what it was: its cached part goes on, the rest fails with ESTALE, and the next open sees the new object."""
        old, new = body("old", LARGE), body("new", LARGE)
        if change == "shrunk":
            new = new[:5000]
        origin.put("o", old)
        fb = forebay(origin.url, **origin.options)
        held = readers.Held(fb.path("o"), scratch / "held.log")
        try:
            assert held.read(0, 5000)["sha256"] == sha(old[:5000])
            origin.delete("o") if change == "deleted" else origin.put("o", new)
            answer = held.read(FAR, 5000)
            assert answer == {"errno": "ESTALE"}, f"a part of a {change} object that was not cached gave {answer}"
            assert held.read(0, 5000) == {"length": 5000, "sha256": sha(old[:5000])}, "the cached part is gone"
        finally:
            held.end()
        if change == "deleted":
            assert readers.read_errno(fb.path("o")) == "ENOENT"
            return
        wait_until(lambda: os.stat(fb.path("o")).st_size == len(new), 5, "the new size to be seen")
        assert sha(readers.read_file(fb.path("o"), seconds=40)) == sha(new)

    def test_new_version_at_the_next_open(self, origin, forebay):
        """With `ttl=1s` a new object of the same size is seen, a new name appears and a deleted one goes."""
        origin.put("o", b"A" * 70_000)
        origin.put("old", b"old")
        fb = forebay(origin.url, freshness="ttl=1s", **origin.options)
        assert readers.read_file(fb.path("o")) == b"A" * 70_000
        assert not os.path.exists(fb.path("new"))
        origin.put("o", b"B" * 70_000)
        origin.put("new", b"new")
        origin.delete("old")
        wait_until(lambda: readers.read_file(fb.path("o")) == b"B" * 70_000, 6, "the new object to be seen")
        wait_until(lambda: sorted(os.listdir(fb.mount)) == ["new", "o"], 6, "the listing to follow")
        assert readers.read_file(fb.path("new")) == b"new"
        assert not os.path.exists(fb.path("old"))

    def test_check(self, origin, forebay):
        """With `check` every open sees what the origin holds at that moment, and nothing is fetched twice."""
        fb = None
        for round_ in range(3):
            content = body(round_, 10_000 + round_)
            origin.put("o", content)
            fb = fb or forebay(origin.url, freshness="check", **origin.options)
            assert readers.read_file(fb.path("o")) == content, f"round {round_} saw something else"
        asked = bytes_fetched(fb)
        assert asked > 0
        assert readers.read_file(fb.path("o")) == content
        assert bytes_fetched(fb) == asked, "an unchanged object was fetched again"

    def test_kept_over_a_restart(self, origin, forebay):
        """What was read is served after a restart without being fetched again."""
        content = body("kept", 3 << 20)
        origin.put("o", content)
        fb = forebay(origin.url, freshness="immutable", **origin.options)
        assert readers.read_file(fb.path("o")) == content
        fb.stop()
        fb.restart()
        assert readers.read_file(fb.path("o")) == content
        assert bytes_fetched(fb) == 0

    def test_commands(self, origin, forebay, scratch):
        """`ls`, `cat` and `cp -r` by a running process, `source add` of the same origin, and `doctor`."""
        files = {"a": body("a", 10_000), "d/e f/%": body("b", 2_000_000)}
        origin.put_all(files)
        fb = forebay(origin.url, **origin.options)
        assert sorted(fb.cli("ls", "/data", check=True).stdout.split()) == ["a", "d/"]
        assert fb.cli("cat", "/data/a", text=False, check=True).stdout == files["a"]
        fb.cli("cp", "-r", "/data", str(scratch / "copy"), check=True)
        assert {name: (scratch / "copy" / name).read_bytes() for name in files} == files
        endpoint = ["--endpoint", fb.endpoint] if fb.endpoint else []
        fb.cli("source", "add", "/again", origin.url, *endpoint, *fb.flags, check=True)
        assert fb.cli("cat", "/again/d/e f/%", text=False, check=True).stdout == files["d/e f/%"]
        done = fb.cli("doctor", origin.url, *endpoint, *fb.flags, seconds=60)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_dead_endpoint(self, origin, forebay):
        """Where nobody listens the mount comes up, and reads fail in time."""
        url, options = origin.at(f"127.0.0.1:{free_port()}")
        fb = forebay(url, **{**options, "settings": SHORT_DEADLINE})
        begun = time.monotonic()
        assert readers.read_errno(fb.path("a")) in SILENT
        with pytest.raises(OSError):
            os.listdir(fb.mount)
        assert time.monotonic() - begun < 15


def readers_bytes(path) -> bytes:
    with open(path, "rb") as f:
        return f.read()


def bytes_fetched(fb) -> float:
    return sum(value for name, value in fb.metrics().items() if name.startswith("forebay_origin_bytes_total"))
