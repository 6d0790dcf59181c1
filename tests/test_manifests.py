"""Sources that a file tells of, and snapshots: against a real S3 server, directories and a web server."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import threading
import time

import pytest

from support.data import body
from support.process import wait_until

SHOWN = 10
"""Seconds until a mount shows a source that came."""


def add(fb, *arguments: str) -> dict:
    return json.loads(fb.cli("source", "add", *arguments, "--json", check=True, seconds=90).stdout)


def snapshot(fb, *arguments: str) -> dict:
    return json.loads(fb.cli("snapshot", *arguments, "--json", check=True, seconds=90).stdout)


def requests(fb, source: str, op: str) -> float:
    labels = (f'source="{source}"', f'op="{op}"')
    samples = fb.metrics().items()
    return sum(v for k, v in samples if k.startswith("forebay_origin_requests_total") and all(part in k for part in labels))


def listing(s3, name: str = "set/") -> list[dict]:
    """What the bucket has, as S3 tells it."""
    pages = s3.weed.s3.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix=s3.prefix + name)
    return [entry for page in pages for entry in page.get("Contents", [])]


def as_csv(entries: list[dict]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["key", "size", "etag", "mtime"])
    for entry in entries:
        writer.writerow([entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"].isoformat().replace("+00:00", "Z")])
    return text.getvalue().encode()


def tree(root) -> dict[str, bytes]:
    """Every file below `root`, read as programs do."""
    files = {}
    for at, _, names in os.walk(root):
        for name in names:
            path = os.path.join(at, name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, root)] = file.read()
    return files


@pytest.fixture
def objects(s3) -> dict[str, bytes]:
    """Objects of a set, names that are hard to write among them."""
    names = ["a", "b/c", "b/d e+f", "b/é%20.bin", "b/x,y\"z", "deep/er/still"] + [f"many/{n:04}" for n in range(300)]
    files = {name: body(name, 1_000 + n) for n, name in enumerate(names)}
    for name, content in files.items():
        s3.put("set/" + name, content)
    return files


def test_formats_without_a_listing(s3, objects, forebay, scratch):
    """CSV, JSONL and Parquet files, packed or not, here or in the bucket, show the same; the origin is never listed."""
    import pyarrow
    import pyarrow.parquet

    entries = listing(s3)
    lines = b"".join(
        json.dumps({"key": e["Key"], "size": e["Size"], "etag": e["ETag"].strip('"')}).encode() + b"\n" for e in entries[::-1]
    )
    columns = {"key": "Key", "size": "Size", "e_tag": "ETag", "last_modified_date": "LastModified"}
    table = pyarrow.table({ours: [e[theirs] for e in entries] for ours, theirs in columns.items()})
    for compression in ("snappy", "zstd", "gzip"):
        pyarrow.parquet.write_table(table, scratch / f"{compression}.parquet", compression=compression, row_group_size=100)
    (scratch / "m.csv").write_bytes(as_csv(entries))
    (scratch / "m.jsonl.gz").write_bytes(gzip.compress(lines))
    s3.put("manifests/m.csv", as_csv(entries[::-1]))
    fb = forebay(None)
    manifests = [str(p) for p in sorted(scratch.iterdir())] + [f"{s3.url}manifests/m.csv"]
    for nth, manifest in enumerate(manifests):
        told = add(fb, f"/m{nth}", f"{s3.url}set/", "--endpoint", s3.weed.endpoint, "--manifest", manifest)
        assert (told["problem"], told["manifest"]["objects"]) == (None, len(objects)), manifest
    wait_until(lambda: len(os.listdir(fb.path())) == len(manifests), SHOWN, "all sources in the mount")
    for nth, manifest in enumerate(manifests):
        assert tree(fb.path(f"m{nth}")) == objects, manifest
        assert requests(fb, f"/m{nth}", "list") == 0, "the origin was listed"
        # The file's own version, and no object's.
        assert requests(fb, f"/m{nth}", "head") <= 3
    times = {e["Key"].removeprefix(s3.prefix + "set/"): int(e["LastModified"].timestamp()) for e in entries}
    assert int(os.stat(fb.path("m0/a")).st_mtime) == times["a"]
    with pytest.raises(FileNotFoundError):
        os.stat(fb.path("m0/absent"))


def test_inventory_report(s3, objects, forebay):
    """The report of an S3 Inventory, as its manifest.json names it: packed CSV without header and with encoded keys."""
    from urllib.parse import quote_plus

    entries = listing(s3)
    base = f"{s3.prefix}inventory/{s3.bucket}/daily"
    keys = []
    for part in (0, 1):
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL)
        for e in entries[part::2]:
            row = [s3.bucket, quote_plus(e["Key"]), "", "true", "false", e["Size"], "2024-05-06T07:08:09.000Z", e["ETag"].strip('"')]
            writer.writerow(row)
        writer.writerow([s3.bucket, quote_plus(s3.prefix + "set/deleted"), f"v{part}", "true", "true", "", "", ""])
        writer.writerow([s3.bucket, "elsewhere", "v", "true", "false", "1", "2024-05-06T07:08:09.000Z", "e"])
        keys.append(f"{base}/data/{part}.csv.gz")
        s3.weed.s3.put_object(Bucket=s3.bucket, Key=keys[-1], Body=gzip.compress(text.getvalue().encode()))
    report = {
        "sourceBucket": s3.bucket,
        "destinationBucket": f"arn:aws:s3:::{s3.bucket}",
        "version": "2016-11-30",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag",
        "files": [{"key": key, "size": 1, "MD5checksum": "0"} for key in keys],
    }
    at = f"{base}/2024-05-06T01-00Z/manifest.json"
    s3.weed.s3.put_object(Bucket=s3.bucket, Key=at, Body=json.dumps(report))
    fb = forebay(None)
    told = add(fb, "/set", f"{s3.url}set/", "--endpoint", s3.weed.endpoint, "--manifest", f"s3://{s3.bucket}/{at}")
    assert told["problem"] is None, told
    wait_until(lambda: os.listdir(fb.path()) == ["set"], SHOWN, "the source in the mount")
    assert tree(fb.path("set")) == objects
    report["fileFormat"] = "ORC"
    s3.weed.s3.put_object(Bucket=s3.bucket, Key=at, Body=json.dumps(report))
    told = json.loads(fb.cli("source", "set", "/set", "--priority", "9", "--json", check=True).stdout)
    assert "ORC" in told["problem"] and "Parquet or CSV" in told["problem"]


def test_changed_object(s3, objects, forebay):
    """An object that is not the manifest's version any more is ESTALE, named in the log; others are read."""
    s3.put("m.csv", as_csv(listing(s3)))
    s3.put("set/a", b"another")
    s3.delete("set/b/c")
    fb = forebay(None)
    add(fb, "/set", f"{s3.url}set/", "--endpoint", s3.weed.endpoint, "--manifest", f"{s3.url}m.csv")
    wait_until(lambda: os.listdir(fb.path()) == ["set"], SHOWN, "the source in the mount")
    for name in ("a", "b/c"):
        with pytest.raises(OSError) as failed:
            fb.path(f"set/{name}").read_bytes()
        assert failed.value.errno == errno.ESTALE
        said = fb.cli("cat", f"/set/{name}")
        assert said.returncode == 1
        assert f"set/{name} has changed" in said.stderr and "m.csv" in said.stderr, said.stderr
        # The log has a line of each kind of error a second.
        time.sleep(1.1)
    assert "set/a has changed" in fb.errors()
    assert fb.path("set/deep/er/still").read_bytes() == objects["deep/er/still"]


