//! `forebay stat`: what paths stand for.

use forebay_client::Client;
use forebay_model::{ByteSize, Entry, Found, NsPath, Version, is_small, page_count};
use serde_json::{Value, json};

use super::Outcomes;
use crate::args::PathsArgs;
use crate::connect::principal;
use crate::failure::Failure;
use crate::output::{Output, span_text, time_text};

/// Shows each path.
pub(crate) async fn stat(client: &Client, args: &PathsArgs, output: &mut Output) -> Result<(), Failure> {
    let mut outcomes = Outcomes::default();
    for path in &args.paths {
        let outcome = match client.lookup(principal(), path).await {
            Ok(found) => print(path, &found, output),
            Err(fault) => Err(Failure::fault(path, &fault)),
        };
        outcomes.note(outcome, output.is_json())?;
    }
    outcomes.end()
}

fn print(path: &NsPath, found: &Found, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&object(path, found));
    }
    output.line(output.name(path.as_str()))?;
    let mtime = time_text(found.entry.mtime());
    let fresh =
        if found.fresh_for.is_zero() { "no time: asked at each open".to_owned() } else { span_text(found.fresh_for) };
    match &found.entry {
        Entry::Directory(_) => {
            output.line("  type      directory")?;
            output.line(format!("  modified  {mtime}"))?;
        }
        Entry::File(file) => {
            let content = &file.content;
            let kept = match (is_small(content.size), page_count(content.size)) {
                (true, _) => "a small object".to_owned(),
                (false, pages) => format!("{pages} pages"),
            };
            output.line("  type      file")?;
            output.line(format!("  size      {} bytes ({}), {kept}", content.size, ByteSize(content.size)))?;
            output.line(format!("  modified  {mtime}"))?;
            output.line(format!("  version   {}", output.name(&version_text(&content.version))))?;
            output.line(format!("  content   {}", content.id))?;
            output.line(format!("  source    {}", output.name(&content.source)))?;
            output.line(format!("  key       {}", output.name(&content.key)))?;
        }
    }
    output.line(format!("  fresh for {fresh}"))
}

fn object(path: &NsPath, found: &Found) -> Value {
    let mut object = entry_object(path.as_str(), &found.entry);
    object["fresh_for_seconds"] = json!(found.fresh_for.as_secs_f64());
    if let Entry::File(file) = &found.entry {
        object["version"] = json!(version_text(&file.content.version));
        object["source"] = json!(file.content.source);
        object["key"] = json!(file.content.key);
        object["pages"] = json!(page_count(file.content.size));
    }
    object
}

/// What `ls` and `stat` say about an entry in JSON.
pub(super) fn entry_object(path: &str, entry: &Entry) -> Value {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut object = json!({ "path": path, "name": name, "mtime_ns": entry.mtime().0 });
    match entry {
        Entry::Directory(_) => object["type"] = json!("directory"),
        Entry::File(file) => {
            object["type"] = json!("file");
            object["size"] = json!(file.content.size);
            object["content"] = json!(file.content.id.to_string());
        }
    }
    object
}

fn version_text(version: &Version) -> String {
    match version {
        Version::Id(id) => format!("id {id}"),
        Version::Etag(etag) => format!("etag {etag}"),
        Version::Stamp { mtime, size, file: None } => format!("mtime {} ns, size {size}", mtime.0),
        Version::Stamp { mtime, size, file: Some((ctime, inode)) } => {
            format!("mtime {} ns, size {size}, ctime {} ns, inode {inode}", mtime.0, ctime.0)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::command::testing::Tree;
    use crate::output::tests::Written;

    async fn run(json: bool, paths: &[&str]) -> String {
        let client = Tree::default().file("/s/a b", b"abc").client();
        let written = Written::default();
        let mut output = written.output(json);
        let args = PathsArgs { paths: paths.iter().map(|path| path.parse().unwrap()).collect() };
        stat(&client, &args, &mut output).await.unwrap();
        output.flush().unwrap();
        written.text()
    }

    #[tokio::test]
    async fn shows_files_and_directories() {
        let text = run(false, &["/s/a b", "/s"]).await;
        for part in ["/s/a b\n", "size      3 bytes", "version   etag \"e\"", "key       a b", "type      directory"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[tokio::test]
    async fn one_object_a_line() {
        let text = run(true, &["/s/a b", "/s"]).await;
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["type"], "file");
        assert_eq!(lines[0]["size"], 3);
        assert_eq!(lines[0]["path"], "/s/a b");
        assert_eq!(lines[1]["type"], "directory");
    }
}
