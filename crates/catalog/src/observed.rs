//! What was seen of one name, packed: kind and time; of a file its size, then its version as its kind says, to the end.

use forebay_model::bytes::{Take, put_signed, put_varint};
use forebay_model::{TimestampNs, Version};

use crate::directory::{Observed, ObservedFile};

const DIRECTORY: u8 = 0;
const ID: u8 = 1;
const ETAG: u8 = 2;
/// A quoted etag of 32 hexadecimal digits.
const ETAG_HEX: u8 = 3;
/// The same with `-` and a number of parts.
const ETAG_PARTS: u8 = 4;
const STAMP: u8 = 5;
const STAMP_FILE: u8 = 6;
const ABSENT: u8 = 7;
/// The modification time is given in seconds.
const IN_SECONDS: u8 = 0x10;
pub(crate) const SECOND: i64 = 1_000_000_000;

/// Appends what was seen of one name.
pub(crate) fn put_observed(out: &mut Vec<u8>, seen: &Observed) {
    let file = match seen {
        Observed::Directory => return out.push(DIRECTORY),
        Observed::Absent => return out.push(ABSENT),
        Observed::File(file) => file,
    };
    let etag = match &file.version {
        Version::Etag(etag) => hex_etag(etag),
        _ => None,
    };
    let kind = match (&file.version, &etag) {
        (Version::Id(_), _) => ID,
        (Version::Etag(_), None) => ETAG,
        (Version::Etag(_), Some((_, None))) => ETAG_HEX,
        (Version::Etag(_), Some((_, Some(_)))) => ETAG_PARTS,
        (Version::Stamp { file: None, .. }, _) => STAMP,
        (Version::Stamp { file: Some(_), .. }, _) => STAMP_FILE,
    };
    let seconds = file.mtime.0 % SECOND == 0;
    out.push(kind | if seconds { IN_SECONDS } else { 0 });
    put_signed(out, if seconds { file.mtime.0 / SECOND } else { file.mtime.0 });
    put_varint(out, file.size);
    match (&file.version, etag) {
        (_, Some((hex, parts))) => {
            out.extend_from_slice(&hex.to_be_bytes());
            parts.iter().for_each(|parts| put_varint(out, *parts));
        }
        (Version::Id(text) | Version::Etag(text), None) => out.extend_from_slice(text.as_bytes()),
        (Version::Stamp { file: Some((change, inode)), .. }, None) => {
            put_signed(out, change.0);
            put_varint(out, *inode);
        }
        (Version::Stamp { file: None, .. }, None) => {}
    }
}

/// Reads what [`put_observed`] wrote, to its end.
pub(crate) fn take_observed(take: &mut Take<'_>) -> Option<Observed> {
    let kind = take.u8()?;
    match kind {
        DIRECTORY => return Some(Observed::Directory),
        ABSENT => return Some(Observed::Absent),
        _ => {}
    }
    let mtime = take.signed()?.checked_mul(if kind & IN_SECONDS == 0 { 1 } else { SECOND })?;
    let (mtime, size) = (TimestampNs(mtime), take.varint()?);
    let version = match kind & !IN_SECONDS {
        ID => Version::Id(rest(take)?.into()),
        ETAG => Version::Etag(rest(take)?.into()),
        ETAG_HEX => Version::Etag(quoted(take.bytes(16)?, None)?.into()),
        ETAG_PARTS => {
            let hex = take.bytes(16)?;
            Version::Etag(quoted(hex, Some(take.varint()?))?.into())
        }
        STAMP => Version::Stamp { mtime, size, file: None },
        STAMP_FILE => Version::Stamp { mtime, size, file: Some((TimestampNs(take.signed()?), take.varint()?)) },
        _ => return None,
    };
    Some(Observed::File(ObservedFile { size, mtime, version }))
}

fn rest<'a>(take: &mut Take<'a>) -> Option<&'a str> {
    std::str::from_utf8(std::mem::take(&mut take.0)).ok()
}

/// The digits and the number of parts of an etag as S3 makes them, if it is written in no other way.
fn hex_etag(etag: &str) -> Option<(u128, Option<u64>)> {
    let inner = etag.strip_prefix('"')?.strip_suffix('"')?;
    let (hex, parts) = match inner.split_once('-') {
        Some((hex, parts)) => (hex, Some(parts)),
        None => (inner, None),
    };
    let is_hex = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_number = |text: &str| !text.starts_with(['0', '+']) && text.len() < 10;
    let parts = match parts {
        Some(text) if is_number(text) => Some(text.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    is_hex.then_some((u128::from_str_radix(hex, 16).ok()?, parts))
}

fn quoted(hex: &[u8], parts: Option<u64>) -> Option<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Vec::with_capacity(48);
    text.push(b'"');
    for byte in hex {
        text.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    if let Some(parts) = parts {
        text.extend_from_slice(format!("-{parts}").as_bytes());
    }
    text.push(b'"');
    String::from_utf8(text).ok()
}
