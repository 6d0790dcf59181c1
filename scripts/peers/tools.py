"""Outside programs of the peers, and what they are told of keys."""

from __future__ import annotations

import os
from pathlib import Path

from support.process import CACHE, program
from support.weed import ACCESS_KEY, REGION, SECRET_KEY

# Made by scripts/setup.sh bench-peers.
VENV = CACHE / "peers" / "venv"
ALLUXIO = CACHE / "peers" / "alluxio"


def tool(name: str) -> str:
    """The path of a program that a peer needs. Some packages put a script of Python before it, whose start is not theirs to bear."""
    for path in [*VENV.glob(f"lib/*/site-packages/{name}/bin/{name}"), VENV / "bin" / name]:
        if path.exists():
            return str(path)
    try:
        return program(name)
    except RuntimeError:
        raise RuntimeError(f"the program {name!r} is missing: run scripts/setup.sh bench-peers") from None


def aws_environment(home: Path) -> dict[str, str]:
    """Keys and nothing else of this machine's own settings."""
    return {
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG": "/dev/null",
    }
