//! `docs/settings.md`, made from the table; the test below fails when it is not current.

use std::fmt::Write as _;
use std::path::Path;

use super::environment::variable;
use super::table::{Flag, KEYS, Key, SECTIONS};

const HEAD: &str = "# Settings

<!-- Made from crates/cli/src/settings/table.rs: change it there, then run `UPDATE=1 cargo test --release -p forebay`. -->

Settings come from the file, then from the environment, then from flags; the later wins. The file is the one named by
`--config` or `FOREBAY_CONFIG`, else `./forebay.toml`, else `/etc/forebay/forebay.toml`; only one file is read. An unknown
key is refused with the nearest known one.

Sizes: `20GB` is 20 x 10^9 bytes, `20GiB` is 20 x 2^30. Times: `250ms`, `30s`, `10m`, `12h`, `7d`. A list is a TOML array;
in the environment its items stand apart by commas. An empty variable means \"not set\".

```toml
cache = [\"/nvme/forebay:800GB\"]

[source]
origin = \"s3://ml/imagenet/\"
freshness = \"immutable\"

[mount]
dir = \"/data\"
```

Not settings, but read from the environment: `FOREBAY_NODE` (the process that commands ask; flag `--node`), `FOREBAY_LOG`
(like `--log`), `FOREBAY_CONFIG`, and those that belong to origins (`AWS_*`, `HTTPS_PROXY`, `NO_PROXY`, ...).
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (prefix, doc) in SECTIONS {
        let title = prefix.strip_suffix('.').map_or("top level".to_owned(), |name| format!("`[{name}]`"));
        let _ = write!(page, "\n## {title}\n\n{}", paragraphs(doc));
        let belongs = |key: &&Key| match prefix.strip_suffix('.') {
            Some(section) => key.name.split_once('.').is_some_and(|(name, _)| name == section),
            None => !key.name.contains('.'),
        };
        for key in KEYS.iter().filter(belongs) {
            let _ = write!(page, "\n### `{}`\n\n{}\n{}", key.name, facts(key), paragraphs(key.doc));
        }
    }
    page
}

fn facts(key: &Key) -> String {
    let mut facts = format!("- Type: {}\n", key.expected);
    if !key.default.is_empty() {
        let _ = writeln!(facts, "- Default: `{}`", key.default);
    }
    let _ = write!(facts, "- Environment: `{}`", variable(key));
    let _ = match key.flag {
        Flag::Absent => writeln!(facts),
        Flag::Value(flag, name) => writeln!(facts, "\n- Flag: `--{flag} {name}`"),
        Flag::Repeated(flag, name) => writeln!(facts, "\n- Flag: `--{flag} {name}`, repeated for a list"),
        Flag::Switch(flag) => writeln!(facts, "\n- Flag: `--{flag}`"),
        Flag::Positional(name) => writeln!(facts, "\n- Argument: `{name}` of `forebay up`"),
    };
    facts
}

/// A comment as Markdown: its lines without the leading blank.
fn paragraphs(doc: &[&str]) -> String {
    doc.iter().fold(String::new(), |text, line| text + line.strip_prefix(' ').unwrap_or(line).trim_end() + "\n")
}

#[test]
fn the_reference_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let page = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).expect("docs/settings.md can be written");
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(current == page, "docs/settings.md is not current: run `UPDATE=1 cargo test --release -p forebay`");
}