def test_changed_manifest(scratch, forebay):
    """A manifest that changed is in force within the source's freshness, after a restart too; a damaged one is an error."""
    root = scratch / "data"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_bytes(body(name, 5_000))

    def write(*names: str, more: str = ""):
        rows = []
        for name in names:
            stat = os.stat(root / name)
            seconds, rest = divmod(stat.st_mtime_ns, 10**9)
            rows.append(f"{str(root)[1:]}/{name},{stat.st_size},{seconds}.{rest:09d}")
        (scratch / "new").write_text("\n".join(["key,size,mtime", *rows, more]))
        os.replace(scratch / "new", scratch / "m.csv")

    write("a")
    fb = forebay(None)
    add(fb, "/m", f"file://{root}", "--manifest", str(scratch / "m.csv"), "--freshness", "ttl=2s")
    ls = lambda: fb.cli("ls", "/m", check=True).stdout.split()  # noqa: E731
    assert ls() == ["a"]
    write("a", "b")
    time.sleep(2.1)
    assert ls() == ["a", "b"]
    fb.stop()
    write("b", "c")
    fb.restart()
    # What was told before the restart is as old as it is.
    time.sleep(2.1)
    assert ls() == ["b", "c"]
    wait_until(lambda: os.listdir(fb.path()) == ["m"], SHOWN, "the source in the mount")
    assert fb.path("m/c").read_bytes() == body("c", 5_000)
    write("a", more="x,many,1\n")
    time.sleep(2.1)
    with pytest.raises(OSError) as failed:
        os.listdir(fb.path("m"))
    assert failed.value.errno == errno.EINVAL
    said = fb.cli("ls", "/m").stderr
    for part in ("m.csv", "line 3", '"many" is no number', "expected are key, size and etag"):
        assert part in said, said
    assert "line 3" in fb.cli("source", "list", check=True).stdout


