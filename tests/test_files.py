"""Files of every size, read in every way; directories of every size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from support import readers
from support.data import PAGE, body
from support.process import built, run

SIZES = [0, 1, 511, 4095, 4096, 4097, 65_535, 65_536, 65_537, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 5 * PAGE + 12_345]
GIB = 1 << 30


def put_sizes(s3) -> dict[int, bytes]:
    contents = {size: body(f"size {size}", size) for size in SIZES}
    for size, content in contents.items():
        s3.put(f"{size}", content)
    return contents


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_sizes(weed, s3, forebay, kind):
    """Files of 0 bytes, of a page and of one byte more or less have the right size and bytes, cold and hot."""
    contents = put_sizes(s3)
    fb = forebay(s3.url, endpoint=weed.endpoint, kind=kind)
    for _ in ("cold", "hot"):
        for size, content in contents.items():
            assert os.stat(fb.path(str(size))).st_size == size
            assert readers.read_file(fb.path(str(size))) == content, f"the file of {size} bytes was read wrong"
    for size, content in contents.items():
        assert readers.read_part(fb.path(str(size)), size, 100) == b"", "reading at the end gives nothing"
        assert readers.read_part(fb.path(str(size)), max(0, size - 10), 100) == content[max(0, size - 10) :]
        assert readers.read_part(fb.path(str(size)), size + 5000, 100) == b"", "reading behind the end gives nothing"


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_pread_anywhere(weed, s3, forebay, kind):
    """`pread` at any offset and of any length gives the right bytes, cold and hot."""
    content = body("anywhere", 24 * PAGE + 777)
    s3.put("f", content)
    fb = forebay(s3.url, endpoint=weed.endpoint, kind=kind)
    rng = random.Random(5)
    edges = [PAGE - 1, PAGE, PAGE + 1, 65_535, 65_536, 4095, 4096, len(content) - 1]
    ranges = [(edge, length) for edge in edges for length in (1, 2, 4096, 65_537, PAGE + 2)]
    ranges += [(rng.randrange(len(content)), rng.choice([1, 100, 4096, 70_000, 2 * PAGE])) for _ in range(200)]
    rng.shuffle(ranges)
    held = readers.Held(fb.path("f"), fb.base / "held.log")
    try:
        for offset, length in ranges + ranges[:50]:
            expected = content[offset : offset + length]
            answer = held.read(offset, length)
            assert answer == {"length": len(expected), "sha256": hashlib.sha256(expected).hexdigest()}, f"at {offset}+{length}"
    finally:
        held.end()


@pytest.mark.parametrize("kind", ["files", "streams"])
@pytest.mark.parametrize("size", [1, PAGE - 1, 9 * PAGE + 1])
def test_mmap(weed, s3, forebay, kind, size):
    """A file can be mapped into memory, cold and hot."""
    content = body("mmap", size)
    s3.put("f", content)
    fb = forebay(s3.url, endpoint=weed.endpoint, kind=kind)
    for _ in ("cold", "hot"):
        done = run([sys.executable, readers.READER, "mmap", str(fb.path("f"))], 30)
        assert done.stdout.strip() == hashlib.sha256(content).hexdigest(), done.stderr


def test_execute(scratch, forebay):
    """A program can be run from the mount when the mode of its files allows it."""
    root = scratch / "origin"
    root.mkdir()
    (root / "true").write_bytes(open("/usr/bin/true", "rb").read())
    fb = forebay(f"file://{root}", settings={"MOUNT_FILE_MODE": "0555"})
    assert run([str(fb.path("true"))], 20).returncode == 0


@pytest.mark.parametrize("kind", ["files", "streams"])
def test_ten_gibibytes(scratch, forebay, kind):
    """A file of 10 GiB is read right at any offset, also beyond 4 GiB, and costs the cache only what was read."""
    root = scratch / "origin"
    root.mkdir()
    marks = [0, GIB - 50, 2**31 - 50, 2**32 - 50, 2**32 + PAGE, 7 * GIB + 123, 10 * GIB - 100]
    with open(root / "huge", "wb") as f:
        f.truncate(10 * GIB)
        for mark in marks:
            f.seek(mark)
            f.write(body(mark, 100))
    fb = forebay(f"file://{root}", kind=kind, cache="2GiB")
    assert os.stat(fb.path("huge")).st_size == 10 * GIB
    for _ in ("cold", "hot"):
        for mark in marks:
            assert readers.read_part(fb.path("huge"), mark, 100) == body(mark, 100), f"at {mark}"
        assert readers.read_part(fb.path("huge"), 5 * GIB, 4096) == bytes(4096), "a hole at the origin is zeros"
    assert fb.resident_bytes() < GIB


def listed(fb) -> list[str]:
    """The names of the mount's root, by a program of its own."""
    done = run([sys.executable, "-c", "import os,sys; print('\\n'.join(os.listdir(sys.argv[1])))", str(fb.mount)], 90)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("store", ["file", "s3"])
