//! TLS that is terminated: certificates by name, replacement while connections are open, clients that are refused, and
//! HTTP over it as over plain text.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::World;
use common::gateway::{Clients, TlsClient, chain, gateway, start, tls, to_http};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::certificates::{Authority, Made};
use outrigger_testkit::{Backend, Client, How, PATIENCE, Reply, eventually, response};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn hello() -> Backend {
    Backend::start(|_| Reply::Keep(response(200, &[], b"hello")))
}

/// A gateway that terminates TLS for all names and sends requests to the backend.
fn world(settings: Settings, tls: model::ServerTls, backend: &Backend) -> World {
    start(settings, gateway(vec![chain(&[], Some(tls), to_http("web"))], &[("web", &[backend.address()])]))
}

/// As [`world`], with a certificate for `web.example`.
fn simple(backend: &Backend) -> (World, Authority) {
    let authority = Authority::new("test");
    let world = world(Settings::default(), tls(&[&authority.issue(&["web.example"])]), backend);
    (world, authority)
}

/// Waits until a metric has this sum over the series that carry the label value: clients may know before it is counted.
#[track_caller]
fn counted(world: &World, metric: &str, value: &str, expected: f64) {
    let what = format!("{expected} of {metric} with {value}");
    eventually(&what, || (world.sum(metric, value) == expected).then_some(()));
}

#[test]
fn requests_pass_over_one_connection_of_either_version() {
    let backend = hello();
    let (world, authority) = simple(&backend);
    for version in VERSIONS {
        let mut client = Clients::with(&authority, &[version], None).connect(world.address(), "web.example").unwrap();
        for _ in 0..3 {
            let answer = client.get("/").unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"hello"[..]));
        }
    }
    let seen = backend.seen();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|request| request.fields.get("x-forwarded-proto") == Some("https")));
    counted(&world, "outrigger_tls_handshakes_total", "1.2", 1.0);
    counted(&world, "outrigger_tls_handshakes_total", "1.3", 1.0);
    counted(&world, "istio_requests_total", "200", 6.0);
}

#[test]
fn a_redirect_to_https_is_not_sent_to_who_is_there_already() {
    let backend = hello();
    let authority = Authority::new("test");
    let mut snapshot = common::snapshot(&[backend.address()], |route| {
        route.matches.scheme = Some(model::StringMatch::Exact("https".into()));
    });
    let routes = snapshot.listeners[0].route_tables().next().unwrap().clone();
    let chains = vec![chain(&[], Some(tls(&[&authority.issue(&["web.example"])])), model::Serve::Http(routes))];
    snapshot.listeners = gateway(chains, &[]).listeners;
    let world = start(Settings::default(), snapshot);
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    assert_eq!(client.get("/").unwrap().status, 200);
}

#[test]
fn the_chain_and_the_certificate_are_chosen_by_server_name() {
    let (shop, other) = (
        Backend::start(|_| Reply::Keep(response(200, &[], b"shop"))),
        Backend::start(|_| Reply::Keep(response(200, &[], b"other"))),
    );
    let authority = Authority::new("test");
    let chains = vec![
        chain(&["*.shop.example"], Some(tls(&[&authority.issue(&["*.shop.example"])])), to_http("shop")),
        chain(&["other.example"], Some(tls(&[&authority.issue(&["other.example"])])), to_http("other")),
    ];
    let clusters = [("shop", &[shop.address()][..]), ("other", &[other.address()])];
    let world = start(Settings::default(), gateway(chains, &clusters));
    let clients = Clients::of(&authority);
    for (name, body) in [("a.shop.example", "shop"), ("OTHER.example", "other")] {
        let mut client = clients.connect(world.address(), name).unwrap();
        assert_eq!(client.get("/").unwrap().body, body.as_bytes());
    }
    for name in ["unknown.example", "shop.example", "127.0.0.1"] {
        let error = clients.connect(world.address(), name).err().expect("no chain").to_string();
        assert!(error.contains("UnrecognisedName"), "{error}");
    }
    counted(&world, "outrigger_tls_handshake_failures_total", "server_name", 3.0);
}

