"""Which file an object's key becomes, for keys of every kind."""

from __future__ import annotations

import os

import pytest

from support import readers
from support.data import body

# Names that a file system holds too: tried at every kind of origin.
PLAIN = [
    "inner space",
    " leading space",
    "trailing space ",
    "  both  ",
    "ünïcödé",
    "e\u0301 decomposed",
    "日本語",
    "emoji 🦫",
    "percent%20twenty",
    "100%",
    "%",
    "%2F",
    "%00",
    "plus+sign",
    "hash#tag",
    "question?mark",
    "question?list-type=2&prefix=x",
    "amper&sand",
    "equals=sign",
    "semi;colon",
    "colon:name",
    "at@sign",
    "comma,name",
    "dollar$",
    "star*",
    "tilde~",
    "back\\slash",
    'double"quote',
    "single'quote",
    "<xml>&amp;",
    "[brackets]{braces}",
    "pipe|",
    "caret^",
    "back`tick",
    "tab\tname",
    "line\nbreak",
    "return\rname",
    "bell\x07",
    ".hidden",
    "...",
    "..two",
    "trailing.",
    "-dash",
    "n" * 255,
    "é" * 127,
]


def content_of(name: str) -> bytes:
    return body(name, 500 + len(name))


def check_tree(fb, expected: dict[str, bytes]):
    found = {}
    for folder, _, names in os.walk(fb.mount):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, fb.mount)] = path
    missing, extra = set(expected) - set(found), set(found) - set(expected)
    assert not missing and not extra, f"names missing: {sorted(missing)!r}, not expected: {sorted(extra)!r}"
    wrong = []
    for name, path in found.items():
        with open(path, "rb") as f:
            if f.read() != expected[name]:
                wrong.append(name)
    assert not wrong, f"the bytes of other objects were read for: {wrong!r}"


@pytest.mark.parametrize("first", ["listing", "lookup"])
def test_plain_names_s3(keyserver, forebay, first):
    """Keys with spaces, unicode, `%`, `+`, `#`, `?`, `&`, backslash, quotes or control characters are files of exactly these names."""
    names = [name for name in PLAIN if "\x07" not in name]  # XML cannot carry a bell.
    for name in [*names, *(f"dir {name}/{name}" for name in names if len(name.encode()) < 200)]:
        keyserver.put(name, content_of(name))
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    if first == "lookup":
        for name in names:
            with open(fb.path(name), "rb") as f:
                assert f.read() == content_of(name), f"{name!r} was read wrong"
    check_tree(fb, {name: content_of(name) for name in keyserver.objects})


def test_plain_names_real_server(s3, weed, forebay):
    """The same names in a bucket of a real S3 server."""
    names = [name for name in PLAIN if not any(ord(c) < 32 for c in name)]
    for name in names:
        s3.put(name, content_of(name))
    # A server may file some of them under another name: what it lists is what it holds.
    listed = weed.s3.list_objects_v2(Bucket=s3.bucket, Prefix=s3.prefix)["Contents"]
    kept = {}
    for entry in listed:
        answer = weed.s3.get_object(Bucket=s3.bucket, Key=entry["Key"])
        kept[entry["Key"].removeprefix(s3.prefix)] = answer["Body"].read()
    assert len(kept) > 30, f"the server took only {len(kept)} of {len(names)} names"
    fb = forebay(s3.url, endpoint=weed.endpoint)
    check_tree(fb, kept)


def test_plain_names_files(scratch, forebay):
    """The same names in a directory."""
    root = scratch / "origin"
    root.mkdir()
    for name in PLAIN:
        (root / name).write_bytes(content_of(name))
    fb = forebay(f"file://{root}")
    check_tree(fb, {name: content_of(name) for name in PLAIN})


def test_too_long(keyserver, forebay):
    """A name of more than 255 bytes is hidden in the mount; the rest of its directory is shown."""
    keyserver.put("n" * 255, b"fits")
    keyserver.put("n" * 256, b"too long")
    keyserver.put("é" * 128, b"too long")
    keyserver.put("d" * 300 + "/inside", b"in a directory whose name is too long")
    keyserver.put("other", b"other")
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    check_tree(fb, {"n" * 255: b"fits", "other": b"other"})
    with pytest.raises(OSError) as refused:
        os.stat(fb.path("n" * 256))
    assert refused.value.strerror == "File name too long"


