//! Credentials of the standard chain that are replaced while an origin is in use.
//!
//! The environment belongs to a whole process, so each case runs in a process of its own: this test program again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use forebay_origin::{Credentials, Origin, OriginErrorKind};
use support::{Server, list, read_all, soon};

/// Runs the ignored test `name` of this program with `environment` and no other credentials.
fn run_apart(name: &str, environment: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("AWS_")) {
        command.env_remove(variable);
    }
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn profile(key: &str) -> String {
    format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")
}

#[test]
fn a_rewritten_credentials_file_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    fs::write(&file, profile("OLD")).unwrap();
    let home = dir.path().to_str().unwrap();
    run_apart(
        "child_with_a_credentials_file",
        &[("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), ("HOME", home)],
    );
}

#[tokio::test]
#[ignore = "run by a_rewritten_credentials_file_is_read_anew"]
async fn child_with_a_credentials_file() {
    let file = std::env::var("AWS_SHARED_CREDENTIALS_FILE").unwrap();
    let server = Server::start().await;
    server.put("k", "bytes");
    server.world.lock().access_key = Some("OLD".to_owned());
    let mut settings = server.settings("");
    settings.credentials = Credentials::Standard;
    let origin = Origin::open(settings.clone()).unwrap();
    let other = Origin::open(settings).unwrap();
    assert_eq!(read_all(&origin, "k").await.unwrap(), b"bytes");
    assert_eq!(list(&other, "").await.unwrap().len(), 1);

    server.world.lock().access_key = Some("NEW".to_owned());
    fs::write(&file, profile("NEW")).unwrap();
    assert_eq!(read_all(&origin, "k").await.unwrap(), b"bytes");
    assert_eq!(list(&other, "").await.unwrap().len(), 1);

    // Keys that stay wrong are refused, without doubling every request.
    server.world.lock().access_key = Some("NEWER".to_owned());
    let before = server.world.lock().log.len();
    for _ in 0..5 {
        let error = origin.probe().await.unwrap_err();
        assert_eq!(error.kind, OriginErrorKind::Denied, "{error}");
        assert!(error.message.contains("access key"), "{error}");
    }
    assert!(server.world.lock().log.len() <= before + 6);
}

#[test]
fn a_machine_without_credentials_says_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    run_apart("child_without_credentials", &[("HOME", dir.path().to_str().unwrap())]);
}

#[tokio::test]
#[ignore = "run by a_machine_without_credentials_says_so_at_once"]
async fn child_without_credentials() {
    let server = Server::start().await;
    let mut settings = server.settings("");
    settings.credentials = Credentials::Standard;
    settings.stall = Duration::from_secs(10);
    let origin = Origin::open(settings).unwrap();
    let started = Instant::now();
    let error = origin.stat("k", soon()).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Denied, "{error}");
    assert!(error.message.contains("AWS_ACCESS_KEY_ID"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn the_environment_names_the_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    run_apart(
        "child_with_an_environment",
        &[
            ("HOME", dir.path().to_str().unwrap()),
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1/"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:2"),
        ],
    );
}

#[test]
#[ignore = "run by the_environment_names_the_endpoint"]
fn child_with_an_environment() {
    let origin = Origin::open(forebay_origin::OriginSettings::new("s3://bucket".parse().unwrap())).unwrap();
    assert_eq!(&*origin.id().endpoint, "http://127.0.0.1:1");
}
