"""Several sources in one namespace: added, listed, changed and removed while the process runs."""

from __future__ import annotations

import errno
import json
import os
import time

import pytest

from support.data import body
from support.process import free_port, wait_until

@pytest.fixture
def raw(scratch):
    """A directory with files, as an origin."""
    root = scratch / "raw"
    (root / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        (root / name).write_bytes(body(f"raw {name}", 50_000))
    return root


def source(fb, *arguments: str) -> dict:
    return json.loads(fb.cli("source", *arguments, "--json", check=True).stdout)


def sources(fb) -> dict[str, dict]:
    lines = fb.cli("source", "list", "--json", check=True).stdout.splitlines()
    return {line["path"]: line for line in map(json.loads, lines)}


def names(path) -> list[str]:
    return sorted(os.listdir(path))


def test_sources_come_and_go_in_a_running_mount(raw, s3, forebay):
    """`up` without an origin shows all sources; each comes and goes at once, for commands and in the mount."""
    s3.put("one", b"one of s3")
    fb = forebay(None)
    assert names(fb.path()) == []
    assert not fb.path("raw").exists() and not fb.path("far/s3").exists()
    assert source(fb, "add", "/raw", f"file://{raw}", "--freshness", "ttl=1h")["problem"] is None
    assert names(fb.path()) == ["raw"] and names(fb.path("raw/sub")) == ["b"]
    added = source(fb, "add", "/far/s3", s3.url, "--endpoint", s3.weed.endpoint, "--path-style", "--quota", "10MB")
    assert (added["quota_bytes"], added["priority"], added["path_style"]) == (10_000_000, 100, True)
    assert set(sources(fb)) == {"/raw", "/far/s3"}
    assert names(fb.path()) == ["far", "raw"]
    assert fb.path("raw/sub/b").read_bytes() == body("raw sub/b", 50_000)
    assert names(fb.path("far")) == ["s3"]
    assert fb.path("far/s3/one").read_bytes() == b"one of s3"

    # A source inside another one hides what that has there, and the way to it need not exist. The kernel holds both for an hour.
    assert not fb.path("raw/new").exists()
    with open(fb.path("raw/sub/b"), "rb") as held:
        source(fb, "add", "/raw/sub", s3.url, "--endpoint", s3.weed.endpoint)
        assert names(fb.path("raw/sub")) == ["one"] and not fb.path("raw/sub/b").exists()
        held.read(1)
    source(fb, "add", "/raw/new/way", f"file://{raw}")
    assert fb.path("raw/new/way/a").exists() and names(fb.path("raw")) == ["a", "new", "sub"]
    assert fb.cli("cat", "/raw/sub/one", check=True).stdout == "one of s3"
    assert fb.cli("ls", "/raw", check=True).stdout.split() == ["a", "new/", "sub/"]

    fb.stop()
    fb.restart()
    assert set(sources(fb)) == {"/raw", "/far/s3", "/raw/sub", "/raw/new/way"}
    assert fb.path("raw/sub/one").read_bytes() == b"one of s3"
    assert fb.path("raw/new/way/a").read_bytes() == body("raw a", 50_000)

    fb.cli("source", "remove", "/raw/sub", "/raw/new/way", check=True)
    assert names(fb.path("raw")) == ["a", "sub"] and names(fb.path("raw/sub")) == ["b"]
    assert not fb.path("raw/new").exists()
    assert fb.cli("ls", "/raw/sub", check=True).stdout.split() == ["b"]
    fb.cli("source", "remove", "/raw", check=True)
    assert names(fb.path()) == ["far"] and not fb.path("raw/a").exists()
    assert (raw / "a").exists(), "the origin is not touched"


def test_a_source_whose_origin_is_down_leaves_the_others_alone(raw, forebay):
    """A dead origin is added with its problem; its readers get an error within the deadline, and nobody else waits."""
    fb = forebay(None, settings={"ORIGIN_DEADLINE": "3s"})
    source(fb, "add", "/raw", f"file://{raw}")
    dead = f"http://127.0.0.1:{free_port()}"
    told = source(fb, "add", "/dead", "s3://nothing", "--endpoint", dead)
    assert told["problem"], "it is said at once"
    assert "PROBLEM" in fb.cli("source", "list", check=True).stdout
    assert names(fb.path()) == ["dead", "raw"]
    begun = time.monotonic()
    with pytest.raises(OSError) as failed:
        os.listdir(fb.path("dead"))
    assert failed.value.errno in (errno.EIO, errno.ETIMEDOUT)
    assert time.monotonic() - begun < 15
    assert fb.path("raw/a").read_bytes() == body("raw a", 50_000)


def test_a_quota_holds_one_source_and_not_the_other(scratch, forebay):
    """`source set --quota` bounds what a source takes of the cache; others have the rest."""
    for name in ("small", "large"):
        (scratch / name).mkdir()
        for n in range(24):
            (scratch / name / f"f{n}").write_bytes(body(f"{name} {n}", 1_000_000))
    fb = forebay(None, cache="256MiB", freshness="immutable")
    for name in ("small", "large"):
        source(fb, "add", f"/{name}", f"file://{scratch / name}")
    assert source(fb, "set", "/small", "--quota", "8MB", "--priority", "7")["priority"] == 7
    for name in ("small", "large"):
        for n in range(24):
            assert len(fb.cli("cat", f"/{name}/f{n}", text=False, check=True).stdout) == 1_000_000
    # All of the one, and of the other what its quota lets in.
    wait_until(lambda: fb.resident_bytes() >= 24_000_000, 20, "the large source in the cache")
    time.sleep(1)
    assert fb.resident_bytes() <= 24_000_000 + 24 * 4096 + 8_000_000
    shown = fb.cli("source", "show", "/small", check=True).stdout
    assert "8.00 MB" in shown and "priority    7" in shown, shown


def test_what_cannot_be_a_source_is_refused_and_secrets_are_not_repeated(raw, forebay):
    """Wrong paths, origins and rules are refused with what is wrong; nothing of them stays."""
    fb = forebay(f"file://{raw}")
    for arguments, code, said in [
        (["add", "/", f"file://{raw}"], 1, "above all sources"),
        (["add", "/data", f"file://{raw}"], 1, "already"),
        (["add", "/x", "ftp://host/x"], 2, "ftp"),
        (["add", "/x", f"file://{raw}", "--priority", "300"], 2, "255"),
        (["add", "/x", f"file://{raw}", "--freshness", "never"], 2, "ttl="),
        (["set", "/data"], 2, "--quota"),
        (["set", "/nowhere", "--quota", "1GB"], 1, "no source"),
        (["remove", "/nowhere"], 1, "source list"),
        (["show", "/nowhere"], 1, "no source"),
    ]:
        done = fb.cli("source", *arguments)
        assert (done.returncode, said in done.stderr) == (code, True), (arguments, done)
    for arguments in (["s3://user:hush@bucket/x"], ["s3://bucket", "--endpoint", "http://me:hush@host"]):
        done = fb.cli("source", "add", "/x", *arguments)
        assert done.returncode == 2
        assert "hush" not in done.stdout + done.stderr
    named = source(fb, "add", "/named", f"file://{raw}", "--credentials", "team-a")
    assert named["credentials"] == "team-a"
    assert set(sources(fb)) == {"/data", "/named"}
    assert "hush" not in fb.log.read_text()
