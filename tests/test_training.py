"""A real trainer through the mount: PyTorch's DataLoader with worker processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from support import data
from support.process import run
from support.weed import upload

SAMPLES = 2000
TRAIN = str(Path(__file__).parent / "support" / "train.py")


def train(directory: Path) -> dict:
    done = run([sys.executable, TRAIN, str(directory), str(SAMPLES), "2", "4"], 120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, f"training over {directory} failed: {done.stderr[-3000:]}"
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_same_loss(weed, s3, jpegs, scratch, forebay, capsys):
    """A network trained through the mount, by several worker processes, has exactly the losses of one trained from the plain directory."""
    plain = data.CACHE / "jpeg-2000"
    if not plain.exists():
        made = data.CACHE / f"jpeg-2000.{os.getpid()}"
        data.subset_by_number(jpegs, made, SAMPLES)
        made.rename(plain)
    upload(weed.endpoint, s3.bucket, plain, s3.prefix)
    fb = forebay(s3.url, endpoint=weed.endpoint, limit=280)
    through, direct = train(fb.mount), train(plain)
    with capsys.disabled():
        print(f"\n  samples/s of two epochs: mount {through['samples_per_second']}, plain {direct['samples_per_second']}", end=" ")
    assert through["samples"] == direct["samples"] == SAMPLES
    assert through["losses"] == direct["losses"]
    assert direct["losses"][1] < direct["losses"][0], "the network learned nothing: the data set is of no use"
