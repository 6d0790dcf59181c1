"""Between Forebay and the origin: TLS by a private authority, and proxies."""

from __future__ import annotations

import time

import pytest

from support import readers
from support.data import body
from support.forward import Forward
from support.nginx import Nginx
from support.process import program, run

USER = "trainer:tests-proxy-secret"


@pytest.fixture
def authority(scratch):
    """The certificate of a private authority (PEM), and of 127.0.0.1 with its key, signed by it."""

    def openssl(*arguments: str):
        done = run([program("openssl"), *arguments], 20, cwd=scratch)
        assert done.returncode == 0, done.stderr

    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=tests"
    )
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (scratch / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.pem",
        "-days", "2", "-extfile", "ext",
    )  # fmt: skip
    return scratch


@pytest.fixture
def tls(authority, weed):
    """nginx with a certificate of the private authority, before the S3 server and over files of its own (`/files`)."""
    server = Nginx(certificate=(authority / "server.pem", authority / "server.key"), before=weed.endpoint)
    yield server
    server.end()


@pytest.fixture
def forward():
    """A factory of forward proxies."""
    made: list[Forward] = []

    def make(user: str | None = None) -> Forward:
        made.append(Forward(user))
        return made[-1]

    yield make
    for proxy in made:
        proxy.end()


def denied(fb, name: str) -> str:
    """Reads `name`, which must be refused in time, and returns the log."""
    assert readers.read_errno(fb.path(name)) == "EACCES"
    return fb.errors()


def test_private_authority(s3, tls, authority, forebay):
    """An origin whose certificate is signed by a private authority is read once `origin.ca_file` names it."""
    data = body("tls", 3_000_000)
    s3.put("a", data)
    fb = forebay(s3.url, endpoint=tls.url, settings={"ORIGIN_CA_FILE": str(authority / "ca.pem")})
    assert readers.read_file(fb.path("a")) == data


def test_unknown_authority(s3, tls, forebay):
    """Without it every read fails with EACCES, and the log says what to set."""
    s3.put("a", b"x")
    fb = forebay(s3.url, endpoint=tls.url)
    log = denied(fb, "a")
    assert "certificate" in log and "ca_file" in log
    assert "rustls" not in log, "one line tells it, and not a library's"


def test_web_server_with_private_authority(tls, authority, forebay):
    """The same for an https:// object."""
    data = body("web", 200_000)
    (tls.root / "files").mkdir()
    (tls.root / "files" / "object").write_bytes(data)
    fb = forebay(f"{tls.url}/files/object", settings={"ORIGIN_CA_FILE": str(authority / "ca.pem")})
    assert readers.read_file(fb.path("object")) == data


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy(scheme, s3, weed, tls, authority, forebay, forward):
    """HTTP_PROXY and HTTPS_PROXY are obeyed, with the credentials in them, which no log shows; NO_PROXY goes past them."""
    data = body("proxy", 2_000_000)
    s3.put("a", data)
    proxy = forward(USER)
    endpoint = weed.endpoint if scheme == "http" else tls.url
    settings = {"ORIGIN_CA_FILE": str(authority / "ca.pem")}
    fb = forebay(s3.url, start=False, endpoint=endpoint, settings=settings)
    fb.env |= {f"{scheme.upper()}_PROXY": f"http://{USER}@{proxy.address}"}
    fb.start()
    assert readers.read_file(fb.path("a")) == data
    assert any(line.startswith("CONNECT " if scheme == "https" else "GET http://") for line in proxy.asked)
    assert USER.partition(":")[2] not in fb.errors()
    fb.stop()
    asked = len(proxy.asked)
    fb.env |= {"NO_PROXY": "127.0.0.1"}
    s3.put("b", data)
    fb.start()
    assert readers.read_file(fb.path("b")) == data
    assert len(proxy.asked) == asked, "NO_PROXY was not obeyed"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_wants_credentials(scheme, s3, weed, tls, authority, forebay, forward):
    """A proxy that wants credentials: EACCES, and the log says where to give them."""
    s3.put("a", b"x")
    proxy = forward(USER)
    endpoint = weed.endpoint if scheme == "http" else tls.url
    fb = forebay(s3.url, start=False, endpoint=endpoint, settings={"ORIGIN_CA_FILE": str(authority / "ca.pem")})
    fb.env |= {f"{scheme.upper()}_PROXY": f"http://wrong:{USER.partition(':')[2]}@{proxy.address}"}
    fb.start()
    log = denied(fb, "a")
    assert "proxy" in log and "HTTPS_PROXY" in log
    assert USER.partition(":")[2] not in log


def test_dead_proxy(s3, weed, forebay):
    """A proxy that does not answer: EIO or ETIMEDOUT within the deadline, never a read past it."""
    s3.put("a", b"x")
    fb = forebay(s3.url, start=False, endpoint=weed.endpoint, settings={"ORIGIN_DEADLINE": "3s"})
    fb.env |= {"HTTP_PROXY": "http://127.0.0.1:1"}
    fb.start()
    begun = time.monotonic()
    assert readers.read_errno(fb.path("a")) in ("EIO", "ETIMEDOUT")
    assert time.monotonic() - begun < 10
