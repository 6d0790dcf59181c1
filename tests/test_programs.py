"""Programs that people point at a directory: they take the mount for one, read all of it, and complain of nothing."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from support.data import body
from support.process import program, run

KINDS = ["files", "streams"]


@pytest.fixture
def tree(scratch) -> Path:
    """A directory with the kinds of files that programs treat apart, some levels deep."""
    root = scratch / "origin"
    for name, size in {
        "README": 1_000,
        "empty": 0,
        "with space and ü": 5_000,
        "a/one": 70_000,
        "a/two": 3_000_000,
        "a/b/c/deep": 12_345,
        "a/b/side": 1,
        "d/x": 4096,
        "d/y": 4097,
        "d/sub1/f": 10,
        "d/sub2/f": 20,
        "d/sub2/sub3/f": 30,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body(name, size))
        os.utime(path, (1_600_000_000 + size, 1_600_000_000 + size))
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def sh(command: str, cwd, seconds: float = 60) -> str:
    """Runs a shell command that must do well and say nothing on standard error."""
    done = run(["bash", "-c", command], seconds, cwd=cwd, env={**os.environ, "LANG": "C.UTF-8", "HOME": str(cwd)})
    assert (done.returncode, done.stderr) == (0, ""), f"{command}: {done.returncode}: {done.stderr[-2000:]}{done.stdout[-500:]}"
    return done.stdout


@pytest.fixture(params=KINDS)
def mounted(request, tree, forebay):
    return forebay(f"file://{tree}", kind=request.param)


def test_ls_find_du_and_globs(mounted, tree):
    """`ls -lR`, `find` by name, type and size, `du` and the shell's globs show what the directory has."""
    at = mounted.mount
    assert sh("ls -1R", at) == sh("ls -1R", tree)
    assert len(sh("ls -lR --time-style=+%s", at).splitlines()) == len(sh("ls -lR", tree).splitlines())
    # Twice: cold, and with what the kernel keeps.
    for _ in range(2):
        for which in ("", "-type f", "-type d", "-name 'f'", "-type f -size +2000c", "-type f -newermt 2020-09-13", "-type f -empty"):
            expected = sorted(sh(f"find . {which}", tree).splitlines())
            assert sorted(sh(f"find . {which}", at).splitlines()) == expected, f"find {which}"
            assert sorted(sh(f"find . -noleaf {which}", at).splitlines()) == expected, f"find -noleaf {which}"
    assert sh("du -s --apparent-size -B1 a/two", at).split()[0] == "3000000"
    assert sh("du -sb --exclude=nothing d/sub2/sub3/f", at).split()[0] == "30"
    assert int(sh("du -s -B1 .", at).split()[0]) >= 3_000_000, "tools that look for holes would skip bytes"
    assert sh("echo */ ** d/*/f [a-e]*", at) == sh("echo */ ** d/*/f [a-e]*", tree)
    assert sh("shopt -s globstar; echo **", at) == sh("shopt -s globstar; echo **", tree)


