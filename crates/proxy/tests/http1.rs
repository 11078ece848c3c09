//! HTTP/1 through the data plane: framing, connections, failures, counts. Malformed input has a suite of its own at the
//! command line; here the input is good and the behaviour is what HTTP asks for.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{CLUSTER, proxy_to, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, How, Reply, response};
use outrigger_testkit::{eventually, free_address};

fn ok(body: &str) -> Reply {
    Reply::Keep(response(200, &[], body.as_bytes()))
}

#[test]
fn a_request_and_its_answer_pass_with_the_fields_a_proxy_adds() {
    let backend = Backend::start(|_| {
        Reply::Keep(response(200, &[("x-app", "1"), ("connection", "x-hop"), ("x-hop", "1")], b"hello"))
    });
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    let answer = client
        .exchange(b"GET /a/../b?q=1 HTTP/1.1\r\nHost: Web\r\nX-Envoy-Retry-On: 5xx\r\nX-Forwarded-For: 9.9.9.9\r\nConnection: x-mine\r\nX-Mine: 1\r\nUpgrade: h2c\r\nKeep: me\r\n\r\n")
        .unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.fields.get("x-app"), Some("1"));
    assert!(answer.fields.get("x-hop").is_none() && answer.fields.get("date").is_some());
    assert!(answer.fields.get("x-envoy-upstream-service-time").is_some());
    let seen = &backend.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.version.as_str()), ("GET", "/b?q=1", "HTTP/1.1"));
    assert_eq!(seen.fields.get("host"), Some("Web"));
    assert_eq!(seen.fields.get("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(seen.fields.get("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.fields.get("x-request-id").map(str::len), Some(36));
    assert_eq!(seen.fields.get("keep"), Some("me"));
    for gone in ["x-envoy-retry-on", "x-mine", "upgrade", "connection"] {
        assert!(seen.fields.get(gone).is_none(), "{gone}");
    }
}

