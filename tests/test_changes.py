"""Objects that change, shrink, grow or go away at the origin while they are read."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from support import readers
from support.data import body
from support.process import wait_until

# Large enough that reading its start does not bring its end.
LARGE = 96 << 20
FAR = 90 << 20


class FileOrigin:
    """A directory as the origin."""

    def __init__(self, root):
        self.root = root
        self.url, self.endpoint = f"file://{root}", None

    def put(self, name: str, content: bytes):
        # A new file in its place: the way that programs write.
        temporary = self.root / f".{name}.new"
        temporary.write_bytes(content)
        os.replace(temporary, self.root / name)

    def overwrite(self, name: str, content: bytes):
        """The same file with other bytes."""
        with open(self.root / name, "r+b") as f:
            f.truncate(len(content))
            f.write(content)

    def delete(self, name: str):
        (self.root / name).unlink()


class S3Origin:
    """A prefix of a bucket as the origin."""

    def __init__(self, s3):
        self.s3 = s3
        self.url, self.endpoint = s3.url, s3.weed.endpoint
        self.put = self.overwrite = s3.put
        self.delete = s3.delete


@pytest.fixture(params=["s3", "file"])
def origin(request, scratch):
    if request.param == "s3":
        return S3Origin(request.getfixturevalue("s3"))
    (scratch / "origin").mkdir()
    return FileOrigin(scratch / "origin")


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


CHANGES = {
    "changed": lambda origin, new: origin.put("o", new),
    "overwritten": lambda origin, new: origin.overwrite("o", new),
    "shrunk": lambda origin, new: origin.put("o", new[:5000]),
    "grown": lambda origin, new: origin.put("o", new + b"more"),
    "deleted": lambda origin, new: origin.delete("o"),
}


@pytest.mark.parametrize("kind", ["files", "streams"])
@pytest.mark.parametrize("change", CHANGES)
def test_under_an_open_file(origin, forebay, scratch, change, kind):
    """An open file stays what it was: its cached part goes on, the rest fails with ESTALE, and the next open sees the new object."""
    old, new = body("old", LARGE), body("new", LARGE)
    origin.put("o", old)
    fb = forebay(origin.url, endpoint=origin.endpoint, kind=kind)
    held = readers.Held(fb.path("o"), scratch / "held.log")
    try:
        assert held.read(0, 5000)["sha256"] == sha(old[:5000])
        CHANGES[change](origin, new)
        answer = held.read(FAR, 5000)
        assert answer == {"errno": "ESTALE"}, f"reading a part that was not cached of a {change} object gave {answer}"
        assert held.read(0, 5000) == {"length": 5000, "sha256": sha(old[:5000])}, "the cached part is gone"
    finally:
        held.end()
    if change == "deleted":
        assert readers.read_errno(fb.path("o")) == "ENOENT"
        return
    expected = {"changed": new, "overwritten": new, "shrunk": new[:5000], "grown": new + b"more"}[change]
    # The notice to the kernel goes beside the reply.
    wait_until(lambda: os.stat(fb.path("o")).st_size == len(expected), 5, "the new size to be seen")
    assert sha(readers.read_file(fb.path("o"), seconds=40)) == sha(expected)


def test_ttl(origin, forebay):
    """With `ttl=1s` an open more than a second after a change sees the new object."""
    origin.put("o", b"first")
    fb = forebay(origin.url, endpoint=origin.endpoint, freshness="ttl=1s")
    assert readers.read_file(fb.path("o")) == b"first"
    origin.put("o", b"second, longer")
    begun = time.monotonic()
    wait_until(lambda: readers.read_file(fb.path("o")) == b"second, longer", 5, "the new object to be seen")
    # Ages do not add up: catalog and kernel together hold an entry no longer than the rule says.
    assert time.monotonic() - begun < 2.5


def test_ttl_same_size(origin, forebay):
    """A new object of the same size is told apart from the old."""
    origin.put("o", b"A" * 70_000)
    fb = forebay(origin.url, endpoint=origin.endpoint, freshness="ttl=1s")
    assert readers.read_file(fb.path("o")) == b"A" * 70_000
    origin.put("o", b"B" * 70_000)
    wait_until(lambda: readers.read_file(fb.path("o")) == b"B" * 70_000, 5, "the new object to be seen")


def test_check(origin, forebay):
    """With `check` every open sees what the origin holds at that moment."""
    fb = None
    for round_ in range(5):
        content = body(round_, 10_000 + round_)
        origin.put("o", content)
        fb = fb or forebay(origin.url, endpoint=origin.endpoint, freshness="check")
        assert readers.read_file(fb.path("o")) == content, f"round {round_} saw something else"
    origin.delete("o")
    assert readers.read_errno(fb.path("o")) == "ENOENT"


def test_check_costs_no_data(s3, proxy, forebay):
    """With `check` an unchanged object is not fetched again."""
    s3.put("o", body("o", 50_000))
    fb = forebay(s3.url, endpoint=proxy.endpoint, freshness="check")
    readers.read_file(fb.path("o"))
    proxy.reset()
    for _ in range(3):
        readers.read_file(fb.path("o"))
    stats = proxy.stats()
    assert stats["data"] == 0, f"an unchanged object was fetched again: {stats}"
    assert stats["requests"] > 0, "`check` asked the origin nothing"


def test_immutable(s3, proxy, forebay):
    """With `immutable` an object that was read once is never asked for again."""
    s3.put("o", body("o", 50_000))
    fb = forebay(s3.url, endpoint=proxy.endpoint, freshness="immutable")
    first = readers.read_file(fb.path("o"))
    s3.put("o", body("other", 50_000))
    proxy.reset()
    for _ in range(3):
        assert readers.read_file(fb.path("o")) == first
    assert proxy.stats()["data"] == 0


def test_new_names(origin, forebay):
    """A name that was absent is seen after it has appeared, and a deleted name goes away, within the freshness rule."""
    origin.put("old", b"x")
    fb = forebay(origin.url, endpoint=origin.endpoint, freshness="ttl=1s")
    assert not os.path.exists(fb.path("new"))
    assert os.listdir(fb.mount) == ["old"]
    origin.put("new", b"y")
    origin.delete("old")
    wait_until(lambda: os.path.exists(fb.path("new")), 5, "a new name to be seen")
    wait_until(lambda: os.listdir(fb.mount) == ["new"], 5, "the listing to follow")
    assert not os.path.exists(fb.path("old"))


def test_http_object(nginx, forebay):
    """One object over plain HTTP is read whole and in parts, and a changed one is told apart."""
    content = body("http", 20 << 20)
    (nginx.root / "model.bin").write_bytes(content)
    fb = forebay(f"{nginx.url}/model.bin", freshness="ttl=1s")
    assert os.listdir(fb.mount) == ["model.bin"]
    path = fb.path("model.bin")
    assert readers.read_part(path, 7_000_001, 100_000) == content[7_000_001:7_100_001]
    assert readers.read_file(path) == content
    (nginx.root / "model.bin").write_bytes(b"new")
    wait_until(lambda: readers.read_file(path) == b"new", 5, "the new object to be seen")


def test_http_changed_under_an_open_file(nginx, forebay, scratch):
    """Over plain HTTP, too, the part of an open file that was not cached fails with ESTALE once the object has changed."""
    (nginx.root / "model.bin").write_bytes(body("http-old", LARGE))
    fb = forebay(f"{nginx.url}/model.bin")
    held = readers.Held(fb.path("model.bin"), scratch / "held.log")
    try:
        held.read(0, 1000)
        (nginx.root / "model.bin").write_bytes(body("http-new", LARGE))
        # nginx makes etags of seconds and sizes.
        os.utime(nginx.root / "model.bin", (time.time() + 10, time.time() + 10))
        assert held.read(FAR, 1000) == {"errno": "ESTALE"}
    finally:
        held.end()


def test_http_manifest(nginx, forebay):
    """A manifest over plain HTTP shows the objects that it lists as a tree."""
    import json

    (nginx.root / "parts").mkdir()
    files = {f"parts/{i}.bin": body(f"m{i}", 100_000 + i) for i in range(3)}
    for name, content in files.items():
        (nginx.root / name).write_bytes(content)
    lines = [json.dumps({"path": name, "size": len(content)}) for name, content in files.items()]
    (nginx.root / "set.manifest.jsonl").write_text("\n".join(lines) + "\n")
    fb = forebay(f"{nginx.url}/set.manifest.jsonl")
    assert sorted(os.listdir(fb.path("parts"))) == ["0.bin", "1.bin", "2.bin"]
    for name, content in files.items():
        assert readers.read_file(fb.path(name)) == content
