"""The best plain downloaders: the same objects, copied into a folder on the same disk."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable

from support.process import run
from support.weed import REGION

from .ground import BUCKET, LATENCIES, SMALL_AT, Ground
from .tools import aws_environment, tool

SECONDS_MAX = 90
ROUNDS = 3
RCLONE = ["--transfers=64", "--checkers=64", "--no-traverse", "--no-check-dest"]
RCLONE += ["--use-server-modtime", "--ignore-checksum", "--s3-no-head-object"]


class Downloads:
    """`s5cmd cp` and `rclone copy`."""

    def __init__(self, ground: Ground):
        self.ground = ground
        self.target = ground.scratch / "downloads"
        self.env = aws_environment(ground.scratch)

    def commands(self, endpoint: str, folder: str) -> dict[str, list[str]]:
        remote = f":s3,provider=SeaweedFS,env_auth=true,region={REGION},no_check_bucket=true,endpoint='{endpoint}':{BUCKET}/{folder}"
        return {
            "s5cmd": [tool("s5cmd"), "--endpoint-url", endpoint, "--log", "error", "cp", f"s3://{BUCKET}/{folder}/*", f"{self.target}/"],
            "rclone copy": [tool("rclone"), "copy", remote, str(self.target), *RCLONE],
        }

    def version(self, name: str) -> str:
        command = [tool("s5cmd"), "version"] if name == "s5cmd" else [tool("rclone"), "version"]
        return f"{name} " + run(command, 20).stdout.splitlines()[0].removeprefix("rclone ")

    def settings(self, name: str) -> list[str]:
        command = self.commands("ENDPOINT", "FOLDER")[name]
        return [" ".join([name.split()[0], *command[1:]]).replace(str(self.target), "DIR")]

    def measure(self, name: str, latency: int, say: Callable[[str], None]) -> list[float]:
        """Files a second, of each round."""
        folder = SMALL_AT[latency]
        count = self.ground.folders[folder][0]
        command = self.commands(self.ground.endpoint(latency), folder)[name]
        rates = []
        for _ in range(ROUNDS):
            shutil.rmtree(self.target, ignore_errors=True)
            self.target.mkdir()
            os.sync()
            begun = time.monotonic()
            done = run(command, SECONDS_MAX, env=self.env)
            took = time.monotonic() - begun
            got = sum(1 for _ in self.target.iterdir())
            if done.returncode != 0 or got != count:
                raise RuntimeError(f"{name}: {got} of {count} files; {done.stderr[-300:]}")
            rates.append(count / took)
        shutil.rmtree(self.target, ignore_errors=True)
        say(f"{name}, {latency} ms: {statistics.median(rates):,.0f} files/s")
        return rates
