//! The token that senders of events must show. It is in a file of its own, and in no log, argument or answer.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt as _;

/// Shorter ones can be guessed.
const LEN_MIN: usize = 16;
const LEN_MAX: usize = 1_024;

/// Reads the token.
///
/// # Errors
/// A sentence that names the file, and nothing of what is in it.
pub(crate) async fn read(file: &Path) -> Result<Vec<u8>, String> {
    let name = file.display();
    let text = read_some(file).await.map_err(|error| format!("events_token: {name} cannot be read: {error}"))?;
    let token = text.trim_ascii();
    if !(LEN_MIN..=LEN_MAX).contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
        let expected = "one line of 16 to 1,024 characters of ASCII without blanks";
        return Err(format!("events_token: {name} holds no token: {expected} is expected"));
    }
    Ok(token.to_owned())
}

async fn read_some(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // More than the longest token with a line's end is none.
    tokio::fs::File::open(file).await?.take(LEN_MAX as u64 + 3).read_to_end(&mut text).await?;
    Ok(text)
}

/// Whether `shown`, an `Authorization` header, shows `token`. Takes as long whatever of it is right.
pub(crate) fn is_shown(shown: &[u8], token: &[u8]) -> bool {
    let (scheme, given) = shown.split_at(shown.len().min(b"bearer ".len()));
    let given = given.trim_ascii();
    let mut differs = u8::from(!scheme.eq_ignore_ascii_case(b"bearer ")) | u8::from(given.len() != token.len());
    for (at, byte) in given.iter().enumerate() {
        differs |= std::hint::black_box(byte ^ token[at % token.len()]);
    }
    std::hint::black_box(differs) == 0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_right() {
        let token = b"0123456789abcdef";
        for (shown, is_right) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer  0123456789abcdef ", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer 0123456789abcdef0123456789abcdef", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("", false),
            ("Basic  0123456789abcdef", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(is_shown(shown.as_bytes(), token), is_right, "{shown:?}");
        }
    }

    #[tokio::test]
    async fn a_file_without_a_token_is_named_and_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        assert!(read(&file).await.unwrap_err().contains("token cannot be read"));
        for bad in ["", "secret", "two words of a secret", &"secret".repeat(1_000), "secret-secret-sécret"] {
            std::fs::write(&file, bad).unwrap();
            let error = read(&file).await.unwrap_err();
            assert!(error.contains("holds no token") && !error.contains("secret"), "{error}");
        }
        std::fs::write(&file, "secret-secret-secret\n").unwrap();
        assert_eq!(read(&file).await.unwrap(), b"secret-secret-secret");
    }
}
