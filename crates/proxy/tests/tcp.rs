//! Connections whose bytes are relayed: TLS that passes through by its server name, plain TCP, TLS terminated before it.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::World;
use common::gateway::{Clients, chain, gateway, start, tls, to_tcp};
use common::sockets::{bytes, connect, counted, handing, read_some, serve};
use outrigger_proxy::Settings;
use outrigger_testkit::certificates::{Authority, Made};
use outrigger_testkit::{PATIENCE, eventually, pass_time};
use rustls::{ServerConnection, StreamOwned};

/// A server that says its name and then reads to the end.
fn named(name: &'static str) -> SocketAddr {
    serve(move |mut socket| {
        socket.write_all(name.as_bytes())?;
        io::copy(&mut socket, &mut io::sink()).map(|_| ())
    })
}

/// A server that speaks TLS and says its name after the first byte.
fn named_tls(name: &'static str, made: &Made) -> SocketAddr {
    let config = outrigger_identity::server_config(&tls(&[made]), &[]).unwrap();
    serve(move |socket| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
        stream.read_exact(&mut [0])?;
        stream.write_all(name.as_bytes())?;
        stream.conn.send_close_notify();
        stream.flush()
    })
}

/// A listener that sends every connection to one server.
fn plain(settings: Settings, server: SocketAddr) -> World {
    start(settings, gateway(vec![chain(&[], None, to_tcp(&[("db", 1)]))], &[("db", &[server])]))
}

#[test]
fn tls_passes_through_to_the_server_of_its_name() {
    let authority = Authority::new("test");
    let (shop, other) = (authority.issue(&["*.shop.example"]), authority.issue(&["other.example"]));
    let clusters = [("shop", &[named_tls("shop", &shop)][..]), ("other", &[named_tls("other", &other)])];
    let chains = vec![
        chain(&["*.shop.example"], None, to_tcp(&[("shop", 1)])),
        chain(&["other.example"], None, to_tcp(&[("other", 1)])),
    ];
    let settings = Settings { handshake_timeout: Duration::from_millis(300), ..Settings::default() };
    let world = start(settings, gateway(chains, &clusters));
    let clients = Clients::of(&authority);
    for (name, expected) in [("a.shop.example", "shop"), ("other.example", "other"), ("OTHER.example", "other")] {
        // The certificate is that of the server: the handshake would fail otherwise.
        let mut client = clients.connect(world.address(), name).unwrap();
        client.send(b"x").unwrap();
        assert_eq!(client.until_end().unwrap(), expected.as_bytes(), "{name}");
    }
    let error = clients.connect(world.address(), "unknown.example").err().expect("no chain").to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    let mut client = connect(world.address());
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "plain text has no server name");
    assert_eq!(connect(world.address()).read(&mut [0]).unwrap(), 0, "nor has silence");
    for reason in ["server_name", "plaintext", "timeout"] {
        counted(&world, "outrigger_tls_handshake_failures_total", reason, 1.0);
    }
    counted(&world, "istio_tcp_connections_closed_total", "shop", 1.0);
    counted(&world, "istio_tcp_connections_closed_total", "other", 2.0);
    assert_eq!(world.sum("outrigger_tls_handshakes_total", ""), 0.0, "nothing was terminated");
}

#[test]
fn bytes_pass_both_ways_at_once_and_each_side_finishes_by_itself() {
    let server = serve(|mut socket| {
        // Sends before, while and after it reads.
        let mut writer = socket.try_clone()?;
        let writing = thread::spawn(move || writer.write_all(&bytes(10 * 1024 * 1024)));
        let mut received = Vec::new();
        socket.read_to_end(&mut received)?;
        writing.join().expect("no panic")?;
        socket.write_all(&received)
    });
    let world = plain(Settings::default(), server);
    let mut client = connect(world.address());
    let sent = bytes(9 * 1024 * 1024 + 1);
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn({
        let sent = sent.clone();
        move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        }
    });
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == [bytes(10 * 1024 * 1024), sent.clone()].concat());
    counted(&world, "istio_tcp_connections_opened_total", "tcp", 1.0);
    counted(&world, "istio_tcp_connections_closed_total", "-", 1.0);
    assert_eq!(world.sum("istio_tcp_received_bytes_total", "db"), sent.len() as f64);
    assert_eq!(world.sum("istio_tcp_sent_bytes_total", "db"), received.len() as f64);
    assert_eq!(world.sum("envoy_cluster_upstream_cx_total", ""), 1.0);
    counted(&world, "envoy_cluster_upstream_cx_active", "", 0.0);
    assert_eq!(world.sum("envoy_http_downstream_cx_total", ""), 0.0, "it is no HTTP");
}