#[test]
fn a_certificate_is_replaced_under_open_connections() {
    let backend = hello();
    let authority = Authority::new("test");
    let certificate = authority.issue(&["web.example"]);
    let snapshot = |certificate: &Made| {
        let chains = vec![chain(&[], Some(tls(&[certificate])), to_http("web"))];
        gateway(chains, &[("web", &[backend.address()])])
    };
    let world = start(Settings::default(), snapshot(&certificate));
    let clients = Clients::of(&authority);
    let shown = |client: &TlsClient| client.stream.conn.peer_certificates().unwrap()[0].to_vec();
    let mut before = clients.connect(world.address(), "web.example").unwrap();
    assert_eq!(before.get("/").unwrap().status, 200);

    // The same settings in a new snapshot: sessions are resumed.
    world.proxy.apply(Arc::new(snapshot(&certificate)));
    let mut resumed = clients.connect(world.address(), "web.example").unwrap();
    assert_eq!(resumed.get("/").unwrap().status, 200);
    assert_eq!(resumed.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));

    world.proxy.apply(Arc::new(snapshot(&authority.issue(&["web.example"]))));
    let mut after = eventually("the new certificate", || {
        let client = clients.connect(world.address(), "web.example").unwrap();
        (shown(&client) != shown(&before)).then_some(client)
    });
    assert_ne!(after.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed), "it is another policy");
    for client in [&mut before, &mut resumed, &mut after] {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
}

#[test]
fn mutual_refuses_clients_without_a_certificate_of_its_authority() {
    let backend = hello();
    let (authority, clients_authority) = (Authority::new("servers"), Authority::new("clients"));
    let settings = model::ServerTls {
        client: model::ClientCertificate::Required(clients_authority.made.certificate.as_bytes().into()),
        ..tls(&[&authority.issue(&["web.example"])])
    };
    let world = world(Settings::default(), settings, &backend);
    for version in VERSIONS {
        let get = |own: Option<&Made>| {
            let mut client = Clients::with(&authority, &[version], own).connect(world.address(), "web.example")?;
            client.get("/")
        };
        assert_eq!(get(Some(&clients_authority.issue(&["client"]))).unwrap().status, 200);
        let error = get(None).expect_err("no certificate").to_string();
        // TLS 1.2 has no alert of this name.
        assert!(error.contains("CertificateRequired") || error.contains("HandshakeFailure"), "{error}");
        let error = get(Some(&authority.issue(&["client"]))).expect_err("another authority").to_string();
        assert!(error.contains("UnknownCA"), "{error}");
    }
    assert_eq!(backend.seen().len(), 2);
    counted(&world, "outrigger_tls_handshake_failures_total", "certificate_missing", 2.0);
    counted(&world, "outrigger_tls_handshake_failures_total", "certificate_refused", 2.0);
}

#[test]
fn plain_text_is_closed_and_counted() {
    let backend = hello();
    let (world, _) = simple(&backend);
    let mut client = Client::connect(world.address()).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    let ending = client.read_ending();
    assert_eq!((ending.bytes.as_slice(), ending.how), (&b""[..], How::Closed));
    counted(&world, "outrigger_tls_handshake_failures_total", "plaintext", 1.0);
    assert!(backend.seen().is_empty());
    // Whoever only looks whether the port is open fails nothing.
    drop(Client::connect(world.address()).unwrap());
    let broken = [22, 3, 1, 0, 5, 1, 0, 0, 1, 0];
    let mut client = Client::connect(world.address()).unwrap();
    client.send(&broken).unwrap();
    assert_eq!(client.read_ending().bytes.first(), Some(&21), "an alert");
    counted(&world, "outrigger_tls_handshake_failures_total", "", 2.0);
}

