"""Reads through a mount from processes of their own, so that a read that never ends is a failed test and not a hung one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from .process import Child, run

READER = str(Path(__file__).with_name("reader.py"))


def read_file(path, seconds: float = 20) -> bytes:
    """The whole file; OSError's errno name in an AssertionError when it cannot be read."""
    done = run([sys.executable, READER, "cat", str(path)], seconds, text=False)
    assert done.returncode == 0, f"reading {path} failed: {(done.stdout[-300:] + done.stderr[-2000:]).decode(errors='replace')}"
    return done.stdout


def read_part(path, offset: int, length: int, seconds: float = 20) -> bytes:
    done = run([sys.executable, READER, "at", str(path), str(offset), str(length)], seconds, text=False)
    assert done.returncode == 0, f"reading {path} at {offset} failed: {done.stdout[-300:]!r} {done.stderr[-2000:]!r}"
    return done.stdout


def read_errno(path, seconds: float = 20) -> str:
    """The errno name with which reading the file fails."""
    done = run([sys.executable, READER, "sum", str(path)], seconds)
    assert done.returncode == 1, f"reading {path} was expected to fail, and gave: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)["errno"]


def ask(*arguments, seconds: float = 60):
    """Runs a way of reader.py whose answer is one JSON line; a failure shows what it said."""
    done = run([sys.executable, READER, *map(str, arguments)], seconds)
    assert done.returncode == 0, f"{arguments[0]} failed: {done.stdout[-500:]}{done.stderr[-2000:]}"
    return json.loads(done.stdout)


def together(*commands, seconds: float = 120) -> list[dict]:
    """Runs several ways of reader.py at the same time; all must do well."""
    children = [
        subprocess.Popen(
            [sys.executable, READER, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    answers = []
    end = time.monotonic() + seconds
    try:
        for command, child in zip(commands, children):
            out, err = child.communicate(timeout=max(0.1, end - time.monotonic()))
            assert child.returncode == 0, f"{command[0]} failed: {out[-500:]}{err[-2000:]}"
            answers.append(json.loads(out))
    finally:
        for child in children:
            child.kill()
    return answers


class Held:
    """A file that another process holds open, and reads parts of when asked."""

    def __init__(self, path, log: Path, seconds: float = 20):
        self.process = subprocess.Popen(
            [sys.executable, READER, "hold", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(log, "ab"),
            text=True,
        )
        self.seconds = seconds
        self.size = self._answer()["size"]

    def _answer(self) -> dict:
        import threading

        timer = threading.Timer(self.seconds, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        assert line, f"a read did not end within {self.seconds:g} s"
        answer = json.loads(line)
        assert "what" not in answer, answer
        return answer

    def read(self, offset: int, length: int) -> dict:
        """{"length", "sha256"} or {"errno"}."""
        self.process.stdin.write(f"{offset} {length}\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self):
        self.process.kill()
        self.process.wait(10)


def blocked_reader(path, log: Path) -> Child:
    """A process that reads a file and is expected to wait."""
    return Child([sys.executable, READER, "sum", str(path)], log)
