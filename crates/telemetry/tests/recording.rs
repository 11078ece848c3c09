//! Laws of recording and scraping: nothing lost, nothing twice, everything bounded.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Document, LabelSet, read};
use outrigger_telemetry::catalogue::*;
use outrigger_telemetry::expose::{Exposition, Format};
use outrigger_telemetry::{Collect, Desc, Families, Registry, SeriesLimits};
use proptest::prelude::*;

static COUNTED: Desc = Desc::counter("test_counted_total", "Counted.").labels(&["a", "b"]);
static LEVEL: Desc = Desc::gauge("test_level", "Level.").labels(&["a"]);
static SIZES: Desc = Desc::histogram("test_sizes_bytes", "Sizes.", &[1.0, 10.0, 100.0]).unit("bytes").labels(&["a"]);

const IDLE: Duration = Duration::from_secs(600);

fn text(registry: &Registry, now: Instant) -> String {
    String::from_utf8(Exposition::new(registry.gather(now), Format::Text).into_bytes()).unwrap()
}

fn document(registry: &Registry, now: Instant) -> Document {
    read(&text(registry, now))
}

fn labels(values: &[&str]) -> Vec<Arc<str>> {
    values.iter().map(|v| (*v).into()).collect()
}

fn set(pairs: &[(&str, &str)]) -> LabelSet {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

fn value(document: &Document, name: &str, pairs: &[(&str, &str)]) -> Option<f64> {
    document.samples.get(&(name.to_owned(), set(pairs))).copied()
}

#[derive(Clone, Debug)]
enum Step {
    Count { shard: usize, a: String, b: String, n: u32 },
    Move { shard: usize, a: String, by: i8 },
    Observe { shard: usize, a: String, value: u16 },
    DropHandles { shard: usize },
    Sweep,
    Gather,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || prop_oneof![Just(""), Just("x"), Just("ä\"\\\n,}"), Just("a=\"1\"")].prop_map(str::to_owned);
    let shard = 0..3usize;
    let step = prop_oneof![
        4 => (shard.clone(), name(), name(), any::<u32>()).prop_map(|(shard, a, b, n)| Step::Count { shard, a, b, n }),
        2 => (shard.clone(), name(), any::<i8>()).prop_map(|(shard, a, by)| Step::Move { shard, a, by }),
        4 => (shard.clone(), name(), 0..200u16).prop_map(|(shard, a, value)| Step::Observe { shard, a, value }),
        1 => shard.prop_map(|shard| Step::DropHandles { shard }),
        1 => Just(Step::Sweep),
        1 => Just(Step::Gather),
    ];
    prop::collection::vec(step, 1..200)
}

#[derive(Default)]
struct Expected {
    counted: BTreeMap<(String, String), u64>,
    level: BTreeMap<(usize, String), f64>,
    sizes: BTreeMap<String, Vec<u16>>,
}

impl Expected {
    fn check(&self, document: &Document) {
        for ((a, b), n) in &self.counted {
            assert_eq!(value(document, "test_counted_total", &[("a", a), ("b", b)]), Some(*n as f64), "{a:?} {b:?}");
        }
        let mut level = BTreeMap::<&str, f64>::new();
        for ((_, a), v) in &self.level {
            *level.entry(a).or_default() += v;
        }
        for (a, v) in level {
            assert_eq!(value(document, "test_level", &[("a", a)]), Some(v), "{a:?}");
        }
        for (a, values) in &self.sizes {
            for (le, bound) in [("1", 1), ("10", 10), ("100", 100), ("+Inf", u16::MAX)] {
                let within = values.iter().filter(|v| **v <= bound).count() as f64;
                assert_eq!(value(document, "test_sizes_bytes_bucket", &[("a", a), ("le", le)]), Some(within));
            }
            let sum = values.iter().map(|v| f64::from(*v)).sum::<f64>();
            assert_eq!(value(document, "test_sizes_bytes_sum", &[("a", a)]), Some(sum));
            assert_eq!(value(document, "test_sizes_bytes_count", &[("a", a)]), Some(values.len() as f64));
        }
    }
}

proptest! {
    /// Whatever is recorded where, dropped and looked up again: the exposition reads back as the sum over shards.
    #[test]
    fn the_sum_over_shards_is_the_total(steps in steps()) {
        let registry = Registry::new(SeriesLimits::default());
        let shards: Vec<_> = (0..3).map(|_| registry.shard()).collect();
        let mut handles: Vec<Vec<Box<dyn std::any::Any>>> = (0..3).map(|_| Vec::new()).collect();
        let mut expected = Expected::default();
        let now = Instant::now();
        for step in steps {
            match step {
                Step::Count { shard, a, b, n } => {
                    let counter = shards[shard].counter(&COUNTED, &labels(&[&a, &b]));
                    counter.add(u64::from(n));
                    handles[shard].push(Box::new(counter));
                    *expected.counted.entry((a, b)).or_default() += u64::from(n);
                }
                Step::Move { shard, a, by } => {
                    let gauge = shards[shard].gauge(&LEVEL, &labels(&[&a]));
                    gauge.add(i64::from(by));
                    handles[shard].push(Box::new(gauge));
                    *expected.level.entry((shard, a)).or_default() += f64::from(by);
                }
                Step::Observe { shard, a, value } => {
                    let histogram = shards[shard].histogram(&SIZES, &labels(&[&a]));
                    histogram.observe(f64::from(value));
                    handles[shard].push(Box::new(histogram));
                    expected.sizes.entry(a).or_default().push(value);
                }
                Step::DropHandles { shard } => {
                    handles[shard].clear();
                    // A gauge without handles tells nothing from the next walk on.
                    registry.sweep(now);
                    expected.level.retain(|(s, _), _| *s != shard);
                }
                Step::Sweep => registry.sweep(now),
                Step::Gather => expected.check(&document(&registry, now)),
            }
        }
        expected.check(&document(&registry, now));
    }

    /// All formats of one moment say the same, and are the same every time.
    #[test]
    fn formats_agree(values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 1..20)) {
        let registry = Registry::new(SeriesLimits::default());
        let shard = registry.shard();
        let gauges: Vec<_> = values.iter().enumerate().map(|(at, value)| {
            let gauge = shard.gauge(&LEVEL, &labels(&[&at.to_string()]));
            gauge.set(*value);
            gauge
        }).collect();
        let families = registry.gather(Instant::now());
        let bytes = |format| Exposition::new(families.clone(), format).into_bytes();
        prop_assert_eq!(bytes(Format::Text), bytes(Format::Text));
        let plain = read(&String::from_utf8(bytes(Format::Text)).unwrap());
        let open = read(&String::from_utf8(bytes(Format::OpenMetrics1)).unwrap());
        prop_assert!(open.eof && !plain.eof);
        prop_assert_eq!(&plain.samples, &open.samples);
        for (at, value) in values.iter().enumerate() {
            let key = ("test_level".to_owned(), set(&[("a", &at.to_string())]));
            prop_assert_eq!(plain.samples[&key], *value);
        }
        drop(gauges);
    }
}

