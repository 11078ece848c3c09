//! The documents as a whole: golden files, Prometheus' own lint, and the reference encoder.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use common::read;
use outrigger_telemetry::catalogue::*;
use outrigger_telemetry::expose::{Exposition, Format};
use outrigger_telemetry::{
    BuildInfo, Collect, Desc, Families, Family, Kind, ProcessCollector, Readiness, Registry, SeriesLimits, Server,
    ServerState,
};

fn write(families: Vec<Family>, format: Format) -> String {
    String::from_utf8(Exposition::new(families, format).into_bytes()).unwrap()
}

/// One series of each metric of the catalogue, every value set.
struct Everything;

impl Collect for Everything {
    fn collect(&self, out: &mut Families) {
        for desc in all().filter(|d| !d.name.starts_with("outrigger_metrics_")) {
            let labels: Vec<Arc<str>> = desc.labels.iter().map(|name| format!("of {name}").into()).collect();
            match desc.kind {
                Kind::Counter => out.counter(desc, &labels, 3),
                Kind::Gauge => out.gauge(desc, &labels, 1.5),
                Kind::Histogram => out.histogram(desc, &labels, 12.5, &vec![1; desc.buckets.len() + 1]),
            }
        }
    }
}

fn everything() -> Vec<Family> {
    let registry = Registry::new(SeriesLimits::default());
    registry.add_collector(Arc::new(Everything));
    registry.gather(Instant::now())
}

