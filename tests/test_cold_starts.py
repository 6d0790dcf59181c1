"""Programs that are there from a mount's first moment, over stops and kills: no name is missing, no byte is wrong."""

from __future__ import annotations

from support import cold


def test_files(scratch, forebay):
    files = cold.tree(1)
    for name, content in files.items():
        path = scratch / "origin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    cold.check(forebay, f"file://{scratch / 'origin'}", {}, files, scratch)


def test_bucket(weed, s3, scratch, forebay):
    files = cold.tree(2)
    for name, content in files.items():
        s3.put(name, content)
    cold.check(forebay, s3.url, {"endpoint": weed.endpoint}, files, scratch)
