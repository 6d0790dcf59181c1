#!/usr/bin/env python3
"""The tests again, longer (make soak): properties and crashes with 10^4 cases, loom's models without a bound, all Rust tests
watched by AddressSanitizer, a store of ten million objects, every fuzz target for ten minutes with the compiler's coverage to guide it,
defects planted for the targets to find, and rounds of the tests with real parts, faults and kills.

Goes on after a failure, writes bench/results/soak.json after each step, and ends with status 1 when anything failed. It takes some
three hours on two cores: with --resume, what passed in the last week is not run again; each step says on which commit it ran.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The tests in which timing and order can differ from run to run.
ROUND_TESTS = ["test_openclipart.py", "test_faults.py", "test_changes.py", "test_lifecycle.py", "test_disk.py", "test_network.py"]
ROUND_TESTS += ["test_cold_starts.py"]
COLD_SECONDS = 60
STEP_SECONDS = 3600
# For how long a step that passed counts.
RESUMED = datetime.timedelta(days=7)
# The crates that have fuzz targets: the tests whose names begin with `fuzz::`.
FUZZED = ["forebay-store", "forebay-wire"]
TARGET = f"{os.uname().machine}-unknown-linux-gnu"
# As `cargo bolero` builds for libFuzzer, with AddressSanitizer.
FUZZ_FLAGS = " ".join(
    ["--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module -Zsanitizer=address"]
    + [f"-Cllvm-args=-sanitizer-coverage-{what}" for what in ("level=4", "inline-8bit-counters", "pc-table", "trace-compares")]
)


class Soak:
    """What was run, and how it ended: bench/results/soak.json, whole after each step."""

    def __init__(self, cases: int, resume: bool) -> None:
        self.path = ROOT / "bench" / "results" / "soak.json"
        self.commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10).stdout.strip()
        self.cases = cases
        before = json.loads(self.path.read_text())["steps"] if resume and self.path.exists() else []
        oldest = (datetime.datetime.now(datetime.timezone.utc) - RESUMED).isoformat()
        self.steps = [done for done in before if done["passed"] and done.get("date", "") >= oldest]
        self.lock = threading.Lock()

    def has(self, name: str) -> bool:
        """Whether it passed before."""
        return any(done["id"] == name for done in self.steps)

    def add(self, name: str, passed: bool, begun: float) -> None:
        """Notes what ended now and began at `begun` of the monotonic clock."""
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        with self.lock:
            took = round(time.monotonic() - begun, 1)
            self.steps.append({"id": name, "passed": passed, "seconds": took, "date": date, "commit": self.commit})
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = {"commit": self.commit, "date": date, "cases": self.cases, "steps": self.steps}
            self.path.write_text(json.dumps(whole, indent=1) + "\n")

    def step(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Runs a command, unless it passed before."""
        if self.has(name):
            return
        print(f"soak: {name}", flush=True)
        begun = time.monotonic()
        try:
            code = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, timeout=STEP_SECONDS).returncode
        except subprocess.TimeoutExpired:
            code = -1
        self.add(name, code == 0, begun)


def fuzz(soak: Soak, seconds: int) -> None:
    """Builds the fuzz targets for libFuzzer and lets each run, as many at once as there are cores."""
    print(f"soak: fuzz targets, {seconds} s each", flush=True)
    command = ["cargo", "test", "--release", "--locked", "--lib", "--no-run", "--message-format", "json"]
    command += ["--target", TARGET, "--target-dir", "target/fuzz"] + [word for crate in FUZZED for word in ("-p", crate)]
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": FUZZ_FLAGS, "BOLERO_FUZZER": "libfuzzer"}
    begun = time.monotonic()
    built = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, timeout=STEP_SECONDS)
    if not soak.has("fuzz targets built"):
        soak.add("fuzz targets built", built.returncode == 0, begun)
    programs = [Path(path) for path in re.findall(r'"executable":"([^"]+)"', built.stdout)]
    targets = []
    for program in programs:
        listed = subprocess.run([program, "--list"], capture_output=True, text=True, timeout=60).stdout
        targets += [(program, name) for name in re.findall(r"^(fuzz::\w+): test$", listed, re.M)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda target: fuzz_one(soak, *target, seconds), targets))