def test_too_long_by_command(keyserver, forebay):
    """`forebay cat` reads an object whose name is too long for the mount."""
    keyserver.put("n" * 300, b"too long for a mount")
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    assert fb.cli("cat", "/data/" + "n" * 300, check=True).stdout == "too long for a mount"


def test_directory_markers(keyserver, forebay):
    """A key that ends in `/` is an empty directory; its bytes, if it has any, are not shown."""
    keyserver.put("empty/", b"")
    keyserver.put("full/", b"bytes of a marker")
    keyserver.put("full/file", b"file")
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    assert sorted(os.listdir(fb.mount)) == ["empty", "full"]
    assert os.listdir(fb.path("empty")) == []
    assert os.listdir(fb.path("full")) == ["file"]
    assert os.path.isdir(fb.path("empty"))


def test_empty_components(keyserver, forebay):
    """Keys with `//`, or that start with `/`, are hidden; what else is in the directory is shown and right."""
    keyserver.put("a/b", b"a/b")
    keyserver.put("a//b", b"a//b")
    keyserver.put("/a", b"/a")
    keyserver.put("c//", b"c//")
    keyserver.put("d", b"d")
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    assert set(os.listdir(fb.mount)) - {"c"} == {"a", "d"}
    assert os.listdir(fb.path("a")) == ["b"]
    assert readers.read_file(fb.path("a/b")) == b"a/b"


def test_object_and_prefix(keyserver, forebay):
    """Where an object and a prefix have the same name, the directory is shown and the object is hidden."""
    keyserver.put("both", b"the object")
    keyserver.put("both/inside", b"inside")
    keyserver.put("both.txt", b"neighbour")
    keyserver.put("both-more", b"neighbour")
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    assert os.path.isdir(fb.path("both")), "found by name, it is a directory"
    assert sorted(os.listdir(fb.mount)) == ["both", "both-more", "both.txt"]
    assert os.path.isdir(fb.path("both")), "found in the listing, it is a directory"
    assert readers.read_file(fb.path("both/inside")) == b"inside"


def test_dots(keyserver, forebay):
    """Keys with the components `.` or `..` are hidden and lead nowhere else."""
    keyserver.put("a/./b", b"x")
    keyserver.put("a/../c", b"x")
    keyserver.put("../d", b"x")
    keyserver.put("./e", b"x")
    keyserver.put("a/b", b"a/b")
    keyserver.put("c", b"c")
    fb = forebay("s3://keys", endpoint=keyserver.endpoint)
    assert sorted(os.listdir(fb.mount)) == ["a", "c"]
    assert os.listdir(fb.path("a")) == ["b"]
    assert readers.read_file(fb.path("a/../c")) == b"c"


def test_prefix_is_exact(keyserver, forebay):
    """A source of the prefix `ab/` shows nothing of `abc/` or `ab`."""
    keyserver.put("ab/in", b"in")
    keyserver.put("abc/out", b"out")
    keyserver.put("ab", b"out")
    fb = forebay("s3://keys/ab/", endpoint=keyserver.endpoint)
    check_tree(fb, {"in": b"in"})


def test_links_and_special_files(scratch, forebay):
    """At a directory, links are followed, dangling links are absent, and pipes, sockets and devices are hidden and never opened."""
    root = scratch / "origin"
    (root / "real").mkdir(parents=True)
    (root / "real" / "file").write_bytes(b"file")
    (root / "link").symlink_to("real/file")
    (root / "linked").symlink_to("real")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    os.mknod(root / "null", 0o600 | 0o020000, os.makedev(1, 3))
    with open(os.fsencode(root) + b"/not-utf8-\xff", "wb") as f:
        f.write(b"x")
    fb = forebay(f"file://{root}")
    assert sorted(os.listdir(fb.mount)) == ["link", "linked", "real"]
    assert readers.read_file(fb.path("link")) == b"file"
    assert readers.read_file(fb.path("linked/file")) == b"file"
    assert not os.path.exists(fb.path("dangling"))
    assert readers.read_errno(fb.path("pipe"), seconds=5) in ("ENOENT", "EACCES")
