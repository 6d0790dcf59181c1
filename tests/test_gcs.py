"""Google Cloud Storage, by two emulators: one says which generation it answers with, the other does not."""

from __future__ import annotations

import os

import pytest

from support import gcs, readers
from support.data import body
from support.origin_suite import FAR, LARGE, Origin, OriginSuite


@pytest.fixture(scope="session")
def fake_gcs_server():
    server = gcs.fake_gcs_server()
    yield server
    server.end()


@pytest.fixture(scope="session")
def gcp_storage_emulator():
    server = gcs.gcp_storage_emulator()
    yield server
    server.end()


def anonymous(endpoint: str) -> dict:
    return {"endpoint": endpoint, "keys": None, "flags": ["--credentials", "anonymous"]}


class GcsOrigin(Origin):
    # One of them takes one request at a time.
    writers = 1

    def __init__(self, server, many: int = Origin.many):
        self.server, self.many = server, many
        self.bucket = server.bucket()
        self.url = f"gs://{self.bucket}/t x"
        self.options = anonymous(server.endpoint)

    def at(self, address: str):
        return self.url, anonymous(f"http://{address}")

    def put(self, name: str, content: bytes):
        self.server.put(self.bucket, f"t x/{name}", content)

    def delete(self, name: str):
        self.server.delete(self.bucket, f"t x/{name}")


@pytest.fixture(params=["fake_gcs_server", "gcp_storage_emulator"])
def origin(request):
    # The second knows no pages, and takes longer with each object that it has.
    many = Origin.many if request.param == "fake_gcs_server" else 200
    return GcsOrigin(request.getfixturevalue(request.param), many)


class TestGcs(OriginSuite):
    pass


def test_missing_bucket(origin, forebay):
    """A bucket that does not exist: EACCES, and the log names it."""
    fb = forebay("gs://no-such-bucket", **origin.options)
    assert readers.read_errno(fb.path("a")) == "EACCES"
    with pytest.raises(PermissionError):
        os.listdir(fb.mount)
    assert "no-such-bucket" in fb.errors()


def test_no_credentials(origin, forebay):
    """No credentials at all: EACCES, and a message that names the variable to set."""
    origin.put("a", b"x")
    fb = forebay(origin.url, **{**origin.options, "flags": []})
    assert readers.read_errno(fb.path("a")) == "EACCES"
    assert "GOOGLE_APPLICATION_CREDENTIALS" in fb.errors(), fb.errors()


def test_large_directory_by_many_listers(scratch, proxy_before, forebay):
    """A directory of many pages is listed by several requests at one time, each from a key of its own (`startOffset`)."""
    names = [f"{number:05d}" for number in range(0, 12_000, 2)]
    folder = scratch / "many" / "d"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    server = gcs.fake_gcs_server(scratch)
    try:
        proxy = proxy_before(server.address)
        proxy.faults({"fault": "latency", "ms": 30})
        fb = forebay("gs://many", **anonymous(proxy.endpoint))
        assert sorted(os.listdir(fb.path("d"))) == names
    finally:
        server.end()
    steals = sum(value for name, value in fb.metrics().items() if name.startswith("forebay_origin_list_steals"))
    assert steals > 0, "one lister did it all"


def change_under_an_open_file(origin, forebay, proxy, log) -> list[dict]:
    """Reads a file in two parts between which its object changes; gives what was asked of the origin for the second."""
    origin.put("o", body("old", LARGE))
    url, options = origin.at(proxy.address)
    fb = forebay(url, **options)
    held = readers.Held(fb.path("o"), log)
    try:
        assert held.read(0, 1000)["length"] == 1000
        origin.put("o", body("new", LARGE))
        proxy.reset()
        assert held.read(FAR, 1000) == {"errno": "ESTALE"}
    finally:
        held.end()
    return proxy.requests()


def test_a_change_is_seen_by_its_generation(fake_gcs_server, proxy_before, forebay, scratch):
    """A new object of the same size is told apart by the generation that the answer names."""
    proxy = proxy_before(fake_gcs_server.address)
    asked = change_under_an_open_file(GcsOrigin(fake_gcs_server), forebay, proxy, scratch / "held.log")
    assert any("ifGenerationMatch" in request["target"] for request in asked), asked


def test_an_answer_that_says_nothing_is_followed_by_a_stat(gcp_storage_emulator, proxy_before, forebay, scratch):
    """Where answers do not name their version and preconditions are ignored, a stat after each read finds the change."""
    proxy = proxy_before(gcp_storage_emulator.address)
    asked = change_under_an_open_file(GcsOrigin(gcp_storage_emulator), forebay, proxy, scratch / "held.log")
    assert any("alt=media" not in request["target"] for request in asked), asked
