//! The origin: whether it answers, and lets this user in.

use std::time::{Duration, Instant};

use forebay_model::NsPath;
use forebay_origin::OriginMetrics;

use super::Finding;
use crate::output::span_text;
use crate::settings::{OriginText, Settings};

/// An origin that answers later than this makes every cold read of a small file slow.
const SLOW: Duration = Duration::from_millis(250);

/// Asks the origin once.
pub(super) async fn check(url: &OriginText, settings: &Settings) -> Finding {
    let check = format!("origin {}", url.0);
    match probe(url, settings).await {
        Ok(took) if took > SLOW => Finding::warn(
            check,
            format!("answers, but after {}", span_text(took)),
            "it is far away or busy: cold reads of small files will be slow",
        ),
        Ok(took) => Finding::ok(check, format!("answers after {}", span_text(took))),
        Err(why) => Finding::fail(
            check,
            why,
            "check the URL, `--endpoint`, `--region` and the credentials (`--credentials`, AWS_ACCESS_KEY_ID, ~/.aws)",
        ),
    }
}

/// How long one small request takes. The error is a sentence that says what the origin answered.
async fn probe(url: &OriginText, settings: &Settings) -> Result<Duration, String> {
    let spec = crate::origin::source(url, NsPath::root(), settings);
    let origin =
        crate::origin::open(&spec, settings, OriginMetrics::default()).map_err(|failure| failure.to_string())?;
    let begun = Instant::now();
    origin.probe().await.map_err(|error| error.to_string())?;
    Ok(begun.elapsed())
}
