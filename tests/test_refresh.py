"""What changed at the origin is seen at once, through the kernel too, however long attributes hold: by `forebay refresh`, and by word
of the origin."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest

from support import readers
from support.data import body
from support.process import wait_until
from support.weed import Weed

TOKEN = "a-token-for-the-tests"
LARGE = 3 << 20


class FileOrigin:
    """A directory as the origin."""

    bucket = None

    def __init__(self, root):
        self.root = root
        # A key is the whole path.
        self.url, self.endpoint, self.prefix = f"file://{root}", None, f"{root}/".lstrip("/")

    def put(self, name: str, content: bytes):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        temporary = self.root / ".new"
        temporary.write_bytes(content)
        os.replace(temporary, self.root / name)

    def delete(self, name: str):
        (self.root / name).unlink()
        for directory in (self.root / name).parents:
            if directory == self.root or any(directory.iterdir()):
                break
            directory.rmdir()

    def names(self) -> list[str]:
        return sorted(os.listdir(self.root))


class S3Origin:
    """A prefix of a bucket as the origin."""

    def __init__(self, s3):
        self.url, self.endpoint, self.bucket, self.prefix = s3.url, s3.weed.endpoint, s3.bucket, s3.prefix
        self.put, self.delete, self.client = s3.put, s3.delete, s3.weed.s3

    def names(self) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, Delimiter="/")
        keys = [each["Prefix"] for each in listed["CommonPrefixes"]] + [each["Key"] for each in listed["Contents"]]
        return sorted(key.removeprefix(self.prefix).rstrip("/") for key in keys)


@pytest.fixture(params=["s3", "file"])
def origin(request, scratch):
    if request.param == "s3":
        return S3Origin(request.getfixturevalue("s3"))
    (scratch / "origin").mkdir()
    return FileOrigin(scratch / "origin")


@pytest.fixture
def token(scratch):
    """The flags of a process that takes events."""
    (scratch / "token").write_text(TOKEN + "\n")
    return ["--events-token", str(scratch / "token")]


def post(fb, source: str, document, token: str = TOKEN) -> tuple[int, str]:
    """Sends events to the admin port: status and text of the answer."""
    request = urllib.request.Request(
        f"http://{fb.ready['admin']}/v1/events/{source}",
        data=json.dumps(document).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="POST",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def records(origin, *events: tuple[str, str]) -> dict:
    """Events as AWS S3 and MinIO send them."""

    def record(name: str, key: str) -> dict:
        s3 = {"object": {"key": urllib.parse.quote_plus(origin.prefix + key)}}
        if origin.bucket:
            s3["bucket"] = {"name": origin.bucket}
        return {"eventVersion": "2.1", "eventName": name, "s3": s3}

    return {"Records": [record(name, key) for name, key in events]}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def by_refresh(fb, origin, changed, removed):
    done = fb.cli("refresh", "--json", *(f"/data/{name}" for name in [*changed, *removed]), check=True)
    for line in map(json.loads, done.stdout.splitlines()):
        assert (line["mounts"], line["mounts_late"]) == (1, 0), line


def by_refresh_of_all(fb, origin, changed, removed):
    assert "all below it forgotten" in fb.cli("refresh", "/data", "--recursive", check=True).stdout


def by_refresh_of_directories(fb, origin, changed, removed):
    directories = {f"/data/{name}".rpartition("/")[0] for name in [*changed, *removed]}
    for directory in sorted(directories):
        fb.cli("refresh", directory, check=True)


def by_webhook(fb, origin, changed, removed):
    events = [("ObjectCreated:Put", name) for name in changed] + [("ObjectRemoved:Delete", name) for name in removed]
    status, text = post(fb, "data", records(origin, *events, ("ObjectCreated:Put", "../elsewhere")))
    assert status == 200, text
    assert json.loads(text)["ignored"] == 1


@pytest.mark.parametrize("kind", ["files", "streams"])
@pytest.mark.parametrize("tell", [by_refresh, by_refresh_of_all, by_refresh_of_directories, by_webhook])
def test_changes_are_seen_at_once(origin, forebay, scratch, token, kind, tell):
    """With `ttl=1h` objects that changed, came and went are seen at once when that is told; what is open goes on with its old bytes."""
    old, new = body("old", LARGE), body("new", LARGE)
    for name in ("o", "d/x", "d/a b+ü", "gone", "empty/soon"):
        origin.put(name, old)
    fb = forebay(origin.url, endpoint=origin.endpoint, kind=kind, freshness="ttl=1h", flags=token)
    held = readers.Held(fb.path("o"), scratch / "held.log")
    held_below = readers.Held(fb.path("d/x"), scratch / "held.log")
    try:
        # All that is to change is known: to the catalog, to the kernel, and by listings.
        for each in (held, held_below):
            assert each.read(0, LARGE)["sha256"] == sha(old)
        assert sha(readers.read_file(fb.path("d/a b+ü"))) == sha(old)
        assert sorted(os.listdir(fb.mount)) == ["d", "empty", "gone", "o"]
        assert sorted(os.listdir(fb.path("d"))) == ["a b+ü", "x"]
        assert os.listdir(fb.path("empty")) == ["soon"]
        for absent in ("new", "d/new", "way/to"):
            assert not os.path.exists(fb.path(absent))
        changed, removed = ["o", "d/x", "d/a b+ü", "new", "d/new", "way/to/it"], ["gone", "empty/soon"]
        for name in changed:
            origin.put(name, new)
        for name in removed:
            origin.delete(name)
        # For an hour nobody would ask.
        assert sha(readers.read_file(fb.path("o"))) == sha(old)
        assert not os.path.exists(fb.path("new"))
        assert os.path.exists(fb.path("gone"))

        tell(fb, origin, changed, removed)
        for name in changed:
            assert sha(readers.read_file(fb.path(name))) == sha(new), name
        for name in removed:
            assert not os.path.exists(fb.path(name)), name
        assert sorted(os.listdir(fb.path("d"))) == ["a b+ü", "new", "x"]
        shown = set(os.listdir(fb.mount))
        assert shown - {"empty"} == {*origin.names()} - {"empty"}
        # The names of objects alone do not say that a directory has nothing left, and SeaweedFS lists it for a while all the same.
        assert tell is by_refresh or origin.bucket or "empty" not in shown
        for each in (held, held_below):
            assert each.read(0, LARGE) == {"length": LARGE, "sha256": sha(old)}, "an open file goes on with its bytes"
    finally:
        held.end()
        held_below.end()
    # What was told stays so over a crash.
    fb.kill()
    fb.restart()
    for name in changed:
        assert sha(readers.read_file(fb.path(name))) == sha(new), name
    for name in removed:
        assert not os.path.exists(fb.path(name)), name


def test_unchanged_bytes_are_not_fetched_again(s3, proxy, forebay):
    """A refresh forgets what is known of objects, not their bytes."""
    for n in range(20):
        s3.put(f"d/{n}", body(n, 50_000))
    fb = forebay(s3.url, endpoint=proxy.endpoint, freshness="immutable")
    for n in range(20):
        assert readers.read_file(fb.path(f"d/{n}")) == body(n, 50_000)
    proxy.reset()
    fb.cli("refresh", "/data", "--recursive", check=True)
    for n in range(20):
        assert readers.read_file(fb.path(f"d/{n}")) == body(n, 50_000)
    stats = proxy.stats()
    assert stats["data"] == 0 and stats["requests"] > 0, stats


def test_what_cannot_be_refreshed(s3, forebay):
    """A path that no source shows is said, and the others are done."""
    s3.put("o", b"x")
    fb = forebay(s3.url, endpoint=s3.weed.endpoint)
    done = fb.cli("refresh", "/nowhere/at/all", "/data/o")
    assert done.returncode == 1 and "source list" in done.stderr and "/data/o forgotten" in done.stdout, done
    assert post(fb, "data", {"Records": []})[0] == 403, "no token is set"


def test_who_lacks_the_token_is_refused(s3, forebay, token, scratch):
    """Without the token nothing is taken; it is in no answer, argument or log line."""
    fb = forebay(s3.url, endpoint=s3.weed.endpoint, flags=[*token, "--log", "debug,forebay=trace"])
    good = {"Records": []}
    for source, document, shown, status in [
        ("data", good, TOKEN, 200),
        ("data", good, TOKEN[:-1], 401),
        ("data", good, "", 401),
        ("data", {"what": "ever"}, TOKEN, 400),
        ("other", good, TOKEN, 404),
    ]:
        answer = post(fb, source, document, shown)
        assert answer[0] == status and TOKEN not in answer[1], answer
    assert fb.metrics()['forebay_webhook_requests_total{status="401"}'] == 2
    (scratch / "token").write_text("another-token-for-the-tests")
    assert post(fb, "data", good)[0] == 401, "another token from now on"
    assert TOKEN not in fb.log.read_text()
    assert TOKEN.encode() not in open(f"/proc/{fb.pid}/cmdline", "rb").read()


class Relay:
    """Passes what it is sent to a Forebay that was not there yet when the sender was told of this address."""

    def __init__(self):
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                shown = self.headers["Authorization"].removeprefix("Bearer ")
                answer = post(relay.forebay, "data", json.loads(sent), shown) if relay.forebay else (503, "")
                relay.answers.append((*answer, sent.decode()))
                self.send_response(answer[0])
                self.end_headers()

            def log_message(self, *_):
                pass

        self.forebay, self.answers = None, []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def telling_weed():
    """An S3 server that tells of changes, and what it tells to."""
    relay = Relay()
    webhook = f'[notification.webhook]\nenabled = true\nendpoint = "{relay.url}"\nbearer_token = "{TOKEN}"\n'
    server = Weed(notification=webhook)
    yield server, relay
    server.end()
    relay.end()


def test_a_real_server_tells_of_changes(telling_weed, forebay, token):
    """SeaweedFS sends its own events: a change is seen soon after it, though attributes hold for an hour."""
    weed, relay = telling_weed
    bucket = weed.bucket("told")
    put = lambda key, content: weed.s3.put_object(Bucket=bucket, Key=key, Body=content)  # noqa: E731
    put("d/a b+ü", b"old")
    put("e/last", b"old")
    fb = forebay(f"s3://{bucket}", endpoint=weed.endpoint, freshness="ttl=1h", flags=token)
    assert fb.path("d/a b+ü").read_bytes() == b"old"
    assert sorted(os.listdir(fb.mount)) == ["d", "e"] and os.listdir(fb.path("e")) == ["last"]
    assert not os.path.exists(fb.path("n/new"))
    relay.forebay = fb
    put("d/a b+ü", b"changed")
    put("n/new", b"new")
    weed.s3.delete_object(Bucket=bucket, Key="e/last")
    wait_until(lambda: fb.path("d/a b+ü").read_bytes() == b"changed", 10, "the changed object to be seen")
    wait_until(lambda: os.path.exists(fb.path("n/new")), 10, "the new object to be seen")
    wait_until(lambda: not os.path.exists(fb.path("e/last")), 10, "the removed object to go")
    assert os.listdir(fb.path("d")) == ["a b+ü"] and "n" in os.listdir(fb.mount)
    refused = [answer for answer in relay.answers if answer[0] not in (200, 503)]
    assert not refused, refused
