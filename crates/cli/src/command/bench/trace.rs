//! A recorded trace (`docs/trace.md`): JSON, one object a line. The first line names the format, the last one ends it, each
//! other one is a read.
//!
//! Always true: at most [`MAX_READS`] reads of [`MAX_LINE`] bytes a line; a line that is wrong is named with its number. A
//! trace that was cut, as by a process that was killed, is read to where it ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use forebay_model::{ContentId, PAGE};
use forebay_store::Access;
use serde::Deserialize;

use crate::failure::Failure;

/// Reads of a trace: with all that the simulation keeps of each, at most 256 bytes, 1 GB.
const MAX_READS: usize = 4_000_000;
/// Bytes of a line.
const MAX_LINE: u64 = 4096;
/// Pages of one read: 1 GiB.
const MAX_PAGES: u64 = 1024;

const HEAD: &str = r#"{"forebay_trace":1,"began":"RFC3339"}"#;
const LINE: &str = r#"{"t":MICROSECONDS,"id":"32 HEX DIGITS","size":N,"offset":N,"len":N,"group":"16 HEX DIGITS"}, within the content, at most 1 GiB"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    forebay_trace: u32,
    #[serde(rename = "began")]
    _began: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "t")]
    _t: u64,
    id: String,
    size: u64,
    offset: u64,
    len: u64,
    group: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    dropped: u64,
}

/// What a trace file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// The reads, in order.
    pub(super) accesses: Vec<Access>,
    pub(super) end: End,
}

/// How a trace ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// As it should: reads that were not recorded.
    Whole(u64),
    /// Its last line is missing.
    #[default]
    Cut,
    /// It goes on after [`MAX_READS`].
    Longer,
}

/// Reads a trace file.
pub(super) fn read(path: &Path) -> Result<Recorded, Failure> {
    let file = File::open(path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    let mut file = BufReader::new(file);
    let (mut recorded, mut number, mut line) = (Recorded::default(), 0u64, Vec::new());
    loop {
        line.clear();
        number += 1;
        let wrong = |expected: &str| Failure::failed(format!("{}:{number}: expected {expected}", path.display()));
        let cannot = |error| Failure::failed(format!("{}:{number}: {error}", path.display()));
        let len = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(cannot)?;
        // Half a line, with which a process that was killed has left the file.
        let is_half = !line.ends_with(b"\n") && (len as u64) < MAX_LINE;
        if number == 1 {
            let head = serde_json::from_slice::<Head>(&line).ok();
            head.filter(|head| head.forebay_trace == 1).ok_or_else(|| wrong(HEAD))?;
        } else if len == 0 {
            return Ok(recorded);
        } else if let End::Whole(_) = recorded.end {
            return Err(wrong(r#"nothing after {"dropped":N}"#));
        } else if let Some(access) = access(&line) {
            if recorded.accesses.len() == MAX_READS {
                recorded.end = End::Longer;
                return Ok(recorded);
            }
            recorded.accesses.push(access);
        } else if let Ok(last) = serde_json::from_slice::<Last>(&line) {
            recorded.end = End::Whole(last.dropped);
        } else if is_half {
            return Ok(recorded);
        } else {
            return Err(wrong(LINE));
        }
    }
}

fn access(line: &[u8]) -> Option<Access> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let end = line.offset.checked_add(line.len)?;
    let is_sound = end <= line.size && line.len <= MAX_PAGES * PAGE && line.size.div_ceil(PAGE) <= u32::MAX.into();
    if !is_sound || !hex(&line.id, 32) || !hex(&line.group, 16) {
        return None;
    }
    let id = ContentId::from_u128(u128::from_str_radix(&line.id, 16).ok()?);
    let group = u64::from_str_radix(&line.group, 16).ok()?;
    Some(Access { id, size: line.size, group, offset: line.offset, len: line.len })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"forebay_trace":1,"began":"2026-01-31T23:59:59Z"}"#;
    const GOOD: &str =
        r#"{"t":5,"id":"0000000000000000000000000000002a","size":9,"offset":3,"len":6,"group":"00000000000000ff"}"#;

    fn read_text(text: &str) -> Result<Recorded, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_line_is_a_read() {
        let expected = Access { id: ContentId::from_u128(42), size: 9, group: 255, offset: 3, len: 6 };
        let accesses = vec![expected, expected];
        for (last, end) in [("{\"dropped\":0}\n", End::Whole(0)), ("{\"dropped\":7}", End::Whole(7)), ("", End::Cut)] {
            let read = read_text(&format!("{FIRST}\n{GOOD}\n{GOOD}\n{last}")).unwrap();
            assert_eq!(read, Recorded { accesses: accesses.clone(), end });
        }
    }

    #[test]
    fn a_trace_that_was_cut_anywhere_is_read_to_there() {
        let text = format!("{FIRST}\n{GOOD}\n{GOOD}\n{{\"dropped\":0}}\n");
        for cut in FIRST.len()..text.len() {
            let read = read_text(&text[..cut]).unwrap();
            let whole = text[..cut].matches('}').count() - 1;
            let end = if whole == 3 { End::Whole(0) } else { End::Cut };
            assert_eq!((read.accesses.len(), read.end), (whole.min(2), end), "{cut}");
        }
        assert!(read_text(&FIRST[..20]).is_err());
    }

    #[test]
    fn a_wrong_line_is_named() {
        let long = format!("{FIRST}\n{GOOD}{}\n", " ".repeat(MAX_LINE as usize));
        for (text, line) in [
            (String::new(), 1),
            (GOOD.to_owned(), 1),
            (FIRST.replace(":1,", ":2,"), 1),
            (format!("{FIRST}\n{GOOD}\n{}\n", GOOD.replace("\"len\":6", "\"len\":7")), 3),
            (format!("{FIRST}\n{}\n", GOOD.replace("2a", "2g")), 2),
            (format!("{FIRST}\n{}\n", GOOD.replace("ff", "f")), 2),
            (format!("{FIRST}\n\n"), 2),
            (format!("{FIRST}\n{{\"dropped\":-1}}\n"), 2),
            (long, 3),
        ] {
            let error = read_text(&text).unwrap_err();
            assert!(error.contains(&format!("t.jsonl:{line}: expected {{")), "{error}");
        }
        let after = read_text(&format!("{FIRST}\n{{\"dropped\":0}}\n{GOOD}\n")).unwrap_err();
        assert!(after.contains("t.jsonl:3: expected nothing after"), "{after}");
    }
}
