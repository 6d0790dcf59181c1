//! `forebay up` from its ready line to its last line, without a mount.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A process that does not outlive its test.
struct Up {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    _directory: tempfile::TempDir,
}

impl Up {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::create_dir(path("origin")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOREBAY_")) {
            command.env_remove(name);
        }
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        command.args(["up", &format!("file://{}", path("origin")), "--json", "--admin", "127.0.0.1:0"]);
        command.args(["--cache", &format!("{}:64MiB", path("cache")), "--socket", &path("node.sock")]);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, _directory: directory }
    }

    fn line(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // After a test that went well it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_says_when_it_is_ready_and_when_it_has_stopped() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut up = Up::start();
        let ready = up.line();
        assert_eq!(ready["event"], "ready", "{ready}");
        let admin = ready["admin"].as_str().unwrap().to_owned();
        assert!(get(&admin, "/healthz").ends_with("ok"));
        assert!(get(&admin, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(get(&admin, "/metrics").contains("forebay_process_threads"));
        assert!(get(&admin, "/v1/status").contains('{'));
        up.signal(signal);
        let stopped = up.line();
        assert_eq!(stopped["event"], "stopped", "{stopped}");
        assert!(up.child.wait().unwrap().success());
    }
}
