#!/usr/bin/env python3
"""Plants one defect after the other in the parsers of the formats, and shows that the target or test named for each finds it.

Works on a copy of the sources below target/planted. A defect whose text does not stand exactly once in its file is a failure
too: the list below moves with the code. Ends with status 1 if any defect was not found.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "target" / "planted"
STORE, WIRE, MODEL = "crates/store/src", "crates/wire/src", "crates/model/src"
SECONDS = 600

# Crate and test that must fail, file, what stands there, what stands there instead.
DEFECTS = [
    ("forebay-store", "fuzz::log_header", f"{STORE}/log.rs", "field(24)? == block_sum(&header[..24]).0", "field(24)? != 0"),
    ("forebay-store", "fuzz::record_frame", f"{STORE}/record.rs", "payload > MAX_PAYLOAD {", "payload > usize::MAX - FRAME {"),
    ("forebay-store", "fuzz::record_frame", f"{STORE}/record.rs", "if checksum(salt, body) != sum {", "if sum == 0 {"),
    ("forebay-store", "fuzz::record_boot", f"{STORE}/record.rs", "fields.0.is_empty().then_some(record)", "Some(record)"),
    ("forebay-store", "fuzz::record_pack", f"{STORE}/record.rs", "2 => Self::Pack { pack: fields.u32()?, group: fields.u64()? }", "2 => Self::Pack { group: fields.u64()?, pack: fields.u32()? }"),
    ("forebay-store", "fuzz::record_small", f"{STORE}/record.rs", "                offset: fields.u32()?,\n                len: fields.u32()?,", "                len: fields.u32()?,\n                offset: fields.u32()?,"),
    ("forebay-store", "fuzz::record_small_gone", f"{STORE}/record.rs", "4 => Self::SmallGone { id: fields.id()? }", "4 => Self::LargeGone { id: fields.id()? }"),
    ("forebay-store", "fuzz::record_pack_gone", f"{STORE}/record.rs", "5 => Self::PackGone { pack: fields.u32()? }", "5 => Self::PackGone { pack: fields.u32()? & 0xffff }"),
    ("forebay-store", "fuzz::record_large", f"{STORE}/record.rs", "6 => Self::Large { id: fields.id()?, size: fields.u64()?, group: fields.u64()?", "6 => Self::Large { id: fields.id()?, group: fields.u64()?, size: fields.u64()?"),
    ("forebay-store", "fuzz::record_pages", f"{STORE}/record.rs", "                resident: fields.u64()?,\n                verified: fields.u64()?,", "                verified: fields.u64()?,\n                resident: fields.u64()?,"),
    ("forebay-store", "fuzz::record_extent_gone", f"{STORE}/record.rs", "8 => Self::ExtentGone { id: fields.id()?, extent: fields.u32()?, generation: fields.u64()? }", "8 => Self::ExtentGone { id: fields.id()?, extent: fields.u32()?, generation: fields.u64().unwrap_or(0) }"),
    ("forebay-store", "fuzz::record_large_gone", f"{STORE}/record.rs", "9 => Self::LargeGone { id: fields.id()? }", "9 => Self::SmallGone { id: fields.id()? }"),
    ("forebay-store", "fuzz::record_closed", f"{STORE}/record.rs", "10 => Self::Closed,", "10 => return Some(Self::Closed),"),
    ("forebay-store", "fuzz::index_log", f"{STORE}/log.rs", "Decoded::Bad(flaw) => return Ok(Some(End { at: at + used as u64, flaw: Some(flaw) }))", "Decoded::Bad(flaw) => return Ok(Some(End { at: size, flaw: Some(flaw) }))"),
    ("forebay-store", "fuzz::pack_entry", f"{STORE}/pack.rs", " && block_sums(data) == stated_sums(header))", ")"),
    ("forebay-store", "fuzz::pack_entry", f"{STORE}/pack.rs", "(is_header(header, id, group, len as u32) && ", "("),
    ("forebay-store", "fuzz::pack_name", f"{STORE}/pack.rs", '(name(number) == format!("{PACKS}/{file_name}")).then_some(number)', "Some(number)"),
    ("forebay-store", "fuzz::large_name", f"{STORE}/large.rs", '(name(id, generation) == format!("{}/{file_name}", folder(id))).then_some((id, generation))', "Some((id, generation))"),
    ("forebay-wire", "fuzz::frame_header", f"{WIRE}/frame.rs", "body_len > BODY_MAX || payload_len > PAYLOAD_MAX", "body_len > BODY_MAX"),
    ("forebay-wire", "fuzz::frame_header", f"{WIRE}/frame.rs", "if long(24) != block_sum(&header[..24]).0 {", "if long(24) == 0 {"),
    ("forebay-wire", "fuzz::frame", f"{WIRE}/frame.rs", "let payload = body.split_off(body_len as usize);", "let payload = body.split_off(body.len() - body_len as usize);"),
    ("forebay-wire", "fuzz::request", f"{MODEL}/path.rs", "    fn try_from(text: String) -> Result<Self, Self::Error> {\n        text.parse()", "    fn try_from(text: String) -> Result<Self, Self::Error> {\n        let _: fn(&str) -> Result<Self, PathParseError> = str::parse;\n        Ok(Self(text.into()))"),
    ("forebay-wire", "fuzz::reply", f"{WIRE}/frame.rs", "Ok(postcard::from_bytes(body)?)", "Ok(postcard::from_bytes(body.split_last().map_or(body, |(_, body)| body))?)"),
    ("forebay-store", "crash::a_crash_at_any_moment_leaves_a_store_that_serves_what_is_whole", f"{STORE}/evict.rs", "        if !self.flush() {\n            return false;\n        }\n        // `file` is held: no reader opens by name meanwhile.\n        if directory.root.rename(&large.name(), &large::name(large.id, generation)).is_err() {\n            return false;\n        }\n        large.generation.store(generation, Ordering::Release);\n", ""),
    ("forebay-store", "crash::a_crash_at_any_moment_leaves_a_store_that_serves_what_is_whole", f"{STORE}/writer/mod.rs", "        self.flush();\n        self.punch_holes();\n", "        self.punch_holes();\n        self.flush();\n"),
    ("forebay-store", "crash::a_crash_at_any_moment_leaves_a_store_that_serves_what_is_whole", f"{STORE}/log.rs", "        device::sync_data(&file)?;\n", ""),
    ("forebay-store", "crash::a_crash_at_any_moment_leaves_a_store_that_serves_what_is_whole", f"{STORE}/replay.rs", "!cut && self.boot == Some(boot)", "!cut"),
]


def texts_stand() -> list[str]:
    wrong = []
    for _, test, file, old, _ in DEFECTS:
        count = (ROOT / file).read_text().count(old)
        if count != 1:
            wrong.append(f"{test}: in {file} this stands {count} times: {old.strip()}")
    return wrong


def copy_sources() -> Path:
    tree = WORK / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def is_found(tree: Path, crate: str, test: str) -> str | None:
    """None if the test fails as it should; else what went wrong."""
    command = ["cargo", "test", "--release", "--locked", "-p", crate, "--lib"]
    environment = {**os.environ, "CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR", str(WORK / "build"))}
    run = {"cwd": tree, "env": environment, "capture_output": True, "text": True, "timeout": SECONDS}
    built = subprocess.run([*command, "--no-run"], **run)
    if built.returncode != 0:
        return "does not build:\n" + built.stderr
    ran = subprocess.run([*command, test, "--", "--exact"], **run)
    if f"{test} ... FAILED" in ran.stdout:
        return None
    return "was not found:\n" + ran.stdout[-2000:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only see that each text stands where it is looked for")
    parser.add_argument("tests", nargs="*", help="only these")
    options = parser.parse_args()
    wrong = texts_stand()
    for line in wrong:
        print(line)
    if options.check or wrong:
        return 1 if wrong else 0
    tree = copy_sources()
    missed = 0
    for crate, test, file, old, new in DEFECTS:
        if options.tests and test not in options.tests:
            continue
        begun = time.monotonic()
        sound = (tree / file).read_text()
        (tree / file).write_text(sound.replace(old, new))
        why = is_found(tree, crate, test)
        (tree / file).write_text(sound)
        missed += why is not None
        verdict, seconds = "found " if why is None else "MISSED", time.monotonic() - begun
        print(f"{verdict} {seconds:6.1f} s  {test}  {old.strip().splitlines()[0]}", flush=True)
        if why is not None:
            print(why)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