def test_web_server(nginx, forebay):
    """A directory of a web server is a source with a manifest from anywhere."""
    (nginx.root / "parts").mkdir()
    files = {f"parts/{n}.bin": body(f"w{n}", 50_000 + n) for n in range(3)}
    for name, content in files.items():
        (nginx.root / name).write_bytes(content)
    (nginx.root / "list.csv").write_text("path,size\n" + "".join(f"{name},{len(content)}\n" for name, content in files.items()))
    fb = forebay(None)
    refused = fb.cli("source", "add", "/w", f"{nginx.url}/")
    assert (refused.returncode, "give a manifest" in refused.stderr) == (1, True), refused
    assert add(fb, "/w", f"{nginx.url}/", "--manifest", f"{nginx.url}/list.csv")["problem"] is None
    wait_until(lambda: os.listdir(fb.path()) == ["w"], SHOWN, "the source in the mount")
    assert tree(fb.path("w")) == files


def test_snapshot_without_versions(s3, objects, forebay):
    """A snapshot shows what was there; what changed since is an error that names it; it can be mounted as a path, later."""
    fb = forebay(None, endpoint=s3.weed.endpoint, flags=[])
    add(fb, "/set", f"{s3.url}set/", "--endpoint", s3.weed.endpoint)
    done = fb.cli("snapshot", "/set", "then", check=True)
    assert "an error that names it" in done.stdout, done.stdout
    key = f"{s3.prefix}set/.forebay/snapshots/then.jsonl"
    text = s3.weed.s3.get_object(Bucket=s3.bucket, Key=key)["Body"].read().decode()
    first = json.loads(text.splitlines()[0])
    assert (first["forebay_snapshot"], first["objects"], first["old_versions"]) == (1, len(objects), 0)
    s3.put("set/a", b"of now")
    s3.put("set/new", b"new")
    s3.delete("set/deep/er/still")
    wait_until(lambda: sorted(os.listdir(fb.path())) == [".snapshots", "set"], SHOWN, "the snapshot in the mount")
    seen = {os.path.relpath(os.path.join(at, n), fb.path(".snapshots/then")) for at, _, ns in os.walk(fb.path(".snapshots/then")) for n in ns}
    assert seen == set(objects)
    assert fb.path(".snapshots/then/b/c").read_bytes() == objects["b/c"]
    for name in ("a", "deep/er/still"):
        with pytest.raises(OSError) as failed:
            fb.path(f".snapshots/then/{name}").read_bytes()
        assert failed.value.errno == errno.ESTALE
        said = fb.cli("cat", f"/.snapshots/then/{name}").stderr
        assert f"{name} has changed: the snapshot then of 20" in said and "holds an older version" in said, said
    assert fb.path("set/new").read_bytes() == b"new"
    # Another snapshot has no part of what Forebay wrote; the same name is refused.
    assert snapshot(fb, "/set", "now")["objects"] == len(objects)
    assert fb.cli("snapshot", "/set", "then").returncode == 1
    fb.cli("source", "remove", "/.snapshots/then", check=True)
    assert s3.weed.s3.head_object(Bucket=s3.bucket, Key=key)
    address = f"s3://{s3.bucket}/{key}"
    told = add(fb, "/pinned", f"{s3.url}set/", "--endpoint", s3.weed.endpoint, "--manifest", address, "--freshness", "immutable")
    assert told["manifest"]["objects"] == len(objects)
    wait_until(lambda: "pinned" in os.listdir(fb.path()), SHOWN, "the path in the mount")
    assert fb.path("pinned/b/c").read_bytes() == objects["b/c"]


def test_snapshot_with_versions(weed, forebay):
    """Where the bucket keeps versions, a snapshot has the same bytes whatever happens to the objects."""
    bucket = weed.bucket()
    weed.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    files = {f"d{n % 3}/f{n}": body(f"v{n}", 20_000 + n) for n in range(40)}
    for name, content in files.items():
        weed.s3.put_object(Bucket=bucket, Key="set/" + name, Body=content)
    fb = forebay(None)
    add(fb, "/set", f"s3://{bucket}/set/", "--endpoint", weed.endpoint, "--freshness", "ttl=1s")
    made = snapshot(fb, "/set", "then")
    assert (made["objects"], made["old_versions"]) == (40, 40), made
    for n, name in enumerate(files):
        if n % 2:
            weed.s3.put_object(Bucket=bucket, Key="set/" + name, Body=b"of now")
        elif n % 4:
            weed.s3.delete_object(Bucket=bucket, Key="set/" + name)
    wait_until(lambda: sorted(os.listdir(fb.path())) == [".snapshots", "set"], SHOWN, "the snapshot in the mount")
    assert tree(fb.path(".snapshots/then")) == files
    time.sleep(1.1)
    assert fb.path("set/d1/f1").read_bytes() == b"of now"
    fb.stop()
    fb.restart()
    assert tree(fb.path(".snapshots/then")) == files