/// The first flight of a client.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let mut connection =
        rustls::ClientConnection::new(Clients::of(authority).0, "web.example".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn whoever_stalls_is_closed_wherever_it_is() {
    let backend = hello();
    let authority = Authority::new("test");
    let settings = Settings { handshake_timeout: Duration::from_millis(300), ..Settings::default() };
    let world = world(settings, tls(&[&authority.issue(&["web.example"])]), &backend);
    let hello = client_hello(&authority);
    let started = Instant::now();
    let mut stalled: Vec<_> = [0, 1, 5, 40, hello.len() - 1, hello.len()]
        .map(|sent| {
            let mut client = Client::connect(world.address()).unwrap();
            client.send(&hello[..sent]).unwrap();
            client
        })
        .into();
    for client in &mut stalled {
        assert_ne!(client.read_ending().how, How::Open);
    }
    assert!(started.elapsed() >= Duration::from_millis(200), "not before the limit");
    counted(&world, "outrigger_tls_handshake_failures_total", "timeout", 6.0);
}

#[test]
fn a_handshake_in_single_bytes_is_as_good_as_any() {
    let backend = hello();
    let (world, authority) = simple(&backend);
    let mut client = Clients::of(&authority).open(world.address(), "web.example");
    let TlsClient { stream, .. } = &mut client;
    stream.conn.writer().write_all(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    while stream.conn.is_handshaking() || stream.conn.wants_write() {
        let mut flight = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut flight).unwrap();
        }
        for byte in flight.chunks(1) {
            stream.sock.write_all(byte).unwrap();
        }
        if stream.conn.is_handshaking() {
            stream.conn.read_tls(&mut stream.sock).unwrap();
            stream.conn.process_new_packets().unwrap();
        }
    }
    assert_eq!(client.read_answer().unwrap().body, b"hello");
}

