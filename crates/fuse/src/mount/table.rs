//! The kernel's table of mounts, `/proc/self/mountinfo`: looking at it asks no file system, so it never hangs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Major and minor number of a mounted file system.
pub(crate) type DeviceNumber = (u32, u32);

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) device: DeviceNumber,
    pub(crate) mountpoint: PathBuf,
    pub(crate) fs_type: String,
}

/// The topmost mount on `mountpoint`.
pub(crate) fn mounted_at(mountpoint: &Path) -> io::Result<Option<Mounted>> {
    let text = fs::read("/proc/self/mountinfo")?;
    // The kernel lists mounts in the order of their making.
    let mut newest_first = text.rsplit(|byte| *byte == b'\n').filter_map(parse);
    Ok(newest_first.find(|mounted| mounted.mountpoint == mountpoint))
}

/// `36 35 0:98 /root /mountpoint rw,noatime shared:1 - fuse.forebay source rw`
fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (major, minor) = str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let fs_type = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mounted {
        device: (major.parse().ok()?, minor.parse().ok()?),
        mountpoint,
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
    })
}

/// Blanks and backslashes stand as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line() {
        let line = br"36 35 0:98 / /mnt/a\040b\134c ro,nosuid shared:7 - fuse.forebay s3://b ro,user_id=0";
        let expected =
            Mounted { device: (0, 98), mountpoint: PathBuf::from(r"/mnt/a b\c"), fs_type: "fuse.forebay".to_owned() };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 x / /mnt"), None);
    }
}
