"""A handle on a running `forebay up`: start, wait until ready, signal, kill, and always clean up its mount."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from . import weed
from .process import Child, forebay_binary, run

READY_SECONDS = 20
STOP_SECONDS = 10
SIGTERM = signal.SIGTERM


def mounts() -> list[str]:
    """The mount points of this machine (as the kernel writes them, decoded)."""
    with open("/proc/self/mountinfo") as f:
        return [line.split()[4].encode().decode("unicode_escape") for line in f]


def unmount(path: Path):
    """Takes a mount away whatever its state; never hangs."""
    for command in (["umount", str(path)], ["umount", "-l", str(path)], ["fusermount3", "-u", "-z", str(path)]):
        if str(path) not in mounts():
            return
        with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
            run(command, 5)


class NotReady(AssertionError):
    """The process ended, or said nothing, before it was ready."""

    def __init__(self, message: str, code: int | None, errors: str):
        super().__init__(f"{message}; standard error:\n{errors}")
        self.code = code
        self.errors = errors


class Forebay:
    """One `forebay up`, with directories of its own that outlive a restart.

    A watchdog kills the process when `limit` seconds have passed since its start: whoever is blocked in its mount then
    gets an error, so that no test can hang on it.
    """

    def __init__(self, origin: str | None, **options):
        self.base = Path(tempfile.mkdtemp(prefix="fb-"))
        self.base.chmod(0o755)
        self.mount = self.base / "mnt"
        self.mount.mkdir()
        self.runtime = self.base / "run"
        self.runtime.mkdir()
        self.socket = self.runtime / "node.sock"
        self.log = self.base / "forebay.log"
        self.origin = origin
        self.child: Child | None = None
        self.ready: dict = {}
        self.start_seconds = 0.0
        self._watchdog: threading.Timer | None = None
        self.configure(**options)

    def configure(
        self,
        *,
        cache: str | list[tuple[Path, str]] = "4GiB",
        kind: str | None = None,
        freshness: str | None = None,
        endpoint: str | None = None,
        keys: tuple[str, str] | None = (weed.ACCESS_KEY, weed.SECRET_KEY),
        settings: dict[str, str] | None = None,
        flags: list[str] | None = None,
        env: dict[str, str] | None = None,
        command: list[str] | None = None,
        preexec=None,
        name: str = "data",
        limit: float = 100,
    ):
        """Sets what the next start uses. `settings` are FOREBAY_* variables without their prefix."""
        self.caches = [(self.base / "cache", cache)] if isinstance(cache, str) else cache
        self.kind, self.freshness, self.endpoint, self.name = kind, freshness, endpoint, name
        self.flags, self.wrapper, self.preexec, self.limit = flags or [], command or [], preexec, limit
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin",
            "HOME": str(self.base),
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.runtime),
            "AWS_EC2_METADATA_DISABLED": "true",
            "RUST_BACKTRACE": "1",
        }
        if keys is not None:
            self.env |= {"AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1]}
        self.env |= {f"FOREBAY_{name}": value for name, value in (settings or {}).items()} | (env or {})

    def command(self) -> list[str]:
        origin = [] if self.origin is None else [self.origin, "--name", self.name]
        command = [*self.wrapper, forebay_binary(), "up", *origin, "--mount", str(self.mount)]
        for directory, size in self.caches:
            command += ["--cache", f"{directory}:{size}"]
        command += ["--admin", "127.0.0.1:0", "--socket", str(self.socket), "--json"]
        if self.kind:
            command += ["--kind", self.kind]
        if self.freshness:
            command += ["--freshness", self.freshness]
        if self.endpoint:
            command += ["--endpoint", self.endpoint, "--region", weed.REGION, "--path-style"]
        return command + self.flags

    def start(self, seconds: float = READY_SECONDS) -> Forebay:
        """Starts it and waits for its ready line; NotReady when it ends first or stays silent."""
        begun = time.monotonic()
        self.child = Child(self.command(), self.log, env=self.env, cwd=self.base, preexec=self.preexec)
        self._watchdog = threading.Timer(self.limit, self.child.signal, [signal.SIGKILL])
        self._watchdog.daemon = True
        self._watchdog.start()
        while True:
            try:
                line = self.child.line(max(0.1, seconds - (time.monotonic() - begun)))
            except TimeoutError as error:
                self.child.end(grace=1)
                raise NotReady(f"no ready line within {seconds:g} s", None, str(error)) from None
            if line is None:
                code = self.child.wait(15)
                raise NotReady(f"it ended with exit code {code} before it was ready", code, self.errors())
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and event.get("event") == "ready":
                    self.ready = event
                    self.start_seconds = time.monotonic() - begun
                    return self

    def errors(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.running

    def signal(self, number: int):
        assert self.child is not None
        self.child.signal(number)

    def kill(self):
        """kill -9, as a crash would."""
        self.signal(signal.SIGKILL)
        self.child.wait(10)

    def stop(self, seconds: float = STOP_SECONDS, number: int = SIGTERM) -> float:
        """Asks it to stop, asserts that it ends well within `seconds`, and returns how long it took."""
        begun = time.monotonic()
        self.signal(number)
        try:
            code = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it had not stopped {seconds:g} s after signal {number}:\n{self.child.tail()}") from None
        took = time.monotonic() - begun
        assert code == 0, f"it stopped with exit code {code}:\n{self.child.tail()}"
        assert str(self.mount) not in mounts(), "it stopped and left its mount behind"
        return took

    def restart(self, **options) -> Forebay:
        """Starts it again on the same directories."""
        if self._watchdog:
            self._watchdog.cancel()
        if options:
            self.configure(**options)
        return self.start()

    def end(self):
        """Cleans up whatever is left of it."""
        if self._watchdog:
            self._watchdog.cancel()
        if self.child:
            self.child.end(grace=STOP_SECONDS + 2)
        unmount(self.mount)
        if str(self.mount) not in mounts():
            shutil.rmtree(self.base, ignore_errors=True)

    # What a user sees of it.

    def path(self, name: str = "") -> Path:
        return self.mount / name

    def cli(self, *arguments: str, seconds: float = 30, text: bool = True, check: bool = False):
        """Runs a command against this process."""
        command = [forebay_binary(), "--node", str(self.socket), *arguments]
        done = run(command, seconds, env=self.env, text=text)
        if check:
            assert done.returncode == 0, f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
        return done

    def http(self, path: str, seconds: float = 10) -> str:
        """GET on the admin port."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.ready['admin']}{path}", timeout=seconds) as answer:
            return answer.read().decode()

    def metrics(self) -> dict[str, float]:
        """All samples of /metrics: `name{labels}` to value."""
        samples = {}
        for line in self.http("/metrics").splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def status(self) -> dict:
        return json.loads(self.cli("status", "--json", check=True).stdout)

    def resident_bytes(self) -> int:
        """Bytes that the caches hold."""
        return self.status()["store"]["resident_bytes"]

    def memory(self) -> dict[str, int]:
        """Bytes of RssAnon, VmHWM and so on, from /proc."""
        fields = {}
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if value.strip().endswith(" kB"):
                fields[name] = int(value.split()[0]) * 1024
        return fields

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))
