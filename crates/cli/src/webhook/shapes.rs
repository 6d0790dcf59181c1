//! What stores send when objects change, read as events: pure.
//!
//! | sender | shape | the key is |
//! |---|---|---|
//! | AWS S3, MinIO | `{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name"}, "object": {"key"}}}]}` | url-encoded, `+` for a space |
//! | AWS through EventBridge | `{"detail-type": "Object Created", "detail": {"bucket": {"name"}, "object": {"key"}}}` | plain |
//! | AWS through SNS | `{"Type": "Notification", "Message": "one of the above, as text"}` | as there |
//! | SeaweedFS | `{"event_type": "create", "key": "/buckets/BUCKET/KEY", "message": {"new_entry", "old_entry", "new_parent_path"}}` | plain |
//!
//! Always true: of what is not understood nothing is taken, and the error says what was expected.

use forebay_model::{Happened, ObjectEvent};
use serde_json::Value;

/// Where SeaweedFS keeps its buckets.
const SEAWEED_BUCKETS: &str = "/buckets/";
/// A message within a message within a message is nobody's.
const WRAPPED_MAX: u32 = 2;
const EXPECTED: &str = "expected an S3 event notification as JSON: `Records` (AWS S3, MinIO), `detail-type` and `detail` \
                        (EventBridge), `Type` and `Message` (SNS), or `event_type` and `key` (SeaweedFS)";

/// Reads what a store sent. An empty list: it is about nothing that changes what is shown, such as a test of the connection.
///
/// # Errors
/// What is wrong with it, and what was expected.
pub(crate) fn read(body: &[u8]) -> Result<Vec<ObjectEvent>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}; {EXPECTED}"))?;
    read_value(&value, 0)
}

