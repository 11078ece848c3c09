//! WebSocket over HTTP/1.1: who gets it, what passes, how it ends, and what is counted. The payload is bytes: a proxy does
//! not look into frames.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use common::gateway::{Clients, chain, gateway, start, tls, to_http};
use common::sockets::{bytes, connect, counted, handing, head, read_some};
use common::{World, proxy_to, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::certificates::Authority;
use outrigger_testkit::{Backend, Client, How, PATIENCE, Reply, Request, eventually, pass_time, response};

/// What RFC 6455 §4.1 demands of a request, but for the request line.
const ASKS: &str = "Host: web\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://web\r\n";
const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn request() -> String {
    format!("GET /chat HTTP/1.1\r\n{ASKS}\r\n")
}

/// Both ends of a WebSocket through the proxy.
fn open(world: &World, handed: &Receiver<TcpStream>) -> (TcpStream, TcpStream) {
    let mut client = connect(world.address());
    client.write_all(request().as_bytes()).unwrap();
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    head(&mut upstream);
    upstream.write_all(GRANTED.as_bytes()).unwrap();
    let answer = head(&mut client);
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    (client, upstream)
}

fn active(world: &World) -> u32 {
    world.proxy.clusters().iter().flat_map(|cluster| &cluster.endpoints).map(|e| e.active_requests).sum()
}

#[track_caller]
fn freed(world: &World) {
    eventually("a free endpoint", || (active(world) == 0).then_some(()));
}

#[track_caller]
fn assert_reset(socket: &mut TcpStream) {
    assert_eq!(socket.read(&mut [0]).expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn heads_pass_and_so_do_the_bytes_right_behind_them() {
    let (server, handed) = handing();
    let world = proxy_to(&[server]);
    let mut client = connect(world.address());
    // A hopeful client does not wait for the answer.
    client.write_all(format!("{}early", request()).as_bytes()).unwrap();
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    let asked = head(&mut upstream);
    for line in ["get /chat http/1.1", "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"] {
        assert_eq!(asked.lines().filter(|l| *l == line).count(), 1, "{line} in {asked}");
    }
    assert!(asked.contains("sec-websocket-key: dghlihnhbxbszsbub25jzq=="), "{asked}");
    upstream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let waiting = upstream.read(&mut [0]).expect_err("nothing goes on before the answer").kind();
    assert!(matches!(waiting, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{waiting}");
    upstream.set_read_timeout(Some(PATIENCE)).unwrap();

    upstream.write_all(format!("{GRANTED}first").as_bytes()).unwrap();
    let answer = head(&mut client);
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="] {
        assert_eq!(answer.lines().filter(|l| *l == line).count(), 1, "{line} in {answer}");
    }
    assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
    assert_eq!((read_some(&mut client), read_some(&mut upstream)), (b"first".to_vec(), b"early".to_vec()));
    assert_eq!((active(&world), world.sum("envoy_cluster_upstream_rq_active", "")), (1, 1.0));
    assert_eq!(world.sum("istio_requests_total", ""), 0.0, "it is counted at its end");

    drop(client);
    assert_eq!(upstream.read(&mut [0]).unwrap(), 0);
    drop(upstream);
    counted(&world, "istio_requests_total", "101", 1.0);
    assert_eq!(world.sum("istio_requests_total", ""), 1.0);
    assert!(world.has_only("istio_requests_total", "response_flags", "-"));
    counted(&world, "istio_tcp_connections_closed_total", "-", 1.0);
    let sum = |metric| world.sum(metric, "");
    assert_eq!((sum("istio_tcp_received_bytes_total"), sum("istio_tcp_sent_bytes_total")), (5.0, 5.0));
    assert_eq!((sum("istio_tcp_connections_opened_total"), sum("envoy_cluster_upstream_rq_total")), (1.0, 1.0));
    freed(&world);
    counted(&world, "envoy_cluster_upstream_rq_active", "", 0.0);
    counted(&world, "envoy_http_downstream_rq_active", "", 0.0);
}

#[test]
fn much_passes_both_ways_and_each_side_finishes_by_itself() {
    let (server, handed) = handing();
    let world = proxy_to(&[server]);
    let (mut client, mut upstream) = open(&world, &handed);
    let (up, down) = (bytes(10 * 1024 * 1024), bytes(9 * 1024 * 1024 + 1));
    let send = |socket: &TcpStream, data: &[u8]| {
        let (mut socket, data) = (socket.try_clone().unwrap(), data.to_vec());
        thread::spawn(move || socket.write_all(&data).unwrap())
    };
    let (sending, answering) = (send(&client, &up), send(&upstream, &down));
    let reading = thread::spawn(move || {
        let mut received = Vec::new();
        upstream.read_to_end(&mut received).unwrap();
        // The client has finished; this side has not.
        upstream.write_all(b"bye").unwrap();
        received
    });
    let mut received = vec![0; down.len()];
    client.read_exact(&mut received).unwrap();
    assert!(received == down);
    sending.join().unwrap();
    answering.join().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(reading.join().unwrap() == up);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    counted(&world, "istio_requests_total", "101", 1.0);
    assert_eq!(world.sum("istio_tcp_received_bytes_total", ""), up.len() as f64);
    assert_eq!(world.sum("istio_tcp_sent_bytes_total", ""), (down.len() + 3) as f64);
}

#[test]
fn any_other_answer_is_one_and_the_connection_stays_http() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/chat" => Reply::Keep(response(403, &[], b"no")),
        other => Reply::Keep(response(200, &[], other.as_bytes())),
    });
    let world = proxy_to(&[backend.address()]);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(format!("{}GET /next HTTP/1.1\r\nHost: web\r\n\r\n", request()).as_bytes()).unwrap();
    let answer = client.read_response("GET").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    assert_eq!(client.read_response("GET").unwrap().text(), "/next", "what followed is a request");
    assert!(backend.seen()[0].fields.has_token("upgrade", "websocket"));
    assert!(backend.seen()[1].fields.get("upgrade").is_none());
    counted(&world, "istio_requests_total", "403", 1.0);
    assert_eq!(world.sum("istio_tcp_connections_opened_total", ""), 0.0);
    freed(&world);
}

#[test]
fn what_two_could_read_differently_goes_on_as_plain_http() {
    let seen = |request: &Request| {
        let upgrade = ["upgrade", "connection", "http2-settings"].iter().any(|name| request.fields.get(name).is_some());
        Reply::Keep(response(200, &[], format!("{upgrade} {}", request.body.len()).as_bytes()))
    };
    let backend = Backend::start(seen);
    let world = proxy_to(&[backend.address()]);
    let without = |line: &str| format!("GET / HTTP/1.1\r\n{}\r\n", ASKS.replace(line, ""));
    let instead = |line: &str, by: &str| format!("GET / HTTP/1.1\r\n{}\r\n", ASKS.replace(line, by));
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (what, asks, body) in [
        ("method", format!("POST / HTTP/1.1\r\n{ASKS}\r\n"), 0),
        ("length", format!("GET / HTTP/1.1\r\n{ASKS}Content-Length: 3\r\n\r\nabc"), 3),
        ("chunks", format!("GET / HTTP/1.1\r\n{ASKS}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), 3),
        ("old", format!("GET / HTTP/1.0\r\n{ASKS}\r\n"), 0),
        ("connection", instead("keep-alive, Upgrade", "keep-alive"), 0),
        ("key", without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), 0),
        ("version", without(version), 0),
        ("version 12", instead(version, "Sec-WebSocket-Version: 12\r\n"), 0),
        ("two versions", instead(version, &version.repeat(2)), 0),
        ("h2c", instead("WebSocket\r\n", "h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: HTTP2-Settings\r\n"), 0),
        ("list", instead("WebSocket\r\n", "websocket, h2c\r\n"), 0),
        ("two", instead("Upgrade: WebSocket\r\n", "Upgrade: websocket\r\nUpgrade: websocket\r\n"), 0),
    ] {
        let mut client = Client::connect(world.address()).unwrap();
        client.send(asks.as_bytes()).unwrap();
        let answer = client.read_response("GET").unwrap();
        assert_eq!((answer.status, answer.text()), (200, format!("false {body}")), "{what}");
    }
    counted(&world, "istio_requests_total", "200", 12.0);
}

#[test]
fn a_change_of_protocol_that_was_not_asked_for_is_an_error() {
    let other = GRANTED.replace("websocket", "h2c");
    let silent = GRANTED.replace("Upgrade: websocket\r\n", "");
    let unconnected = GRANTED.replace("Connection: upgrade\r\n", "");
    let plain = "GET /chat HTTP/1.1\r\nHost: web\r\n\r\n".to_owned();
    for (asks, answer) in [(request(), &*other), (request(), &*silent), (request(), &*unconnected), (plain, GRANTED)] {
        let (server, handed) = handing();
        let world = proxy_to(&[server]);
        let mut client = Client::connect(world.address()).unwrap();
        client.send(asks.as_bytes()).unwrap();
        let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
        head(&mut upstream);
        upstream.write_all(answer.as_bytes()).unwrap();
        assert_eq!(client.read_response("GET").unwrap().status, 502, "{answer}");
        counted(&world, "istio_requests_total", "UPE", 1.0);
        assert!(!matches!(upstream.read(&mut [0]), Ok(1..)), "the connection is not used again");
        freed(&world);
    }
}

#[test]
fn what_breaks_off_on_one_side_is_reset_on_the_other() {
    let (server, handed) = handing();
    let world = proxy_to(&[server]);
    for (client_breaks, flag) in [(true, "DC"), (false, "UC")] {
        let (client, upstream) = open(&world, &handed);
        let (broken, mut other) = if client_breaks { (client, upstream) } else { (upstream, client) };
        socket2::SockRef::from(&broken).set_linger(Some(Duration::ZERO)).unwrap();
        drop(broken);
        assert_reset(&mut other);
        counted(&world, "istio_requests_total", flag, 1.0);
        counted(&world, "istio_tcp_connections_closed_total", flag, 1.0);
        freed(&world);
    }
}

#[test]
fn the_time_of_the_route_ends_with_the_answers_head_and_silence_has_a_limit() {
    let (server, handed) = handing();
    let settings = Settings { upgrade_idle_timeout: Duration::from_secs(1), ..Settings::default() };
    let timed = snapshot(&[server], |route| route.timeout = Some(Duration::from_secs(1)));
    let world = proxy_with(settings, timed);
    let mut late = Client::connect(world.address()).unwrap();
    late.send(request().as_bytes()).unwrap();
    assert_eq!(late.read_response("GET").unwrap().status, 504, "until the head it counts");
    drop(handed.recv_timeout(PATIENCE).unwrap());

    let (mut client, mut upstream) = open(&world, &handed);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1600) {
        client.write_all(b"x").unwrap();
        assert_eq!(read_some(&mut upstream), b"x");
        pass_time(Duration::from_millis(100));
    }
    assert_reset(&mut client);
    assert!(upstream.read(&mut [0]).is_err());
    counted(&world, "istio_requests_total", "SI", 1.0);
}

#[test]
fn no_copy_is_sent_and_no_kept_connection_is_taken() {
    let (server, handed) = handing();
    let mirrored = snapshot(&[server], |route| {
        let cluster = model::ClusterName::new(common::CLUSTER);
        route.mirrors = vec![model::Mirror { cluster, share: model::Fraction::from_percent(100.0).unwrap() }];
    });
    let world = proxy_with(Settings::default(), mirrored);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
    // The request and its copy; both connections are kept.
    let kept = [0; 2].map(|_| {
        let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
        head(&mut upstream);
        upstream.write_all(&response(200, &[], b"ok")).unwrap();
        upstream
    });
    assert_eq!(client.read_response("GET").unwrap().status, 200);
    counted(&world, "outrigger_mirrored_requests_total", "answered", 1.0);
    let (_client, _upstream) = open(&world, &handed);
    assert!(handed.try_recv().is_err(), "one fresh connection is all");
    for mut upstream in kept {
        upstream.set_nonblocking(true).unwrap();
        assert!(!matches!(upstream.read(&mut [0]), Ok(1..)), "nothing went out on a kept one");
    }
    assert_eq!(world.sum("outrigger_mirrored_requests_total", ""), 1.0);
}

#[test]
fn a_reload_leaves_it_alone_and_a_drain_cuts_it_at_its_end() {
    let (server, handed) = handing();
    let settings = Settings {
        drain_idle: Duration::from_millis(50),
        drain_accept: Duration::from_millis(100),
        drain_timeout: Duration::from_millis(1200),
        ..Settings::default()
    };
    let world = proxy_with(settings, snapshot(&[server], |_| {}));
    let (mut client, mut upstream) = open(&world, &handed);
    let backend = Backend::start(|_| Reply::Keep(response(200, &[], b"new")));
    world.proxy.apply(Arc::new(snapshot(&[backend.address()], |_| {})));
    eventually("the new endpoint", || {
        let mut client = Client::connect(world.address()).ok()?;
        // The old one takes connections and never answers.
        client.set_patience(Duration::from_millis(200));
        let answer = client.exchange(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n");
        client.reset();
        (answer.ok()?.text() == "new").then_some(())
    });
    eventually("the others to be gone", || (world.proxy.connections() == 1).then_some(()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let started = Instant::now();
    let talking = thread::spawn(move || {
        let mut rounds = 0;
        while client.write_all(b"x").is_ok() && matches!(upstream.read(&mut [0]), Ok(1)) {
            rounds += 1;
            pass_time(Duration::from_millis(20));
        }
        (started.elapsed(), rounds)
    });
    assert_eq!(runtime.block_on(world.proxy.drain()), 1, "it had to be cut");
    let (talked, rounds) = talking.join().unwrap();
    assert!(talked >= Duration::from_millis(1100) && rounds > 10, "{talked:?}, {rounds} rounds");
}

#[test]
fn behind_terminated_tls() {
    let authority = Authority::new("test");
    let (server, handed) = handing();
    let chains = vec![chain(&[], Some(tls(&[&authority.issue(&["web.example"])])), to_http("web"))];
    let world = start(Settings::default(), gateway(chains, &[("web", &[server])]));
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    client.send(request().replace("Host: web", "Host: web.example").as_bytes()).unwrap();
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    head(&mut upstream);
    let sent = bytes(3 * 1024 * 1024);
    upstream.write_all(GRANTED.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.stream.read_exact(&mut byte).unwrap();
        answer.extend_from_slice(&byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    let echo = thread::spawn(move || {
        let mut received = Vec::new();
        upstream.read_to_end(&mut received).unwrap();
        upstream.write_all(&received).unwrap();
    });
    client.send(&sent).unwrap();
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert!(client.until_end().expect("an end that is announced") == sent);
    echo.join().unwrap();
    counted(&world, "istio_requests_total", "101", 1.0);
}

#[test]
fn two_proxies_in_a_row() {
    let (server, handed) = handing();
    let near = proxy_to(&[server]);
    let far = proxy_to(&[near.address()]);
    let (mut client, mut upstream) = open(&far, &handed);
    client.write_all(b"ping").unwrap();
    assert_eq!(read_some(&mut upstream), b"ping");
    upstream.write_all(b"pong").unwrap();
    drop(upstream);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"pong");
    drop(client);
    counted(&far, "istio_requests_total", "101", 1.0);
    counted(&near, "istio_requests_total", "101", 1.0);
    assert_eq!(near.sum("istio_tcp_sent_bytes_total", ""), 4.0);
}

#[test]
fn a_client_that_leaves_before_the_answer_frees_the_endpoint() {
    let (server, handed) = handing();
    let world = proxy_to(&[server]);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(request().as_bytes()).unwrap();
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    head(&mut upstream);
    assert_eq!(active(&world), 1);
    client.reset();
    freed(&world);
    assert!(!matches!(upstream.read(&mut [0]), Ok(1..)));
    let mut next = Client::connect(world.address()).unwrap();
    next.send(b"GET / HTTP/9.9\r\n\r\n").unwrap();
    assert_eq!(next.read_response("GET").unwrap().status, 505, "others are served");
    assert_eq!(next.read_ending().how, How::Closed);
}
