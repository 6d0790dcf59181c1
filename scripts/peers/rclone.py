"""rclone mount, with its file cache (`--vfs-cache-mode full`)."""

from __future__ import annotations

from pathlib import Path

from support.process import run
from support.weed import REGION

from .ground import BUCKET
from .peer import CACHE_MIB, Peer
from .tools import aws_environment, tool


class Rclone(Peer):
    name = "rclone"

    def version(self) -> str:
        return run([tool("rclone"), "version"], 20).stdout.splitlines()[0]

    def settings(self) -> list[str]:
        return [" ".join(["rclone", *self.command("ENDPOINT")[1:]]).replace(str(self.base), "DIR")]

    def command(self, endpoint: str) -> list[str]:
        options = f"provider=SeaweedFS,env_auth=true,region={REGION},no_check_bucket=true,no_head_object=true,endpoint='{endpoint}'"
        remote = f":s3,{options}:{BUCKET}"
        return [
            tool("rclone"),
            "mount",
            remote,
            str(self.mount),
            "--read-only",
            "--vfs-cache-mode=full",
            f"--cache-dir={self.cache}",
            f"--vfs-cache-max-size={CACHE_MIB}M",
            "--vfs-cache-max-age=1000h",
            "--dir-cache-time=1000h",
            "--attr-timeout=1h",
            "--poll-interval=0",
            "--no-modtime",
            "--no-checksum",
            "--vfs-fast-fingerprint",
            "--use-server-modtime",
            "--max-read-ahead=1M",
            "--buffer-size=16M",
        ]

    def start(self, latency: int, big: bool) -> Path:
        self.fresh()
        return self.mounted(self.command(self.ground.endpoint(latency)), aws_environment(self.base))
