//! The text of every `--help`, as users see it: `tests/help/COMMAND.txt`. `UPDATE=1` writes the files anew.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The whole surface of this version, as the design lists it, with the flags of each command besides the global ones.
const SURFACE: [(&str, &[&str]); 24] = [
    (
        "up",
        &[
            "--admin",
            "--allow-other",
            "--cache",
            "--config",
            "--credentials",
            "--dir-mode",
            "--endpoint",
            "--events-token",
            "--file-mode",
            "--freshness",
            "--gid",
            "--kind",
            "--listen",
            "--mount",
            "--name",
            "--path-style",
            "--region",
            "--requester-pays",
            "--socket",
            "--state",
            "--uid",
        ],
    ),
    ("ls", &["-l"]),
    ("stat", &[]),
    ("cat", &[]),
    ("cp", &["-r"]),
    ("refresh", &["--recursive"]),
    ("status", &[]),
    (
        "doctor",
        &[
            "--cache",
            "--config",
            "--credentials",
            "--endpoint",
            "--mount",
            "--path-style",
            "--region",
            "--requester-pays",
        ],
    ),
    ("source", &[]),
    ("source add", SOURCE_RULES),
    ("source list", &[]),
    ("source show", &[]),
    ("source set", SOURCE_RULES),
    ("source remove", &[]),
    ("bench", &[]),
    ("bench eviction", &["--cache", "--plot", "--trace"]),
    ("bench mount", &["--existing", "--files", "--large", "--native", "--seconds", "--size", "--threads"]),
    ("trace", &[]),
    ("trace start", &["--limit"]),
    ("trace stop", &[]),
    ("store", &[]),
    ("store check", &[]),
    ("store ls", &[]),
    ("store stat", &[]),
];

/// Flags of what gives a source its rules.
const SOURCE_RULES: &[&str] =
    &["--credentials", "--endpoint", "--freshness", "--path-style", "--priority", "--quota", "--read-only", "--region"];

/// Flags of every command.
const GLOBAL: [&str; 5] = ["--help", "--json", "--log", "--node", "-v"];

fn help(command: Option<&str>) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(command.unwrap_or_default().split_whitespace())
        .arg("--help")
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The flags at the starts of lines.
fn flags(help: &str) -> Vec<String> {
    let mut flags: Vec<String> = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .map(|line| {
            let words: Vec<&str> = line.split([' ', ',', '.', '[']).filter(|word| word.starts_with('-')).collect();
            words.iter().find(|word| word.starts_with("--")).unwrap_or(&words[0]).to_string()
        })
        .collect();
    flags.sort();
    flags.dedup();
    flags
}

#[test]
fn every_help_is_as_it_was_read() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    for command in std::iter::once(None).chain(SURFACE.iter().map(|(command, _)| Some(*command))) {
        let path = directory.join(format!("{}.txt", command.unwrap_or("forebay").replace(' ', "-")));
        let help = help(command);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &help).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(help, expected, "{} differs: read it, then run the tests with UPDATE=1", path.display());
    }
}

#[test]
fn the_commands_are_those_of_the_design() {
    let help = help(None);
    let section = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let commands: Vec<&str> = commands.into_iter().filter(|command| !command.is_empty()).collect();
    let own: Vec<&str> = SURFACE.map(|(command, _)| command).into_iter().filter(|name| !name.contains(' ')).collect();
    assert_eq!(commands, own);
}

#[test]
fn the_flags_are_those_of_the_design() {
    for (command, own) in SURFACE {
        let mut expected: Vec<String> = own.iter().chain(&GLOBAL).map(|flag| (*flag).to_owned()).collect();
        expected.sort();
        let shown: Vec<String> = flags(&help(Some(command)));
        assert_eq!(shown, expected, "{command}");
    }
}
