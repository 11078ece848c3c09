//! Copies of requests for mirrors: who gets them, what is in them, and that nobody waits for them.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{CLUSTER, World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, PATIENCE, Reply, eventually, free_address, response};

const MIRROR: &str = "outbound|80||mirror.default.svc.cluster.local";
const SECOND: &str = "outbound|80|v2|mirror.default.svc.cluster.local";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: shop:8080\r\n\r\n";

fn ok() -> Backend {
    Backend::start(|_| Reply::Keep(response(200, &[], b"ok")))
}

/// A proxy whose one route goes to `main` and mirrors: clusters with their endpoint and percentage.
fn proxy(settings: Settings, main: &Backend, mirrors: &[(&str, SocketAddr, f64)]) -> World {
    let mirror = |(name, _, percent): &(&str, SocketAddr, f64)| model::Mirror {
        cluster: model::ClusterName::new(name),
        share: model::Fraction::from_percent(*percent).unwrap(),
    };
    let mut snapshot = snapshot(&[main.address()], |route| route.mirrors = mirrors.iter().map(mirror).collect());
    for (name, address, _) in mirrors {
        let name = model::ClusterName::new(name);
        let mut cluster = model::Cluster::clone(snapshot.clusters.values().next().unwrap());
        cluster.name = name.clone();
        cluster.service.name = "mirror".into();
        let mut endpoint = model::Endpoint::clone(&cluster.endpoints[0]);
        endpoint.address = *address;
        cluster.endpoints = [Arc::new(endpoint)].into_iter().collect();
        snapshot.clusters.insert(name, Arc::new(cluster));
    }
    proxy_with(settings, snapshot)
}

/// Copies that came to this end.
fn copies(world: &World, result: &str) -> f64 {
    world.sum("outrigger_mirrored_requests_total", result)
}

#[track_caller]
fn await_copies(world: &World, result: &str, count: f64) {
    eventually("the copies", || (copies(world, result) >= count).then_some(()));
    assert_eq!(copies(world, result), count, "{result}");
}

#[track_caller]
fn send(world: &World, count: usize) {
    let mut client = Client::connect(world.address()).unwrap();
    client.set_patience(4 * PATIENCE);
    for _ in 0..count {
        assert_eq!(client.exchange(GET).unwrap().status, 200);
    }
}

#[test]
fn all_none_or_a_share_of_the_requests_is_mirrored() {
    for (percent, least, most) in [(0.0, 0, 0), (100.0, 400, 400), (50.0, 150, 250), (0.0001, 0, 2)] {
        let (main, mirror) = (ok(), ok());
        let world = proxy(Settings::default(), &main, &[(MIRROR, mirror.address(), percent)]);
        send(&world, 400);
        // A copy is under way before its request is answered.
        eventually("no copy is under way", || {
            (world.sum("envoy_cluster_upstream_rq_active", MIRROR) == 0.0
                && copies(&world, "answered") == mirror.seen().len() as f64)
                .then_some(())
        });
        let seen = mirror.seen().len();
        assert!((least..=most).contains(&seen), "{seen} of 400 at {percent} %");
        assert_eq!(main.seen().len(), 400);
        eventually("all are counted", || (world.sum("istio_requests_total", "") >= 400.0).then_some(()));
        assert_eq!(world.sum("istio_requests_total", ""), 400.0, "copies are no requests of clients");
        assert_eq!(world.sum("envoy_cluster_upstream_rq_completed", MIRROR), seen as f64);
        assert_eq!(world.sum("outrigger_endpoint_requests_total", MIRROR), seen as f64);
    }
}

#[test]
fn every_mirror_gets_its_copy() {
    let (main, one, two) = (ok(), ok(), ok());
    let mirrors = [(MIRROR, one.address(), 100.0), (SECOND, two.address(), 100.0)];
    let world = proxy(Settings::default(), &main, &mirrors);
    for count in 1..=10 {
        send(&world, 1);
        await_copies(&world, "answered", 2.0 * f64::from(count));
    }
    assert_eq!((main.seen().len(), one.seen().len(), two.seen().len()), (10, 10, 10));
    assert!(one.connections() <= 2, "each worker keeps its connection");
}

