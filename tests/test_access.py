"""Who may read what the mount shows, and that nobody may write."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from support import readers
from support.data import body
from support.forebay import NotReady, mounts
from support.process import forebay_binary, program, run

NOBODY = 65534
USER = 12345


@pytest.fixture
def root(scratch):
    """A directory as the origin: a file, and a directory with another."""
    origin = scratch / "origin"
    (origin / "dir").mkdir(parents=True)
    (origin / "a").write_bytes(body("a", 10_000))
    (origin / "dir" / "b").write_bytes(body("b", 3_000_000))
    return origin


def as_user(uid: int, *command: str) -> subprocess.CompletedProcess:
    return run([program("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command], 30)


def test_defaults(root, forebay):
    """Files are shown with mode 0444 and directories with 0555, owned by who runs the process, with one link and no holes."""
    fb = forebay(f"file://{root}")
    file, directory = os.stat(fb.path("a")), os.stat(fb.path("dir"))
    assert stat.S_IMODE(file.st_mode) == 0o444
    assert stat.S_IMODE(directory.st_mode) == 0o555
    assert (file.st_uid, file.st_gid) == (directory.st_uid, directory.st_gid) == (0, 0)
    assert file.st_nlink == 1
    assert file.st_blocks * 512 >= 10_000, "tools that look for holes would skip bytes"
    assert int(file.st_mtime) == int(os.stat(root / "a").st_mtime)


def test_other_user(root, forebay):
    """A mount that root made is readable by every user, as a trainer in a container needs it."""
    fb = forebay(f"file://{root}")
    done = as_user(NOBODY, "/bin/cat", str(fb.path("a")))
    assert done.returncode == 0, done.stderr
    assert as_user(NOBODY, "/bin/ls", str(fb.path("dir"))).stdout.split() == ["b"]


def test_owner_and_modes(root, forebay):
    """--uid, --gid, --file-mode and --dir-mode say what is shown, and the kernel enforces it."""
    fb = forebay(
        f"file://{root}", flags=["--uid", str(USER), "--gid", str(USER), "--file-mode", "0400", "--dir-mode", "0500"]
    )
    assert os.stat(fb.mount).st_uid == USER
    assert as_user(USER, "/bin/cat", str(fb.path("a"))).returncode == 0
    done = as_user(NOBODY, "/bin/cat", str(fb.path("a")))
    assert done.returncode == 1
    assert "Permission denied" in done.stderr


def test_allow_other_no(root, forebay):
    """With --allow-other no only the user who mounted it gets in."""
    fb = forebay(f"file://{root}", flags=["--allow-other", "no"])
    assert readers.read_file(fb.path("a")) == body("a", 10_000)
    done = as_user(NOBODY, "/bin/cat", str(fb.path("a")))
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_writes(root, forebay, kind):
    """Every attempt to write (files, directories, `__pycache__`, lock files, attributes) fails with EROFS and changes nothing."""
    fb = forebay(f"file://{root}", kind=kind)
    outcome = readers.ask("write", fb.mount)
    wrong = {way: name for way, name in outcome.items() if name != "EROFS"}
    assert not wrong, f"not refused with EROFS: {wrong}"
    assert readers.read_file(fb.path("a")) == body("a", 10_000)
    assert sorted(os.listdir(root)) == ["a", "dir"]


def test_import_from_mount(scratch, forebay):
    """Python imports modules from the mount, though it cannot write its `__pycache__`."""
    origin = scratch / "origin"
    (origin / "package").mkdir(parents=True)
    (origin / "package" / "__init__.py").write_text("answer = 42\n")
    fb = forebay(f"file://{origin}")
    code = "import package; print(package.answer)"
    done = run([sys.executable, "-c", code], 20, env={"PYTHONPATH": str(fb.mount), "PATH": os.environ["PATH"]})
    assert done.stdout.strip() == "42", done.stderr
    assert "__pycache__" not in os.listdir(fb.path("package"))


@pytest.fixture
def open_fuse_device():
    """/dev/fuse as udev leaves it: open to every user (a machine without udev has it closed)."""
    before = os.stat("/dev/fuse").st_mode
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", stat.S_IMODE(before))


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_ordinary_user(root, open_fuse_device, forebay, kind):
    """A user without root or CAP_SYS_ADMIN mounts through fusermount3, and reads the right bytes."""
    # fusermount3 wants a user who has a name.
    setpriv = [program("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    fb = forebay(f"file://{root}", start=False, kind=kind)
    binary = fb.base / "forebay"
    shutil.copy(forebay_binary(), binary)
    for path in (fb.base, fb.mount, fb.runtime):
        os.chown(path, NOBODY, NOBODY)
    command = fb.command()
    command[0] = str(binary)
    fb.command = lambda: [*setpriv, *command]
    fb.start()
    for name, size in (("a", 10_000), ("dir/b", 3_000_000)):
        done = subprocess.run([*setpriv, "/bin/cat", str(fb.path(name))], capture_output=True, timeout=30)
        assert done.stdout == body(name.rpartition("/")[2], size), done.stderr
    fb.signal(15)
    assert fb.child.wait(12) == 0, fb.child.tail()
    assert str(fb.mount) not in mounts()


def test_no_capability(root, forebay):
    """Where nothing may mount (a container without CAP_SYS_ADMIN) it ends with exit code 1 and says what is missing."""
    drop = [program("setpriv"), "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    with pytest.raises(NotReady) as refused:
        forebay(f"file://{root}", command=drop)
    assert refused.value.code == 1
    assert "CAP_SYS_ADMIN" in refused.value.errors


def test_updatedb(root, scratch, forebay):
    """`updatedb`, which would list the whole bucket at the user's cost, is refused with EACCES; `find` is not."""
    disguised = scratch / "updatedb"
    shutil.copy(program("find"), disguised)
    fb = forebay(f"file://{root}")
    refused = run([str(disguised), str(fb.mount)], 20)
    assert "Permission denied" in refused.stderr
    assert refused.stdout.split() == [str(fb.mount)]
    allowed = run([program("find"), str(fb.mount), "-type", "f"], 20)
    assert sorted(allowed.stdout.split()) == [str(fb.path("a")), str(fb.path("dir/b"))]