class Dirent(ctypes.Structure):
    _fields_ = [
        ("ino", ctypes.c_uint64),
        ("off", ctypes.c_int64),
        ("reclen", ctypes.c_uint16),
        ("type", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    ]


def types_of(directory: Path) -> dict[str, tuple[int, int]]:
    """Type and inode number of each name, as getdents gives them, without a stat."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.argtypes, libc.readdir.restype = [ctypes.c_void_p], ctypes.POINTER(Dirent)
    libc.closedir.argtypes = [ctypes.c_void_p]
    stream = libc.opendir(os.fsencode(directory))
    assert stream, os.strerror(ctypes.get_errno())
    found = {}
    while entry := libc.readdir(stream):
        found[entry.contents.name.decode()] = (entry.contents.type, entry.contents.ino)
    libc.closedir(stream)
    return found


def test_types_come_with_the_names(mounted):
    """A listing says what each name is (d_type), and its inode number is the one that a stat gives."""
    found = types_of(mounted.path("d"))
    assert {name: kind for name, (kind, _) in found.items() if name not in (".", "..")} == {
        "x": 8,
        "y": 8,
        "sub1": 4,
        "sub2": 4,
    }
    for name, (_, number) in found.items():
        if name != "..":
            assert os.stat(mounted.path("d") / name).st_ino == number, name
    assert found["."][0] == found[".."][0] == 4


def requests(fb, kind: str) -> float:
    return fb.metrics().get(f'forebay_fuse_requests_total{{op="{kind}"}}', 0)


@pytest.mark.parametrize("kind", KINDS)
def test_scandir_needs_no_stat(scratch, forebay, kind):
    """`os.scandir` with types asks for no name by itself; nor does `ls -l`, whose attributes come with the listing."""
    root = scratch / "origin"
    for number in range(2_000):
        path = root / f"d{number % 4}" / f"{number:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
    fb = forebay(f"file://{root}", kind=kind)
    seen = 0
    before = {what: requests(fb, what) for what in ("lookup", "getattr", "read")}
    for directory in os.scandir(fb.mount):
        assert directory.is_dir()
        seen += sum(1 for entry in os.scandir(directory.path) if entry.is_file())
    assert seen == 2_000
    cost = {what: requests(fb, what) - count for what, count in before.items()}
    assert cost["lookup"] + cost["getattr"] <= 12, f"scandir asked for names one by one: {cost}"
    sizes = {entry.name: entry.stat().st_size for at in range(4) for entry in os.scandir(fb.path(f"d{at}"))}
    assert sizes == {f"{number:04d}": number for number in range(2_000)}
    cost = {what: requests(fb, what) - count for what, count in before.items()}
    # The kernel asks for attributes with the names when it has seen somebody stat: READDIRPLUS, by its own judgement.
    assert cost["lookup"] + cost["getattr"] <= 200, f"stat of 2,000 listed names asked for them one by one: {cost}"
    assert cost["read"] == 0


def test_rsync(mounted, tree, scratch):
    """`rsync -a` copies all, and a second run transfers nothing; `--checksum` agrees."""
    target = scratch / "copy"
    sh(f"{program('rsync')} -a . {target}/", mounted.mount)
    assert files_of(target) == files_of(tree)
    assert sh(f"{program('rsync')} -a --itemize-changes . {target}/", mounted.mount) == ""
    assert sh(f"{program('rsync')} -a --checksum --delete --itemize-changes . {target}/", mounted.mount) == ""


def test_rsync_after_a_restart(mounted, tree, scratch):
    """After a restart, too, `rsync -a` finds nothing to transfer: times and sizes are the same."""
    target = scratch / "copy"
    sh(f"rsync -a . {target}/", mounted.mount)
    mounted.stop()
    mounted.restart(kind="files", cache="4GiB")
    assert sh(f"rsync -a --itemize-changes . {target}/", mounted.mount) == ""


def test_tar(mounted, tree, scratch):
    """`tar c` reads all without a word of files that change, and `tar d` finds no difference."""
    archive, out = scratch / "a.tar", scratch / "out"
    out.mkdir()
    sh(f"tar cf {archive} .", mounted.mount)
    sh(f"tar df {archive}", mounted.mount)
    sh(f"tar xf {archive} -C {out}", mounted.mount)
    assert files_of(out) == files_of(tree)
    # With holes looked for, as backups do.
    sh(f"tar cSf {archive} .", mounted.mount)
    sh(f"tar xf {archive} -C {out} --overwrite", mounted.mount)
    assert files_of(out) == files_of(tree)


def test_cp(mounted, tree, scratch):
    """`cp -a` copies files, times and modes; `diff -r` finds no difference."""
    target = scratch / "copy"
    sh(f"cp -a . {target}", mounted.mount)
    sh(f"diff -r . {target}", mounted.mount)
    assert files_of(target) == files_of(tree)
    for name in files_of(tree):
        assert int(os.stat(target / name).st_mtime) == int(os.stat(tree / name).st_mtime), name


def test_checksums(mounted, tree, scratch):
    """`sha256sum -c` finds every file right."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files_of(tree).items()]
    (scratch / "sums").write_text("".join(lines))
    assert sh(f"sha256sum -c --quiet {scratch / 'sums'}", mounted.mount) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_zip(scratch, forebay, kind):
    """`python -m zipfile` lists, tests and unpacks an archive that lies in the source."""
    root = scratch / "origin"
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(50):
            archive.writestr(f"in/{number}", body(number, 20_000))
    fb = forebay(f"file://{root}", kind=kind)
    out = scratch / "out"
    for flags in (["-t", fb.path("a.zip")], ["-e", fb.path("a.zip"), out]):
        done = run([sys.executable, "-m", "zipfile", *map(str, flags)], 60)
        assert done.returncode == 0, done.stderr
    assert (out / "in/49").read_bytes() == body(49, 20_000)


@pytest.mark.parametrize("kind", KINDS)
def test_git(scratch, forebay, kind):
    """A repository that lies in the source is cloned; `git log`, `git fsck`, `git diff` and `git status` work in it as it lies."""
    root, clone = scratch / "origin", scratch / "clone"
    root.mkdir()
    git = "git -c user.name=t -c user.email=t@t -c init.defaultBranch=main -c safe.directory=*"
    (root / "file").write_bytes(body("git", 100_000))
    (root / "dir").mkdir()
    (root / "dir" / "text").write_text("one\n")
    sh(f"{git} init -q . && {git} add . && {git} commit -qm first", root)
    (root / "dir" / "text").write_text("two\n")
    sh(f"{git} commit -qam second && {git} gc -q", root)
    fb = forebay(f"file://{root}", kind=kind)
    assert sh(f"{git} log --format=%s", fb.mount).split() == ["second", "first"]
    sh(f"{git} fsck --no-progress --no-dangling", fb.mount)
    # The index remembers other inode numbers and times of change: contents are compared, and nothing differs.
    assert sh(f"{git} --no-optional-locks status --porcelain", fb.mount) == ""
    assert sh(f"{git} diff --stat", fb.mount) == ""
    sh(f"{git} clone -q --no-hardlinks {fb.mount} {clone}", scratch)
    assert (clone / "dir/text").read_text() == "two\n"
    assert (clone / "file").read_bytes() == body("git", 100_000)


def test_file_system_figures(mounted):
    """`df`, `df -i` and `statvfs` show figures that tools can count with: no overflow, nothing that looks full."""
    lines = sh(f"df -B1 --output=size,used,avail,pcent,target {mounted.mount}", "/").splitlines()
    size, used, available, percent = lines[1].split()[:4]
    assert 0 < int(available) <= int(size) < 2**63
    assert int(percent.rstrip("%")) <= 100 and int(used) >= 0
    total, _, left = sh(f"df --output=itotal,iused,iavail {mounted.mount}", "/").splitlines()[1].split()
    assert 0 < int(left) <= int(total)
    assert sh(f"df -i {mounted.mount}; df -h {mounted.mount}", "/")
    figures = os.statvfs(mounted.mount)
    assert figures.f_namemax == 255
    assert figures.f_flag & os.ST_RDONLY
    assert figures.f_frsize * figures.f_blocks == shutil.disk_usage(mounted.mount).total < 2**63


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["file", "s3"])
def test_inode_numbers_survive(request, tree, forebay, kind, how, where):
    """Inode numbers, times and sizes of files and directories are the same after a restart and after a crash."""
    url, endpoint = f"file://{tree}", None
    if where == "s3":
        s3 = request.getfixturevalue("s3")
        url, endpoint = s3.url, s3.weed.endpoint
        for name, content in files_of(tree).items():
            s3.put(name, content)
    fb = forebay(url, kind=kind, endpoint=endpoint)

    def all_stats() -> dict:
        found = {}
        for folder, directories, names in os.walk(fb.mount):
            for name in [".", *directories, *names]:
                path = os.path.join(folder, name)
                known = os.stat(path)
                found[os.path.relpath(path, fb.mount)] = (known.st_ino, known.st_mtime_ns, known.st_size, known.st_nlink)
        return found

    before = all_stats()
    numbers = [number for number, *_ in before.values()]
    # "." of a directory is the directory again: each other number is its own.
    assert len(set(numbers)) == len({os.path.normpath(name) for name in before})
    fb.stop() if how == "stop" else fb.kill()
    fb.restart(kind=kind, endpoint=endpoint)
    assert all_stats() == before


def test_link_counts_and_times(mounted, tree):
    """A directory has one link, which says to `find` that subdirectories are not counted; its time does not move while it stands."""
    for name in (".", "a", "d", "d/sub2"):
        known = os.stat(mounted.path(name))
        assert stat.S_ISDIR(known.st_mode)
        assert known.st_nlink == 1, name
        assert os.stat(mounted.path(name)).st_mtime_ns == known.st_mtime_ns
    for name in files_of(tree):
        known = os.stat(mounted.path(name))
        assert int(known.st_mtime) == int(os.stat(tree / name).st_mtime), name
        assert known.st_nlink == 1