#[test]
fn a_full_family_drops_visibly() {
    let registry = Registry::new(SeriesLimits { per_family: 3, idle: IDLE });
    let shards = [registry.shard(), registry.shard()];
    let mut counters = Vec::new();
    let mut refused = 0;
    for at in 0..10 {
        for shard in &shards {
            let counter = shard.counter(&COUNTED, &labels(&["x", &at.to_string()]));
            counter.add(5);
            assert_eq!(counter.overflowed(), at >= 3);
            refused += u64::from(counter.overflowed()) * 5;
            counters.push(counter);
        }
    }
    let histograms: Vec<_> = (0..5).map(|at| shards[0].histogram(&SIZES, &labels(&[&at.to_string()]))).collect();
    histograms.iter().for_each(|h| h.observe(2.0));
    let gauges: Vec<_> = (0..5).map(|at| shards[0].gauge(&LEVEL, &labels(&[&at.to_string()]))).collect();
    let now = Instant::now();
    for _ in 0..2 {
        let document = document(&registry, now);
        let dropped = |metric| value(&document, "outrigger_metrics_dropped_total", &[("metric", metric)]);
        assert_eq!(document.samples.keys().filter(|(name, _)| name == "test_counted_total").count(), 3);
        assert_eq!(dropped("test_counted_total"), Some(refused as f64));
        assert_eq!(dropped("test_sizes_bytes"), Some(2.0));
        assert_eq!(dropped("test_level"), Some(2.0));
        // 3 of each kind, 3 dropped counters, expired, series.
        assert_eq!(value(&document, "outrigger_metrics_series", &[]), Some(14.0));
    }
    drop(gauges);
}

