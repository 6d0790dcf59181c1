"""Start, stop, crash, start again."""

from __future__ import annotations

import hashlib
import os
import signal
import time

import pytest

from support import readers
from support.data import body
from support.forebay import NotReady, mounts
from support.process import forebay_binary, run, wait_until


def put_some(s3) -> dict[str, bytes]:
    """Small files, one of a page, one of several."""
    files = {f"small/{i:03d}": body(i, 10_000 + i) for i in range(40)}
    files["page"] = body("page", 1 << 20)
    files["large"] = body("large", 9_000_001)
    for name, content in files.items():
        s3.put(name, content)
    return files


def read_all(fb, files: dict[str, bytes]):
    for name, content in files.items():
        assert readers.read_file(fb.path(name)) == content, f"{name} was read wrong"


def test_ready_line(weed, s3, forebay):
    """A mount is usable as soon as `up` says that it is ready, in under a second on a quiet machine."""
    s3.put("a", b"content")
    fb = forebay(s3.url, endpoint=weed.endpoint)
    assert readers.read_file(fb.path("a")) == b"content"
    assert fb.start_seconds < 3, f"it took {fb.start_seconds:.1f} s to become ready"
    assert fb.ready["mount"] == str(fb.mount)
    assert [cache["directory"] for cache in fb.ready["cache"]] == [str(fb.base / "cache")]
    assert fb.http("/healthz").strip() == "ok"
    assert any(name.startswith("forebay_origin_requests_total") for name in fb.metrics())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_stop(weed, s3, forebay, number):
    """SIGTERM and SIGINT unmount, save the cache and end with exit code 0."""
    s3.put("a", b"content")
    fb = forebay(s3.url, endpoint=weed.endpoint)
    assert readers.read_file(fb.path("a")) == b"content"
    assert fb.stop(number=number) < 10


@pytest.mark.parametrize("fault", ["stall", "hang"])
@pytest.mark.parametrize("kind", ["files", "streams"])
def test_stop_while_origin_hangs(s3, proxy, scratch, forebay, fault, kind):
    """It stops within 10 seconds also when the origin hangs and readers wait for it."""
    s3.put("a", body("hang", 5_000_000))
    fb = forebay(s3.url, endpoint=proxy.endpoint, kind=kind)
    assert os.listdir(fb.mount) == ["a"]
    proxy.faults({"fault": fault, "after": 1000, "data": True} if fault == "stall" else {"fault": "hang"})
    waiting = readers.blocked_reader(fb.path("a"), scratch / "reader.log")
    wait_until(lambda: proxy.stats()["in_flight"] > 0, 10, "the reader's request to reach the origin")
    try:
        took = fb.stop(seconds=12)
        assert took < 10, f"it took {took:.1f} s to stop"
        assert waiting.wait(10) != 0, "a read that was cut off reported success"
    finally:
        waiting.end(grace=0)


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_kill(s3, proxy, forebay, kind):
    """After kill -9 the next start clears the dead mount, recovers the cache and serves it without asking the origin for data again."""
    files = put_some(s3)
    fb = forebay(s3.url, endpoint=proxy.endpoint, kind=kind)
    read_all(fb, files)
    # Pages are kept behind the reader's back: the crash comes when all are.
    total = sum(map(len, files.values()))
    wait_until(lambda: fb.resident_bytes() >= total, 10, f"the cache to hold {total} bytes")
    fb.kill()
    assert str(fb.mount) in mounts(), "a killed daemon is expected to leave a dead mount behind"
    proxy.reset()
    fb.restart(endpoint=proxy.endpoint, kind=kind)
    assert fb.start_seconds < 3, f"it took {fb.start_seconds:.1f} s to become ready again"
    read_all(fb, files)
    assert proxy.stats()["data"] == 0, f"data was fetched again after a restart: {proxy.stats()}"
    assert fb.ready["recovered"]["contents"] == len(files)


def test_clean_restart(s3, proxy, forebay):
    """What was cached before a clean stop is served after the next start without asking the origin for data again."""
    files = put_some(s3)
    fb = forebay(s3.url, endpoint=proxy.endpoint)
    read_all(fb, files)
    fb.stop()
    proxy.reset()
    fb.restart(endpoint=proxy.endpoint)
    read_all(fb, files)
    assert proxy.stats()["data"] == 0, f"data was fetched again after a restart: {proxy.stats()}"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_listings_survive(s3, proxy, forebay, how):
    """What is known of names survives a stop and a crash: they are listed and looked up without asking the origin."""
    names = [f"{i:03d}" for i in range(300)]
    for name in names:
        s3.put(name, b"x")
    s3.put("sub/below", b"below")
    fb = forebay(s3.url, endpoint=proxy.endpoint, freshness="ttl=1h")
    assert sorted(os.listdir(fb.mount)) == [*names, "sub"]
    assert fb.path("sub/below").stat().st_size == 5
    assert not fb.path("sub/absent").exists()
    if how == "stop":
        fb.stop()
    else:
        database = fb.base / "cache" / "state" / "catalog" / "data.mdb"
        wait_until(lambda: time.time() - database.stat().st_mtime > 0.5, 10, "what was learnt to be written")
        fb.kill()
    fb.restart(endpoint=proxy.endpoint, freshness="ttl=1h")
    proxy.reset()
    assert sorted(os.listdir(fb.mount)) == [*names, "sub"]
    assert all(fb.path(name).stat().st_size == 1 for name in names)
    assert fb.path("sub/below").stat().st_size == 5
    assert not fb.path("sub/absent").exists() and not fb.path("absent").exists()
    assert proxy.stats()["requests"] == 0, f"the origin was asked again: {proxy.requests()}"