def test_many_names(request, scratch, forebay, store):
    """A directory of 100,000 names is listed whole, each name once, and `ls -l` of it asks the origin for no single object."""
    expected = [f"{i:06d}" for i in range(100_000)]
    if store == "file":
        root = scratch / "origin"
        root.mkdir()
        for name in expected:
            os.close(os.open(root / name, os.O_CREAT | os.O_WRONLY))
        fb = forebay(f"file://{root}")
    else:
        server = request.getfixturevalue("keyserver")
        server.objects.update(dict.fromkeys(expected, b""))
        fb = forebay("s3://keys", endpoint=server.endpoint)
    for _ in range(2):
        names = listed(fb)
        assert len(names) == len(expected), f"{len(names)} names instead of {len(expected)}"
        assert sorted(names) == expected
    counted = run(["sh", "-c", 'ls -l "$1" | wc -l', "sh", str(fb.mount)], 60)
    assert counted.stdout.strip() == str(len(expected) + 1)
    if store == "s3":
        heads = sum(method == "HEAD" for method, _ in server.requests)
        assert heads < 100, f"a listing was followed by {heads} requests for single objects"


def test_names_of_a_bucket_in_no_order(keyserver, forebay):
    """A bucket that lists in no order, as S3's directory buckets do, is listed whole by the first who asks, and by the next."""
    expected = {f"{i:06d}": b"x" * i for i in range(3_500)}
    keyserver.objects.update(expected)
    keyserver.in_order = False
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    for _ in range(2):
        assert listed(fb) == sorted(expected)
    assert all(os.stat(fb.path(name)).st_size == len(bytes) for name, bytes in expected.items())
    assert "listed again, without its order" in fb.errors()


MEANWHILE = """
import os, random, subprocess, sys, threading
root, names, form, wrong = sys.argv[1], int(sys.argv[2]), sys.argv[3], []

def lists(directory, start):
    start.wait()
    # A program of its own: `os.listdir` takes turns with the other threads at each name.
    found = len(subprocess.run(["ls", "-A", "-U", directory], stdout=subprocess.PIPE, check=True).stdout.splitlines())
    if found != names:
        wrong.append(f"{found} names in {directory}")

def stats(directory, start, end):
    start.wait()
    while not end.is_set():
        name = directory + "/" + form.format(random.randrange(names))
        try:
            os.stat(name)
        except FileNotFoundError:
            wrong.append(f"{name} does not exist")

for directory in sorted(entry.path for entry in os.scandir(root)):
    start, end = threading.Barrier(4), threading.Event()
    listers = [threading.Thread(target=lists, args=(directory, start)) for _ in range(2)]
    statters = [threading.Thread(target=stats, args=(directory, start, end)) for _ in range(2)]
    for thread in listers + statters:
        thread.start()
    for thread in listers:
        thread.join()
    end.set()
    for thread in statters:
        thread.join()
sys.exit(f"{len(wrong)} wrong answers: {wrong[:5]}" if wrong else 0)
"""


