"""s3fs, with its file cache (`use_cache`)."""

from __future__ import annotations

from pathlib import Path

from support.process import run
from support.weed import ACCESS_KEY, REGION, SECRET_KEY

from .ground import BUCKET
from .peer import Peer
from .tools import aws_environment, tool

OPTIONS = [
    "ro",
    "kernel_cache",
    "max_stat_cache_size=200000",
    "stat_cache_expire=86400",
    "attr_timeout=3600",
    "entry_timeout=3600",
    "negative_timeout=3600",
    "enable_noobj_cache",
    "notsup_compat_dir",
    "multireq_max=64",
    "parallel_count=16",
    "max_background=64",
    "use_path_request_style",
    f"endpoint={REGION}",
]


class S3fs(Peer):
    name = "s3fs"

    def version(self) -> str:
        return run([tool("s3fs"), "--version"], 20).stdout.splitlines()[0].replace("Amazon Simple Storage Service File System", "s3fs")

    def settings(self) -> list[str]:
        return [" ".join(["s3fs", *self.command("ENDPOINT")[1:]]).replace(str(self.base), "DIR")]

    def command(self, endpoint: str) -> list[str]:
        options = [*OPTIONS, f"url={endpoint}", f"use_cache={self.cache}", f"passwd_file={self.base / 'keys'}"]
        return [tool("s3fs"), BUCKET, str(self.mount), "-f", "-o", ",".join(options)]

    def start(self, latency: int, big: bool) -> Path:
        self.fresh()
        keys = self.base / "keys"
        keys.touch(mode=0o600)
        keys.write_text(f"{ACCESS_KEY}:{SECRET_KEY}\n")
        return self.mounted(self.command(self.ground.endpoint(latency)), {**aws_environment(self.base), "LANG": "C.UTF-8"})
