#!/usr/bin/env python3
"""The tests again, longer (make soak): properties with 10^4 cases, the memory of the crates with unsafe code watched by
AddressSanitizer, and rounds of the tests with real parts, faults and kills.

Goes on after a failure, writes bench/results/soak.json, and ends with status 1 when anything failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The tests in which timing and order can differ from run to run.
ROUND_TESTS = ["test_openclipart.py", "test_faults.py", "test_changes.py", "test_lifecycle.py", "test_disk.py", "test_network.py"]
STEP_SECONDS = 2400
# The crates that have unsafe code, and those that read bytes of others.
WATCHED = ["forebay-store", "forebay-fuse", "forebay-wire", "forebay-model"]


def step(name: str, command: list[str], environment: dict[str, str] | None = None) -> dict:
    print(f"soak: {name}", flush=True)
    begun = time.monotonic()
    try:
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, timeout=STEP_SECONDS).returncode
    except subprocess.TimeoutExpired:
        code = -1
    return {"id": name, "passed": code == 0, "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="cases of each property")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the tests with real parts")
    options = parser.parse_args()
    cargo = ["cargo", "test", "--release", "--locked"]
    steps = [
        step(
            f"properties, {options.cases} cases each",
            [*cargo, "--workspace", "--lib", "--test", "round_trip", "--test", "damage"],
            {"PROPTEST_CASES": str(options.cases)},
        ),
        step(
            f"AddressSanitizer: {', '.join(WATCHED)}",
            [*cargo, "--lib", "--tests", "--target", f"{os.uname().machine}-unknown-linux-gnu", "--target-dir", "target/asan"]
            + [word for crate in WATCHED for word in ("-p", crate)],
            # The compiler lets a stable release use the sanitizer under this name only.
            {"RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": "-Zsanitizer=address"},
        ),
    ]
    for number in range(options.rounds):
        tests = [str(ROOT / "tests" / name) for name in ROUND_TESTS]
        steps.append(step(f"round {number + 1} of {', '.join(ROUND_TESTS)}", [str(ROOT / ".venv/bin/pytest"), "-q", *tests]))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10).stdout.strip()
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    path = ROOT / "bench" / "results" / "soak.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": commit, "date": date, "cases": options.cases, "steps": steps}, indent=1) + "\n")
    for done in steps:
        print(f"{'passed' if done['passed'] else 'FAILED'} {done['seconds']:>8.1f} s  {done['id']}")
    return 0 if all(done["passed"] for done in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