#[test]
fn bodies_pass_both_ways_however_they_are_framed() {
    let backend = Backend::start(|request| {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n".to_vec();
        for (n, piece) in request.body.chunks(7).enumerate() {
            // Few extensions: a body may carry 16 KiB of them.
            let extension = if n < 100 { ";ext=1" } else { "" };
            answer.extend_from_slice(format!("{:x}{extension}\r\n", piece.len()).as_bytes());
            answer.extend_from_slice(piece);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\nx-sum: 42\r\n\r\n");
        Reply::Keep(answer)
    });
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    let body = "0123456789".repeat(30_000);
    let sized = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = client.exchange(sized.as_bytes()).unwrap();
    assert_eq!((answer.text().len(), answer.trailers.get("x-sum")), (body.len(), Some("42")));
    assert_eq!(answer.text(), body);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x\r\n world\r\n0\r\nX-T: 1\r\n\r\n";
    assert_eq!(client.exchange(chunked.as_bytes()).unwrap().text(), "hello world");
    let seen = backend.seen();
    assert_eq!(seen[1].body, b"hello world");
    assert_eq!(seen[1].trailers.get("x-t"), Some("1"));
    assert_eq!(seen[0].fields.get("content-length"), Some("300000"));
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let backend = Backend::start(|request| ok(&request.target));
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    let all: String = (0..200).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(all.as_bytes()).unwrap();
    for n in 0..200 {
        assert_eq!(client.read_response("GET").unwrap().text(), format!("/{n}"));
    }
    assert_eq!(backend.connections(), 1, "one upstream connection serves them all");
}

#[test]
fn answers_without_body_leave_the_connection_in_step() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/head" => Reply::Keep(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec()),
        "/204" => Reply::Keep(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "/304" => Reply::Keep(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n".to_vec()),
        _ => ok("x"),
    });
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    let head = client.exchange(b"HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(head.fields.get("content-length"), Some("5"));
    assert_eq!(client.exchange(b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status, 204);
    assert_eq!(
        client.exchange(b"GET /304 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().fields.get("content-length"),
        Some("9")
    );
    assert_eq!(client.exchange(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().text(), "x");
}

#[test]
fn an_old_client_gets_no_chunks_and_a_close_unless_it_asks() {
    let backend = Backend::start(|_| {
        Reply::Keep(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec())
    });
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    let answer = client.exchange(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
    assert!(answer.fields.get("transfer-encoding").is_none());
    assert_eq!(answer.text(), "abc");
    assert_eq!(client.read_ending().how, How::Closed);

    let sized = Backend::start(|_| ok("abc"));
    let world = proxy_to(&[sized.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    for _ in 0..2 {
        let answer = client.exchange(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
        assert_eq!((answer.text().as_str(), answer.fields.get("connection")), ("abc", Some("keep-alive")));
    }
}

#[test]
fn an_answer_that_ends_by_closing_becomes_chunks() {
    let backend = Backend::start(|_| Reply::Close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()));
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    for _ in 0..2 {
        let answer = client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(
            (answer.text().as_str(), answer.fields.get("transfer-encoding")),
            ("until the end", Some("chunked"))
        );
    }
}

#[test]
fn an_answer_that_breaks_off_never_looks_complete() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/length" => Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
        "/chunks" => Reply::Reset(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec()),
        _ => Reply::Reset(b"HTTP/1.1 200 OK\r\n\r\nhalf".to_vec()),
    });
    let world = proxy_to(&[backend.address()]);
    for (target, version) in [("/length", "1.1"), ("/chunks", "1.1"), ("/chunks", "1.0"), ("/close", "1.0")] {
        let mut client = Client::connect(world.address()).unwrap();
        let result = client.exchange(format!("GET {target} HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
        assert!(result.is_err(), "{target} over HTTP/{version}: {result:?}");
    }
    eventually("four broken answers counted", || (world.sum("istio_requests_total", "UC") == 4.0).then_some(()));
}

#[test]
fn expect_continue_travels_end_to_end() {
    let backend = Backend::start_early(|request| match request.target.as_str() {
        "/refuse" => Reply::Close(response(417, &[("connection", "close")], b"no")),
        _ => ok("early"),
    });
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").unwrap();
    let answer = client.read_response("PUT").unwrap();
    assert_eq!((answer.status, answer.closes()), (417, true));
    assert_eq!(client.read_ending().how, How::Closed);
    let seen = eventually("the backend has recorded it", || backend.seen().into_iter().next());
    assert_eq!(seen.fields.get("expect"), Some("100-continue"));
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let backend = Backend::start_early(|_| Reply::Close(response(413, &[], b"too much")));
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nsome").unwrap();
    let answer = client.read_response("POST").unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.closes()), (413, "too much", true));
}

#[test]
fn a_client_that_finished_sending_still_gets_its_answer() {
    let backend = Backend::start(|_| ok("still here"));
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.finish().unwrap();
    assert_eq!(client.read_response("GET").unwrap().text(), "still here");
    assert_eq!(client.read_ending().how, How::Closed);
}

#[test]
fn a_kept_connection_that_dies_costs_no_idempotent_request() {
    for close in [Reply::Close as fn(Vec<u8>) -> Reply, Reply::Reset] {
        let backend =
            Backend::start(move |request| if request.sequence == 0 { ok("fresh") } else { close(Vec::new()) });
        let world = proxy_to(&[backend.address()]);
        let mut client = Client::connect(world.address()).unwrap();
        for _ in 0..20 {
            let answer = client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "fresh"));
        }
        for _ in 0..5 {
            let put = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole";
            assert_eq!(client.exchange(put).map(|a| a.status), Ok(200), "its body is sent again too");
        }
        assert!(backend.seen().iter().filter(|r| r.method == "PUT").all(|r| r.body == b"whole"));
        assert_eq!(
            client.exchange(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").map(|a| a.status),
            Ok(503),
            "sent once, never twice"
        );
        let posts = backend.seen().iter().filter(|r| r.method == "POST").count();
        assert_eq!(posts, 1, "a request that may have been acted upon is not repeated");
        assert_eq!(world.sum("envoy_cluster_upstream_rq_retry", CLUSTER), 24.0);
        let sent = world.sum("outrigger_endpoint_requests_total", CLUSTER);
        assert_eq!(sent, backend.seen().len() as f64, "every attempt is counted where it went");
    }
}

#[test]
fn failures_say_who_and_why() {
    let refused = free_address();
    let silent = Backend::start(|_| Reply::Close(Vec::new()));
    let babble = Backend::start(|_| Reply::Close(b"SSH-2.0-x\r\n".to_vec()));
    for (endpoints, status, flag, text) in [
        (vec![], 503, "UH", "no healthy upstream"),
        (vec![refused], 503, "UF", "connection failure"),
        (vec![silent.address()], 503, "UC", "connection termination"),
        (vec![babble.address()], 502, "UPE", "protocol error"),
    ] {
        let world = proxy_to(&endpoints);
        let mut client = Client::connect(world.address()).unwrap();
        let answer = client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(answer.status, status, "{flag}");
        let proxy_status = answer.fields.get("proxy-status").unwrap();
        assert!(
            proxy_status.starts_with("outrigger; error=") && proxy_status.ends_with(&format!("flag={flag}")),
            "{proxy_status}"
        );
        assert!(answer.text().lines().next().unwrap().contains(text), "{}", answer.text());
        assert!(answer.text().contains(CLUSTER), "the cluster is named: {}", answer.text());
        assert!(!answer.closes(), "the client's connection is fine");
        eventually("the failure is counted", || (world.sum("istio_requests_total", flag) == 1.0).then_some(()));
    }
}

#[test]
fn routes_answer_redirect_and_edit() {
    let backend = Backend::start(|_| Reply::Keep(response(200, &[("x-app", "1"), ("x-secret", "1")], b"ok")));
    let header = |n: &str, v: &str| (model::HeaderName::parse(n).unwrap(), model::HeaderValue::parse(v).unwrap());
    let edited = snapshot(&[backend.address()], |route| {
        route.request_headers.set.push(header("x-role", "canary"));
        route.response_headers.remove.push(model::HeaderName::parse("x-secret").unwrap());
        route.response_headers.add.push(header("x-by", "mesh"));
        let model::Action::Forward(forward) = &mut route.action else { unreachable!("the route forwards") };
        forward.rewrite.authority = Some(model::HeaderValue::parse("other.example").unwrap());
        forward.rewrite.path = model::PathRewrite::Full("/new".into());
    });
    let world = proxy_with(Settings::default(), edited);
    let mut client = Client::connect(world.address()).unwrap();
    let answer = client.exchange(b"GET /old?q HTTP/1.1\r\nHost: a\r\nX-Role: user\r\n\r\n").unwrap();
    assert_eq!((answer.fields.get("x-by"), answer.fields.get("x-secret")), (Some("mesh"), None));
    let seen = &backend.seen()[0];
    assert_eq!((seen.target.as_str(), seen.fields.get("host")), ("/new?q", Some("other.example")));
    assert_eq!(seen.fields.all("x-role").collect::<Vec<_>>(), ["canary"]);
    assert_eq!(seen.fields.get("x-envoy-original-path"), Some("/old?q"));

    let redirecting = snapshot(&[], |route| {
        route.action = model::Action::Redirect(model::Redirect {
            status: 302,
            scheme: Some("https".into()),
            authority: None,
            port: model::RedirectPort::Keep,
            path: model::RedirectPath::Full("/login".into()),
        });
    });
    world.proxy.apply(Arc::new(redirecting));
    let answer = eventually("the new snapshot is in force", || {
        let answer = client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        (answer.status == 302).then_some(answer)
    });
    assert_eq!(answer.fields.get("location"), Some("https://a/login"));
}

#[test]
fn a_new_snapshot_moves_traffic_and_cuts_nothing() {
    let (old, new) = (Backend::start(|_| ok("old")), Backend::start(|_| ok("new")));
    let world = proxy_to(&[old.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    assert_eq!(client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().text(), "old");
    world.proxy.apply(Arc::new(snapshot(&[new.address()], |_| {})));
    eventually("traffic moves", || {
        let answer = client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        (answer.text() == "new").then_some(())
    });
    let old_requests = old.seen().len();
    for _ in 0..50 {
        assert_eq!(client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().text(), "new");
    }
    assert_eq!(old.seen().len(), old_requests, "no request to an endpoint that left");
}

#[test]
fn counts_add_up() {
    let count = Arc::new(AtomicU32::new(0));
    let backends: Vec<Backend> = (0..3)
        .map(|_| {
            let count = count.clone();
            Backend::start(move |_| {
                let status = if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(10) { 500 } else { 200 };
                Reply::Keep(response(status, &[], b"x"))
            })
        })
        .collect();
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    let world = proxy_to(&addresses);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let address = world.address();
            std::thread::spawn(move || {
                let mut client = Client::connect(address).unwrap();
                for _ in 0..75 {
                    client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|c| c.join().unwrap());
    for (label, value) in [
        ("destination_workload", "web"),
        ("destination_workload_namespace", "default"),
        ("destination_canonical_revision", "latest"),
        ("destination_service", "web.default.svc.cluster.local"),
        ("source_cluster", "unknown"),
        ("source_canonical_revision", "latest"),
        ("reporter", "source"),
        ("request_protocol", "http"),
        ("response_flags", "-"),
        ("connection_security_policy", "none"),
    ] {
        assert!(world.has_only("istio_requests_total", label, value), "{label} is {value}");
    }
    eventually("300 requests counted", || (world.sum("istio_requests_total", "source") == 300.0).then_some(()));
    assert_eq!(world.sum("istio_requests_total", "500"), 30.0);
    assert_eq!(world.sum("envoy_cluster_upstream_rq_xx", "5"), 30.0);
    assert_eq!(world.sum("outrigger_endpoint_requests_total", ""), 300.0);
    for backend in &backends {
        let seen = backend.seen().len() as f64;
        assert_eq!(world.sum("outrigger_endpoint_requests_total", &backend.address().to_string()), seen);
        assert!((98.0..=102.0).contains(&seen), "round robin on two workers is even: {seen}");
    }
}

#[test]
fn a_drain_lets_requests_finish_and_closes_the_idle() {
    let backend = Backend::start(|request| {
        if request.target == "/slow" {
            std::thread::park_timeout(Duration::from_millis(300));
        }
        ok("done")
    });
    let world = proxy_to(&[backend.address()]);
    let mut idle = Client::connect(world.address()).unwrap();
    idle.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut busy = Client::connect(world.address()).unwrap();
    busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the slow request is on its way", || (backend.connections() == 2).then_some(()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cut = runtime.block_on(world.proxy.drain());
    assert_eq!(cut, 0);
    assert_eq!(idle.read_ending().how, How::Closed);
    let answer = busy.read_response("GET").unwrap();
    assert_eq!((answer.text().as_str(), answer.closes()), ("done", true));
}

#[test]
fn slow_heads_and_silent_bodies_run_out_of_time() {
    let backend = Backend::start(|_| ok("never"));
    let settings = Settings {
        head_timeout: Duration::from_millis(300),
        body_idle_timeout: Duration::from_millis(300),
        first_byte_timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let world = proxy_with(settings, snapshot(&[backend.address()], |_| {}));
    for (sent, method) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n", "GET"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", "POST"),
    ] {
        let mut client = Client::connect(world.address()).unwrap();
        client.send(sent.as_bytes()).unwrap();
        let answer = client.read_response(method).unwrap();
        assert_eq!((answer.status, answer.closes()), (408, true));
    }
    let mut mute = Client::connect(world.address()).unwrap();
    assert_eq!(mute.read_ending().how, How::Closed);
}

#[test]
fn the_proxy_is_no_destination_of_its_own() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    let registry = outrigger_telemetry::Registry::new(Default::default());
    let threads = outrigger_proxy::Threads::start(1).unwrap();
    let snapshot = Arc::new(snapshot(&[own], |_| {}));
    let proxy = outrigger_proxy::Proxy::start(&threads, Default::default(), &registry, snapshot).unwrap();
    proxy.listen(model::Listener::OUTBOUND, &listener).unwrap();
    let answer = Client::connect(own).unwrap().exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.status, 508);
}

#[test]
fn requests_that_reach_no_cluster_are_counted_under_what_they_wanted() {
    let missing = snapshot(&[], |route| {
        let model::Action::Forward(forward) = &mut route.action else { unreachable!("the route forwards") };
        forward.destinations[0].cluster = model::ClusterName::outbound(80, "v9", "cart.shop.svc.cluster.local");
        forward.destinations[0].missing =
            Some(model::Missing { status: 503, reason: "subset v9 is not defined".into() });
    });
    let world = proxy_with(Settings::default(), missing);
    let mut client = Client::connect(world.address()).unwrap();
    let answer = client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("subset v9 is not defined"), "{}", answer.text());
    eventually("it is counted", || (world.sum("istio_requests_total", "NC") == 1.0).then_some(()));
    assert!(world.has_only("istio_requests_total", "destination_service", "cart.shop.svc.cluster.local"));

    let mut nothing = snapshot(&[], |_| {});
    let routes = model::RouteTable { virtual_hosts: Vec::new(), unmatched: model::Unmatched::BlackHole };
    nothing.listeners = vec![Arc::new(model::Listener::outbound(Arc::new(routes)))];
    let world = proxy_with(Settings::default(), nothing);
    let answer = Client::connect(world.address()).unwrap().exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.status, 502);
    eventually("it is counted", || (world.sum("istio_requests_total", "BlackHoleCluster") == 1.0).then_some(()));
}

#[test]
fn a_client_that_reads_a_byte_at_a_time_is_cut() {
    let backend = Backend::start(|_| Reply::Keep(response(200, &[], &vec![b'x'; 32 << 20])));
    let settings = Settings { write_stall_timeout: Duration::from_millis(500), ..Settings::default() };
    let world = proxy_with(settings, snapshot(&[backend.address()], |_| {}));
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // Nothing is read here: the sockets fill up, and the proxy gives up on us.
    eventually("the slow reader is cut", || (world.sum("istio_requests_total", "DC") == 1.0).then_some(()));
    eventually("its connection is gone", || (world.proxy.connections() == 0).then_some(()));
}

#[test]
fn a_flood_of_connections_stops_at_its_bound() {
    let backend = Backend::start(|_| ok("served"));
    let settings = Settings { connections_max: 4, ..Settings::default() };
    let world = proxy_with(settings, snapshot(&[backend.address()], |_| {}));
    let mut first = Client::connect(world.address()).unwrap();
    assert_eq!(first.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status, 200);
    let flood: Vec<_> = (0..64).map(|_| Client::connect(world.address()).unwrap()).collect();
    eventually("the rest is turned away", || {
        (world.sum("outrigger_limit_hits_total", "connections") == 57.0).then_some(())
    });
    assert_eq!(world.proxy.connections(), 8, "four for each of two workers");
    assert_eq!(first.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status, 200);
    drop(flood);
    eventually("there is room again", || (world.proxy.connections() == 1).then_some(()));
    let mut late = Client::connect(world.address()).unwrap();
    assert_eq!(late.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().text(), "served");
}

#[test]
fn a_client_that_resets_while_it_waits_frees_its_endpoint() {
    let backend = Backend::start(|_| Reply::Hold(Vec::new()));
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the request is at the backend", || (backend.seen().len() == 1).then_some(()));
    assert_eq!(world.proxy.clusters()[0].endpoints[0].active_requests, 1);
    client.reset();
    eventually("the endpoint is free", || (world.proxy.clusters()[0].endpoints[0].active_requests == 0).then_some(()));
    eventually("it is counted", || (world.sum("istio_requests_total", "DC") == 1.0).then_some(()));
    assert!(world.has_only("istio_requests_total", "response_code", "0"));
}