fn read_value(value: &Value, wrapped: u32) -> Result<Vec<ObjectEvent>, String> {
    if let Some(records) = value.get("Records") {
        let records = records.as_array().ok_or_else(|| format!("`Records` is no list; {EXPECTED}"))?;
        return records.iter().map(record).collect();
    }
    if let Some(kind) = text(value, "/detail-type") {
        return bridge(kind, value).map(Vec::from_iter);
    }
    if let (Some(kind), Some(_)) = (text(value, "/event_type"), text(value, "/key")) {
        return seaweed(kind, value);
    }
    if text(value, "/Event") == Some("s3:TestEvent") {
        return Ok(Vec::new());
    }
    match text(value, "/Message").filter(|_| wrapped < WRAPPED_MAX) {
        Some(message) if text(value, "/Type") == Some("Notification") => {
            let inner = serde_json::from_str(message).map_err(|error| format!("`Message` is no JSON: {error}"))?;
            read_value(&inner, wrapped + 1)
        }
        _ => Err(EXPECTED.to_owned()),
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

fn record(record: &Value) -> Result<ObjectEvent, String> {
    let lacks = |what: &str| format!("a record has no `{what}`; {EXPECTED}");
    let name = text(record, "/eventName").ok_or_else(|| lacks("eventName"))?;
    let key = text(record, "/s3/object/key").ok_or_else(|| lacks("s3.object.key"))?;
    let key = decode(key).ok_or_else(|| format!("the key {key:?} is not url-encoded UTF-8"))?;
    let bucket = text(record, "/s3/bucket/name").map(str::to_owned);
    Ok(ObjectEvent { bucket, key, what: happened(name) })
}

/// `s3:ObjectRemoved:Delete`, `ObjectCreated:Put`, `ObjectRestore:Completed`, …: what does not say that the object has gone may have
/// changed what is shown of it.
fn happened(name: &str) -> Happened {
    let name = name.strip_prefix("s3:").unwrap_or(name);
    let is_removed = name.starts_with("ObjectRemoved:") || name.starts_with("LifecycleExpiration:");
    if is_removed { Happened::Removed } else { Happened::Written }
}

fn bridge(kind: &str, value: &Value) -> Result<Option<ObjectEvent>, String> {
    let Some(key) = text(value, "/detail/object/key") else {
        // Of a bucket, not of an object.
        let is_ours = text(value, "/source") == Some("aws.s3");
        return if is_ours { Ok(None) } else { Err(format!("there is no `detail.object.key`; {EXPECTED}")) };
    };
    let bucket = text(value, "/detail/bucket/name").map(str::to_owned);
    let what = if kind == "Object Deleted" { Happened::Removed } else { Happened::Written };
    Ok(Some(ObjectEvent { bucket, key: key.to_owned(), what }))
}

fn seaweed(kind: &str, value: &Value) -> Result<Vec<ObjectEvent>, String> {
    let is_directory = ["/message/new_entry", "/message/old_entry"]
        .iter()
        .filter_map(|entry| value.pointer(entry))
        .any(|entry| entry.get("is_directory").and_then(Value::as_bool).unwrap_or(false));
    let (here, there) = match kind {
        "create" | "update" => (Happened::Written, None),
        "delete" => (Happened::Removed, None),
        "rename" => (Happened::Removed, Some(Happened::Written)),
        other => return Err(format!("{other:?} is no `event_type` of SeaweedFS: create, update, delete or rename")),
    };
    // With a directory all that is in it goes, or comes.
    let of = |what| match what {
        Happened::Written if kind != "rename" => Happened::Written,
        _ if is_directory => Happened::Moved,
        what => what,
    };
    let key = text(value, "/key").unwrap_or_default();
    let mut events = Vec::from_iter(in_bucket(key, of(here)));
    if let Some(there) = there
        && let (Some(parent), Some(name)) =
            (text(value, "/message/new_parent_path"), text(value, "/message/new_entry/name"))
    {
        events.extend(in_bucket(&format!("{parent}/{name}"), of(there)));
    }
    Ok(events)
}

/// What SeaweedFS keeps elsewhere is its own.
fn in_bucket(path: &str, what: Happened) -> Option<ObjectEvent> {
    let (bucket, key) = path.strip_prefix(SEAWEED_BUCKETS)?.split_once('/')?;
    (!key.is_empty()).then(|| ObjectEvent { bucket: Some(bucket.to_owned()), key: key.to_owned(), what })
}

/// Decodes `%XX` and `+`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// `BUCKET KEY WHAT`, one a line.
    fn check(body: &str, expected: &str) {
        let line =
            |event: ObjectEvent| format!("{} {} {:?}", event.bucket.unwrap_or("-".into()), event.key, event.what);
        let events: Vec<String> = read(body.as_bytes()).unwrap().into_iter().map(line).collect();
        assert_eq!(events.join("\n"), expected, "{body}");
    }

    #[test]
    fn aws_and_minio() {
        check(
            r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"ObjectCreated:CompleteMultipartUpload",
                "s3":{"s3SchemaVersion":"1.0","bucket":{"name":"ml","arn":"arn:aws:s3:::ml"},
                "object":{"key":"a+b/%C3%BC%2Bx.jpg","size":5,"eTag":"d41d","sequencer":"00"}}},
               {"eventName":"ObjectRemoved:DeleteMarkerCreated","s3":{"bucket":{"name":"ml"},"object":{"key":"gone"}}},
               {"eventName":"ObjectRestore:Completed","s3":{"bucket":{"name":"ml"},"object":{"key":"back"}}}]}"#,
            "ml a b/ü+x.jpg Written\nml gone Removed\nml back Written",
        );
        check(
            r#"{"EventName":"s3:ObjectRemoved:Delete","Key":"ml/d/x%20y","Records":[{"eventSource":"minio:s3",
                "eventName":"s3:ObjectRemoved:Delete","s3":{"bucket":{"name":"ml"},"object":{"key":"d%2Fx+y"}}}]}"#,
            "ml d/x y Removed",
        );
        check(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"ml"}"#, "");
        check(r#"{"Records":[]}"#, "");
    }

    #[test]
    fn eventbridge_and_sns() {
        check(
            r#"{"version":"0","detail-type":"Object Deleted","source":"aws.s3","detail":{"bucket":{"name":"ml"},
                "object":{"key":"a+b/%20"},"deletion-type":"Permanently Deleted"}}"#,
            "ml a+b/%20 Removed",
        );
        check(r#"{"detail-type":"Object Created","source":"aws.s3","detail":{"object":{"key":"k"}}}"#, "- k Written");
        let inner = r#"{\"Records\":[{\"eventName\":\"ObjectCreated:Put\",\"s3\":{\"object\":{\"key\":\"k\"}}}]}"#;
        check(&format!(r#"{{"Type":"Notification","TopicArn":"arn","Message":"{inner}"}}"#), "- k Written");
    }

    /// Bodies as SeaweedFS 4 sends them, less what is not read.
    #[test]
    fn seaweedfs() {
        check(
            r#"{"event_type":"create","key":"/buckets/evt/a b/ü+x/file.txt","message":{"new_entry":{"name":"file.txt",
                "attributes":{"file_size":5}},"delete_chunks":true,"new_parent_path":"/buckets/evt/a b/ü+x"}}"#,
            "evt a b/ü+x/file.txt Written",
        );
        check(
            r#"{"event_type":"create","key":"/buckets/evt/a b","message":{"new_entry":{"name":"a b","is_directory":true}}}"#,
            "evt a b Written",
        );
        check(
            r#"{"event_type":"delete","key":"/buckets/evt/x","message":{"old_entry":{"name":"x"}}}"#,
            "evt x Removed",
        );
        check(
            r#"{"event_type":"delete","key":"/buckets/evt/d","message":{"old_entry":{"name":"d","is_directory":true}}}"#,
            "evt d Moved",
        );
        check(
            r#"{"event_type":"rename","key":"/buckets/evt/d/old","message":{"old_entry":{"name":"old"},
                "new_entry":{"name":"new"},"new_parent_path":"/buckets/evt/e"}}"#,
            "evt d/old Removed\nevt e/new Written",
        );
        check(
            r#"{"event_type":"rename","key":"/buckets/evt/d","message":{"old_entry":{"name":"d","is_directory":true},
                "new_entry":{"name":"e","is_directory":true},"new_parent_path":"/buckets/evt"}}"#,
            "evt d Moved\nevt e Moved",
        );
        check(r#"{"event_type":"create","key":"/buckets/evt","message":{}}"#, "");
        check(r#"{"event_type":"update","key":"/etc/x","message":{}}"#, "");
    }

    #[test]
    fn what_is_not_understood_says_what_was_expected() {
        for body in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"Records":7}"#,
            r#"{"Records":[{}]}"#,
            r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{}}}]}"#,
            r#"{"detail-type":"Order Placed","source":"shop","detail":{}}"#,
            r#"{"Type":"SubscriptionConfirmation","Message":"x"}"#,
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains("expected an S3 event notification"), "{body}: {error}");
        }
        for body in [
            r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"%f"}}}]}"#,
            r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"object":{"key":"%ff"}}}]}"#,
            r#"{"event_type":"explode","key":"/buckets/b/k"}"#,
            r#"{"Type":"Notification","Message":"hello"}"#,
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
