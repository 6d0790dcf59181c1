"""Origins that refuse, fail, stall, lie about lengths, or are not there. Every wait ends, and no wrong byte is read."""

from __future__ import annotations

import os
import time

import pytest

from support import readers
from support.data import body
from support.process import free_port, wait_until

# A short deadline, so that the tests see it pass.
DEADLINE = {"ORIGIN_DEADLINE": "3s"}
SILENT = ("ETIMEDOUT", "EIO")


def test_wrong_keys(weed, s3, forebay):
    """Wrong keys: EACCES, and a message that says what the origin answered and never shows the secret."""
    s3.put("a", b"x")
    fb = forebay(s3.url, endpoint=weed.endpoint, keys=("nobody", "wrongsecretvalue"))
    assert readers.read_errno(fb.path("a")) == "EACCES"
    with pytest.raises(PermissionError):
        os.listdir(fb.mount)
    log = fb.errors()
    assert "InvalidAccessKeyId" in log or "AccessDenied" in log or "403" in log or "denied" in log.lower(), log
    assert "wrongsecretvalue" not in log


def test_wrong_secret(weed, s3, forebay):
    """A wrong secret for a right key: EACCES."""
    s3.put("a", b"x")
    fb = forebay(s3.url, endpoint=weed.endpoint, keys=("forebaytests", "wrongsecretvalue"))
    assert readers.read_errno(fb.path("a")) == "EACCES"
    assert "wrongsecretvalue" not in fb.errors()


def test_missing_bucket(weed, forebay):
    """A bucket that does not exist: reads fail at once, and the log names the bucket."""
    fb = forebay("s3://no-such-bucket-here", endpoint=weed.endpoint)
    begun = time.monotonic()
    assert readers.read_errno(fb.path("a")) in ("ENOENT", "EACCES")
    assert time.monotonic() - begun < 10
    with pytest.raises(OSError):
        os.listdir(fb.mount)
    assert "no-such-bucket-here" in fb.errors()


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "InvalidObjectState"), (403, "AccessDenied"), (400, "KMS.DisabledException"), (403, "AllAccessDisabled")],
)
def test_refused_objects(keyserver, forebay, status, code):
    """Archived objects, disabled keys and denied requests: EACCES, with the origin's code in the log."""
    keyserver.put("a", b"x" * 1000)
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    assert os.listdir(fb.mount) == ["a"]
    keyserver.errors["a"] = (status, code)
    assert readers.read_errno(fb.path("a")) in ("EACCES", "EIO")
    assert code in fb.errors()


def test_requester_pays(keyserver, forebay):
    """With --requester-pays every request says that the requester pays."""
    keyserver.put("a", b"x")
    fb = forebay("s3://keys", endpoint=keyserver.endpoint, flags=["--requester-pays"])
    assert readers.read_file(fb.path("a")) == b"x"
    headers = [{name.lower(): value for name, value in sent.items()} for sent in keyserver.headers]
    assert headers
    assert all(sent.get("x-amz-request-payer") == "requester" for sent in headers)


def test_down_at_start(s3, proxy, forebay):
    """An origin that is down at the start: the mount comes up, reads fail in time, and work without a restart when it returns."""
    s3.put("a", b"content")
    proxy.faults({"fault": "down"})
    fb = forebay(s3.url, endpoint=proxy.endpoint, settings=DEADLINE)
    begun = time.monotonic()
    assert readers.read_errno(fb.path("a")) in SILENT
    assert time.monotonic() - begun < 10
    proxy.faults()
    wait_until(lambda: reads(fb.path("a")), 10, "the mount to recover")
    assert readers.read_file(fb.path("a")) == b"content"


def test_refused_connection_at_start(forebay):
    """An endpoint where nobody listens: the mount comes up and reads fail in time."""
    fb = forebay("s3://bucket", endpoint=f"http://127.0.0.1:{free_port()}", settings=DEADLINE)
    begun = time.monotonic()
    assert readers.read_errno(fb.path("a")) in SILENT
    assert time.monotonic() - begun < 10


