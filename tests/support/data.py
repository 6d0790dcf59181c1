"""Data sets that the tests and benches share. Generated ones are kept under .cache/ and made once."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
from pathlib import Path

from .process import CACHE

PAGE = 1 << 20
JPEGS = 10_000
CLIPART = Path("/usr/share/openclipart/png")


def body(seed: int | str, size: int) -> bytes:
    """`size` bytes that no other seed gives."""
    return random.Random(f"forebay {seed}").randbytes(size)


def clipart() -> Path:
    """The PNG files of Debian's openclipart-png."""
    if not CLIPART.is_dir():
        raise RuntimeError("the package openclipart-png is missing: run scripts/setup.sh test")
    return CLIPART


def jpegs() -> Path:
    """10,000 JPEG files of about 112 KiB in ten class folders.

    The pictures are small, of ten kinds that a small network can tell apart, and comment segments of random bytes bring each
    file to the size of a photograph: reading them costs what reading ImageNet costs, decoding them costs little.
    """
    directory = CACHE / "jpeg-112k-v1"
    if (directory / "done").exists():
        return directory / "images"
    shutil.rmtree(directory, ignore_errors=True)
    pictures = [picture(kind, example) for kind in range(10) for example in range(8)]
    for number in range(JPEGS):
        kind = number % 10
        folder = directory / "images" / f"class{kind}"
        if number < 10:
            folder.mkdir(parents=True)
        rng = random.Random(number)
        picked = pictures[kind * 8 + rng.randrange(8)]
        size = 112 * 1024 + rng.randrange(-12 * 1024, 12 * 1024)
        (folder / f"{number:05d}.jpg").write_bytes(padded(picked, size, rng))
    (directory / "done").touch()
    return directory / "images"


def picture(kind: int, example: int) -> bytes:
    import numpy
    from PIL import Image

    rng = numpy.random.default_rng(kind * 100 + example)
    rows, columns = numpy.mgrid[0:64, 0:64]
    wave = numpy.sin(rows * (kind + 1) / 10.0) + numpy.cos(columns * (10 - kind) / 10.0)
    pixels = (wave[..., None] * 50 + 128 + rng.normal(0, 20, (64, 64, 3))).clip(0, 255).astype("uint8")
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()


def padded(jpeg: bytes, size: int, rng: random.Random) -> bytes:
    """A JPEG of exactly `size` bytes: comment segments after the start marker."""
    room = size - len(jpeg)
    parts = [jpeg[:2]]
    while room >= 4:
        take = min(room, 65_537)
        if 0 < room - take < 4:
            take -= 4
        parts.append(b"\xff\xfe" + struct.pack(">H", take - 2) + rng.randbytes(take - 4))
        room -= take
    return b"".join([*parts, jpeg[2:]])


def subset_by_number(source: Path, target: Path, count: int) -> int:
    """Hard links (or copies) the `count` files of `source` whose names come first into `target`; returns their bytes."""
    total = 0
    paths = sorted((path for path in source.rglob("*") if path.is_file()), key=lambda path: path.name)
    for path in paths[:count]:
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, to)
        except OSError:
            shutil.copyfile(path, to)
        total += path.stat().st_size
    return total


def tree_bytes(root: Path) -> int:
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
