"""The commands, against a running process."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from support import readers
from support.data import body
from support.process import forebay_binary, free_port, run, wait_until

COMMANDS = ["up", "ls", "stat", "cat", "cp", "status", "doctor", "trace", "store"]


@pytest.fixture
def running(scratch, forebay):
    """A running process over a directory with a few files."""
    root = scratch / "origin"
    (root / "dir" / "deep").mkdir(parents=True)
    files = {"a.txt": b"hello\n", "dir/b c": body("b", 70_000), "dir/deep/large": body("large", 9_000_000), "empty": b""}
    for name, content in files.items():
        (root / name).write_bytes(content)
    fb = forebay(f"file://{root}")
    fb.files = files
    return fb


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_ls(running):
    """`forebay ls` lists a directory of the namespace; `--json` gives one object a line."""
    assert running.cli("ls", check=True).stdout.split() == ["data/"]
    assert running.cli("ls", "/data", check=True).stdout.split() == ["a.txt", "dir/", "empty"]
    found = {entry["name"]: entry for entry in objects(running.cli("ls", "/data", "--json", check=True).stdout)}
    assert found["a.txt"]["size"] == 6
    assert found["a.txt"]["type"] == "file"
    assert found["dir"]["type"] == "directory"
    assert "a.txt" in running.cli("ls", "-l", "/data", check=True).stdout


def test_stat(running):
    """`forebay stat` shows size, version and key of a path."""
    assert "9000000" in running.cli("stat", "/data/dir/deep/large", check=True).stdout
    (shown,) = objects(running.cli("stat", "--json", "/data/dir/b c", check=True).stdout)
    assert (shown["type"], shown["size"], shown["path"]) == ("file", 70_000, "/data/dir/b c")
    assert shown["version"]


def test_cat(running):
    """`forebay cat` writes the bytes of files to standard output, in order."""
    done = running.cli("cat", "/data/a.txt", "/data/dir/deep/large", "/data/empty", text=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"hello\n" + running.files["dir/deep/large"]


def test_cat_into_a_closed_pipe(running):
    """`forebay cat | head` ends quietly."""
    command = [forebay_binary(), "--node", str(running.socket), "cat", "/data/dir/deep/large"]
    cat = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=running.env)
    cat.stdout.read(10)
    cat.stdout.close()
    assert cat.wait(20) == 0
    assert cat.stderr.read() == b""


def test_cp_file(running, scratch):
    """`forebay cp` copies a file, under a new name or into a directory, and leaves no temporary file behind."""
    out = scratch / "out"
    out.mkdir()
    running.cli("cp", "/data/dir/deep/large", str(out / "copy"), check=True)
    running.cli("cp", "/data/a.txt", str(out), check=True)
    assert (out / "copy").read_bytes() == running.files["dir/deep/large"]
    assert (out / "a.txt").read_bytes() == b"hello\n"
    assert sorted(os.listdir(out)) == ["a.txt", "copy"]


def test_cp_directory(running, scratch):
    """`forebay cp -r` copies a directory with everything in it, and prints plain progress where there is no terminal."""
    out = scratch / "out"
    done = running.cli("cp", "-r", "/data", str(out), check=True)
    for name, content in running.files.items():
        assert (out / name).read_bytes() == content
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    refused = running.cli("cp", "/data/dir", str(scratch / "other"))
    assert refused.returncode != 0
    assert "-r" in refused.stderr


def test_status(running):
    """`forebay status` shows sources and caches; what was read is resident."""
    readers.read_file(running.path("dir/deep/large"))
    wait_until(lambda: running.resident_bytes() >= 9_000_000, 10, "the cache to hold the file")
    assert "/data" in running.cli("status", check=True).stdout
    assert json.loads(running.http("/v1/status"))


def test_doctor(running, scratch):
    """`forebay doctor` checks the machine and an origin, says what it found, and fails when one check fails."""
    done = running.cli("doctor", running.origin, "--cache", f"{scratch}/c:1GiB", seconds=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuse" in done.stdout.lower()
    checks = objects(running.cli("doctor", "--json", running.origin, seconds=60).stdout)
    assert checks
    dead = f"http://127.0.0.1:{free_port()}"
    failed = running.cli("doctor", "s3://bucket", "--endpoint", dead, "--region", "us-east-1", seconds=90)
    assert failed.returncode == 1
    assert dead.removeprefix("http://") in failed.stdout + failed.stderr


def test_errors_name_the_input(running):
    """What does not exist is named, on standard error, with exit code 1; wrong usage has exit code 2."""
    for command in (["ls", "/data/absent"], ["stat", "/data/absent"], ["cat", "/data/absent"], ["cp", "/data/absent", "/tmp/x"]):
        done = running.cli(*command)
        assert done.returncode == 1, f"{command}: {done.stdout}{done.stderr}"
        assert "/data/absent" in done.stderr
        assert done.stdout == ""
    for command in (["cat"], ["ls", "relative"], ["stat", "--colour", "/data"]):
        assert running.cli(*command).returncode == 2


def test_nobody_listens(scratch):
    """When no process answers, commands say where they looked and how to start one."""
    env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(scratch)}
    done = run([forebay_binary(), "--node", str(scratch / "absent.sock"), "status"], 20, env=env)
    assert done.returncode == 1
    assert str(scratch / "absent.sock") in done.stderr
    assert "forebay up" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    """Every command has help that fits a terminal."""
    done = run([forebay_binary(), command, "--help"], 20)
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert all(len(line) <= 120 for line in done.stdout.splitlines())


def test_environment_names_the_process(running):
    """FOREBAY_NODE names the process to ask."""
    done = run([forebay_binary(), "ls", "/data"], 20, env={**running.env, "FOREBAY_NODE": str(running.socket)})
    assert done.returncode == 0, done.stderr
    assert "a.txt" in done.stdout


def test_metrics_are_well_formed(running):
    """/metrics is Prometheus text with help and type for every family."""
    readers.read_file(running.path("a.txt"))
    text = running.http("/metrics")
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert families
    assert all(name.startswith("forebay_") for name in families), families
    samples = running.metrics()
    assert any(value > 0 for name, value in samples.items() if name.startswith("forebay_origin_requests_total")), samples