#[test]
fn a_copy_is_the_request_as_the_upstream_gets_it() {
    let (main, mirror) = (ok(), ok());
    let set = |name, value| (model::HeaderName::parse(name).unwrap(), model::HeaderValue::parse(value).unwrap());
    let mirrors = vec![model::Mirror { cluster: model::ClusterName::new(CLUSTER), share: model::Fraction::ALL }];
    // The mirror is the cluster itself, whose balancer takes turns: one endpoint gets the request, the other the copy.
    let world = proxy_with(
        Settings::default(),
        snapshot(&[main.address(), mirror.address()], |route| {
            route.mirrors = mirrors;
            route.request_headers.set.push(set("x-set", "1"));
            route.request_headers.remove.push(model::HeaderName::parse("x-gone").unwrap());
            let model::Action::Forward(forward) = &mut route.action else { unreachable!() };
            forward.rewrite.path = model::PathRewrite::Prefix("/new".into());
        }),
    );
    let mut client = Client::connect(world.address()).unwrap();
    client.exchange(b"GET /old?q=1 HTTP/1.1\r\nHost: shop:8080\r\nX-Gone: 1\r\nX-Kept: 2\r\n\r\n").unwrap();
    await_copies(&world, "answered", 1.0);
    let both = eventually("both", || Some([main.seen().pop()?, mirror.seen().pop()?]));
    let [request, copy] = both;
    assert_eq!(copy.fields.get("host"), Some("shop:8080"), "no suffix, like Istio since 1.28");
    assert_eq!((&copy.method, &copy.target, &copy.fields.0), (&request.method, &request.target, &request.fields.0));
    assert_eq!(copy.target, "/newold?q=1");
    assert_eq!((copy.fields.get("x-set"), copy.fields.get("x-kept")), (Some("1"), Some("2")));
    assert!(copy.fields.get("x-gone").is_none());
}

#[test]
fn bodies_arrive_whole_on_both_sides() {
    let (main, mirror) = (ok(), ok());
    let world = proxy(Settings::default(), &main, &[(MIRROR, mirror.address(), 100.0)]);
    let mut client = Client::connect(world.address()).unwrap();
    let long: String = (0..100_000).map(|n| format!("{n:08}")).collect();
    let chunked = |body: &str| {
        let pieces: String = body
            .as_bytes()
            .chunks(5000)
            .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), std::str::from_utf8(piece).unwrap()))
            .collect();
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{pieces}0\r\nX-Sum: 7\r\n\r\n")
    };
    let sized = |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (at, body) in ["", "short", &long].into_iter().enumerate() {
        for (form, request) in [sized(body), chunked(body)].into_iter().enumerate() {
            assert_eq!(client.exchange(request.as_bytes()).unwrap().status, 200);
            let count = 2 * at + form + 1;
            await_copies(&world, "answered", count as f64);
            for seen in [&main.seen()[count - 1], &mirror.seen()[count - 1]] {
                assert!(seen.is_complete && seen.body == body.as_bytes(), "{} of {}", seen.body.len(), body.len());
                assert_eq!(seen.trailers.get("x-sum"), (form == 1).then_some("7"));
            }
        }
    }
    assert_eq!(mirror.garbage(), Vec::<String>::new());
}

#[test]
fn a_mirror_that_is_not_there_matters_to_nobody() {
    let main = ok();
    let world = proxy(Settings::default(), &main, &[(MIRROR, free_address(), 100.0)]);
    send(&world, 20);
    await_copies(&world, "connect", 20.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_xx", MIRROR), 20.0, "its cluster counts them as 503");

    let mirrors = |route: &mut model::Route| {
        route.mirrors = vec![model::Mirror { cluster: model::ClusterName::new(MIRROR), share: model::Fraction::ALL }];
    };
    let world = proxy_with(Settings::default(), snapshot(&[main.address()], mirrors));
    send(&world, 20);
    await_copies(&world, "no_cluster", 20.0);
    let mut without = snapshot(&[main.address()], mirrors);
    let mut cluster = model::Cluster::clone(without.clusters.values().next().unwrap());
    (cluster.name, cluster.endpoints) = (model::ClusterName::new(MIRROR), Default::default());
    without.clusters.insert(cluster.name.clone(), Arc::new(cluster));
    let world = proxy_with(Settings::default(), without);
    send(&world, 20);
    await_copies(&world, "no_endpoint", 20.0);
}

#[test]
fn a_mirror_that_fails_matters_to_nobody() {
    let main = ok();
    for (script, result) in [
        (Reply::Keep(response(500, &[], b"no")), "answered"),
        (Reply::Close(Vec::new()), "broken"),
        (Reply::Reset(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()), "broken"),
        (Reply::Close(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()), "broken"),
        (Reply::Close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()), "answered"),
        (
            Reply::Keep(
                b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
                    .to_vec(),
            ),
            "answered",
        ),
    ] {
        let mirror = Backend::start(move |_| script.clone());
        let world = proxy(Settings::default(), &main, &[(MIRROR, mirror.address(), 100.0)]);
        send(&world, 5);
        await_copies(&world, result, 5.0);
    }
}