#[test]
fn a_server_may_speak_first() {
    let world = plain(Settings::default(), named("mysql"));
    assert_eq!(read_some(&mut connect(world.address())), b"mysql");

    // Where the first bytes decide, silence decides after a while.
    let authority = Authority::new("test");
    let made = authority.issue(&["web.example"]);
    let chains = vec![chain(&["web.example"], None, to_tcp(&[("web", 1)])), chain(&[], None, to_tcp(&[("db", 1)]))];
    let settings = Settings { handshake_timeout: Duration::from_millis(200), ..Settings::default() };
    let clusters = [("web", &[named_tls("web", &made)][..]), ("db", &[named("mysql")])];
    let world = start(settings, gateway(chains, &clusters));
    assert_eq!(read_some(&mut connect(world.address())), b"mysql");
    let mut client = connect(world.address());
    client.write_all(b"select").unwrap();
    assert_eq!(read_some(&mut client), b"mysql", "as do other words than those of TLS, at once");
    let mut client = Clients::of(&authority).connect(world.address(), "web.example").unwrap();
    client.send(b"x").unwrap();
    assert_eq!(client.until_end().unwrap(), b"web");
}

#[test]
fn connections_are_shared_by_weight() {
    let chains = vec![chain(&[], None, to_tcp(&[("a", 3), ("none", 0), ("b", 1)]))];
    let clusters = [("a", &[named("a")][..]), ("b", &[named("b")]), ("none", &[named("none")])];
    let world = start(Settings::default(), gateway(chains, &clusters));
    let answers: Vec<_> = (0..40).map(|_| read_some(&mut connect(world.address()))).collect();
    let count = |name: &[u8]| answers.iter().filter(|answer| *answer == name).count();
    assert_eq!((count(b"a"), count(b"b")), (30, 10));
}

#[test]
fn endpoints_take_turns() {
    let servers = [named("one"), named("two")];
    let chains = vec![chain(&[], None, to_tcp(&[("db", 1)]))];
    let world = start(Settings::default(), gateway(chains, &[("db", &servers)]));
    let answers: Vec<_> = (0..8).map(|_| read_some(&mut connect(world.address()))).collect();
    assert!(answers.contains(&b"one".to_vec()) && answers.contains(&b"two".to_vec()), "{answers:?}");
}

#[test]
fn a_connection_that_cannot_be_made_is_reset_and_counted_with_its_flag() {
    // A port that is taken and on which nobody listens.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    taken.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let refusing = taken.local_addr().unwrap().as_socket().unwrap();
    for (clusters, flag) in [(&[("db", &[refusing][..])][..], "UF"), (&[("db", &[][..])], "UH"), (&[], "NC")] {
        let world = start(Settings::default(), gateway(vec![chain(&[], None, to_tcp(&[("db", 1)]))], clusters));
        // The reset may come before whoever connects looks.
        let ended = TcpStream::connect_timeout(&world.address(), PATIENCE).and_then(|mut socket| {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.read(&mut [0])
        });
        assert_eq!(ended.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset, "{flag}");
        counted(&world, "istio_tcp_connections_opened_total", flag, 1.0);
        counted(&world, "istio_tcp_connections_closed_total", flag, 1.0);
    }
}

