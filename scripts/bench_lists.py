#!/usr/bin/env python3
"""Lists a large prefix of the tests' list server: page after page, by many listers, and by a client that only counts.

    cargo build --release -p forebay-listserver -p forebay-origin --bins --example list_many
    python3 scripts/bench_lists.py [--latency 20] [--count 10000000] [--sequential 500000] [--listers 16] [--shape numbers] [--opendal]

One JSON object: entries a second and CPU time an entry of each, the two ratios that are promised (docs/decisions/0012), and what a
listing made anew gains from the cuts of the one before.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess

BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path(__file__).parent.parent / "target")) / "release"


@contextlib.contextmanager
def server(keys: list[str], latency: int):
    """A running server; yields its address and a list that has what it served, once it has ended."""
    command = [BUILT / "forebay-listserver", "serve", "--latency", str(latency), *keys]
    running, served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), []
    try:
        yield json.loads(running.stdout.readline())["listen"], served
    finally:
        running.send_signal(signal.SIGINT)
        served.append(json.loads(running.communicate(timeout=10)[0].splitlines()[-1]))


def measure(command: list) -> dict:
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=int, default=20, help="milliseconds a page")
    parser.add_argument("--count", type=int, default=10_000_000)
    parser.add_argument("--sequential", type=int, default=500_000, help="keys of the run page after page")
    parser.add_argument("--listers", type=int, default=16)
    parser.add_argument("--shape", default="numbers")
    parser.add_argument("--opendal", action="store_true", help="page after page by OpenDAL's lister, too")
    flags = parser.parse_args()

    def keys(count: int) -> list[str]:
        return ["--count", str(count), "--shape", flags.shape]

    def listed(count: int, *way: str) -> dict:
        with server(keys(count), flags.latency) as (address, served):
            result = measure([BUILT / "examples" / "list_many", address, "data/", *way])
        assert result["entries"] == count == result.get("again", result)["entries"], result
        listings = 2 if "again" in result else 1
        return result | {"server_cpu_us_per_entry": served[0]["cpu_seconds"] * 1e6 / count / listings}

    result = {"latency_ms": flags.latency, "shape": flags.shape, "count": flags.count}
    if flags.opendal:
        result["opendal"] = listed(flags.sequential, "opendal")
    result["sequential"] = listed(flags.sequential, "1")
    result["parallel"] = listed(flags.count, str(flags.listers), "again")
    with server(keys(flags.count), flags.latency) as (address, _):
        counter = [BUILT / "forebay-listserver", "count", "--server", address, "--clients", str(flags.listers)]
        result["ceiling"] = measure([*counter, *keys(flags.count)])
    rate = result["parallel"]["entries_per_second"]
    result["times_sequential"] = round(rate / result["sequential"]["entries_per_second"], 2)
    result["again_times_first"] = round(result["parallel"]["again"]["entries_per_second"] / rate, 2)
    result["of_ceiling"] = round(rate / result["ceiling"]["entries_per_second"], 3)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
