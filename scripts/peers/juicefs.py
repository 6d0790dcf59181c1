"""JuiceFS, with its metadata in redis."""

from __future__ import annotations

from pathlib import Path

from support.process import Child, free_port, is_listening, run, wait_until
from support.weed import ACCESS_KEY, SECRET_KEY

from .ground import BUCKET
from .peer import CACHE_MIB, Peer
from .tools import aws_environment, tool

VOLUME = "jfsbench"
SYNC_SECONDS = 240


class JuiceFS(Peer):
    name = "juicefs"
    # A minute of them to copy the tree into its volume.
    minutes = 6.0
    remark = (
        "JuiceFS reads only what was written through it: `juicefs sync` copies the tree from the bucket into a volume of its own format in"
        " another bucket of the same weed (blocks of at most 4 MiB). Its redis stands beside it: no latency is put before it."
    )

    def __init__(self, ground):
        super().__init__(ground)
        self.redis: Child | None = None
        self.meta = ""

    def version(self) -> str:
        return run([tool("juicefs"), "version"], 20).stdout.strip()

    def settings(self) -> list[str]:
        format, mount = self.format("META", "ORIGIN"), self.command("META", "ORIGIN")
        lines = [" ".join(["juicefs", *command[1:]]).replace(str(self.base), "DIR") for command in (format, mount)]
        return [line.replace(ACCESS_KEY, "KEY").replace(SECRET_KEY, "SECRET").replace("KEYsecret", "SECRET") for line in lines]

    def format(self, meta: str, endpoint: str) -> list[str]:
        keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        bucket = ["--storage", "s3", "--bucket", f"{endpoint}/{VOLUME}"]
        return [tool("juicefs"), "format", *bucket, *keys, "--trash-days", "0", meta, VOLUME]

    def command(self, meta: str, endpoint: str) -> list[str]:
        return [
            tool("juicefs"),
            "mount",
            "--read-only",
            "--no-usage-report",
            "--backup-meta=0",
            "--no-bgjob",
            "--no-syslog",
            "--metrics=127.0.0.1:0",
            f"--bucket={endpoint}/{VOLUME}",
            f"--cache-dir={self.cache}",
            f"--cache-size={CACHE_MIB}",
            "--free-space-ratio=0.01",
            "--buffer-size=1024",
            "--attr-cache=3600",
            "--entry-cache=3600",
            "--dir-entry-cache=3600",
            "--negative-entry-cache=3600",
            "--open-cache=3600",
            "--open-cache-limit=0",
            "--readdir-cache",
            meta,
            str(self.mount),
        ]

    def prepare(self):
        port = free_port()
        command = [tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.base)]
        self.redis = Child(command, self.base / "redis.log")
        wait_until(lambda: is_listening(port), 10, "redis to listen")
        self.meta = f"redis://127.0.0.1:{port}/1"
        weed = self.ground.weed
        weed.bucket(VOLUME)
        environment = aws_environment(self.base) | {"META": self.meta}
        source = f"minio://{ACCESS_KEY}:{SECRET_KEY}@{weed.address}/{BUCKET}/"
        for command in (
            self.format(self.meta, weed.endpoint),
            [tool("juicefs"), "sync", "--threads", "16", "--no-https", source, "jfs://META/"],
        ):
            done = run(command, SYNC_SECONDS, env=environment)
            if done.returncode != 0:
                raise RuntimeError(f"juicefs {command[1]}: {(done.stdout + done.stderr)[-500:]}")

    def start(self, latency: int, big: bool) -> Path:
        self.fresh()
        return self.mounted(self.command(self.meta, self.ground.endpoint(latency)), aws_environment(self.base))

    def end(self):
        if self.redis:
            self.redis.end(grace=3)
