//! The servers over real sockets: what they answer, whom they refuse, what they bear.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use common::{get, raw, read, send};
use outrigger_telemetry::catalogue::*;
use outrigger_telemetry::http::{
    Admin, AdminState, Control, ControlAction, HttpLimits, LogChange, LogLevel, Query, Refusal, Scraper,
    metrics_router, serve_counted,
};
use outrigger_telemetry::{
    BuildInfo, Counter, ProcessCollector, Readiness, Registry, SeriesLimits, Server, ServerState, Shard,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A control thread with both servers.
struct World {
    admin: SocketAddr,
    metrics: SocketAddr,
    shard: Shard,
    readiness: Readiness,
    quit: Arc<AtomicBool>,
    _stop: oneshot::Sender<()>,
}

#[derive(Default)]
struct State {
    quit: Arc<AtomicBool>,
}

impl AdminState for State {
    fn clusters_text(&self) -> String {
        "outbound|80||cart::default_priority::max_connections::1024\n".into()
    }

    fn clusters_json(&self) -> Value {
        json!({"cluster_statuses": [{"name": "outbound|80||cart"}]})
    }

    fn listeners_json(&self) -> Value {
        json!({"listener_statuses": [{"name": "outbound"}]})
    }

    fn listeners_text(&self) -> String {
        "outbound::127.0.0.1:15001\n".into()
    }

    fn config_dump(&self, query: &Query) -> Result<Value, String> {
        match query.get("mask") {
            Some(_) => Err("mask is not served".into()),
            None => Ok(json!({"configs": [], "eds": query.has("include_eds")})),
        }
    }

    fn api(&self, path: &str, _: &Query) -> Option<Result<Value, Refusal>> {
        // Larger than any socket buffer, to play slow readers.
        match path {
            "status" => Some(Ok(json!({"ok": true}))),
            "large" => Some(Ok(json!("x".repeat(32 << 20)))),
            "missing" => Some(Err(Refusal::Unknown("there is no such thing".into()))),
            _ => None,
        }
    }

    fn control(&self, control: &Control) -> Result<Value, Refusal> {
        match &control.action {
            ControlAction::Release { circuit } if circuit == "cart|80" => Ok(json!({"by": control.by})),
            _ => Err(Refusal::Unknown("no such circuit".into())),
        }
    }

    fn hystrix(&self, proxy: Option<&str>) -> Result<Vec<Value>, Refusal> {
        match proxy {
            None => Ok(vec![json!({"name": "a"}), json!({"name": "b"})]),
            Some("idle") => Ok(Vec::new()),
            Some(_) => Err(Refusal::Unknown("no such proxy".into())),
        }
    }

    fn logging(&self, change: &LogChange) -> Result<String, String> {
        match change {
            LogChange::All(level) => Ok(format!("all: {level:?}")),
            LogChange::Show => Ok("all: Info".into()),
            LogChange::Modules(_) => Err("no such module".into()),
        }
    }

    fn quit(&self) -> bool {
        self.quit.load(Relaxed)
    }

    fn server_info(&self) -> Value {
        json!({"node": {"id": "sidecar~10.0.0.1~cart-0.shop~shop.svc.cluster.local"}})
    }
}

fn world(limits: HttpLimits) -> World {
    let registry = Registry::new(SeriesLimits::default());
    let readiness = Readiness::new();
    let build = BuildInfo { version: "0.1.0", revision: "abc123", rustc: "1.95.0" };
    let server = Server { build, started: Instant::now(), concurrency: 2, readiness: readiness.clone() };
    registry.add_collector(Arc::new(server.clone()));
    registry.add_collector(Arc::new(ProcessCollector));
    let state = State::default();
    let quit = state.quit.clone();
    let scraper = Scraper::new(registry.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let metrics_routes = metrics_router(scraper.clone(), readiness.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let metrics = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            tell.send((admin.local_addr().unwrap(), metrics.local_addr().unwrap())).unwrap();
            let bound = admin.local_addr().unwrap().ip();
            let extra = Router::new().route("/ui", axum::routing::get(|| async { "a page" }));
            let hits = scraper.hits();
            let routes = Admin { state: Arc::new(state), server, scraper, token: None }.router(bound, extra);
            let metrics = serve_counted(metrics, metrics_routes, limits, hits.clone(), std::future::pending());
            let admin = serve_counted(admin, routes, limits, hits, async { drop(stopped.await) });
            tokio::select! { () = admin => {}, () = metrics => {} }
        });
    });
    let (admin, metrics) = told.recv().unwrap();
    World { admin, metrics, shard: registry.shard(), readiness, quit, _stop: stop }
}

