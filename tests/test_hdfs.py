"""HDFS, by Hadoop's own servers."""

from __future__ import annotations

import errno
import os
import uuid

import pytest

from support import hdfs, readers
from support.busy import Busy
from support.data import body
from support.origin_suite import Origin, OriginSuite


@pytest.fixture(scope="session")
def server():
    server = hdfs.Hdfs()
    yield server
    server.end()


class HdfsOrigin(Origin):
    many = 100

    def __init__(self, server):
        self.server = server
        self.folder = f"t x/{uuid.uuid4().hex[:12]}"
        self.url = f"{server.url}/{self.folder}"
        self.options = self.as_user(hdfs.SUPERUSER)

    def as_user(self, user: str) -> dict:
        return {"keys": None, "env": {"HADOOP_USER_NAME": user}}

    def at(self, address: str):
        return f"hdfs://{address}/{self.folder}", self.options

    def put(self, name: str, content: bytes):
        self.server.put(f"{self.folder}/{name}", content)

    def delete(self, name: str):
        self.server.delete(f"{self.folder}/{name}")


@pytest.fixture
def origin(server):
    return HdfsOrigin(server)


class TestHdfs(OriginSuite):
    pass


def test_listing_by_a_busy_name_node(origin, forebay):
    """The name node refuses the first page of a listing, or one in the middle, as one that is too busy does: all names are there."""
    names = [f"{number:03d}" for number in range(origin.many)]
    origin.put_all({f"d/{name}": b"x" for name in names})
    for first in (0, 1, 3):
        busy = Busy(origin.server.address, b"getListing", range(first, first + 2))
        try:
            url, options = origin.at(busy.address)
            fb = forebay(url, **options)
            assert sorted(os.listdir(fb.path("d"))) == names, f"refused from {first} on"
            assert busy.asked > first + 2
            retries = [value for name, value in fb.metrics().items() if name.startswith("forebay_origin_retries")]
            assert sum(retries) == 2
        finally:
            busy.end()


def test_listing_whose_place_is_gone(origin, forebay):
    """The name behind which an interrupted listing would go on is deleted meanwhile: an error that says so, and the next one is whole."""
    names = [f"{number:03d}" for number in range(origin.many)]
    origin.put_all({f"d/{name}": b"x" for name in names})
    last = names[hdfs.PAGE - 1]
    busy = Busy(origin.server.address, b"getListing", range(1, 2), before=lambda: origin.delete(f"d/{last}"))
    try:
        url, options = origin.at(busy.address)
        fb = forebay(url, **options)
        with pytest.raises(OSError) as raised:
            os.listdir(fb.path("d"))
        assert raised.value.errno == errno.EIO
        assert f'interrupted behind "{origin.folder}/d/{last}", which has gone' in fb.errors(), fb.errors()
        assert sorted(os.listdir(fb.path("d"))) == [name for name in names if name != last]
    finally:
        busy.end()


def test_user_without_rights(origin, forebay):
    """A file that its user may not read: EACCES, and a message that names the user and what to set."""
    origin.put("closed", b"x")
    origin.put("open", b"y")
    origin.server.ask("PUT", f"{origin.folder}/closed", "SETPERMISSION", permission="600")
    fb = forebay(origin.url, **origin.as_user("somebody"))
    assert readers.read_file(fb.path("open")) == b"y"
    assert readers.read_errno(fb.path("closed")) == "EACCES"
    assert "somebody" in fb.errors(), fb.errors()
    assert "HADOOP_USER_NAME" in fb.errors(), fb.errors()


def test_directory_without_rights(origin, forebay):
    """A directory that its user may not list: EACCES."""
    origin.put("closed/x", b"x")
    origin.server.ask("PUT", f"{origin.folder}/closed", "SETPERMISSION", permission="700")
    fb = forebay(origin.url, **origin.as_user("somebody"))
    with pytest.raises(PermissionError):
        os.listdir(fb.path("closed"))
    assert readers.read_errno(fb.path("closed/x")) == "EACCES"


def test_renamed_into_place(origin, forebay, scratch):
    """A file that another one is renamed over, as writers do: an open file never mixes the two."""
    content = body("old", 8 << 20)
    origin.put("o", content)
    fb = forebay(origin.url, freshness="ttl=1s", **origin.options)
    held = readers.Held(fb.path("o"), scratch / "held.log")
    try:
        assert held.read(0, 1000)["length"] == 1000
        origin.put("other", body("new", 8 << 20))
        origin.delete("o")
        target = f"/{origin.folder}/o".replace(" ", "%20")
        origin.server.ask("PUT", f"{origin.folder}/other", "RENAME", destination=target)
        assert held.read(7 << 20, 1000) == {"errno": "ESTALE"}
    finally:
        held.end()
