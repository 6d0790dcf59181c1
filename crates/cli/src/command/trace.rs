//! `forebay trace`: begins and ends the recording of what the process is asked to read (`docs/trace.md`).

use std::path::Path;

use forebay_client::Client;
use forebay_model::{ByteSize, Trace, TraceState};
use serde_json::json;

use crate::args::{TraceArgs, TraceCommand};
use crate::connect::principal;
use crate::failure::Failure;
use crate::output::Output;

/// Begins or ends a trace.
pub(crate) async fn trace(client: &Client, args: &TraceArgs, output: &mut Output) -> Result<(), Failure> {
    let fault = |fault| Failure::fault("trace", &fault);
    match &args.command {
        TraceCommand::Start(args) => {
            let file = absolute(&args.file)?;
            let trace = client.start_trace(principal(), &file, args.limit).await.map_err(fault)?;
            if output.is_json() {
                return output.object(&document(&trace));
            }
            let (file, limit) = (output.name(&trace.file), args.limit);
            output.line(format!("recording reads in {file}, at most {limit}; `forebay trace stop` ends it"))
        }
        TraceCommand::Stop(args) => {
            let file = args.file.as_deref().map(absolute).transpose()?;
            let trace = client.stop_trace(principal(), file.as_deref()).await.map_err(fault)?;
            stopped(&trace, output)
        }
    }
}

fn stopped(trace: &Trace, output: &mut Output) -> Result<(), Failure> {
    let Trace { reads, dropped, bytes, state, .. } = trace;
    if output.is_json() {
        output.object(&document(trace))?;
    } else {
        let (file, bytes) = (output.name(&trace.file), ByteSize(*bytes));
        output.line(format!("{reads} reads, {dropped} dropped, {bytes} in {file}"))?;
    }
    match state {
        TraceState::Running | TraceState::Stopped => Ok(()),
        TraceState::Full if output.is_json() => Ok(()),
        TraceState::Full => output.line("it had ended before, at its limit: `--limit` allows a longer one"),
        TraceState::Failed(why) => {
            Err(Failure::failed(format!("trace: it had ended before, for {} could not be written: {why}", trace.file)))
        }
    }
}

fn document(trace: &Trace) -> serde_json::Value {
    json!({
        "event": "trace",
        "file": trace.file,
        "state": trace.state.name(),
        "reads": trace.reads,
        "dropped": trace.dropped,
        "bytes": trace.bytes,
    })
}

/// The path as the process, whose directory is another, understands it.
fn absolute(file: &Path) -> Result<String, Failure> {
    let name = file.display();
    let path = std::path::absolute(file).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    path.into_os_string().into_string().map_err(|_| Failure::usage(format!("{name}: a name in UTF-8 is expected")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::args::{TraceStartArgs, TraceStopArgs};
    use crate::command::testing::Tree;
    use crate::output::tests::Written;

    async fn run(command: TraceCommand, json: bool) -> (Result<(), Failure>, String) {
        let written = Written::default();
        let mut output = written.output(json);
        let result = trace(&Tree::default().client(), &TraceArgs { command }, &mut output).await;
        output.flush().unwrap();
        (result, written.text())
    }

    fn start(file: &str) -> TraceCommand {
        TraceCommand::Start(TraceStartArgs { file: file.into(), limit: ByteSize(1 << 30) })
    }

    fn stop(file: &str) -> TraceCommand {
        TraceCommand::Stop(TraceStopArgs { file: Some(file.into()) })
    }

    #[tokio::test]
    async fn the_process_is_told_an_absolute_path() {
        let here = std::env::current_dir().unwrap().join("t.jsonl");
        let (result, text) = run(start("t.jsonl"), true).await;
        result.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["file"], here.to_str().unwrap());
        let (_, text) = run(start("/t"), false).await;
        assert_eq!(text, "recording reads in /t, at most 1.07 GB; `forebay trace stop` ends it\n");
    }

    #[tokio::test]
    async fn the_end_says_what_there_is_and_why_there_is_no_more() {
        let (result, text) = run(TraceCommand::Stop(TraceStopArgs { file: None }), false).await;
        result.unwrap();
        assert_eq!(text, "7 reads, 1 dropped, 1.00 kB in /t\n");
        let (result, text) = run(stop("/full"), false).await;
        result.unwrap();
        assert!(text.contains("at its limit"), "{text}");
        for json in [true, false] {
            let (result, text) = run(stop("/failed"), json).await;
            let message = result.unwrap_err().to_string();
            assert!(message.contains("/failed could not be written: no space"), "{message}");
            assert!(text.contains('7') && text.contains("/failed"), "{text}");
        }
    }
}
