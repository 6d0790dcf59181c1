"""Forebay itself: over the bucket, and over nginx by a manifest, which shows what it can do when the origin is not the limit."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.forebay import Forebay
from support.process import forebay_binary, run

from .ground import BUCKET, Ground
from .peer import CACHE_MIB, Peer


class Ours(Peer):
    name = "forebay"
    remark = "Two mounts, as its README advises: `files` for small files, `streams` for the rows of the 256 MiB file."
    minutes = 4.0

    def __init__(self, ground: Ground):
        super().__init__(ground)
        self.running: Forebay | None = None

    def version(self) -> str:
        return run([forebay_binary(), "--version"], 20).stdout.strip()

    def origin(self, latency: int) -> tuple[str, str | None]:
        return f"s3://{BUCKET}", self.ground.endpoint(latency)

    def settings(self) -> list[str]:
        origin, endpoint = self.origin(0)
        line = f"forebay up {origin} --kind files|streams --freshness immutable --cache DIR:{CACHE_MIB}MiB"
        return [line + (" --endpoint ENDPOINT" if endpoint else "")]

    def start(self, latency: int, big: bool) -> Path:
        origin, endpoint = self.origin(latency)
        self.running = Forebay(
            origin,
            endpoint=endpoint,
            kind="streams" if big else "files",
            freshness="immutable",
            cache=[(self.cache, f"{CACHE_MIB}MiB")],
            limit=600,
        )
        self.running.start()
        return self.running.mount

    def stop(self):
        if self.running:
            self.log = self.base / "log"
            self.log.write_text(self.running.errors())
            self.running.end()
            self.running = None
        shutil.rmtree(self.cache, ignore_errors=True)


class OursOnNginx(Ours):
    name = "forebay-nginx"
    remark = "Not compared: our own ceiling when the origin is nginx serving the same files, named by a manifest."
    minutes = 2.5
    hot = False

    def origin(self, latency: int) -> tuple[str, str | None]:
        root = self.ground.nginx_proxy.endpoint if latency else self.ground.nginx.url
        return f"{root}/tree.manifest.jsonl", None

    def settings(self) -> list[str]:
        return [super().settings()[0].replace(self.ground.nginx.url, "http://NGINX")]
