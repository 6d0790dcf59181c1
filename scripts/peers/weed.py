"""weed mount: SeaweedFS's own, over the folder in which its S3 port keeps the bucket."""

from __future__ import annotations

from pathlib import Path

from support.process import run

from .ground import BUCKET
from .peer import CACHE_MIB, Peer
from .tools import aws_environment, tool


class WeedMount(Peer):
    name = "weed"
    minutes = 4.0
    remark = (
        "weed mount talks past the S3 port: metadata to the filer by gRPC, bytes to the volume server by HTTP. At 20 ms both ways are"
        " delayed: the bytes by the tests' proxy (the volume server's public address), gRPC by a delay of its TCP."
    )

    def version(self) -> str:
        return "weed " + run([tool("weed"), "version"], 20).stdout.split("\n")[0].removeprefix("version ")

    def settings(self) -> list[str]:
        return [" ".join(["weed", *self.command("FILER", "direct, or publicUrl with latency")[1:]]).replace(str(self.base), "DIR")]

    def command(self, filer: str, access: str) -> list[str]:
        return [
            tool("weed"),
            "mount",
            f"-dir={self.mount}",
            f"-filer={filer}",
            f"-filer.path=/buckets/{BUCKET}",
            f"-volumeServerAccess={access}",
            f"-cacheDir={self.cache}",
            f"-cacheCapacityMB={CACHE_MIB}",
            "-cacheMetaTtlSec=86400",
            "-dirIdleEvictSec=0",
            "-readerCacheSizeMB=1024",
            "-readOnly",
            "-disableXAttr",
        ]

    def start(self, latency: int, big: bool) -> Path:
        self.fresh()
        filer = f"127.0.0.1:{self.ground.weed.ports['filer']}.{self.ground.filer[latency]}"
        return self.mounted(self.command(filer, "publicUrl" if latency else "direct"), aws_environment(self.base))
