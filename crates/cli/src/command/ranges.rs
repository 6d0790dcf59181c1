//! Ranges of a content, read whole or not at all.

use bytes::Bytes;
use forebay_client::Client;
use forebay_model::{ByteRange, Content, Fault, FaultKind};

use crate::connect::principal;

/// Bytes asked for at once: half of what one request may ask for, four pages.
pub(crate) const RANGE: u64 = 4 << 20;

/// The ranges of a content of `size` bytes, in order.
pub(crate) fn ranges(size: u64) -> impl Iterator<Item = ByteRange> + Send {
    (0..size.div_ceil(RANGE)).map(move |index| ByteRange::at(index * RANGE, RANGE, size))
}

/// Exactly the bytes of `range`, which lies within the content.
pub(crate) async fn read(client: &Client, content: &Content, range: ByteRange) -> Result<Vec<Bytes>, Fault> {
    let chunks = client.read(principal(), content, range).await?;
    let len: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    if len == range.len() {
        return Ok(chunks);
    }
    let message = format!("{len} bytes came for a range of {}: report this", range.len());
    Err(Fault::new(FaultKind::Bug, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_byte_once() {
        for size in [0, 1, RANGE - 1, RANGE, RANGE + 1, 3 * RANGE + 5] {
            let mut end = 0;
            for range in ranges(size) {
                assert_eq!(range.start, end);
                assert!(!range.is_empty() && range.len() <= RANGE);
                end = range.end;
            }
            assert_eq!(end, size);
        }
    }
}
