//! A real Prometheus scrapes us in all three formats and gives back what was counted.
//!
//! Needs the binary `prometheus` (Debian package `prometheus`); CI must have it.

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::ACCEPT;
use axum::middleware::map_request;
use common::send;
use outrigger_telemetry::catalogue::*;
use outrigger_telemetry::http::{HttpLimits, Scraper, metrics_router, serve_counted};
use outrigger_telemetry::{Readiness, Registry, SeriesLimits};
use tokio::net::TcpListener;

/// Ends the process with the test.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Scrapes these jobs every second; `None` where it is not installed.
    fn start(jobs: &[(&str, SocketAddr)], flags: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut file = String::from("global: {scrape_interval: 1s}\nscrape_configs:\n");
        for (job, target) in jobs {
            file += &format!("- {{job_name: {job}, static_configs: [{{targets: ['{target}']}}]}}\n");
        }
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, file).unwrap();
        let address = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let spawned = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match spawned {
            Ok(process) => Some(Self { process, address, _folder: folder }),
            Err(error) if std::env::var_os("CI").is_some() => panic!("prometheus must be installed in CI: {error}"),
            Err(_) => {
                eprintln!("prometheus is not installed; its test is left out");
                None
            }
        }
    }

    /// The value of a query that gives one number.
    fn value(&self, query: &str) -> f64 {
        let encoded: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
        let answer = send(self.address, "GET", &format!("/api/v1/query?query={encoded}"), &[]);
        let result = answer.json()["data"]["result"].clone();
        let Some([only]) = result.as_array().map(Vec::as_slice) else { panic!("{query}: {}", answer.text()) };
        only["value"][1].as_str().unwrap().parse().unwrap()
    }
}

/// Two servers of one registry: one as it is, one whose scrapers seem to send no `Accept`. The channel tells of each
/// scrape that begins.
fn servers(registry: &Registry) -> (SocketAddr, SocketAddr, mpsc::Receiver<()>) {
    let (scraped, scrapes) = mpsc::sync_channel(1000);
    let scraper = Scraper::new(registry.clone());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tell_scrape = map_request(move |request: Request| {
                let _ = scraped.try_send(());
                async { request }
            });
            let plain = metrics_router(scraper.clone(), Readiness::new()).layer(tell_scrape);
            let as_text = plain.clone().layer(map_request(|mut request: Request| async {
                request.headers_mut().remove(ACCEPT);
                request
            }));
            let listeners = [
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            ];
            tell.send([listeners[0].local_addr().unwrap(), listeners[1].local_addr().unwrap()]).unwrap();
            let [first, second] = listeners;
            let (limits, hits) = (HttpLimits::default(), scraper.hits());
            tokio::join!(
                serve_counted(first, plain, limits, hits.clone(), std::future::pending()),
                serve_counted(second, as_text, limits, hits, std::future::pending())
            );
        });
    });
    let [plain, as_text] = told.recv().unwrap();
    (plain, as_text, scrapes)
}

#[test]
fn prometheus_counts_what_we_counted_in_every_format() {
    let registry = Registry::new(SeriesLimits::default());
    let shards = [registry.shard(), registry.shard()];
    let mut held = Vec::new();
    for (code, shard) in [("200", 0), ("200", 1), ("503", 1)] {
        let value = |name: &&str| match *name {
            "response_code" => code.into(),
            // Every character that some format has to escape.
            "destination_service_name" => "a \"b\" \\ c\nd".into(),
            other => other.into(),
        };
        let labels: Vec<Arc<str>> = HTTP_LABELS.iter().map(value).collect();
        let counter = shards[shard].counter(&ISTIO_REQUESTS_TOTAL, &labels);
        counter.add(100);
        let duration = shards[shard].histogram(&ISTIO_REQUEST_DURATION_MILLISECONDS, &labels);
        (0..100).for_each(|ms| duration.observe(f64::from(ms)));
        let class = shards[shard].counter(&ENVOY_CLUSTER_UPSTREAM_RQ_XX, &["c".into(), code[..1].into()]);
        class.add(100);
        let total = shards[shard].counter(&ENVOY_CLUSTER_UPSTREAM_RQ_TOTAL, &["c".into()]);
        total.add(100);
        let by_code = shards[shard].counter(&ENVOY_CLUSTER_UPSTREAM_RQ, &["c".into(), code.into()]);
        by_code.add(100);
        held.push((counter, duration, class, total, by_code));
    }
    let (target, as_text, scrapes) = servers(&registry);
    // With native histograms on, it asks for protobuf first.
    for (job, target, flags) in [
        ("open_metrics", target, &[][..]),
        ("protobuf", target, &["--enable-feature=native-histograms"]),
        ("text", as_text, &[]),
    ] {
        while scrapes.try_recv().is_ok() {}
        let Some(prometheus) = Prometheus::start(&[(job, target)], flags) else { return };
        // One target is scraped in turn: when a scrape begins, the one before it is stored. The first one heard of may
        // come from the Prometheus before.
        for _ in 0..3 {
            scrapes.recv_timeout(Duration::from_secs(60)).expect("Prometheus scrapes");
        }
        for (query, expected) in [
            ("sum(istio_requests_total)", 300.0),
            ("istio_requests_total{response_code='200',destination_service_name='a \"b\" \\\\ c\\nd'}", 200.0),
            ("sum(istio_request_duration_milliseconds_count)", 300.0),
            ("sum(istio_request_duration_milliseconds_sum)", 3.0 * 4950.0),
            ("sum(istio_request_duration_milliseconds_bucket{le=~'50([.]0)?'})", 153.0),
            ("sum(istio_request_duration_milliseconds_bucket{le='+Inf'})", 300.0),
            ("envoy_cluster_upstream_rq_xx{envoy_response_code_class='5'}", 100.0),
            ("envoy_cluster_upstream_rq_total", 300.0),
            ("envoy_cluster_upstream_rq{envoy_response_code='200'}", 200.0),
            ("up", 1.0),
        ] {
            assert_eq!(prometheus.value(query), expected, "{job}: {query}");
        }
    }
    drop(held);
}
