//! Metrics of the process itself, read from `/proc/self` when they are asked for.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Adds the process's metrics to `registry`:
///
/// | metric | unit |
/// |---|---|
/// | `build_info` | 1, with the version as label |
/// | `process_anonymous_memory_bytes` | bytes; what the program itself holds |
/// | `process_resident_memory_bytes` | bytes; with mapped files and shared memory |
/// | `process_open_descriptors` | descriptors |
/// | `process_threads` | threads |
pub(crate) fn register(registry: &mut Registry) {
    let registry = registry.sub_registry_with_prefix("forebay");
    registry.register("build", "Version of the program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry.register_collector(Box::new(Process));
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let descriptors = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        let kib = |name| field(&status, name).map(|kib| kib << 10);
        for (name, help, value) in [
            ("process_anonymous_memory_bytes", "Memory of the process's own", kib("RssAnon:")),
            ("process_resident_memory_bytes", "Memory with mapped files and shared memory", kib("VmRSS:")),
            ("process_open_descriptors", "Open file descriptors", descriptors.map(|count| count as u64)),
            ("process_threads", "Threads", field(&status, "Threads:")),
        ] {
            let Some(value) = value.and_then(|value| i64::try_from(value).ok()) else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// The number after `name` in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
        for name in ["forebay_process_anonymous_memory_bytes ", "forebay_process_threads ", "forebay_build_info"] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
    }
}