#[test]
fn nobody_waits_for_a_slow_mirror_and_few_copies_wait_at_once() {
    let (main, mirror) = (ok(), Backend::start(|_| Reply::Hold(Vec::new())));
    let settings = Settings { mirrors_max: 2, mirror_timeout: 3 * PATIENCE, ..Settings::default() };
    let world = proxy(settings, &main, &[(MIRROR, mirror.address(), 100.0)]);
    // One connection, so one worker, whose copies these are.
    send(&world, 10);
    await_copies(&world, "limit", 8.0);
    assert_eq!(world.sum("outrigger_limit_hits_total", "mirrors"), 8.0);
    eventually("the others arrive", || (mirror.seen().len() == 2).then_some(()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    runtime.block_on(world.proxy.drain());
    assert!(began.elapsed() < PATIENCE, "a drain does not wait for them");
    await_copies(&world, "stopped", 2.0);
}

#[test]
fn a_copy_has_a_time_limit_of_its_own_or_the_routes() {
    let (main, mirror) =
        (ok(), Backend::start(|_| Reply::Hold(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".to_vec())));
    let settings = Settings { mirror_timeout: Duration::from_millis(100), ..Settings::default() };
    let world = proxy(settings, &main, &[(MIRROR, mirror.address(), 100.0)]);
    send(&world, 3);
    await_copies(&world, "timeout", 3.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_timeout", MIRROR), 3.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_timeout", CLUSTER), 0.0);
}

#[test]
fn a_mirror_that_reads_too_slowly_is_given_up() {
    let main = ok();
    // Connections wait in its backlog, and nobody reads from them.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings =
        Settings { mirror_bytes_max: 256 * 1024, write_stall_timeout: Duration::from_secs(1), ..Settings::default() };
    let world = proxy(settings, &main, &[(MIRROR, deaf.local_addr().unwrap(), 100.0)]);
    let mut client = Client::connect(world.address()).unwrap();
    client.set_patience(4 * PATIENCE);
    let body = "0123456789abcdef".repeat(2 << 20);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
    assert_eq!(client.exchange(body.as_bytes()).unwrap().status, 200);
    assert!(main.seen()[0].body == body.as_bytes(), "the request itself is whole");
    eventually("it is given up", || (copies(&world, "slow") + copies(&world, "timeout") == 1.0).then_some(()));
}

#[test]
fn what_copies_hold_together_is_bounded() {
    let (main, mirror) = (ok(), ok());
    let settings = Settings { mirror_bytes_total_max: 1000, ..Settings::default() };
    let world = proxy(settings, &main, &[(MIRROR, mirror.address(), 100.0)]);
    let mut client = Client::connect(world.address()).unwrap();
    let post =
        |bytes: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
    for (bytes, result) in [(1000, "answered"), (1001, "limit"), (200_000, "limit")] {
        let before = copies(&world, result);
        assert_eq!(client.exchange(post(bytes).as_bytes()).unwrap().status, 200);
        await_copies(&world, result, before + 1.0);
    }
    assert_eq!(world.sum("outrigger_limit_hits_total", "mirror_bytes"), 2.0);
    assert!(main.seen().iter().all(|seen| seen.is_complete));
}

#[test]
fn a_request_that_ends_in_the_middle_takes_its_copy_along() {
    let (main, mirror) = (ok(), ok());
    let world = proxy(Settings::default(), &main, &[(MIRROR, mirror.address(), 100.0)]);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    eventually("both have begun", || (main.connections() == 1 && mirror.connections() == 1).then_some(()));
    client.reset();
    await_copies(&world, "cut", 1.0);
    let seen = eventually("the mirror sees the end", || mirror.seen().first().cloned());
    assert!(!seen.is_complete);
}

#[test]
fn a_request_that_goes_nowhere_is_not_mirrored() {
    let (main, mirror) = (ok(), ok());
    let world = proxy(Settings::default(), &main, &[(MIRROR, mirror.address(), 100.0)]);
    let mut nowhere = model::Snapshot::clone(&world.proxy.snapshot());
    let name = model::ClusterName::new(CLUSTER);
    let mut cluster = model::Cluster::clone(&nowhere.clusters[&name]);
    cluster.endpoints = Default::default();
    nowhere.clusters.insert(name, Arc::new(cluster));
    world.proxy.apply(Arc::new(nowhere));
    let mut client = Client::connect(world.address()).unwrap();
    eventually("the endpoints are gone", || (client.exchange(GET).unwrap().status == 503).then_some(()));
    let before = mirror.connections();
    assert_eq!(client.exchange(GET).unwrap().status, 503);
    assert_eq!(mirror.connections(), before);
    assert_eq!(
        world.sum("envoy_cluster_upstream_rq_total", MIRROR),
        world.sum("envoy_cluster_upstream_rq_total", CLUSTER)
    );
}