/// Waits until a bound was reached at least `times` times; the server may notice later than its client.
fn wait_for_hits(world: &World, limit: &str, times: f64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let line = format!("outrigger_limit_hits_total{{limit=\"{limit}\"}}");
    loop {
        let answer = get(world.metrics, "/metrics?name[]=outrigger_limit_hits_total");
        let found = answer.text().lines().find_map(|l| l.strip_prefix(&line)).map(|v| v.trim().parse().unwrap());
        if found.is_some_and(|hits: f64| hits >= times) {
            return;
        }
        assert!(Instant::now() < deadline, "{limit}: {found:?}");
    }
}

fn requests(shard: &Shard, code: &str) -> Counter {
    let labels: Vec<Arc<str>> =
        HTTP_LABELS.iter().map(|name| if *name == "response_code" { code.into() } else { (*name).into() }).collect();
    shard.counter(&ISTIO_REQUESTS_TOTAL, &labels)
}

#[test]
fn the_metrics_port_serves_three_paths_and_nothing_else() {
    let world = world(HttpLimits::default());
    let counter = requests(&world.shard, "200");
    counter.add(3);
    for path in ["/metrics", "/stats/prometheus", "/metrics?x"] {
        let answer = get(world.metrics, path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let document = read(answer.text());
        assert_eq!(document.types["istio_requests_total"], "counter");
        let (_, value) = document.samples.iter().find(|((name, _), _)| name == "istio_requests_total").unwrap();
        assert_eq!(*value, 3.0);
    }
    for path in [
        "/",
        "/metrics/",
        "//metrics",
        "/METRICS",
        "/metrics/../config_dump",
        "//config_dump",
        "/config_dump",
        "/metrics%2f..%2fconfig_dump",
        "/%6detrics",
        "/stats",
        "/healthz",
        "/quitquitquit",
        "/server_info",
    ] {
        assert_eq!(get(world.metrics, path).status, 404, "{path}");
    }
    assert_eq!(send(world.metrics, "POST", "/metrics", &[("Content-Length", "0")]).status, 405);
    // A scraper may come by any name.
    assert_eq!(send(world.metrics, "GET", "/metrics", &[("Host", "pod.example")]).status, 200);
}

#[test]
fn readiness_follows_the_server() {
    let world = world(HttpLimits::default());
    for (state, status, text) in [
        (None, 503, "PRE_INITIALIZING\n"),
        (Some(ServerState::Initializing), 503, "INITIALIZING\n"),
        (Some(ServerState::Live), 200, "LIVE\n"),
        (Some(ServerState::Draining), 503, "DRAINING\n"),
    ] {
        state.into_iter().for_each(|state| world.readiness.set(state));
        for answer in [get(world.metrics, "/healthz/ready"), get(world.admin, "/ready")] {
            assert_eq!((answer.status, answer.text()), (status, text));
        }
    }
}

#[test]
fn the_scraper_chooses_format_and_compression() {
    let world = world(HttpLimits::default());
    let counter = requests(&world.shard, "200");
    counter.inc();
    let scrape = |headers: &[(&str, &str)]| send(world.metrics, "GET", "/stats/prometheus?name[]=istio_build", headers);
    let open = scrape(&[("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")]);
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert_eq!(
        open.text(),
        "# HELP istio_build Component and version, always 1.\n# TYPE istio_build gauge\n\
         istio_build{component=\"proxy\",tag=\"0.1.0\"} 1\n# EOF\n"
    );
    let proto = scrape(&[(
        "Accept",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    )]);
    assert_eq!(
        proto.header("content-type"),
        Some("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited")
    );
    // One message of its length, beginning with its name.
    assert_eq!(proto.body[0] as usize, proto.body.len() - 1);
    assert_eq!(&proto.body[1..14], b"\x0a\x0bistio_build");
    let plain = scrape(&[]);
    let packed = scrape(&[("Accept-Encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(plain.header("content-encoding"), None);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
}

#[test]
fn selections_narrow_and_bad_ones_are_told() {
    let world = world(HttpLimits::default());
    let labels = [Arc::from("outbound|80||cart")];
    let used = world.shard.counter(&ENVOY_CLUSTER_UPSTREAM_RQ_TOTAL, &labels);
    used.inc();
    let unused = world.shard.counter(&ENVOY_CLUSTER_UPSTREAM_CX_TOTAL, &labels);
    let names = |query: &str| {
        let answer = get(world.admin, &format!("/stats/prometheus?{query}"));
        read(answer.text()).types.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names("filter=envoy_cluster"), ["envoy_cluster_upstream_cx_total", "envoy_cluster_upstream_rq_total"]);
    assert_eq!(names("filter=envoy_cluster&usedonly"), ["envoy_cluster_upstream_rq_total"]);
    assert_eq!(names("filter=%5Ecluster%5C.outbound%5C%7C80.*cx_total%24"), ["envoy_cluster_upstream_cx_total"]);
    assert_eq!(names("name[]=istio_build&name%5B%5D=process_threads"), ["istio_build", "process_threads"]);
    assert!(names("name[]=nothing").is_empty());
    for (query, says) in [
        ("filter=(".to_owned(), "no regular expression"),
        (format!("filter={}", "a".repeat(1025)), "at most 1024"),
        ("filter=((a{999}){999}){999}".to_owned(), "no regular expression"),
    ] {
        let answer = get(world.admin, &format!("/stats/prometheus?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(says), "{}", answer.text());
    }
    drop(unused);
}

#[test]
fn the_admin_port_answers_as_envoy() {
    let world = world(HttpLimits::default());
    world.readiness.set(ServerState::Live);
    let labels = [Arc::from("outbound|80||cart")];
    let used = world.shard.counter(&ENVOY_CLUSTER_UPSTREAM_RQ_TOTAL, &labels);
    used.add(2);
    let info = get(world.admin, "/server_info").json();
    assert_eq!((&info["state"], &info["version"]), (&json!("LIVE"), &json!("abc123/0.1.0/outrigger")));
    assert_eq!(info["node"]["id"], "sidecar~10.0.0.1~cart-0.shop~shop.svc.cluster.local");
    assert_eq!(info["command_line_options"]["concurrency"], 2);
    let text = |path| get(world.admin, path).text().to_owned();
    assert_eq!(text("/stats?filter=rq_total"), "cluster.outbound|80||cart.upstream_rq_total: 2\n");
    let stats = get(world.admin, "/stats?format=json&filter=rq_total").json();
    assert_eq!(stats, json!({"stats": [{"name": "cluster.outbound|80||cart.upstream_rq_total", "value": 2}]}));
    assert!(text("/stats?format=prometheus").contains("# TYPE envoy_cluster_upstream_rq_total counter\n"));
    assert!(text("/clusters").starts_with("outbound|80||cart::"));
    assert_eq!(get(world.admin, "/clusters?format=json").json()["cluster_statuses"][0]["name"], "outbound|80||cart");
    assert_eq!(text("/listeners"), "outbound::127.0.0.1:15001\n");
    assert_eq!(get(world.admin, "/listeners?format=json").json()["listener_statuses"][0]["name"], "outbound");
    assert_eq!(get(world.admin, "/config_dump?include_eds").json()["eds"], true);
    assert_eq!(get(world.admin, "/api/v1/status").json(), json!({"ok": true}));
    assert!(get(world.admin, "/memory").json()["allocated"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    assert!(text("/").contains("<a href='/config_dump'>") && text("/help").contains("/logging (POST)"));
    assert_eq!(text("/ui"), "a page");
    for (path, status) in [
        ("/stats?format=xml", 400),
        ("/clusters?format=yaml", 400),
        ("/config_dump?mask=a", 400),
        ("/api/v1/nothing", 404),
        ("/api/v1/missing", 404),
        ("/hystrix.stream?delay=soon", 400),
        ("/hystrix.stream?proxy=nobody", 404),
        ("/nothing", 404),
        ("//config_dump", 404),
    ] {
        assert_eq!(get(world.admin, path).status, status, "{path}");
    }
}

#[test]
fn only_a_post_changes_something() {
    let world = world(HttpLimits::default());
    let post = |path| send(world.admin, "POST", path, &[("Content-Length", "0")]);
    assert_eq!(get(world.admin, "/logging?level=debug").status, 405);
    assert_eq!(get(world.admin, "/quitquitquit").status, 405);
    assert_eq!(post("/logging?level=debug").text(), format!("all: {:?}\n", LogLevel::Debug));
    assert_eq!(post("/logging").text(), "all: Info\n");
    assert_eq!((post("/logging?level=loud").status, post("/logging?paths=x:info").status), (400, 400));
    assert_eq!(post("/quitquitquit").status, 403);
    world.quit.store(true, Relaxed);
    assert_eq!(post("/quitquitquit").status, 200);
    assert_eq!(post("/config_dump").status, 405);
    assert_eq!((get(world.admin, "/api/v1/circuits/a/release").status, post("/api/v1/status").status), (405, 405));
    let refused = post("/api/v1/circuits/cart%7C80/release");
    assert_eq!(refused.status, 403, "there is no token");
    assert!(refused.text().contains("--admin-token-file"), "{}", refused.text());
}

#[test]
fn web_pages_are_refused() {
    let world = world(HttpLimits::default());
    let port = world.admin.port();
    let with = |headers: &[(&str, &str)]| send(world.admin, "GET", "/config_dump", headers);
    assert_eq!(with(&[("Host", "evil.com")]).status, 403);
    assert_eq!(with(&[("Host", "localhost")]).status, 200);
    assert_eq!(with(&[("Origin", "http://evil.com")]).status, 403);
    assert_eq!(with(&[("Origin", "null")]).status, 403);
    assert_eq!(with(&[("Origin", &format!("http://127.0.0.1:{port}"))]).status, 200);
    assert_eq!(send(world.admin, "GET", "/nothing", &[("Host", "evil.com")]).status, 403, "before anything else");
    let absolute = format!("GET http://evil.com/ready HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(world.admin, absolute.as_bytes()).status, 403);
    assert_eq!(raw(world.admin, b"GET /ready HTTP/1.1\r\nConnection: close\r\n\r\n").status, 403, "no Host");
    let answer = with(&[]);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-cache, max-age=0"));
}

#[test]
fn a_large_head_is_refused() {
    let world = world(HttpLimits::default());
    let head = format!("GET /ready HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    let mut stream = TcpStream::connect(world.admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may close before all is written.
    let _ = stream.write_all(head.as_bytes());
    let mut answer = [0; 12];
    if stream.read_exact(&mut answer).is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    assert_eq!(get(world.admin, "/server_info").status, 200);
    wait_for_hits(&world, "admin_head_bytes", 1.0);
}

#[test]
fn silent_connections_do_not_keep_probes_out() {
    let limits = HttpLimits { connections_max: 8, ..HttpLimits::default() };
    let world = world(limits);
    world.readiness.set(ServerState::Live);
    let mut silent: Vec<TcpStream> = Vec::new();
    for at in 0..40 {
        let mut stream = TcpStream::connect(world.metrics).unwrap();
        if at % 2 == 0 {
            stream.write_all(b"GET /metrics HT").unwrap();
        }
        silent.push(stream);
    }
    let start = Instant::now();
    assert_eq!(get(world.metrics, "/healthz/ready").status, 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // The first gave way: its end is closed.
    let mut byte = [0];
    silent[0].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(matches!(silent[0].read(&mut byte), Ok(0) | Err(_)));
    wait_for_hits(&world, "admin_connections", 32.0);
}

#[test]
fn a_head_that_drips_is_given_up() {
    let limits = HttpLimits { head_timeout: Duration::from_millis(300), ..HttpLimits::default() };
    let world = world(limits);
    let mut stream = TcpStream::connect(world.admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: loc").unwrap();
    let mut rest = Vec::new();
    let start = Instant::now();
    let _ = stream.read_to_end(&mut rest);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{rest:?}");
    wait_for_hits(&world, "admin_head_timeout", 1.0);
}

#[test]
fn an_idle_connection_serves_again_and_is_closed_in_the_end() {
    let limits = HttpLimits { head_timeout: Duration::from_millis(500), ..HttpLimits::default() };
    let world = world(limits);
    let mut stream = TcpStream::connect(world.admin).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /help HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        while !rest.ends_with(b"usedonly, ?format=json|prometheus\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            rest.push(byte[0]);
        }
    }
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "closed");
    let hits = get(world.metrics, "/metrics?name[]=outrigger_limit_hits_total");
    assert!(hits.text().contains("{limit=\"admin_head_timeout\"} 0\n"), "{}", hits.text());
}

#[test]
fn slow_readers_bound_each_other_and_lose_their_turn() {
    let limits = HttpLimits { stall_max: Duration::from_secs(1), ..HttpLimits::default() };
    let world = world(limits);
    world.readiness.set(ServerState::Live);
    let request = format!("GET /api/v1/large HTTP/1.1\r\nHost: {}\r\n\r\n", world.admin);
    let slow: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(world.admin).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            // Its answer has begun, so it holds its turn.
            stream.read_exact(&mut [0; 16]).unwrap();
            stream
        })
        .collect();
    assert_eq!(get(world.metrics, "/healthz/ready").status, 200, "probes need no turn");
    // All turns are taken; ours comes when the stalled ones are given up.
    let answer = get(world.metrics, "/metrics");
    assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
    let deadline = Instant::now() + Duration::from_secs(30);
    while get(world.metrics, "/metrics").status != 200 {
        assert!(Instant::now() < deadline, "slow readers keep their turns");
    }
    wait_for_hits(&world, "admin_slow_reader", 1.0);
    drop(slow);
}

#[test]
fn many_series_are_scraped_whole() {
    let registry = Registry::new(SeriesLimits { per_family: 20_000, ..SeriesLimits::default() });
    let shard = registry.shard();
    let counters: Vec<Counter> = (0..20_000).map(|at| requests(&shard, &at.to_string())).collect();
    counters.iter().for_each(Counter::inc);
    let scraper = Scraper::new(registry);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let hits = scraper.hits();
            let routes = metrics_router(scraper, Readiness::new());
            serve_counted(listener, routes, HttpLimits::default(), hits, std::future::pending()).await;
        });
    });
    let document = read(get(told.recv().unwrap(), "/metrics").text());
    assert_eq!(document.samples.keys().filter(|(name, _)| name == "istio_requests_total").count(), 20_000);
}
