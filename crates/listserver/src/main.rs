//! `forebay-listserver serve`: the server, until interrupted. `forebay-listserver count`: what it delivers to a client that
//! only counts, as one JSON object.
//!
//! `serve` prints one JSON line when it listens (`{"event":"ready","listen":"127.0.0.1:P",…}`) and one with its counters when it
//! ends; `GET /-/served` shows them meanwhile.

use std::io::{Result, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use forebay_listserver::{Faults, Keys, ListServer, Service, Shape, count};

/// A server of listings for tests and benches.
#[derive(Debug, Parser)]
enum Command {
    /// Serves keys of a shape.
    Serve {
        /// Address to listen on; port 0 is a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: String,
        #[command(flatten)]
        keys: KeyFlags,
        /// Milliseconds before each answer.
        #[arg(long, default_value_t = 0)]
        latency: u64,
        #[command(flatten)]
        faults: Faults,
    },
    /// Counts all keys of a server that serves the same.
    Count {
        /// Where it listens.
        #[arg(long)]
        server: String,
        #[command(flatten)]
        keys: KeyFlags,
        /// Clients at once.
        #[arg(long, default_value_t = 16)]
        clients: u64,
    },
}

#[derive(Debug, clap::Args)]
struct KeyFlags {
    /// How many keys.
    #[arg(long, default_value_t = 10_000_000)]
    count: u64,
    /// What the names look like.
    #[arg(long, value_enum, default_value_t = Shape::Numbers)]
    shape: Shape,
    /// What all keys start with: empty, or ends in `/`.
    #[arg(long, default_value = "data/")]
    root: String,
}

impl KeyFlags {
    fn keys(&self) -> Keys {
        Keys::new(self.shape, self.count, &self.root)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Command::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-listserver: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve { listen, keys, latency, faults } => {
            let service = Service { keys: keys.keys(), latency: Duration::from_millis(latency), faults };
            let server = ListServer::start(&listen, service).await?;
            let address = server.address().to_string();
            say(&serde_json::json!({ "event": "ready", "listen": address, "count": keys.count, "shape": keys.shape }))?;
            tokio::signal::ctrl_c().await?;
            say(&serde_json::json!({ "event": "served", "served": server.served(), "cpu_seconds": cpu_seconds() }))
        }
        Command::Count { server, keys, clients } => {
            let started = Instant::now();
            let counted = count(&server, &keys.keys(), clients).await?;
            let seconds = started.elapsed().as_secs_f64();
            say(&serde_json::json!({
                "counted": counted,
                "seconds": seconds,
                "entries_per_second": counted as f64 / seconds,
                "cpu_us_per_entry": cpu_seconds() * 1e6 / counted.max(1) as f64,
            }))
        }
    }
}

fn say(line: &serde_json::Value) -> Result<()> {
    println!("{line}");
    std::io::stdout().flush()
}

/// CPU time of this process so far, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold spaces; user and system time are fields 14 and 15.
    let fields = stat.rsplit(") ").next().unwrap_or("").split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