def fuzz_one(soak: Soak, program: Path, name: str, seconds: int) -> None:
    crate = program.name.rsplit("-", 1)[0]
    identity = f"{name} of {crate}, {seconds} s"
    if soak.has(identity):
        return
    # What led to new places is kept for the next time; what failed stands beside it.
    place = ROOT / "target" / "fuzz" / "corpora" / crate / name.removeprefix("fuzz::")
    (place / "corpus").mkdir(parents=True, exist_ok=True)
    limits = f"-max_total_time={seconds} -max_len=4096 -timeout=20 -rss_limit_mb=2048"
    environment = {
        **os.environ,
        "BOLERO_LIBFUZZER_ARGS": f"{place}/corpus -artifact_prefix={place}/ {limits}",
        "BOLERO_TEST_NAME": name,
        "BOLERO_LIBTEST_HARNESS": "1",
        # The process ends when libFuzzer does, and never comes to free what the test harness holds.
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    command = [program, name, "--exact", "--nocapture", "--test-threads", "1"]
    begun = time.monotonic()
    with (place / "log").open("w") as log:
        try:
            code = subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=seconds + 300).returncode
        except subprocess.TimeoutExpired:
            code = -1
    ended = re.findall(r"#(\d+)\s+DONE.*", (place / "log").read_text(errors="replace"))
    passed = code == 0 and bool(ended)
    soak.add(identity, passed, begun)
    print(f"soak: {identity}: {ended[-1] if ended else 'no'} inputs, status {code}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="cases of each property")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the tests with real parts")
    parser.add_argument("--fuzz-seconds", type=int, default=600, help="how long each fuzz target runs")
    parser.add_argument("--resume", action="store_true", help="do not run again what passed in the last week")
    options = parser.parse_args()
    soak = Soak(options.cases, options.resume)
    cargo = ["cargo", "test", "--release", "--locked"]
    soak.step(
        f"properties, {options.cases} cases each",
        [*cargo, "--workspace", "--lib", "--test", "round_trip", "--test", "damage", "--test", "kills"],
        {"PROPTEST_CASES": str(options.cases), "LOOM_MAX_PREEMPTIONS": "100"},
    )
    soak.step(
        "AddressSanitizer: all Rust tests",
        [*cargo, "--workspace", "--lib", "--tests", "--target", TARGET, "--target-dir", "target/asan"],
        # The compiler lets a stable release use the sanitizer under this name only.
        # It makes code some four times as slow; what tests hold against an origin's delay is then held against a longer one.
        {
            "RUSTC_BOOTSTRAP": "1",
            "RUSTFLAGS": "-Zsanitizer=address",
            "LSAN_OPTIONS": f"suppressions={ROOT / 'scripts' / 'lsan.txt'}",
            "FOREBAY_TEST_SLOWNESS": "4",
        },
    )
    example = ["cargo", "run", "--release", "--locked", "-p", "forebay-store", "--example", "ten_million", "--"]
    soak.step("ten million objects", [*example, str(ROOT / "target" / "ten-million")])
    fuzz(soak, options.fuzz_seconds)
    soak.step("planted defects are found", [sys.executable, "scripts/planted.py"])
    for number in range(options.rounds):
        tests = [str(ROOT / "tests" / name) for name in ROUND_TESTS]
        soak.step(
            f"round {number + 1} of {', '.join(ROUND_TESTS)}",
            [str(ROOT / ".venv/bin/pytest"), "-q", *tests],
            {"FOREBAY_TEST_SECONDS": str(COLD_SECONDS)},
        )
    for done in soak.steps:
        print(f"{'passed' if done['passed'] else 'FAILED'} {done['seconds']:>8.1f} s  {done['id']}")
    return 0 if all(done["passed"] for done in soak.steps) else 1


if __name__ == "__main__":
    sys.exit(main())
