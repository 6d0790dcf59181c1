"""Child processes that always end, and ports that are free."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache"


def program(name: str) -> str:
    """The path of an outside program: from the virtual environment, else from PATH; a clear failure without it."""
    venv = REPOSITORY / ".venv" / "bin" / name
    if venv.exists():
        return str(venv)
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"the program {name!r} is missing: run scripts/setup.sh test")
    return found


def built(name: str, variable: str) -> str:
    """The path of a program of this repository's own."""
    default = REPOSITORY / (os.environ.get("CARGO_TARGET_DIR") or "target") / "release" / name
    path = Path(os.environ.get(variable) or default)
    if not path.exists():
        raise RuntimeError(f"{path} is missing: run cargo build --release --workspace, or set {variable}")
    return str(path)


def forebay_binary() -> str:
    return built("forebay", "FOREBAY_BIN")


# Below the range from which the kernel gives ports to connections (32,768 and up): none of them takes one meanwhile.
SERVER_PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now. For servers that cannot pick them themselves."""
    found = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            port = random.choice(SERVER_PORTS)
            attempt = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                attempt.bind(("127.0.0.1", port))
                found.append(port)
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    return free_ports(1)[0]


def wait_until(condition, seconds: float, what: str, every: float = 0.05):
    """Polls until `condition()` is true and returns its value; fails after `seconds`, naming what was waited for."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s in vain for: {what}")
        time.sleep(every)


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Child:
    """A child process in a session of its own. Its standard output comes line by line, its errors go to a file."""

    def __init__(self, command: list[str], log: Path, env: dict | None = None, cwd: Path | None = None, preexec=None):
        self.command = command
        self.log = log
        self._errors = open(log, "ab")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=env,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=preexec,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self):
        for line in self.process.stdout:
            text = line.decode(errors="replace").rstrip("\n")
            self.lines.append(text)
            self._queue.put(text)
        self._queue.put(None)

    def line(self, seconds: float) -> str | None:
        """The next line of its output; None when it has closed it. TimeoutError after `seconds`."""
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"{self.command[0]} printed nothing for {seconds:g} s; its log:\n{self.tail()}") from None

    def tail(self, n: int = 60) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-n:])
        return ""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        return self.process.wait(timeout=seconds)

    def end(self, grace: float = 12):
        """Ends it: SIGTERM, and SIGKILL to the whole session after `grace` seconds."""
        if self.running:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        self._errors.close()


def run(command: list[str], seconds: float, **options) -> subprocess.CompletedProcess:
    """Runs a command to its end. After `seconds` it and what it started are killed (readers of a hung mount too), and
    TimeoutExpired is raised."""
    if options.setdefault("text", True):
        options.setdefault("errors", "replace")
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)