@contextlib.contextmanager
def listserver(*flags: str) -> Iterator[str]:
    """The address of a server of names that are computed."""
    command = [built("forebay-listserver", "FOREBAY_LISTSERVER"), "serve", *flags]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(running.stdout.readline())["listen"]
    finally:
        running.kill()
        running.wait(10)


@pytest.mark.parametrize("store", ["file", "s3"])
def test_names_are_there_while_their_directory_is_listed(scratch, forebay, store):
    """Whoever lists a large directory, or looks for its names, while it is being listed the first time gets all of them: an
    origin that lists in no order tells of none before it has told of all, one that lists in order of those before the last."""
    with contextlib.ExitStack() as stack:
        if store == "file":
            names, form, root = 20_000, "{:06d}", scratch / "origin"
            for directory in range(4):
                (root / f"d{directory}").mkdir(parents=True)
                first = root / f"d{directory}" / form.format(0)
                first.touch()
                # Links: new inodes are dear while those of another test that has ended are not to be had.
                for name in range(1, names):
                    os.link(first, root / f"d{directory}" / form.format(name))
            fb = forebay(f"file://{root}")
        else:
            names, form = 100_000, "{:08d}.jpg"
            address = stack.enter_context(listserver("--latency", "10", "--count", str(names), "--root", "d/"))
            fb = forebay("s3://lists", endpoint=f"http://{address}")
        done = run([sys.executable, "-c", MEANWHILE, str(fb.mount), str(names), form], 60)
    assert done.returncode == 0, done.stderr


MANY = """
import os, sys, concurrent.futures
root = sys.argv[1]
def one(i):
    fd = os.open(f"{root}/{i % 100:02d}/{i:05d}", os.O_RDONLY)
    try:
        return os.pread(fd, 16, 4096) == f"mark {i:011d}".encode()
    finally:
        os.close(fd)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    wrong = [i for i, right in enumerate(pool.map(one, range(int(sys.argv[2])))) if not right]
sys.exit(f"wrong bytes in files {wrong[:5]}" if wrong else 0)
"""


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", ["files", "streams"])
def test_many_large_files(scratch, forebay, kind):
    """10,000 files of 1-64 MiB are read with 1,024 descriptors and less than 300 MiB of memory, and recovered in a moment."""
    root = scratch / "origin"
    rng = random.Random(3)
    for folder in range(100):
        (root / f"{folder:02d}").mkdir(parents=True)
    count = 10_000
    for i in range(count):
        with open(root / f"{i % 100:02d}" / f"{i:05d}", "wb") as f:
            f.truncate(rng.randrange(PAGE, 64 * PAGE))
            f.seek(4096)
            f.write(f"mark {i:011d}".encode())
    options = {
        "kind": kind,
        "cache": "3GiB",
        "limit": 180,
        "preexec": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)),
    }
    fb = forebay(f"file://{root}", **options)
    done = run([sys.executable, "-c", MANY, str(fb.mount), str(count)], 120)
    assert done.returncode == 0, done.stderr[-2000:]
    memory = fb.memory()["RssAnon"]
    print(f"RssAnon: {memory >> 20} MiB")
    assert memory < 300 << 20, f"RssAnon is {memory >> 20} MiB"
    assert fb.descriptors() < 1000
    fb.kill()
    begun = time.monotonic()
    fb.restart(**options)
    assert time.monotonic() - begun < 5, "recovery took too long"
    done = run([sys.executable, "-c", MANY, str(fb.mount), "500"], 60)
    assert done.returncode == 0, done.stderr[-2000:]


def test_broken_manifest(nginx, forebay):
    """A manifest that cannot be read is EINVAL, and a line of the log names it and what is wrong."""
    (nginx.root / "set.manifest.jsonl").write_text('{"path": "a", "size": 1}\n{"path": \n')
    fb = forebay(f"{nginx.url}/set.manifest.jsonl")
    assert readers.read_errno(fb.path("a")) == "EINVAL"
    log = fb.errors()
    assert "set.manifest.jsonl" in log and "line 2" in log