def reads(path) -> bool:
    try:
        readers.read_file(path)
        return True
    except AssertionError:
        return False


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_dying_in_the_middle(s3, proxy, forebay, kind):
    """An origin that dies: what is cached goes on, what is not fails in time, and all works again when it returns."""
    s3.put("cached", body("cached", 200_000))
    s3.put("cold", body("cold", 200_000))
    fb = forebay(s3.url, endpoint=proxy.endpoint, settings=DEADLINE, kind=kind, freshness="immutable")
    assert sorted(os.listdir(fb.mount)) == ["cached", "cold"]
    assert readers.read_file(fb.path("cached")) == body("cached", 200_000)
    proxy.faults({"fault": "down"})
    begun = time.monotonic()
    assert readers.read_errno(fb.path("cold")) in SILENT
    assert time.monotonic() - begun < 12
    assert readers.read_file(fb.path("cached")) == body("cached", 200_000)
    proxy.faults()
    wait_until(lambda: reads(fb.path("cold")), 10, "the mount to recover")
    assert readers.read_file(fb.path("cold")) == body("cold", 200_000)


@pytest.mark.parametrize("fault", [{"fault": "hang"}, {"fault": "stall", "after": 1000, "data": True}])
def test_silence_ends(s3, proxy, forebay, fault):
    """An origin that never answers: the read fails with ETIMEDOUT when the deadline has passed, and works when it returns."""
    s3.put("a", body("a", 500_000))
    fb = forebay(s3.url, endpoint=proxy.endpoint, settings=DEADLINE)
    assert os.listdir(fb.mount) == ["a"]
    proxy.faults(fault)
    begun = time.monotonic()
    assert readers.read_errno(fb.path("a")) == "ETIMEDOUT"
    took = time.monotonic() - begun
    # The kernel asks twice: with its read-ahead, and without.
    assert 1 < took < 12, f"the read failed after {took:.1f} s; the deadline is 3 s"
    proxy.faults()
    assert readers.read_file(fb.path("a")) == body("a", 500_000)


BODY_FAULTS = {
    "reset": {"fault": "reset", "after": 70_000, "count": 3},
    "reset at once": {"fault": "reset", "after": 0, "count": 3},
    "truncated": {"fault": "truncate", "after": 70_000, "count": 3},
    "truncated by half": {"fault": "truncate", "after": 500_000, "share": 0.3},
    "stalled": {"fault": "stall", "after": 70_000, "count": 1},
    "throttled": {"fault": "throttle", "share": 0.3},
    "failing": {"fault": "status", "status": 500, "count": 3},
}


@pytest.mark.parametrize("name", BODY_FAULTS)
def test_right_bytes_in_the_end(s3, proxy, forebay, name):
    """Answers that are reset, cut short, stalled, throttled or failed are tried again: readers see right bytes, only later."""
    files = {"small": body("small", 100_000), "large": body("large", 12_345_678)}
    for file, content in files.items():
        s3.put(file, content)
    fb = forebay(s3.url, endpoint=proxy.endpoint, settings={"ORIGIN_DEADLINE": "25s"})
    assert sorted(os.listdir(fb.mount)) == sorted(files)
    proxy.faults({**BODY_FAULTS[name], "data": True})
    for file, content in files.items():
        assert readers.read_file(fb.path(file), seconds=60) == content, f"{file} was read wrong"
    struck = sum(proxy.stats()["faults"].values())
    assert struck > 0, "the fault struck no request: the test proves nothing"


def test_throttled_for_ever(s3, proxy, forebay):
    """An origin that answers nothing but SlowDown: the read fails in time, and it is not flooded with requests."""
    s3.put("a", b"x" * 1000)
    fb = forebay(s3.url, endpoint=proxy.endpoint, settings=DEADLINE)
    assert os.listdir(fb.mount) == ["a"]
    proxy.faults({"fault": "throttle"})
    proxy.reset()
    begun = time.monotonic()
    assert readers.read_errno(fb.path("a")) in SILENT
    assert time.monotonic() - begun < 10
    assert proxy.stats()["requests"] < 60, f"it asked again and again: {proxy.stats()['requests']} requests in 3 s"


def test_latency_is_overlapped(s3, proxy, forebay):
    """A slow origin is asked in parallel: reading a large file costs far less than one wait for each page."""
    content = body("latency", 64 << 20)
    s3.put("a", content)
    fb = forebay(s3.url, endpoint=proxy.endpoint)
    assert os.listdir(fb.mount) == ["a"]
    proxy.faults({"fault": "latency", "ms": 200})
    begun = time.monotonic()
    assert readers.read_file(fb.path("a"), seconds=60) == content
    took = time.monotonic() - begun
    assert took < 64 * 0.2 / 2, f"64 pages at 200 ms each took {took:.1f} s"
