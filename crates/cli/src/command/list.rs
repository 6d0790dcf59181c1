//! `forebay ls`: names of directories, printed as they come.

use forebay_client::Client;
use forebay_model::{ByteSize, Entry, ListedEntry, NsPath};

use super::{Outcomes, show::entry_object};
use crate::args::LsArgs;
use crate::connect::principal;
use crate::failure::Failure;
use crate::output::{Output, time_text};

/// Names asked for at once.
const PAGE: u32 = 1000;

/// A directory's names, a page at a time.
#[derive(Debug)]
pub(super) struct Lister {
    client: Client,
    path: NsPath,
    after: String,
    /// Where that stands among keys.
    reached: String,
    done: bool,
    /// Keys that have no name.
    pub(super) hidden: u64,
}

impl Lister {
    /// Starts at the first name.
    pub(super) fn new(client: &Client, path: &NsPath) -> Self {
        Self {
            client: client.clone(),
            path: path.clone(),
            after: String::new(),
            reached: String::new(),
            done: false,
            hidden: 0,
        }
    }

    /// The directory.
    pub(super) fn path(&self) -> &NsPath {
        &self.path
    }

    /// The next names; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<ListedEntry>>, Failure> {
        if self.done {
            return Ok(None);
        }
        let page = self
            .client
            .list(principal(), &self.path, &self.after, PAGE)
            .await
            .map_err(|fault| Failure::fault(&self.path, &fault))?;
        self.done = !page.more;
        self.hidden = self.hidden.max(page.hidden);
        match page.entries.last() {
            // Without progress the loop would not end.
            Some(last) => {
                let reached = format!("{}{}", last.name, if last.entry.is_directory() { "/" } else { "" });
                if reached <= self.reached {
                    let why = format!("the listing goes back behind {:?}: report this", self.after);
                    return Err(Failure::failed(format!("{}: {why}", self.path)));
                }
                (self.after, self.reached) = (last.name.to_string(), reached);
                Ok(Some(page.entries))
            }
            None if page.more => {
                Err(Failure::failed(format!("{}: a page of the listing has no names: report this", self.path)))
            }
            None => Ok(None),
        }
    }
}

/// Lists each path; with several, each under its name.
pub(crate) async fn ls(client: &Client, args: &LsArgs, output: &mut Output) -> Result<(), Failure> {
    let mut outcomes = Outcomes::default();
    for (index, path) in args.paths.iter().enumerate() {
        if args.paths.len() > 1 && !output.is_json() {
            let gap = if index > 0 { "\n" } else { "" };
            output.line(format!("{gap}{}:", output.name(path.as_str())))?;
        }
        let outcome = one(client, path, args.long, output).await;
        outcomes.note(outcome, output.is_json())?;
    }
    outcomes.end()
}

async fn one(client: &Client, path: &NsPath, long: bool, output: &mut Output) -> Result<(), Failure> {
    let found = client.lookup(principal(), path).await.map_err(|fault| Failure::fault(path, &fault))?;
    if !found.entry.is_directory() {
        return print(path, path.name().unwrap_or("/"), &found.entry, long, output);
    }
    let mut lister = Lister::new(client, path);
    while let Some(entries) = lister.next().await? {
        for ListedEntry { name, entry } in &entries {
            print(&path.join(name), name, entry, long, output)?;
        }
        output.flush()?;
    }
    if lister.hidden > 0 {
        eprintln!(
            "forebay: {} keys below {path} have no name in a directory (`//`, `.`, over 255 bytes)",
            lister.hidden
        );
    }
    Ok(())
}

fn print(path: &NsPath, name: &str, entry: &Entry, long: bool, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&entry_object(path.as_str(), entry));
    }
    let slash = if entry.is_directory() { "/" } else { "" };
    let name = output.name(name);
    if long {
        let size = if entry.is_directory() { "-".to_owned() } else { ByteSize(entry.size()).to_string() };
        output.line(format!("{size:>9}  {:<20}  {name}{slash}", time_text(entry.mtime())))
    } else {
        output.line(format!("{name}{slash}"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::command::testing::Tree;
    use crate::output::tests::Written;

    async fn run(tree: Tree, json: bool, long: bool, paths: &[&str]) -> String {
        let written = Written::default();
        let mut output = written.output(json);
        let args = LsArgs { paths: paths.iter().map(|path| path.parse().unwrap()).collect(), long };
        ls(&tree.client(), &args, &mut output).await.unwrap();
        output.flush().unwrap();
        written.text()
    }

    fn tree() -> Tree {
        Tree::default().file("/s/a", b"abc").file("/s/d/x", b"")
    }

    #[tokio::test]
    async fn names_one_a_line() {
        assert_eq!(run(tree(), false, false, &["/s"]).await, "a\nd/\n");
        assert_eq!(run(tree(), false, false, &["/s/a"]).await, "a\n");
        assert_eq!(run(tree(), false, false, &["/", "/s/d"]).await, "/:\ns/\n\n/s/d:\nx\n");
    }

    #[tokio::test]
    async fn long_lines_have_size_and_time() {
        assert_eq!(
            run(tree(), false, true, &["/s"]).await,
            "      3 B  2001-09-09T01:46:40Z  a\n        -  2001-09-09T01:46:40Z  d/\n"
        );
    }

    #[tokio::test]
    async fn a_large_directory_comes_whole() {
        let mut tree = Tree::default();
        for index in 0..2 * PAGE + 1 {
            tree = tree.file(&format!("/s/{index:06}"), b"");
        }
        let text = run(tree, true, false, &["/s"]).await;
        assert_eq!(text.lines().count(), 2 * PAGE as usize + 1);
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["path"], "/s/002000");
        assert_eq!(last["type"], "file");
    }
}