#[test]
fn large_bodies_pass_both_ways_unchanged() {
    let backend = Backend::start(|request| Reply::Keep(response(200, &[], &request.body)));
    let (world, authority) = simple(&backend);
    let body: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for version in VERSIONS {
        let mut client = Clients::with(&authority, &[version], None).connect(world.address(), "web.example").unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send(head.as_bytes()).unwrap();
        client.send(&body).unwrap();
        assert!(client.read_answer().unwrap().body == body, "with a length");
        client.send(b"POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for chunk in body.chunks(100_000) {
            client.send(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
            client.send(chunk).unwrap();
            client.send(b"\r\n").unwrap();
        }
        client.send(b"0\r\n\r\n").unwrap();
        assert!(client.read_answer().unwrap().body == body, "in chunks");
    }
}

#[test]
fn a_slow_reader_gets_all_of_the_last_answer_and_its_end() {
    let body = vec![b'x'; 8 * 1024 * 1024];
    let backend = Backend::start({
        let body = body.clone();
        move |_| Reply::Keep(response(200, &[], &body))
    });
    let (world, authority) = simple(&backend);
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n").unwrap();
    // The proxy has written what the sockets hold, and waits.
    eventually("the backend's answer", || (backend.seen().len() == 1).then_some(()));
    outrigger_testkit::pass_time(Duration::from_millis(300));
    let all = client.until_end().expect("an end that is announced");
    assert!(all.ends_with(&body) && all.len() < body.len() + 1000);
}

#[test]
fn a_client_that_has_finished_still_gets_its_answer() {
    let (arrived, has_arrived) = channel::<()>();
    let (begin, may_begin) = channel::<()>();
    let may_begin = Mutex::new(may_begin);
    let backend = Backend::start(move |_| {
        arrived.send(()).unwrap();
        may_begin.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Reply::Keep(response(200, &[], b"hello"))
    });
    let (world, authority) = simple(&backend);
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    client.stream.conn.writer().write_all(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    client.stream.sock.shutdown(Shutdown::Write).unwrap();
    has_arrived.recv_timeout(PATIENCE).unwrap();
    begin.send(()).unwrap();
    assert_eq!(client.read_answer().unwrap().body, b"hello");
    assert_eq!(client.until_end().expect("an end that is announced"), b"");
}

#[test]
fn a_body_that_is_cut_off_is_not_taken_for_a_whole_one() {
    let backend = hello();
    let (world, authority) = simple(&backend);
    for framing in ["Content-Length: 100\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
        client.send(format!("POST / HTTP/1.1\r\nHost: web.example\r\n{framing}").as_bytes()).unwrap();
        // The end of the connection, without the end of TLS.
        client.stream.sock.shutdown(Shutdown::Write).unwrap();
        assert!(client.read_answer().is_err());
    }
    eventually("the requests", || (backend.seen().len() == 2).then_some(()));
    assert!(backend.seen().iter().all(|request| !request.is_complete));
    counted(&world, "istio_requests_total", "DC", 2.0);
}

#[test]
fn an_answer_that_is_cut_off_is_not_taken_for_a_whole_one() {
    for head in ["content-length: 100\r\n", "transfer-encoding: chunked\r\n", ""] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
        let backend = Backend::start(move |_| Reply::Reset([&answer[..], b"3\r\nabc\r\n"].concat()));
        let (world, authority) = simple(&backend);
        let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
        client.send(b"GET / HTTP/1.0\r\nHost: web.example\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        assert!(client.stream.read_to_end(&mut bytes).is_err(), "{head:?}: {}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn records_that_are_no_tls_break_the_connection() {
    let backend = hello();
    let (world, authority) = simple(&backend);
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    assert_eq!(client.get("/").unwrap().status, 200);
    client
        .stream
        .sock
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .unwrap();
    let error = client.until_end().expect_err("an alert").to_string();
    assert!(error.contains("BadRecordMac"), "{error}");
}

#[test]
fn new_keys_and_idle_connections() {
    let backend = hello();
    let authority = Authority::new("test");
    let settings = Settings {
        idle_timeout: Duration::from_millis(500),
        head_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let world = world(settings, tls(&[&authority.issue(&["web.example"])]), &backend);
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    assert_eq!(client.get("/").unwrap().status, 200);
    client.stream.conn.refresh_traffic_keys().unwrap();
    client.stream.flush().unwrap();
    // New keys are no beginning of a request, so no head is late; the connection is idle, and ends in good order.
    assert_eq!(client.until_end().expect("an end that is announced"), b"");
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    client.stream.conn.refresh_traffic_keys().unwrap();
    client.stream.flush().unwrap();
    assert_eq!(client.get("/").unwrap().status, 200, "with new keys");
}

#[test]
fn many_clients_that_stall_do_not_hold_up_the_others() {
    let backend = hello();
    let (world, authority) = simple(&backend);
    let hello = client_hello(&authority);
    let stalled: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut socket = TcpStream::connect(world.address()).unwrap();
            socket.write_all(&hello[..100]).unwrap();
            socket
        })
        .collect();
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    assert_eq!(client.get("/").unwrap().status, 200);
    drop(stalled);
}

#[test]
fn settings_that_cannot_be_used_close_their_chain_only() {
    let backend = hello();
    let authority = Authority::new("test");
    let broken = Made { key: authority.issue(&["b.example"]).key, ..authority.issue(&["b.example"]) };
    let chains = vec![
        chain(&["a.example"], Some(tls(&[&authority.issue(&["a.example"])])), to_http("web")),
        chain(&["b.example"], Some(tls(&[&broken])), to_http("web")),
    ];
    let world = start(Settings::default(), gateway(chains, &[("web", &[backend.address()])]));
    let clients = Clients::of(&authority);
    assert_eq!(clients.connect(world.address(), "a.example").unwrap().get("/").unwrap().status, 200);
    let error = clients.connect(world.address(), "b.example").err().expect("no certificate").to_string();
    assert!(error.contains("InternalError"), "{error}");
    counted(&world, "outrigger_tls_handshake_failures_total", "settings", 1.0);
}

#[test]
fn a_drain_ends_idle_connections_in_good_order_and_waits_for_no_hello() {
    let backend = hello();
    let authority = Authority::new("test");
    let settings = Settings {
        drain_idle: Duration::from_millis(100),
        drain_timeout: Duration::from_secs(5),
        drain_accept: Duration::from_millis(100),
        handshake_timeout: Duration::from_secs(60),
        ..Settings::default()
    };
    let world = world(settings, tls(&[&authority.issue(&["web.example"])]), &backend);
    let mut idle = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    assert_eq!(idle.get("/").unwrap().status, 200);
    let _silent = TcpStream::connect(world.address()).unwrap();
    eventually("both connections", || (world.proxy.connections() == 2).then_some(()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(world.proxy.drain()), 0, "none had to be cut");
    assert_eq!(idle.until_end().expect("an end that is announced"), b"");
    counted(&world, "outrigger_tls_handshake_failures_total", "", 0.0);
}
