"""A real data set through the mount: the 6,900 PNG files of Debian's openclipart-png, with a cache half their size."""

from __future__ import annotations

import os

import pytest

from support import readers
from support.data import tree_bytes
from support.process import program, run
from support.weed import ACCESS_KEY, REGION, SECRET_KEY

FILES = 6900


@pytest.fixture(scope="module")
def bucket(weed, clipart) -> str:
    """A bucket that holds the data set, put there by rclone; its symlinks are left out."""
    name = weed.bucket("openclipart")
    remote = f":s3,provider=SeaweedFS,access_key_id={ACCESS_KEY},secret_access_key={SECRET_KEY},region={REGION},"
    remote += f"endpoint='{weed.endpoint}':{name}"
    command = [program("rclone"), "copy", str(clipart), remote, "--transfers", "16", "--checkers", "16", "--skip-links"]
    done = run([*command, "--no-check-dest", "--s3-no-check-bucket"], 120, env={**os.environ, "RCLONE_CONFIG": "/dev/null"})
    assert done.returncode == 0, f"rclone could not upload the data set: {done.stderr[-2000:]}"
    return name


@pytest.mark.timeout(240)
def test_small_cache_many_readers(weed, bucket, clipart, forebay):
    """Several processes that read a data set at once through a cache half its size get every byte right, again and again."""
    size = tree_bytes(clipart)
    fb = forebay(f"s3://{bucket}", endpoint=weed.endpoint, cache=f"{size // 2}", limit=220)
    # The first process compares names too (one order for all); the others read in orders of their own.
    commands = [["compare", clipart, fb.mount]] + [["compare", clipart, fb.mount, f"seed{i}"] for i in range(3)]
    for _ in range(2):
        for answer in readers.together(*commands, seconds=100):
            assert answer == {"files": FILES, "bytes": size}
    held = fb.resident_bytes()
    assert held <= size // 2, f"the cache holds {held} bytes, more than the {size // 2} that it was given"


@pytest.mark.timeout(240)
def test_decode(weed, bucket, clipart, forebay):
    """An image library decodes every picture through the mount."""
    fb = forebay(f"s3://{bucket}", endpoint=weed.endpoint, cache="1GiB", limit=230)
    parts = readers.together(*(["decode", fb.mount, i, 2] for i in range(2)), seconds=220)
    assert sum(part["files"] for part in parts) == FILES
    assert all(part["pixels"] > 0 for part in parts)