def test_snapshot_of_a_directory(scratch, forebay):
    """A directory's snapshot goes to a file that is named; read-only sources are not written to."""
    root = scratch / "data"
    (root / "sub").mkdir(parents=True)
    files = {name: body(f"f {name}", 30_000) for name in ("a b%", "sub/c", "sub/d")}
    for name, content in files.items():
        (root / name).write_bytes(content)
    fb = forebay(None)
    add(fb, "/data", f"file://{root}", "--read-only")
    refused = fb.cli("snapshot", "/data", "then")
    assert (refused.returncode, "--to" in refused.stderr) == (1, True), refused
    made = snapshot(fb, "/data", "then", "--to", str(scratch / "snaps" / "then.jsonl"))
    assert (made["objects"], made["address"]) == (3, f"file://{scratch}/snaps/then.jsonl")
    assert [p.name for p in (scratch / "snaps").iterdir()] == ["then.jsonl"], "nothing else is left"
    (root / "sub/c").write_bytes(b"of now")
    (root / "new").write_bytes(b"new")
    wait_until(lambda: sorted(os.listdir(fb.path())) == [".snapshots", "data"], SHOWN, "the snapshot in the mount")
    assert fb.path(".snapshots/then/a b%").read_bytes() == files["a b%"]
    assert sorted(os.listdir(fb.path(".snapshots/then/sub"))) == ["c", "d"]
    with pytest.raises(OSError) as failed:
        fb.path(".snapshots/then/sub/c").read_bytes()
    assert failed.value.errno == errno.ESTALE
    assert not (root / ".forebay").exists()


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_a_million_objects(scratch, forebay, order):
    """A manifest of a million objects is read within bounded memory, in any order, and looked up at once."""
    count = 1_000_000
    numbers = list(range(count))
    if order == "shuffled":
        # A walk through all of them by a step that has no factor in common.
        numbers = [n * 611_953 % count for n in numbers]
    manifest = scratch / "m.csv"
    with open(manifest, "w") as file:
        file.write("key,size,etag,mtime\n")
        file.writelines(f"set/{n // 1000:04}/n{n:08}_x.jpg,{100_000 + n},{n * 7919 << 64 | n:032x},2024-05-06T07:08:09Z\n" for n in numbers)
    fb = forebay(None, limit=280)
    before, peak, done = fb.memory()["RssAnon"], [0], threading.Event()

    def watch():
        while not done.wait(0.02):
            peak[0] = max(peak[0], fb.memory()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.monotonic()
    # Nobody answers there: nobody is asked.
    told = add(fb, "/m", "s3://bucket/set/", "--endpoint", "http://127.0.0.1:9", "--manifest", str(manifest))
    took = time.monotonic() - begun
    assert (told["problem"], told["manifest"]["objects"]) == (None, count)
    first = time.monotonic()
    assert len(fb.cli("ls", "/m/0777", check=True).stdout.split()) == 1000
    one = time.monotonic() - first
    wait_until(lambda: os.listdir(fb.path()) == ["m"], SHOWN, "the source in the mount")
    looked = time.monotonic()
    for n in numbers[:20_000:10]:
        assert os.stat(fb.path(f"m/{n // 1000:04}/n{n:08}_x.jpg")).st_size == 100_000 + n
    looked = (time.monotonic() - looked) / 2_000
    done.set()
    watcher.join()
    index = next((fb.base / "cache/state/manifests").iterdir()).stat().st_size
    print(
        f"\n{order}: {count} objects of {manifest.stat().st_size / 1e6:.0f} MB in {took:.1f} s, index {index / 1e6:.1f} MB, "
        f"RssAnon {before / 2**20:.0f} -> {peak[0] / 2**20:.0f} MiB, first ls {one * 1e3:.0f} ms, stat {looked * 1e6:.0f} us"
    )
    assert peak[0] - before < 96 << 20, f"RssAnon grew by {(peak[0] - before) >> 20} MiB"
    assert took < 90