def test_one_fetch_for_all(s3, proxy, forebay):
    """Many readers of one cold file cost the origin one read of each byte."""
    content = body("shared", 6_000_000)
    s3.put("shared", content)
    fb = forebay(s3.url, endpoint=proxy.endpoint)
    expected = hashlib.sha256(content).hexdigest()
    proxy.reset()
    children = [readers.blocked_reader(fb.path("shared"), fb.base / f"reader{i}.log") for i in range(6)]
    for child in children:
        assert child.wait(20) == 0
        assert child.line(5) == expected
    assert proxy.stats()["data_bytes"] <= len(content), f"bytes were fetched twice: {proxy.stats()}"


def test_cache_directory_in_use(weed, s3, scratch, forebay):
    """A second process on a cache directory is refused, with a message that names the directory."""
    s3.put("a", b"content")
    cache = [(scratch / "cache", "1GiB")]
    first = forebay(s3.url, endpoint=weed.endpoint, cache=cache)
    with pytest.raises(NotReady) as refused:
        forebay(s3.url, endpoint=weed.endpoint, cache=cache)
    assert refused.value.code == 1
    assert str(scratch / "cache") in refused.value.errors
    assert str(first.pid) in refused.value.errors or "in use" in refused.value.errors
    assert readers.read_file(first.path("a")) == b"content"


def test_unmounted_by_hand(weed, s3, forebay):
    """When somebody unmounts it with `umount`, the process ends in order."""
    s3.put("a", b"content")
    fb = forebay(s3.url, endpoint=weed.endpoint)
    assert run(["umount", str(fb.mount)], 10).returncode == 0
    assert fb.child.wait(10) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["up", "s3://b", "--mount", "/mnt", "--cache", "/tmp/x:lots"], "lots"),
        (["up", "s3://b", "--mount", "/mnt", "--cache", "/tmp/x"], "/tmp/x"),
        (["up", "nonsense://b", "--mount", "/mnt", "--cache", "/tmp/x:1GiB"], "nonsense"),
        (["up", "s3://b", "--mount", "/mnt", "--kind", "tapes", "--cache", "/tmp/x:1GiB"], "tapes"),
        (["up", "s3://b", "--mount", "/mnt", "--freshness", "stale", "--cache", "/tmp/x:1GiB"], "stale"),
        (["up", "--colour"], "--colour"),
        (["fly"], "fly"),
    ],
)
def test_wrong_usage(arguments, named):
    """Wrong usage ends with exit code 2 and a message that names what was wrong."""
    done = run([forebay_binary(), *arguments], 20)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr


def test_unknown_setting(forebay, scratch):
    """An unknown setting is refused with the nearest known name."""
    with pytest.raises(NotReady) as refused:
        forebay(f"file://{scratch}", settings={"ORIGIN_DEADLNE": "5s"})
    assert refused.value.code == 2
    assert "FOREBAY_ORIGIN_DEADLINE" in refused.value.errors or "origin.deadline" in refused.value.errors


def test_mount_point_missing(forebay, scratch):
    """A mount point that does not exist is refused by name."""
    fb = forebay(f"file://{scratch}", start=False)
    fb.mount.rmdir()
    with pytest.raises(NotReady) as refused:
        fb.start()
    assert refused.value.code == 1
    assert str(fb.mount) in refused.value.errors


def test_second_signal(s3, proxy, scratch, forebay):
    """A second signal ends it at once."""
    s3.put("a", body("hang", 100_000))
    fb = forebay(s3.url, endpoint=proxy.endpoint)
    assert os.listdir(fb.mount) == ["a"]
    proxy.faults({"fault": "hang"})
    waiting = readers.blocked_reader(fb.path("a"), scratch / "reader.log")
    wait_until(lambda: proxy.stats()["in_flight"] > 0, 10, "the reader's request to reach the origin")
    try:
        begun = time.monotonic()
        fb.signal(signal.SIGTERM)
        fb.signal(signal.SIGINT)
        fb.child.wait(10)
        assert time.monotonic() - begun < 10
    finally:
        waiting.end(grace=0)


def test_reader_survives_in_another_process(weed, s3, forebay, scratch):
    """A descriptor that was open before a crash gives right bytes or an error afterwards, and never hangs."""
    content = body("held", 3_000_000)
    s3.put("held", content)
    fb = forebay(s3.url, endpoint=weed.endpoint)
    held = readers.Held(fb.path("held"), scratch / "held.log")
    try:
        assert held.read(0, 1000)["sha256"] == hashlib.sha256(content[:1000]).hexdigest()
        fb.kill()
        answer = held.read(1_000_000, 1000)
        assert answer.get("errno") in ("ENOTCONN", "ECONNABORTED", "EIO") or answer == {
            "length": 1000,
            "sha256": hashlib.sha256(content[1_000_000:1_001_000]).hexdigest(),
        }
    finally:
        held.end()