#[test]
fn hostile_values_stay_bounded_and_accounted_for() {
    let registry = Registry::new(SeriesLimits::default());
    let shard = registry.shard();
    for at in 0..100_000 {
        shard.counter(&COUNTED, &labels(&["x", &at.to_string()])).inc();
    }
    let document = document(&registry, Instant::now());
    let series = document.samples.iter().filter(|((name, _), _)| name == "test_counted_total");
    let counted: f64 = series.clone().map(|(_, v)| v).sum();
    let dropped = value(&document, "outrigger_metrics_dropped_total", &[("metric", "test_counted_total")]);
    assert_eq!(series.count(), 2_000);
    assert_eq!(counted + dropped.unwrap(), 100_000.0);
}

#[test]
fn idle_series_leave_and_come_back_with_their_value() {
    let registry = Registry::new(SeriesLimits::default());
    let shard = registry.shard();
    let held = shard.counter(&COUNTED, &labels(&["held", ""]));
    held.add(41);
    shard.counter(&COUNTED, &labels(&["left", ""])).add(7);
    let kept = shard.counter(&OUTRIGGER_CONFIG_RELOADS_TOTAL, &labels(&["success"]));
    let gauge = shard.gauge(&LEVEL, &labels(&["five"]));
    gauge.set(5.0);
    let start = Instant::now();
    let at = |after: Duration, held: Option<f64>, left: Option<f64>, expired: f64| {
        let document = document(&registry, start + after);
        assert_eq!(value(&document, "test_counted_total", &[("a", "held"), ("b", "")]), held, "{after:?}");
        assert_eq!(value(&document, "test_counted_total", &[("a", "left"), ("b", "")]), left, "{after:?}");
        assert_eq!(value(&document, "outrigger_metrics_expired_total", &[]), Some(expired), "{after:?}");
        assert_eq!(value(&document, "test_level", &[("a", "five")]), Some(5.0), "a gauge tells what is");
        assert_eq!(value(&document, "outrigger_config_reloads_total", &[("result", "success")]), Some(0.0));
    };
    let second = Duration::from_secs(1);
    at(Duration::ZERO, Some(41.0), Some(7.0), 0.0);
    at(IDLE - second, Some(41.0), Some(7.0), 0.0);
    registry.sweep(start + IDLE);
    at(IDLE, None, None, 2.0);
    at(IDLE + second, None, None, 2.0);
    held.inc();
    at(IDLE + 2 * second, Some(42.0), None, 2.0);
    at(2 * IDLE, Some(42.0), None, 2.0);
    at(2 * IDLE + 2 * second, None, None, 3.0);
    // Freed with its last handle: it begins anew, which readers take for a restart.
    shard.counter(&COUNTED, &labels(&["left", ""])).inc();
    at(3 * IDLE, None, Some(1.0), 3.0);
    drop((kept, gauge));
}

