//! `forebay-proxy`: a reverse proxy of the tests' own, which stands before an origin and injects faults.
//!
//! It forwards HTTP/1.1 byte for byte (the `Host` header too, so that S3 signatures stay valid), keeps connections alive
//! on both sides, and streams bodies through one buffer a connection. Faults are set live through the control port.
//!
//! It prints one JSON line when it listens: `{"event":"ready","listen":"127.0.0.1:P","control":"127.0.0.1:C"}`.
//!
//! Control port:
//! - `PUT /faults` with `{"rules":[...]}` replaces all rules (see [`faults::Rule`]); `GET /faults` shows them.
//! - `GET /stats` shows the counters; `POST /stats/reset` sets them to zero.
//! - `GET /requests` shows the last requests, oldest first.

mod connection;
mod control;
mod faults;
mod head;
mod stats;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;

use crate::connection::Proxy;

/// A reverse proxy with faults for tests and benches.
#[derive(Parser)]
struct Flags {
    /// Address to listen on; port 0 is a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Address of the origin.
    #[arg(long)]
    upstream: String,
    /// Address of the control port; port 0 is a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> std::io::Result<()> {
    let named = |what: &'static str, address: String| {
        move |error: std::io::Error| std::io::Error::other(format!("cannot listen on {what} {address}: {error}"))
    };
    let listener = TcpListener::bind(&flags.listen).await.map_err(named("--listen", flags.listen.clone()))?;
    let control = TcpListener::bind(&flags.control).await.map_err(named("--control", flags.control.clone()))?;
    let ready = serde_json::json!({
        "event": "ready",
        "listen": listener.local_addr()?.to_string(),
        "control": control.local_addr()?.to_string(),
        "upstream": flags.upstream,
    });
    println!("{ready}");
    std::io::stdout().flush()?;

    let proxy = Arc::new(Proxy::new(flags.upstream));
    tokio::select! {
        result = connection::serve(listener, Arc::clone(&proxy)) => result,
        result = control::serve(control, proxy) => result,
        signal = tokio::signal::ctrl_c() => signal,
    }
}
