"""Fixtures: real servers, the proxy with faults, and a factory of running Forebays. See support/."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import uuid
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support.origin_suite")

from support import data
from support.forebay import Forebay
from support.keyserver import KeyServer
from support.nginx import Nginx
from support.process import forebay_binary
from support.proxy import Proxy
from support.weed import Weed

os.environ.pop("http_proxy", None)
os.environ.pop("HTTP_PROXY", None)


# Names of counters that tell why a test may have failed.
TELLING = re.compile("retries|errors|resumed|damaged|not_kept|overflowed")


def pytest_sessionstart(session):
    # Ended from outside, it still unmounts and ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", returncode=1))
    if not os.path.exists("/dev/fuse"):
        pytest.exit("/dev/fuse is missing: these tests mount file systems", returncode=1)
    if os.geteuid() != 0:
        pytest.exit("these tests need root: they mount small disks, change users and set cgroup limits", returncode=1)
    try:
        forebay_binary()
    except RuntimeError as error:
        pytest.exit(str(error), returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.failed:
        for running in getattr(item, "forebays", []):
            report.sections.append((f"log of forebay up {running.origin}", running.errors()[-8000:]))
            # It may be dead, or answer nothing any more.
            with contextlib.suppress(Exception):
                told = {name: value for name, value in running.metrics().items() if value and TELLING.search(name)}
                report.sections.append(("its counters of what went wrong", "\n".join(f"{n} {v:g}" for n, v in told.items())))
    return report


@pytest.fixture(scope="session")
def weed():
    """A real S3 server for the whole session."""
    server = Weed()
    yield server
    server.end()


@pytest.fixture(scope="session")
def shared_bucket(weed) -> str:
    return weed.bucket("tests")


@pytest.fixture
def prefix() -> str:
    """A prefix in the shared bucket that is this test's own."""
    return f"t{uuid.uuid4().hex[:10]}/"


class S3Source:
    """Objects of one test: puts and deletes at the origin, behind the proxy or not."""

    def __init__(self, weed: Weed, bucket: str, prefix: str):
        self.weed, self.bucket, self.prefix = weed, bucket, prefix
        self.url = f"s3://{bucket}/{prefix}"

    def put(self, name: str, body: bytes):
        self.weed.s3.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=body)

    def delete(self, name: str):
        self.weed.s3.delete_object(Bucket=self.bucket, Key=self.prefix + name)


@pytest.fixture
def s3(weed, shared_bucket, prefix) -> S3Source:
    return S3Source(weed, shared_bucket, prefix)


@pytest.fixture
def scratch():
    """A directory of the test's own, readable by every user, with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="fb-s-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def proxy_before(scratch):
    """A factory: the proxy before an address."""
    proxies = []

    def make(address: str) -> Proxy:
        proxies.append(Proxy(address, scratch / f"proxy{len(proxies)}.log"))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.end()


@pytest.fixture
def proxy(weed, proxy_before) -> Proxy:
    """The proxy before the S3 server."""
    return proxy_before(weed.address)


@pytest.fixture
def nginx():
    server = Nginx()
    yield server
    server.end()


@pytest.fixture
def keyserver():
    """An S3 server that holds any key."""
    server = KeyServer()
    yield server
    server.end()


@pytest.fixture
def forebay(request):
    """A factory of running Forebays: `forebay(origin, **options)`; `start=False` gives one that is not started."""
    made: list[Forebay] = []
    request.node.forebays = made

    def make(origin: str | None, start: bool = True, **options) -> Forebay:
        made.append(Forebay(origin, **options))
        return made[-1].start() if start else made[-1]

    yield make
    for running in reversed(made):
        running.end()


@pytest.fixture(scope="session")
def jpegs() -> Path:
    return data.jpegs()


@pytest.fixture(scope="session")
def clipart() -> Path:
    return data.clipart()
