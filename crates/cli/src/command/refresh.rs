//! `forebay refresh`: forgets what is known of paths, so that the next look at them asks the origin.

use forebay_client::Client;
use forebay_model::{NsPath, Refreshed};
use serde_json::json;

use super::Outcomes;
use crate::args::RefreshArgs;
use crate::connect::principal;
use crate::failure::Failure;
use crate::output::Output;

/// Forgets what is known of the paths.
pub(crate) async fn refresh(client: &Client, args: &RefreshArgs, output: &mut Output) -> Result<(), Failure> {
    let mut outcomes = Outcomes::default();
    for path in &args.paths {
        let outcome = match client.refresh(principal(), path, args.recursive).await {
            Ok(refreshed) => print(path, args.recursive, &refreshed, output),
            Err(fault) => Err(Failure::fault(path, &fault)),
        };
        outcomes.note(outcome, output.is_json())?;
    }
    outcomes.end()
}

fn print(path: &NsPath, recursive: bool, refreshed: &Refreshed, output: &mut Output) -> Result<(), Failure> {
    let Refreshed { names, listings, mounts, mounts_late, .. } = *refreshed;
    if output.is_json() {
        return output.object(&json!({
            "event": "refreshed",
            "path": path,
            "recursive": recursive,
            "names": names,
            "listings": listings,
            "mounts": mounts,
            "mounts_late": mounts_late,
        }));
    }
    let what = if recursive { " and all below it" } else { "" };
    let path = output.name(path.as_str());
    output.line(format!("{path}{what} forgotten: {}, {}", count(names, "name"), count(listings, "listing")))?;
    match mounts_late {
        0 => Ok(()),
        _ => output.line("the mount's kernel lets go of it as soon as a request that waits for the origin has ended"),
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::command::testing::Tree;
    use crate::output::tests::Written;

    async fn run(paths: &[&str], recursive: bool, json: bool) -> (Result<(), Failure>, String) {
        let written = Written::default();
        let mut output = written.output(json);
        let args = RefreshArgs { paths: paths.iter().map(|path| path.parse().unwrap()).collect(), recursive };
        let client = Tree::default().file("/s/d/a", b"a").broken("/s/slow").client();
        let result = refresh(&client, &args, &mut output).await;
        output.flush().unwrap();
        (result, written.text())
    }

    #[tokio::test]
    async fn says_what_was_forgotten() {
        let (result, text) = run(&["/s/d/a", "/s/slow"], false, false).await;
        result.unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["/s/d/a forgotten: 1 name, 0 listings", "/s/slow forgotten: 1 name, 0 listings"]);
        assert!(lines[2].contains("as soon as"), "{text}");
        let (_, text) = run(&["/s/d"], true, false).await;
        assert_eq!(text, "/s/d and all below it forgotten: 1234567 names, 0 listings\n");
        let (_, text) = run(&["/s/d"], true, true).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&object["event"], &object["mounts"]), (&"refreshed".into(), &1.into()));
    }

    #[tokio::test]
    async fn a_path_that_no_source_shows_fails_and_the_others_are_done() {
        let (result, text) = run(&["/nowhere", "/s/d"], false, false).await;
        assert!(matches!(result, Err(Failure::Reported)));
        assert!(text.starts_with("/s/d forgotten"), "{text}");
    }
}
