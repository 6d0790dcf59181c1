"""HDFS: Hadoop's own name node and data node in one Java process. Files are put over WebHDFS."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from .process import CACHE, Child, free_ports, program, wait_until

# Who runs the name node may do all.
SUPERUSER = "root"
# Names in a page of a listing, so that a hundred are several.
PAGE = 30
BLOCK = 1 << 20
"""Bytes of a block: files of more lie in several."""


class Hdfs:
    """A cluster of one data node on free ports, over a directory of its own."""

    def __init__(self):
        jars = CACHE / "servers/hdfs/lib"
        if not jars.is_dir():
            raise RuntimeError("HDFS is missing: run scripts/setup.sh test")
        self.directory = Path(tempfile.mkdtemp(prefix="fb-hdfs-"))
        rpc, http = free_ports(2)
        settings = {
            "dfs.blocksize": BLOCK,
            "dfs.namenode.fs-limits.min-block-size": BLOCK,
            "dfs.permissions.enabled": "true",
            "dfs.ls.limit": PAGE,
            "hdfs.minidfs.basedir": self.directory / "dfs",
        }
        command = [program("java"), "-Xmx512m", "-cp", f"{jars}/*", "org.apache.hadoop.test.MiniDFSClusterManager"]
        command += ["-format", "-datanodes", "1", "-nnport", str(rpc), "-httpport", str(http)]
        command += [word for name, value in settings.items() for word in ("-D", f"{name}={value}")]
        env = {**os.environ, "HADOOP_USER_NAME": SUPERUSER}
        self.child = Child(command, self.directory / "hdfs.log", env=env, cwd=self.directory)
        self.address = f"127.0.0.1:{rpc}"
        self.url = f"hdfs://{self.address}"
        self.web = f"http://127.0.0.1:{http}/webhdfs/v1"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            wait_until(self._writes, 60, f"HDFS to answer on {self.address}", every=0.3)
        except (TimeoutError, RuntimeError) as error:
            tail = self.child.tail()
            self.end()
            raise RuntimeError(f"{error}; its log:\n{tail}") from None

    def _writes(self) -> bool:
        if not self.child.running:
            raise RuntimeError("HDFS ended at its start")
        try:
            # The data node joins some seconds after the name node listens.
            self.put("ready", b"ready")
            return True
        except OSError:
            return False

    def ask(self, method: str, path: str, op: str, body: bytes | None = None, **options) -> dict:
        """One operation. A name node sends who writes on to a data node."""
        query = "&".join(f"{name}={value}" for name, value in {"op": op, "user.name": SUPERUSER, **options}.items())
        url = f"{self.web}/{quote(path)}?{query}"
        if body is not None:
            location = json.loads(self._send(method, f"{url}&noredirect=true", None))["Location"]
            url = quote(location, safe=":/?&=%,")
        return json.loads(self._send(method, url, body) or b"{}")

    def _send(self, method: str, url: str, body: bytes | None) -> bytes:
        headers = {"Content-Type": "application/octet-stream"}
        with self.opener.open(urllib.request.Request(url, body, headers, method=method), timeout=30) as answer:
            return answer.read()

    def put(self, path: str, body: bytes):
        self.ask("PUT", path, "CREATE", body, overwrite="true", blocksize=BLOCK)

    def delete(self, path: str):
        self.ask("DELETE", path, "DELETE", recursive="true")

    def end(self):
        self.child.end(grace=3)
        shutil.rmtree(self.directory, ignore_errors=True)