#[test]
fn what_breaks_off_on_one_side_is_reset_on_the_other() {
    let reset = |socket: TcpStream| {
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let (server, handed) = handing();
    let world = plain(Settings::default(), server);
    for client_breaks in [true, false] {
        let mut client = connect(world.address());
        client.write_all(b"x").unwrap();
        let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
        assert_eq!(read_some(&mut upstream), b"x");
        upstream.write_all(b"y").unwrap();
        assert_eq!(read_some(&mut client), b"y");
        let (broken, mut other) = if client_breaks { (client, upstream) } else { (upstream, client) };
        reset(broken);
        assert_eq!(other.read(&mut [0]).expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
        let flag = if client_breaks { "DC" } else { "UC" };
        counted(&world, "istio_tcp_connections_closed_total", flag, 1.0);
    }
}

#[test]
fn a_connection_on_which_nothing_happens_is_closed_and_a_busy_one_is_not() {
    let (server, handed) = handing();
    let settings = Settings { tcp_idle_timeout: Duration::from_millis(600), ..Settings::default() };
    let world = plain(settings, server);
    let mut client = connect(world.address());
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    // Only one direction is busy, and for longer than the limit.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        upstream.write_all(b"x").unwrap();
        assert_eq!(read_some(&mut client), b"x");
        pass_time(Duration::from_millis(100));
    }
    assert_eq!(client.read(&mut [0]).expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
    assert!(upstream.read(&mut [0]).is_err());
    counted(&world, "istio_tcp_connections_closed_total", "SI", 1.0);
}

/// The sockets of the kernel's table, `LOCAL REMOTE` and the timer that runs: 2 is that of keep-alive, and its hundredths of
/// a second.
fn timers() -> Vec<(String, u8, u64)> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (timer, when) = fields[5].split_once(':').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        (format!("{} {}", fields[1], fields[2]), number(timer) as u8, number(when))
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn peers_that_are_silent_are_asked_whether_they_are_still_there() {
    let (server, handed) = handing();
    let world = plain(Settings::default(), server);
    let client = connect(world.address());
    let upstream = handed.recv_timeout(PATIENCE).unwrap();
    let shown = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    for (proxy, peer) in [(world.address(), client.local_addr().unwrap()), (upstream.peer_addr().unwrap(), server)] {
        let socket = format!("{} {}", shown(proxy), shown(peer));
        let is_asked = |(of, timer, when): &(String, u8, u64)| *of == socket && *timer == 2 && *when <= 1000;
        eventually(&format!("keep-alive of {socket}"), || timers().iter().any(is_asked).then_some(()));
    }
}

#[test]
fn a_reader_that_stops_makes_the_writer_stop() {
    let (server, handed) = handing();
    let world = plain(Settings::default(), server);
    let mut client = connect(world.address());
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let block = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < 256 * 1024 * 1024 {
        match client.write(&block) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 64 * 1024 * 1024, "what the sockets hold, and a block");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(io::copy(&mut upstream, &mut io::sink()).unwrap(), sent as u64);
}

#[test]
fn bytes_behind_terminated_tls_and_the_end_of_either_side() {
    let authority = Authority::new("test");
    let settings = tls(&[&authority.issue(&["db.example"])]);
    let (server, handed) = handing();
    let chains = vec![chain(&[], Some(settings), to_tcp(&[("db", 1)]))];
    let world = start(Settings::default(), gateway(chains, &[("db", &[server])]));
    let clients = Clients::of(&authority);

    // Both finish in good order: each is told by the means of its side.
    let mut client = clients.connect(world.address(), "db.example").unwrap();
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    let sent = bytes(3 * 1024 * 1024);
    let reading = thread::spawn(move || {
        let mut received = Vec::new();
        upstream.read_to_end(&mut received).unwrap();
        upstream.write_all(&received).unwrap();
        received
    });
    client.send(&sent).unwrap();
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert!(client.until_end().expect("an end that is announced") == sent);
    assert!(reading.join().unwrap() == sent);
    counted(&world, "istio_tcp_received_bytes_total", "tcp", sent.len() as f64);

    // An end without goodbye may have been made by somebody else.
    let mut client = clients.connect(world.address(), "db.example").unwrap();
    client.send(b"x").unwrap();
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(read_some(&mut upstream), b"x");
    client.stream.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(upstream.read(&mut [0]).expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
    assert!(client.until_end().is_err());
    counted(&world, "istio_tcp_connections_closed_total", "DC", 1.0);
}

#[test]
fn routes_change_for_new_connections_and_open_ones_stay() {
    let snapshot = |name| gateway(vec![chain(&[], None, to_tcp(&[(name, 1)]))], &[(name, &[named(name)])]);
    let world = start(Settings::default(), snapshot("old"));
    let mut open = connect(world.address());
    assert_eq!(read_some(&mut open), b"old");
    world.proxy.apply(Arc::new(snapshot("new")));
    eventually("the new route", || (read_some(&mut connect(world.address())) == b"new").then_some(()));
    open.write_all(b"still there").unwrap();
    open.shutdown(Shutdown::Write).unwrap();
    assert_eq!(open.read(&mut [0]).unwrap(), 0, "in good order");
}
