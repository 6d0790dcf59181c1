"""What all systems stand on: one tree as plain files, the same objects in one `weed`, and the ways to it, straight and with latency.

Everything lies in one folder on one disk and listens on the loopback alone; `end` takes all of it away.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from support.delay import Delay
from support.nginx import Nginx
from support.process import run
from support.proxy import Proxy
from support.weed import Weed

from .tools import aws_environment, tool

BUCKET = "bench"
LATENCIES = (0, 20)
SMALL_BYTES = 112 * 1024
BIG_BYTES = 256 << 20
BIG = "big/0.bin"
# Folder, files in it, bytes of each. What is read at which latency; and what is read before, so that connections stand and a
# JVM has compiled.
FOLDERS = {"small": (4000, SMALL_BYTES), "some": (1000, SMALL_BYTES), "before": (400, SMALL_BYTES), "big": (4, BIG_BYTES)}
SMALL_AT = {0: "small", 20: "some"}
# Reading weed's files back into the page cache by so many bytes.
READ = 4 << 20
DROP_SECONDS = 30


class Ground:
    """The tree, the origin and the ways to it."""

    def __init__(self, scratch: Path, small: bool):
        self.scratch = scratch
        self.native = scratch / "native"
        self.folders = dict(FOLDERS)
        if small:
            self.folders = {name: (max(2, count // 20), min(size, 16 << 20)) for name, (count, size) in FOLDERS.items()}
        self._held = contextlib.ExitStack()
        self._held.callback(shutil.rmtree, scratch, ignore_errors=True)
        with contextlib.ExitStack() as failing:
            failing.callback(self.end)
            self._start()
            failing.pop_all()

    def _start(self):
        for name, (count, size) in self.folders.items():
            (self.native / name).mkdir(parents=True)
            for number in range(count):
                with open(self.native / name / (f"{number}.bin" if name == "big" else f"{number:05d}.bin"), "wb") as f:
                    for at in range(0, size, READ):
                        f.write(os.urandom(min(READ, size - at)))

        def before_volume(address: str) -> str:
            self.volume_proxy = self._keep(Proxy(address, self.scratch / "volume-proxy.log"))
            return self.volume_proxy.address

        self.weed = self._keep(Weed(self.scratch, before_volume))
        self.weed.bucket(BUCKET)
        loaded = run(
            [tool("s5cmd"), "--endpoint-url", self.weed.endpoint, "--log", "error", "cp", f"{self.native}/", f"s3://{BUCKET}/"],
            180,
            env=aws_environment(self.scratch),
        )
        if loaded.returncode != 0:
            raise RuntimeError(f"loading the tree: {loaded.stderr[-500:]}")

        self.s3_proxy = self._keep(Proxy(self.weed.address, self.scratch / "s3-proxy.log"))
        self.filer = {0: self.weed.ports["filerg"]}
        self.nginx = self._keep(Nginx())
        self.nginx_proxy = self._keep(Proxy(self.nginx.address, self.scratch / "nginx-proxy.log"))
        for name in self.folders:
            (self.nginx.root / name).symlink_to(self.native / name)
        paths = [path for name in self.folders for path in sorted((self.native / name).iterdir())]
        lines = [json.dumps({"path": str(path.relative_to(self.native)), "size": path.stat().st_size}) for path in paths]
        (self.nginx.root / "tree.manifest.jsonl").write_text("\n".join(lines) + "\n")
        # nginx's worker is another user.
        for folder in (self.scratch, self.native, *(self.native / name for name in self.folders)):
            folder.chmod(0o755)
        for latency in LATENCIES[1:]:
            self.filer[latency] = self._keep(Delay(f"127.0.0.1:{self.weed.ports['filerg']}", latency / 1000)).port
            for proxy in (self.s3_proxy, self.volume_proxy, self.nginx_proxy):
                proxy.faults({"fault": "latency", "ms": latency})

    def _keep(self, part):
        self._held.callback(part.end)
        return part

    def endpoint(self, latency: int) -> str:
        """The S3 endpoint: weed itself, or the proxy before it."""
        return self.s3_proxy.endpoint if latency else self.weed.endpoint

    def address(self, latency: int) -> str:
        return self.s3_proxy.address if latency else self.weed.address

    def forget(self):
        """Drops the kernel's caches, and reads weed's files again: cold is the reader's side, not the origin's disk."""
        command = ["sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"]
        if run(command, DROP_SECONDS).returncode != 0:
            raise RuntimeError("cannot drop the kernel's caches")
        # Of the plain files those that nginx serves in a cold pass.
        small = [path for path in self.native.rglob("*.bin") if path.parent.name != "big"]
        for path in [*self.weed.directory.rglob("*.dat"), *small]:
            with open(path, "rb", buffering=0) as f:
                while f.read(READ):
                    pass

    def end(self):
        """Ends all, whatever one of them says to it."""
        self._held.close()

