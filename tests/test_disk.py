"""Cache directories that fill, fail, vanish or cannot be written. Readers notice nothing but time."""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest

from support import readers
from support.data import body
from support.forebay import NotReady
from support.process import run


@pytest.fixture
def root(scratch):
    """A directory as the origin: 60 files, 120 MB together, small and large."""
    origin = scratch / "origin"
    origin.mkdir()
    for i in range(50):
        (origin / f"small{i}").write_bytes(body(f"small{i}", 400_000 + i))
    for i in range(10):
        (origin / f"large{i}").write_bytes(body(f"large{i}", 10_000_000 + i))
    return origin


@contextlib.contextmanager
def small_disk(path, size: str):
    """A file system of its own. It is detached in the end, whoever still uses it."""
    path.mkdir()
    assert run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(path)], 10).returncode == 0
    try:
        yield path
    finally:
        run(["umount", "-l", str(path)], 10)


def compare_twice(root, fb):
    for _ in range(2):
        assert readers.ask("compare", root, fb.mount)["files"] == 60


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_full_disk(root, scratch, forebay, kind):
    """When the cache's disk is full before its quota is reached, reads go on and are right, and the process lives."""
    with small_disk(scratch / "disk", "48m") as disk:
        fb = forebay(f"file://{root}", cache=[(disk / "cache", "1GiB")], kind=kind)
        compare_twice(root, fb)
        assert fb.running
        fb.stop()
        fb.restart(cache=[(disk / "cache", "1GiB")], kind=kind)
        compare_twice(root, fb)


def test_disk_filled_by_others(root, scratch, forebay):
    """When another program fills the cache's disk, reads go on and are right."""
    with small_disk(scratch / "disk", "200m") as disk:
        fb = forebay(f"file://{root}", cache=[(disk / "cache", "150MiB")])
        readers.read_file(fb.path("large0"))
        with contextlib.suppress(OSError), open(disk / "other", "wb") as other:
            while True:
                other.write(bytes(1 << 20))
        compare_twice(root, fb)
        assert fb.running


def test_directory_removed(root, scratch, forebay):
    """When the cache directory is removed while it runs, reads go on and are right, and the log names the directory."""
    cache = scratch / "cache"
    fb = forebay(f"file://{root}", cache=[(cache, "1GiB")])
    readers.read_file(fb.path("large0"))
    shutil.rmtree(cache)
    compare_twice(root, fb)
    assert fb.running
    assert str(cache) in fb.errors()


def test_disk_becomes_read_only(root, scratch, forebay):
    """When the cache's disk turns read-only, reads go on and are right; the other cache directory is used."""
    with small_disk(scratch / "disk", "300m") as disk:
        caches = [(disk / "cache", "200MiB"), (scratch / "second", "200MiB")]
        fb = forebay(f"file://{root}", cache=caches)
        readers.read_file(fb.path("large0"))
        run(["mount", "-o", "remount,ro,force", str(disk)], 10)
        compare_twice(root, fb)
        assert fb.running


def test_read_only_at_start(root, scratch, forebay):
    """A cache directory that cannot be written is refused at the start, by name."""
    with small_disk(scratch / "disk", "10m") as disk:
        (disk / "cache").mkdir()
        assert run(["mount", "-o", "remount,ro", str(disk)], 10).returncode == 0
        with pytest.raises(NotReady) as refused:
            forebay(f"file://{root}", cache=[(disk / "cache", "1GiB")])
        assert refused.value.code == 1
        assert str(disk / "cache") in refused.value.errors


def test_file_in_place_of_directory(root, scratch, forebay):
    """A file where the cache directory should be is refused at the start, by name."""
    (scratch / "cache").write_text("not a directory")
    with pytest.raises(NotReady) as refused:
        forebay(f"file://{root}", cache=[(scratch / "cache", "1GiB")])
    assert refused.value.code == 1
    assert str(scratch / "cache") in refused.value.errors


def test_index_torn(root, scratch, forebay):
    """A cache whose files were cut short while it was stopped is recovered as far as it is whole; no wrong byte is read."""
    cache = scratch / "cache"
    fb = forebay(f"file://{root}", cache=[(cache, "1GiB")])
    compare_twice(root, fb)
    fb.kill()
    for folder, _, names in os.walk(cache):
        for name in names:
            path = os.path.join(folder, name)
            size = os.path.getsize(path)
            if size > 100 and "lock" not in name and "node" not in name:
                os.truncate(path, size * 2 // 3)
    try:
        fb.restart(cache=[(cache, "1GiB")])
    except NotReady as refused:
        assert refused.code == 1 and str(cache) in refused.errors, refused
        return
    compare_twice(root, fb)