#[test]
fn a_family_larger_than_one_step_is_whole_and_sorted() {
    let registry = Registry::new(SeriesLimits::default());
    let shard = registry.shard();
    let counters: Vec<_> = (0..1_000).map(|at| shard.counter(&COUNTED, &labels(&["x", &at.to_string()]))).collect();
    counters.iter().for_each(|c| c.inc());
    let families = registry.gather(Instant::now());
    let family = families.iter().find(|f| f.desc.name == COUNTED.name).unwrap();
    assert_eq!(family.samples.len(), 1_000);
    assert!(family.samples.is_sorted_by(|a, b| a.labels < b.labels));
    assert!(families.is_sorted_by(|a, b| a.desc.name < b.desc.name));
    drop(counters);
    registry.sweep(Instant::now() + 2 * IDLE);
    assert!(!registry.gather(Instant::now()).iter().any(|f| f.desc.name == COUNTED.name), "all freed");
}

struct Members;

impl Collect for Members {
    fn collect(&self, out: &mut Families) {
        for cluster in ["b", "a", "b"] {
            out.gauge(&ENVOY_CLUSTER_MEMBERSHIP_TOTAL, &labels(&[cluster]), 2.0);
        }
        out.counter(&COUNTED, &labels(&["x", "y"]), 3);
        out.counter(&COUNTED, &labels(&["x", "z"]), 1);
    }
}

#[test]
fn collected_and_recorded_values_meet() {
    let registry = Registry::new(SeriesLimits::default());
    registry.add_collector(Arc::new(Members));
    registry.shard().counter(&COUNTED, &labels(&["x", "y"])).add(4);
    let document = document(&registry, Instant::now());
    assert_eq!(value(&document, "test_counted_total", &[("a", "x"), ("b", "y")]), Some(7.0));
    assert_eq!(value(&document, "test_counted_total", &[("a", "x"), ("b", "z")]), Some(1.0));
    let members = |cluster| value(&document, "envoy_cluster_membership_total", &[("envoy_cluster_name", cluster)]);
    assert_eq!((members("a"), members("b")), (Some(2.0), Some(4.0)), "of the same labels the sum");
}

#[test]
fn scrapes_while_workers_record_never_go_backwards() {
    let registry = Registry::new(SeriesLimits::default());
    let names: Vec<String> = (0..300).map(|at| at.to_string()).collect();
    const ROUNDS: u64 = 200;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let shard = registry.shard();
                let names = &names;
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        for name in names {
                            shard.counter(&COUNTED, &labels(&["x", name])).inc();
                        }
                    }
                })
            })
            .collect();
        let mut last = 0.0;
        while !workers.iter().all(|worker| worker.is_finished()) {
            let document = document(&registry, Instant::now());
            let total = document.samples.iter().filter(|((n, _), _)| n == COUNTED.name).map(|(_, v)| v).sum::<f64>();
            assert!(total >= last, "{total} after {last}");
            last = total;
        }
    });
    let document = document(&registry, Instant::now());
    let total = document.samples.iter().filter(|((n, _), _)| n == COUNTED.name).map(|(_, v)| v).sum::<f64>();
    assert_eq!(total, (2 * ROUNDS * 300) as f64);
}

#[test]
fn values_that_are_no_size_are_ignored() {
    let registry = Registry::new(SeriesLimits::default());
    let histogram = registry.shard().histogram(&SIZES, &labels(&["x"]));
    for size in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0, -1.0] {
        histogram.observe(size);
    }
    let document = document(&registry, Instant::now());
    assert_eq!(value(&document, "test_sizes_bytes_sum", &[("a", "x")]), Some(0.0));
    assert_eq!(value(&document, "test_sizes_bytes_bucket", &[("a", "x"), ("le", "1")]), Some(2.0));
    assert_eq!(value(&document, "test_sizes_bytes_count", &[("a", "x")]), Some(2.0));
}
