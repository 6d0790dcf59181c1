"""Azure Blob Storage, by Azurite."""

from __future__ import annotations

import os

import pytest

from support import azurite, readers
from support.data import body
from support.origin_suite import FAR, LARGE, Origin, OriginSuite


@pytest.fixture(scope="session")
def server():
    server = azurite.Azurite()
    yield server
    server.end()


class AzureOrigin(Origin):
    def __init__(self, server, public: bool = False):
        self.server = server
        self.container = server.container(public)
        self.url = f"az://{self.container.container_name}/t x"
        self.options = self.with_key(azurite.KEY)

    def with_key(self, key: str, endpoint: str | None = None) -> dict:
        env = {"AZURE_STORAGE_ACCOUNT_NAME": azurite.ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": key}
        return {"endpoint": endpoint or self.server.endpoint, "keys": None, "env": env}

    def at(self, address: str):
        return self.url, self.with_key(azurite.KEY, f"http://{address}/{azurite.ACCOUNT}")

    def put(self, name: str, content: bytes):
        self.container.upload_blob(f"t x/{name}", content, overwrite=True)

    def delete(self, name: str):
        self.container.delete_blob(f"t x/{name}")


@pytest.fixture
def origin(server):
    return AzureOrigin(server)


class TestAzure(OriginSuite):
    pass


def test_wrong_key(origin, forebay):
    """A wrong account key: EACCES, and a message that says what to check and never shows the key."""
    origin.put("a", b"x")
    fb = forebay(origin.url, **origin.with_key(azurite.WRONG_KEY))
    assert readers.read_errno(fb.path("a")) == "EACCES"
    with pytest.raises(PermissionError):
        os.listdir(fb.mount)
    assert "AZURE_STORAGE_ACCOUNT_KEY" in fb.errors(), fb.errors()
    assert azurite.WRONG_KEY not in fb.errors()


def test_no_credentials(origin, forebay):
    """No credentials at all: EACCES, and a message that names the variables to set."""
    origin.put("a", b"x")
    fb = forebay(origin.url, **{**origin.options, "env": {}})
    assert readers.read_errno(fb.path("a")) == "EACCES"
    assert "AZURE_STORAGE_ACCOUNT_KEY" in fb.errors(), fb.errors()


def test_anonymous(server, forebay):
    """A public container is read and listed with `--credentials anonymous`; a private one is EACCES."""
    for public in (True, False):
        origin = AzureOrigin(server, public)
        origin.put("a", b"x")
        fb = forebay(origin.url, **{**origin.options, "env": {}, "flags": ["--credentials", "anonymous"]})
        if public:
            assert os.listdir(fb.mount) == ["a"]
            assert readers.read_file(fb.path("a")) == b"x"
        else:
            assert readers.read_errno(fb.path("a")) == "EACCES"


def test_missing_container(origin, forebay):
    """A container that does not exist: EACCES, and the log names it."""
    fb = forebay("az://no-such-container", **origin.options)
    assert readers.read_errno(fb.path("a")) == "EACCES"
    with pytest.raises(PermissionError):
        os.listdir(fb.mount)
    assert "no-such-container" in fb.errors()


def test_a_change_is_seen_by_its_etag(origin, forebay, scratch):
    """A new blob of the same size and the same second is told apart from the old one by its etag."""
    origin.put("o", body("old", LARGE))
    fb = forebay(origin.url, **origin.options)
    held = readers.Held(fb.path("o"), scratch / "held.log")
    try:
        assert held.read(0, 1000)["length"] == 1000
        origin.put("o", body("new", LARGE))
        assert held.read(FAR, 1000) == {"errno": "ESTALE"}
    finally:
        held.end()
