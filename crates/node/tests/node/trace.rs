//! What a node is asked to read is recorded, each request once.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Setup, context, pattern, world};
use forebay_model::{ByteRange, ByteSize, FaultKind, PAGE, TraceState};
use forebay_node::Listener;
use forebay_route::{ReadNow, RemoteNode, Service};
use serde_json::Value;

/// Offset and length of each read of a trace.
fn reads(file: &Path) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(file).expect("a trace");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter_map(|line| Some((line.get("offset")?.as_u64()?, line.get("len")?.as_u64()?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_recorded_once_hit_or_miss_answered_or_failed() {
    let w = world(&Setup::default());
    let len = 3 * PAGE + 5;
    w.cloud.put("f", pattern(3, len as usize));
    let content = w.content("/ml/f").await;
    let file = w.directory.path().join("t.jsonl");
    let name = file.to_str().expect("a name");
    let socket = w.directory.path().join("run/node.sock");
    let _listener = Listener::bind(&socket, w.node.clone()).expect("a socket");
    let remote = RemoteNode::connect(&socket).await.expect("a connection");
    let started = remote.start_trace(&context(), name, ByteSize(1 << 20)).await.expect("a trace");
    assert_eq!(started.state, TraceState::Running);
    let second = remote.start_trace(&context(), "/other", ByteSize(1 << 20)).await;
    assert_eq!(second.map_err(|fault| fault.kind), Err(FaultKind::Invalid));

    let mut buffer = vec![0; 10];
    let first = ByteRange::new(0, 10);
    // A failure, on both ways; then a miss, which the door asks for twice and the programs once.
    *w.cloud.fault.lock() = Some(FaultKind::Unavailable);
    assert_eq!(w.node.read_now(&context(), &content, first, &mut buffer), ReadNow::Absent);
    w.read(&content, 0, 10).await.expect_err("the cloud fails");
    *w.cloud.fault.lock() = None;
    assert_eq!(w.node.read_now(&context(), &content, ByteRange::new(1, 11), &mut buffer), ReadNow::Absent);
    w.read(&content, 1, 10).await.expect("a read");
    assert_eq!(w.node.read_now(&context(), &content, ByteRange::new(2, 12), &mut buffer), ReadNow::Filled);
    remote.read(&context(), &content, ByteRange::new(3, len + 99)).await.expect("a read");
    w.read(&content, len, 10).await.expect("nothing");
    // Handed out when it lies in the store whole.
    let until = Instant::now() + Duration::from_secs(5);
    while w.node.descriptor(&context(), &content).is_none() {
        assert!(Instant::now() < until, "the content is never handed out");
        tokio::task::yield_now().await;
    }
    assert!(w.node.status(&context()).await.expect("a status").contains(r#""state":"running""#));

    let stopped = remote.stop_trace(&context(), Some(name)).await.expect("the end");
    w.read(&content, 4, 10).await.expect("a read");
    assert_eq!((stopped.reads, stopped.dropped, stopped.state), (5, 0, TraceState::Stopped));
    assert_eq!(reads(&file), [(0, 10), (1, 10), (2, 10), (3, len - 3), (0, len)]);
}