#[test]
fn the_catalogue_keeps_the_rules_of_names() {
    let mut names = std::collections::BTreeSet::new();
    for desc in all() {
        let name = desc.name;
        assert!(names.insert(name), "{name} stands twice");
        assert!(desc.help.ends_with('.') && !desc.help.contains('\n'), "{name}: {}", desc.help);
        assert!(
            name.strip_suffix("_total").unwrap_or(name).ends_with(desc.unit),
            "{name} does not end in {}",
            desc.unit
        );
        let labels: std::collections::BTreeSet<_> = desc.labels.iter().collect();
        assert_eq!(labels.len(), desc.labels.len(), "{name}");
        assert!(!desc.labels.contains(&"le"), "{name}");
        assert_eq!(desc.kind == Kind::Histogram, !desc.buckets.is_empty(), "{name}");
        assert!(desc.buckets.is_sorted_by(|a, b| a < b), "{name}");
        assert_eq!(name.starts_with("envoy_"), !desc.envoy.is_empty(), "{name}");
        assert!(desc.envoy.is_empty() || desc.envoy.matches("{}").count() == desc.labels.len(), "{name}");
        if name.starts_with("outrigger_") {
            assert_eq!(desc.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        }
    }
    assert_eq!(HTTP_LABELS.len(), 25);
    assert_eq!(&HTTP_LABELS[..20], PEER_LABELS);
    assert_eq!(&TCP_LABELS[..20], PEER_LABELS);
    assert_eq!(BUCKETS_STANDARD.len(), 19);
}

#[test]
fn everything_reads_back_in_both_text_formats() {
    let plain = read(&write(everything(), Format::Text));
    let open = read(&write(everything(), Format::OpenMetrics1));
    assert_eq!(plain.samples, open.samples, "names and le are spelt the same");
    assert_eq!(plain.types.len(), open.types.len());
    for desc in all().filter(|d| d.name != OUTRIGGER_METRICS_DROPPED_TOTAL.name) {
        assert_eq!(plain.types.get(desc.name).map(String::as_str), Some(desc.kind.as_str()), "{}", desc.name);
        assert_eq!(plain.helps[desc.name], desc.help);
    }
    assert_eq!(open.types["istio_requests"], "counter");
    assert_eq!(open.types["envoy_cluster_upstream_rq"], "counter");
    assert_eq!(open.types["envoy_cluster_upstream_rq_total"], "counter");
    assert_eq!(open.units["istio_request_duration_milliseconds"], "milliseconds");
    assert_eq!(open.units["process_cpu_seconds"], "seconds");
}

#[test]
fn a_small_exposition_looks_like_this() {
    let registry = Registry::new(SeriesLimits::default());
    let shards = [registry.shard(), registry.shard()];
    let cluster: [Arc<str>; 1] = ["outbound|80||cart \"x\"\\\n".into()];
    for shard in &shards {
        let histogram = shard.histogram(&ENVOY_CLUSTER_UPSTREAM_CX_CONNECT_MS, &cluster);
        histogram.observe(0.5);
        histogram.observe(0.75);
        histogram.observe(4e6);
        shard.counter(&ENVOY_CLUSTER_UPSTREAM_RQ_XX, &[cluster[0].clone(), "2".into()]).add(2);
        shard.counter(&OUTRIGGER_PROXY_REPLIES_TOTAL, &["UH".into(), "503".into(), "no_healthy_upstream".into()]).inc();
    }
    let families = registry.gather(Instant::now());
    check_golden("small.txt", &write(families.clone(), Format::Text));
    check_golden("small.openmetrics.txt", &write(families, Format::OpenMetrics1));
}

/// Compares with a file beside the tests; `UPDATE_GOLDEN=1` writes it.
fn check_golden(name: &str, found: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{}; UPDATE_GOLDEN=1 accepts the change", path.display());
}

#[test]
fn the_reference_encoder_agrees_on_open_metrics() {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family as TheirFamily;
    use prometheus_client::registry::{Registry as TheirRegistry, Unit};
    static BYTES: Desc = Desc::counter("sent_bytes_total", "Bytes sent.").unit("bytes").labels(&["to"]);
    let mut theirs = TheirRegistry::default();
    let family = TheirFamily::<Vec<(String, String)>, Counter>::default();
    theirs.register_with_unit("sent", "Bytes sent", Unit::Bytes, family.clone());
    let registry = Registry::new(SeriesLimits::default());
    let shard = registry.shard();
    let value = "a \"quoted\" \\ back\nslash";
    family.get_or_create(&vec![("to".into(), value.into())]).inc_by(7);
    shard.counter(&BYTES, &[value.into()]).add(7);
    let mut expected = String::new();
    encode(&mut expected, &theirs).unwrap();
    let mut ours = registry.gather(Instant::now());
    ours.retain(|f| f.desc.name == BYTES.name);
    assert_eq!(read(&write(ours, Format::OpenMetrics1)), read(&expected));
}

/// Runs `promtool check metrics`; `None` where it is not installed, which CI does not accept.
fn promtool(text: &str) -> Option<(bool, String)> {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if std::env::var_os("CI").is_some() => panic!("promtool must be installed in CI: {error}"),
        Err(_) => {
            eprintln!("promtool is not installed; its check is left out");
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

#[test]
fn promtool_finds_nothing_in_our_own_names() {
    let registry = Registry::new(SeriesLimits { per_family: 1, ..SeriesLimits::default() });
    registry.add_collector(Arc::new(Everything));
    // Fills a family, so that the drop counter is there too.
    let shard = registry.shard();
    let counters = ["a", "b"].map(|limit| shard.counter(&OUTRIGGER_LIMIT_HITS_TOTAL, &[limit.into()]));
    counters[1].inc();
    let mut ours = registry.gather(Instant::now());
    ours.retain(|f| f.desc.name.starts_with("outrigger_") || f.desc.name.starts_with("process_"));
    let group = |prefix| all().filter(move |d| d.name.starts_with(prefix)).count();
    assert_eq!(ours.len(), group("outrigger_") + group("process_"));
    if let Some((clean, says)) = promtool(&write(ours, Format::Text)) {
        assert!(clean && says.is_empty(), "{says}");
    }
}

#[test]
fn promtool_reads_everything() {
    let registry = Registry::new(SeriesLimits::default());
    registry.add_collector(Arc::new(Everything));
    let build = BuildInfo { version: "0.1.0", revision: "r", rustc: "c" };
    let readiness = Readiness::new();
    readiness.set(ServerState::Live);
    registry.add_collector(Arc::new(Server { build, started: Instant::now(), concurrency: 1, readiness }));
    registry.add_collector(Arc::new(ProcessCollector));
    let shard = registry.shard();
    let hostile: Vec<Arc<str>> = ["\"", "\\", "\n", "\u{0}\u{1b}[31m", "ä\u{10FFFF}", &"x".repeat(64 << 10)]
        .into_iter()
        .map(Arc::from)
        .collect();
    let counters: Vec<_> =
        hostile.iter().map(|v| shard.counter(&OUTRIGGER_LIMIT_HITS_TOTAL, std::slice::from_ref(v))).collect();
    let Some((_, says)) = promtool(&write(registry.gather(Instant::now()), Format::Text)) else { return };
    // What others named, it dislikes; that is a fixed set of complaints and no parse error.
    for line in says.lines() {
        assert!(line.starts_with("istio_") || line.starts_with("envoy_"), "{line}");
    }
    drop(counters);
}
