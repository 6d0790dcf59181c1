"""A real S3 server: SeaweedFS."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from .process import Child, free_ports, is_listening, program, wait_until

ACCESS_KEY = "forebaytests"
SECRET_KEY = "forebaytestssecret"
REGION = "us-east-1"


def client(endpoint: str, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY):
    """A boto3 client for `endpoint`."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=REGION,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=32,
            retries={"max_attempts": 8, "mode": "standard"},
        ),
    )


class Weed:
    """`weed server -s3` on free ports, over a directory of its own.

    `before_volume` is given the address of the volume server and gives the one under which it is made known as public.
    `notification` says whom it tells of changes, as its notification.toml does.
    """

    def __init__(
        self,
        directory: Path | None = None,
        before_volume: Callable[[str], str] | None = None,
        notification: str | None = None,
    ):
        self.directory = Path(tempfile.mkdtemp(prefix="fb-weed-", dir=directory))
        if notification:
            (self.directory / "notification.toml").write_text(notification)
        config = self.directory / "s3.json"
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        config.write_text(json.dumps({"identities": [identity]}))
        # Every service of weed listens on two ports, the second 10,000 above the first unless it is given.
        names = ["s3", "master", "volume", "filer", "masterg", "volumeg", "filerg", "s3g"]
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.ports = ports
        self.port = ports["s3"]
        volume = f"127.0.0.1:{ports['volume']}"
        public = [f"-volume.publicUrl={before_volume(volume)}"] if before_volume else []
        self.child = Child(
            [
                program("weed"),
                "server",
                "-ip=127.0.0.1",
                f"-dir={self.directory}",
                f"-master.port={ports['master']}",
                f"-master.port.grpc={ports['masterg']}",
                f"-volume.port={ports['volume']}",
                f"-volume.port.grpc={ports['volumeg']}",
                f"-filer.port={ports['filer']}",
                f"-filer.port.grpc={ports['filerg']}",
                "-s3",
                f"-s3.port={self.port}",
                f"-s3.port.grpc={ports['s3g']}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                f"-s3.config={config}",
                "-volume.max=500",
                "-master.volumeSizeLimitMB=2048",
                *public,
            ],
            self.directory / "weed.log",
            cwd=self.directory,
        )
        self.address = f"127.0.0.1:{self.port}"
        self.endpoint = f"http://{self.address}"
        self.s3 = client(self.endpoint)
        try:
            wait_until(self._answers, 60, f"weed to answer on {self.address}", every=0.2)
        except TimeoutError as error:
            tail = self.child.tail()
            self.end()
            raise RuntimeError(f"{error}; weed's log:\n{tail}") from None

    def _answers(self) -> bool:
        if not self.child.running:
            raise RuntimeError(f"weed ended at its start:\n{self.child.tail()}")
        if not is_listening(self.port):
            return False
        try:
            # Listening is not yet serving: its volumes join some seconds later.
            self.s3.create_bucket(Bucket="ready")
            self.s3.put_object(Bucket="ready", Key="ready", Body=b"ready")
            return True
        except Exception:  # noqa: BLE001 - whatever is wrong while it starts, the time limit judges it
            return False

    def bucket(self, name: str | None = None) -> str:
        """A new bucket."""
        name = name or f"t-{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=name)
        return name

    def end(self):
        self.child.end(grace=5)
        shutil.rmtree(self.directory, ignore_errors=True)


def upload(endpoint: str, bucket: str, directory: Path, prefix: str = "", threads: int = 8) -> int:
    """Puts every regular file below `directory` (no symlinks) into `bucket`; returns how many."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    s3 = client(endpoint)
    files = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                files.append(path)

    def put(path: str):
        with open(path, "rb") as f:
            s3.put_object(Bucket=bucket, Key=prefix + os.path.relpath(path, directory), Body=f.read())

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(put, files):
            pass
    return len(files)
