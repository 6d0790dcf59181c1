"""Alluxio 2.9.6: master, worker and FUSE process, its worker's store in memory and a client cache on the disk.

Its settings are those that were fastest of the ones tried: kernel cache and metadata cache for hours, short-circuit reads, blocks kept
in the worker's memory tier. The mode without master and worker is left out: it returns wrong bytes in 2.9.6.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from support.forebay import mounts, unmount
from support.process import Child, free_ports, is_listening, program, run, wait_until
from support.weed import ACCESS_KEY, SECRET_KEY

from .ground import BUCKET
from .peer import Peer
from .tools import ALLUXIO, aws_environment

MEMORY = Path("/dev/shm")
STORE_BYTES = "6GB"
START_SECONDS = 60
# Java 17 hides what Alluxio 2.9 and its netty reach into.
OPENED = ["lang", "util", "util.concurrent", "io", "net", "nio", "lang.reflect"]
MODULES = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in OPENED] + [
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.misc=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "-Dio.netty.tryReflectionSetAccessible=true",
]
HOSTS = {
    "alluxio.master.hostname": "localhost",
    "alluxio.worker.hostname": "localhost",
    "alluxio.user.hostname": "localhost",
    "alluxio.master.bind.host": "127.0.0.1",
    "alluxio.master.web.bind.host": "127.0.0.1",
    "alluxio.master.web.hostname": "localhost",
    "alluxio.worker.bind.host": "127.0.0.1",
    "alluxio.worker.web.bind.host": "127.0.0.1",
    "alluxio.worker.web.hostname": "localhost",
}
SETTINGS = {
    "alluxio.master.update.check.enabled": "false",
    "alluxio.master.journal.type": "UFS",
    "alluxio.master.metastore": "HEAP",
    "alluxio.underfs.s3.disable.dns.buckets": "true",
    "alluxio.underfs.s3.inherit.acl": "false",
    "alluxio.underfs.s3.secure.http.enabled": "false",
    "alluxio.security.authorization.permission.enabled": "false",
    "alluxio.user.file.readtype.default": "CACHE",
    "alluxio.user.file.writetype.default": "CACHE_THROUGH",
    "alluxio.user.short.circuit.enabled": "true",
    "alluxio.user.metadata.cache.enabled": "true",
    "alluxio.user.metadata.cache.max.size": "100000",
    "alluxio.user.metadata.cache.expiration.time": "2h",
    "alluxio.user.update.file.accesstime.disabled": "true",
    "alluxio.user.block.read.metrics.enabled": "false",
    "alluxio.fuse.jnifuse.enabled": "true",
    "alluxio.fuse.jnifuse.libfuse.version": "3",
    "alluxio.fuse.web.enabled": "false",
    "alluxio.worker.tieredstore.levels": "1",
    "alluxio.worker.tieredstore.level0.alias": "MEM",
    "alluxio.worker.tieredstore.level0.dirs.quota": STORE_BYTES,
    "alluxio.worker.ramdisk.size": STORE_BYTES,
}
# The FUSE process's own cache on the disk. It reads on faster from a cold worker than without it.
CLIENT_CACHE = {
    "alluxio.user.client.cache.enabled": "true",
    "alluxio.user.client.cache.size": STORE_BYTES,
    "alluxio.user.client.cache.page.size": "1MB",
    "alluxio.user.client.cache.store.type": "LOCAL",
    "alluxio.user.client.cache.async.write.enabled": "false",
}
MOUNT_OPTIONS = ["kernel_cache", "entry_timeout=7200", "attr_timeout=7200", "max_idle_threads=64"]
LOG = """log4j.rootLogger=WARN, F
log4j.appender.F=org.apache.log4j.FileAppender
log4j.appender.F.File=${alluxio.logs.dir}/${alluxio.logger.name}.log
log4j.appender.F.layout=org.apache.log4j.PatternLayout
log4j.appender.F.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} - %m%n
"""


class Alluxio(Peer):
    name = "alluxio"
    minutes = 8.5
    # Three JVMs: it is still twice as fast after ten seconds as after five.
    before_seconds = 12.0
    remark = (
        "Its worker keeps blocks in memory (6 GB in /dev/shm, which favours it), its FUSE process has a cache on the same disk as the others"
        " (without that one it was as fast with small files). Up to 12 s of reading other files come before each cold pass."
    )

    def __init__(self, ground):
        super().__init__(ground)
        self.parts: list[Child] = []
        self.conf = self.base / "conf"
        self.logs = self.base / "logs"
        self.home = self.base / "home"
        self.memory = MEMORY / f"{ground.scratch.name}-alluxio"

    def version(self) -> str:
        jars = sorted((ALLUXIO / "lib").glob("alluxio-core-common-*.jar"))
        return jars[0].stem.replace("core-common-", "") if jars else "alluxio (not installed)"

    def settings(self) -> list[str]:
        java = ["master: -Xmx2g", "worker: -Xmx4g -XX:MaxDirectMemorySize=4g", "fuse: -Xmx4g -XX:MaxDirectMemorySize=4g"]
        properties = [f"{name}={value}" for name, value in (SETTINGS | CLIENT_CACHE).items()]
        folders = ["alluxio.worker.tieredstore.level0.dirs.path=/dev/shm/DIR", "alluxio.user.client.cache.dirs=DIR"]
        return [*java, "mount: -o " + ",".join(MOUNT_OPTIONS), *properties, *folders]

    def prepare(self):
        if not (ALLUXIO / "lib").is_dir():
            raise RuntimeError("alluxio is not installed: run scripts/setup.sh bench-peers")

    def start(self, latency: int, big: bool) -> Path:
        self.fresh()
        for folder in (self.conf, self.logs, self.home, self.memory, self.cache / "journal", self.cache / "metastore", self.cache / "client"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        master, master_web, worker, worker_web = free_ports(4)
        properties = HOSTS | SETTINGS | {
            "alluxio.master.rpc.port": master,
            "alluxio.master.web.port": master_web,
            "alluxio.worker.rpc.port": worker,
            "alluxio.worker.web.port": worker_web,
            "alluxio.worker.tieredstore.level0.dirs.path": self.memory,
            "alluxio.master.journal.folder": self.cache / "journal",
            "alluxio.master.metastore.dir": self.cache / "metastore",
            "alluxio.master.mount.table.root.ufs": f"s3://{BUCKET}/",
            "alluxio.master.mount.table.root.option.s3a.accessKeyId": ACCESS_KEY,
            "alluxio.master.mount.table.root.option.s3a.secretKey": SECRET_KEY,
            "s3a.accessKeyId": ACCESS_KEY,
            "s3a.secretKey": SECRET_KEY,
            "alluxio.underfs.s3.endpoint": self.ground.endpoint(latency),
        }
        (self.conf / "alluxio-site.properties").write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        (self.conf / "log4j.properties").write_text(LOG)
        self.once("alluxio.cli.Format", "master")
        self.part("master", ["-Xmx2g"], ["alluxio.master.AlluxioMaster"])
        wait_until(lambda: self.alive() and is_listening(master), START_SECONDS, "Alluxio's master to listen")
        self.once("alluxio.cli.Format", "worker")
        memory = ["-Xmx4g", "-XX:MaxDirectMemorySize=4g"]
        self.part("worker", memory, ["alluxio.worker.AlluxioWorker"])
        wait_until(lambda: self.alive() and is_listening(worker), START_SECONDS, "Alluxio's worker to listen")
        client = [f"-D{name}={value}" for name, value in (CLIENT_CACHE | {"alluxio.user.client.cache.dirs": self.cache / "client"}).items()]
        mount = ["alluxio.fuse.AlluxioFuse", "-m", str(self.mount), "-a", "/"]
        for option in MOUNT_OPTIONS:
            mount += ["-o", option]
        self.part("fuse", memory + client, mount)
        wait_until(lambda: self.alive() and str(self.mount) in mounts(), START_SECONDS, "Alluxio's mount")
        return self.mount

    def java(self, name: str, options: list[str], arguments: list[str]) -> list[str]:
        folders = {"home": self.home, "conf.dir": self.conf, "site.conf.dir": f"{self.conf}/", "logs.dir": self.logs, "logger.name": name}
        defined = [f"-Dalluxio.{key}={value}" for key, value in folders.items()]
        logging = [f"-Dlog4j.configuration=file:{self.conf}/log4j.properties"]
        return [program("java"), *MODULES, *defined, *logging, *options, "-cp", f"{self.conf}:{ALLUXIO}/lib/*", *arguments]

    def once(self, *arguments: str):
        done = run(self.java("format", [], list(arguments)), START_SECONDS, env=aws_environment(self.base), cwd=self.base)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {(done.stdout + done.stderr)[-400:]}")

    def part(self, name: str, options: list[str], arguments: list[str]):
        self.log = self.logs / f"{name}.err"
        self.parts.append(Child(self.java(name, options, arguments), self.log, env=aws_environment(self.base), cwd=self.base))

    def alive(self) -> bool:
        for part in self.parts:
            if not part.running:
                raise RuntimeError(f"a process of Alluxio ended: {' / '.join(part.lines[-3:])} {part.tail(5)}")
        return True

    def stop(self):
        unmount(self.mount)
        # FUSE process first: the worker and the master would be waited for.
        while self.parts:
            self.parts.pop().end(grace=4)
        unmount(self.mount)
        shutil.rmtree(self.memory, ignore_errors=True)
        if str(self.mount) not in mounts():
            shutil.rmtree(self.cache, ignore_errors=True)
