//! What a user gets for a wrong command: exit code 2 or 1, and a sentence that names the input and what was expected.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A run in a directory of its own, without the settings of whoever runs the tests.
fn forebay(directory: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOREBAY_")) {
        command.env_remove(name);
    }
    command.current_dir(directory).stdin(Stdio::null()).args(args).envs(environment.iter().copied());
    command.env("XDG_RUNTIME_DIR", directory).output().unwrap()
}

fn check(args: &[&str], environment: &[(&str, &str)], code: i32, parts: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let output = forebay(directory.path(), args, environment);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: {part:?} is missing in:\n{text}");
    }
}

#[test]
fn wrong_values_of_flags() {
    check(&["up", "s3://b", "--kind", "fils"], &[], 2, &["fils", "--kind", "`files` or `streams`"]);
    check(&["up", "s3://b", "--cache", "/a"], &[], 2, &["/a", "the size is missing", "DIR:SIZE"]);
    check(&["up", "s3://b", "--cache", "/a:20XB"], &[], 2, &["20XB", "20GB"]);
    check(&["up", "s4://b", "--cache", "/a:1GB"], &[], 2, &["s4", "s3, file"]);
    check(&["up", "/data", "--cache", "/a:1GB"], &[], 2, &["file:///data"]);
    check(&["up", "s3://b", "--freshness", "60s"], &[], 2, &["60s", "ttl=60s"]);
    check(&["up", "s3://b", "--file-mode", "999"], &[], 2, &["999", "octal"]);
    check(&["up", "s3://b", "--admin", "7601"], &[], 2, &["7601", "127.0.0.1:7601"]);
    check(&["--log", "debgu", "status"], &[], 2, &["debgu", "debug"]);
}

#[test]
fn unknown_flags_and_commands() {
    check(&["up", "--chache", "/a:1GB"], &[], 2, &["--chache", "--cache"]);
    check(&["statsu"], &[], 2, &["statsu", "status"]);
    check(&["ls", "relative"], &[], 2, &["relative", "must start with `/`"]);
    check(&["up", "s3://b"], &[], 2, &["no cache is given", "--cache DIR:SIZE"]);
}

#[test]
fn wrong_settings() {
    check(&["up"], &[("FOREBAY_ORIGIN_DEADLNE", "5s")], 2, &["FOREBAY_ORIGIN_DEADLNE", "FOREBAY_ORIGIN_DEADLINE"]);
    check(&["up"], &[("FOREBAY_ORIGIN_DEADLINE", "5")], 2, &["FOREBAY_ORIGIN_DEADLINE", "\"5\"", "30s"]);
    check(&["up", "--config", "absent.toml"], &[], 2, &["absent.toml"]);
    check(&["status"], &[("FOREBAY_LOG", "debgu")], 2, &["FOREBAY_LOG", "debgu"]);
    check(&["status"], &[("FOREBAY_NODE", "nowhere")], 2, &["FOREBAY_NODE", "nowhere", "HOST:PORT"]);

    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("forebay.toml"), "[mount]\nknid = \"files\"\n").unwrap();
    let output = forebay(directory.path(), &["up"], &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("forebay.toml") && text.contains("mount.knid") && text.contains("mount.kind"), "{text}");
}

#[test]
fn no_process_to_ask() {
    for command in [&["ls"][..], &["status"], &["stat", "/a"], &["cat", "/a"], &["cp", "/a", "b"]] {
        let args = [command, &["--node", "./absent.sock"]].concat();
        check(&args, &[], 1, &["absent.sock", "No such file", "forebay up"]);
    }
    check(&["status"], &[("FOREBAY_NODE", "./absent.sock")], 1, &["absent.sock"]);
}

#[test]
fn no_store_to_look_at() {
    for command in ["check", "ls", "stat"] {
        check(&["store", command, "./absent"], &[], 1, &["./absent", "does not exist", "expected", "index.log"]);
        check(&["store", command, "."], &[], 1, &["holds no `index.log`", "packs"]);
        check(&["store", command], &[], 2, &["DIR"]);
    }
    check(&["store", "chekc", "."], &[], 2, &["chekc", "check"]);
}

#[test]
fn failures_are_json_for_programs() {
    let directory = tempfile::tempdir().unwrap();
    let output = forebay(directory.path(), &["status", "--json", "--node", "./absent.sock"], &[]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["event"], "error");
    assert!(error["message"].as_str().unwrap().contains("absent.sock"));
}

#[test]
fn doctor_tells_each_finding_to_programs() {
    let directory = tempfile::tempdir().unwrap();
    let cache = format!("{}:1MB", directory.path().display());
    let output = forebay(directory.path(), &["doctor", "--json", "--cache", &cache], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let findings: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(findings.len() >= 7, "{text}");
    for finding in &findings {
        let state = finding["state"].as_str().unwrap();
        assert!(["ok", "warn", "fail"].contains(&state), "{finding}");
        assert_eq!(finding["advice"].is_null(), state == "ok", "{finding}");
    }
    let failed = findings.iter().any(|finding| finding["state"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(failed)));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
