//! `forebay cat`: files to standard output.

use std::collections::VecDeque;

use forebay_client::Client;
use forebay_model::{Entry, NsPath};

use super::{Outcomes, ranges};
use crate::args::PathsArgs;
use crate::connect::principal;
use crate::failure::Failure;
use crate::output::Output;

/// Ranges in flight: 16 MiB keep a pipe full over a connection of a gigabyte a second and 10 ms.
const IN_FLIGHT: usize = 4;

/// Writes the files one after the other.
pub(crate) async fn cat(client: &Client, args: &PathsArgs, output: &mut Output) -> Result<(), Failure> {
    let mut outcomes = Outcomes::default();
    for path in &args.paths {
        let outcome = one(client, path, output).await;
        outcomes.note(outcome, output.is_json())?;
    }
    outcomes.end()
}

async fn one(client: &Client, path: &NsPath, output: &mut Output) -> Result<(), Failure> {
    let found = client.lookup(principal(), path).await.map_err(|fault| Failure::fault(path, &fault))?;
    let Entry::File(file) = found.entry else {
        return Err(Failure::failed(format!("{path} is a directory: `forebay ls {path}` lists it")));
    };
    let mut waiting = ranges::ranges(file.content.size);
    let mut flight = VecDeque::with_capacity(IN_FLIGHT);
    loop {
        for range in waiting.by_ref().take(IN_FLIGHT - flight.len()) {
            let (client, file) = (client.clone(), file.clone());
            flight.push_back(tokio::spawn(async move { ranges::read(&client, &file.content, range).await }));
        }
        let Some(next) = flight.pop_front() else { return Ok(()) };
        let chunks = next
            .await
            .map_err(|error| Failure::failed(format!("{path}: a read broke off: {error}")))?
            .map_err(|fault| Failure::fault(path, &fault))?;
        for chunk in chunks {
            output.bytes(&chunk)?;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::command::testing::Tree;
    use crate::output::tests::Written;

    fn args(paths: &[&str]) -> PathsArgs {
        PathsArgs { paths: paths.iter().map(|path| path.parse().unwrap()).collect() }
    }

    #[tokio::test]
    async fn writes_files_in_order_and_whole() {
        let big = Tree::bytes(3 * ranges::RANGE + 17);
        let client = Tree::default().file("/s/big", &big).file("/s/empty", b"").file("/s/small", b"end").client();
        let written = Written::default();
        let mut output = written.output(false);
        cat(&client, &args(&["/s/big", "/s/empty", "/s/small"]), &mut output).await.unwrap();
        output.flush().unwrap();
        assert!(written.bytes() == [&big[..], b"end"].concat());
    }

    #[tokio::test]
    async fn what_fails_does_not_keep_the_rest_back() {
        let client = Tree::default().file("/s/a", b"a").client();
        let written = Written::default();
        let mut output = written.output(false);
        let result = cat(&client, &args(&["/s/absent", "/s", "/s/a"]), &mut output).await;
        output.flush().unwrap();
        assert!(matches!(result, Err(Failure::Reported)));
        assert_eq!(written.bytes(), b"a");
    }
}
