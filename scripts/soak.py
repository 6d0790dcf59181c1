#!/usr/bin/env python3
"""The tests again, longer: property tests with more cases, and rounds of the tests with real parts (make soak).

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
ROUND_TESTS = ["test_openclipart.py", "test_faults.py", "test_changes.py", "test_lifecycle.py", "test_disk.py"]
ROUND_SECONDS = 1200
# Property tests have 256 cases by default; one seed stands for so many more.
CASES_A_SEED = 64


def step(name: str, command: list[str], environment: dict[str, str]) -> dict:
    print(f"soak: {name}", flush=True)
    begun = time.monotonic()
    try:
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, timeout=ROUND_SECONDS).returncode
    except subprocess.TimeoutExpired:
        code = -1
    return {"id": name, "passed": code == 0, "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50, help="how much longer than `make test`")
    seeds = parser.parse_args().seeds
    cases = str(256 + seeds * CASES_A_SEED)
    steps = [step(f"property tests, {cases} cases", ["cargo", "test", "--release", "--workspace", "--locked"], {"PROPTEST_CASES": cases})]
    for number in range(max(1, seeds // 10)):
        tests = [str(ROOT / "tests" / name) for name in ROUND_TESTS]
        steps.append(step(f"round {number + 1}", [str(ROOT / ".venv/bin/pytest"), "-q", *tests], {}))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10).stdout.strip()
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    path = ROOT / "bench" / "results" / "soak.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": commit, "date": date, "seeds": seeds, "steps": steps}, indent=1) + "\n")
    for done in steps:
        print(f"{'passed' if done['passed'] else 'FAILED'} {done['seconds']:>8.1f} s  {done['id']}")
    return 0 if all(done["passed"] for done in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