class MemoryCgroup:
    """A memory cgroup with a limit, of either version."""

    def __init__(self, limit: int):
        v1 = Path("/sys/fs/cgroup/memory")
        self.v1 = (v1 / "memory.limit_in_bytes").exists() or v1.is_dir()
        self.path = (v1 if self.v1 else Path("/sys/fs/cgroup")) / f"forebay-{uuid.uuid4().hex[:8]}"
        try:
            self.path.mkdir()
            (self.path / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(str(limit))
        except OSError as error:
            pytest.fail(f"the memory cgroup cannot be used: {error}")

    def join(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def killed(self) -> int:
        events = self.path / ("memory.oom_control" if self.v1 else "memory.events")
        for line in events.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    def end(self):
        for _ in range(50):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)


def test_cgroup_limit(scratch, forebay):
    """In a cgroup with a memory limit, with a cache on tmpfs that counts in it, it stays within the limit and reads right bytes."""
    origin = scratch / "origin"
    origin.mkdir()
    # Small enough that the comparing program needs little memory of its own.
    files = 36
    for i in range(files):
        (origin / f"{i}").write_bytes(body(i, 16 << 20))
    memory = scratch / "tmpfs"
    memory.mkdir()
    assert run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(memory)], 10).returncode == 0
    group = MemoryCgroup(480 << 20)
    fb = forebay(f"file://{origin}", cache=[(memory / "cache", "160MiB")], preexec=group.join, start=False)
    try:
        fb.start()
        done = subprocess.run(
            [sys.executable, readers.READER, "compare", str(origin), str(fb.mount)],
            capture_output=True,
            text=True,
            timeout=90,
            preexec_fn=group.join,
        )
        assert group.killed() == 0, "the kernel killed a process of the cgroup for want of memory"
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["files"] == files
        assert fb.running
        fb.stop()
    finally:
        fb.end()
        run(["umount", "-l", str(memory)], 10)
        group.end()
