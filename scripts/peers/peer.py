"""A peer: a mount over the ground that starts with empty caches and goes away without a trace."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from support.forebay import mounts, unmount
from support.process import Child, wait_until

from .ground import Ground

START_SECONDS = 30
CACHE_MIB = 20 * 1024


class Peer:
    """One system under test. `start` gives the folder that holds the tree; `stop` leaves nothing of it, caches neither."""

    name = ""
    # Minutes that it may take in all; a row that is not measured by then says so.
    minutes = 5.0
    # For so long at most it reads other files before each cold pass.
    before_seconds = 5.0
    # Whether the hot rows are of it too.
    hot = True
    # What its rows have to say beside the figures.
    remark = ""

    def __init__(self, ground: Ground):
        self.ground = ground
        self.base = ground.scratch / self.name
        self.base.mkdir()
        self.mount = self.base / "mnt"
        self.cache = self.base / "cache"
        self.log = self.base / "log"
        self.child: Child | None = None

    def version(self) -> str:
        raise NotImplementedError

    def settings(self) -> list[str]:
        """What it is started with, as a person would type it."""
        raise NotImplementedError

    def prepare(self):
        """What is done once, before the first start."""

    def start(self, latency: int, big: bool) -> Path:
        """Starts it with empty caches over an origin of that latency. `big`: large files are to be read."""
        raise NotImplementedError

    def stop(self):
        unmount(self.mount)
        if self.child:
            self.child.end(grace=5)
            self.child = None
        unmount(self.mount)
        if str(self.mount) not in mounts():
            shutil.rmtree(self.cache, ignore_errors=True)

    def end(self):
        """After the last stop: what `prepare` has started."""

    def said(self) -> str:
        """The last that it wrote to its log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-400:].strip()
        return ""

    # For those that mount in the foreground.

    def fresh(self):
        self.log.unlink(missing_ok=True)
        self.mount.mkdir(exist_ok=True)
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()

    def mounted(self, command: list[str], env: dict[str, str], seconds: float = START_SECONDS) -> Path:
        """Runs `command` in the foreground until the tree can be seen below its mount point."""
        self.child = Child(command, self.log, env=env, cwd=self.base)

        def usable() -> bool:
            if not self.child.running:
                raise RuntimeError(f"it ended with exit code {self.child.process.returncode}: {self.words()}")
            return str(self.mount) in mounts()

        wait_until(usable, seconds, f"{self.name} to mount: {self.words()}")
        return self.mount

    def words(self) -> str:
        printed = " / ".join(self.child.lines[-3:]) if self.child else ""
        return " / ".join(text for text in (printed, self.said()) if text)

