//! The PROXY protocol on sockets: who may send a header and has to, whom it makes of the client, and what is sent on.

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::gateway::{Clients, LISTENER, chain, gateway, start, tls, to_http, to_tcp};
use common::sockets::{connect, counted, handing, head, read_some};
use common::{World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::certificates::Authority;
use outrigger_testkit::{Backend, PATIENCE, ReadError, Reply, eventually, h2 as raw, response};

const COUNTER: &str = "outrigger_proxy_protocol_connections_total";

fn network(address: &str, prefix: u8) -> model::Network {
    model::Network { address: address.parse().unwrap(), prefix }
}

/// The snapshot, its listener taking headers from these networks.
fn trusting(mut snapshot: model::Snapshot, networks: &[model::Network]) -> model::Snapshot {
    let mut listener = model::Listener::clone(&snapshot.listeners[0]);
    listener.proxy_protocol = Some(networks.into());
    snapshot.listeners = vec![Arc::new(listener)];
    snapshot
}

/// The snapshot, its clusters getting headers of this version.
fn announcing(mut snapshot: model::Snapshot, version: model::ProxyProtocol) -> model::Snapshot {
    for cluster in snapshot.clusters.values_mut() {
        Arc::make_mut(cluster).proxy_protocol = Some(version);
    }
    snapshot
}

/// A server of HTTP that says what it was told of the client.
fn telling() -> Backend {
    Backend::start(|request| {
        let told = request.fields.get("x-forwarded-for").unwrap_or_default().to_owned();
        Reply::Keep(response(200, &[], told.as_bytes()))
    })
}

/// A gateway of HTTP that takes headers from loopback.
fn web(backend: &Backend) -> World {
    let snapshot = gateway(vec![chain(&[], None, to_http("web"))], &[("web", &[backend.address()])]);
    start(quick(), trusting(snapshot, &[network("127.0.0.0", 8)]))
}

fn quick() -> Settings {
    Settings { proxy_header_timeout: Duration::from_millis(500), ..Settings::default() }
}

/// A header of version 2 for addresses of IPv4.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &(block.len() as u16).to_be_bytes(), block].concat()
}

const BLOCK: [u8; 12] = [203, 0, 113, 7, 198, 51, 100, 2, 0x30, 0x39, 0x01, 0xbb];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";

/// The body of the answer on a connection that begins so.
fn body(mut client: TcpStream) -> String {
    let head = head(&mut client);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or_else(|| panic!("no length in {head}"))];
    client.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn the_client_is_whom_the_header_names() {
    let backend = telling();
    let world = web(&backend);
    let v1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.2 12345 443\r\n";
    let long = [&BLOCK[..], &[4; 300]].concat();
    for (header, want) in [
        (v1.to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &BLOCK), "203.0.113.7"),
        (v2(0x21, 0x11, &long), "203.0.113.7"),
        (v2(0x20, 0x11, &BLOCK), "127.0.0.1"),
        (v2(0x21, 0x00, &[]), "127.0.0.1"),
        (v2(0x21, 0x31, &[b'x'; 216]), "127.0.0.1"),
    ] {
        let mut client = connect(world.address());
        client.write_all(&[&header, GET].concat()).unwrap();
        assert_eq!(body(client), want, "{header:?}");
    }
    counted(&world, COUNTER, "proxied", 4.0);
    counted(&world, COUNTER, "local", 4.0);

    // A header may come in any pieces, and holds for all requests of its connection.
    let mut client = connect(world.address());
    for byte in v1 {
        client.write_all(&[*byte]).unwrap();
    }
    for _ in 0..2 {
        client.write_all(GET).unwrap();
        assert_eq!(body(client.try_clone().unwrap()), "203.0.113.7");
    }
}

#[test]
fn a_header_stands_before_tls() {
    let backend = telling();
    let authority = Authority::new("test");
    let settings = tls(&[&authority.issue(&["web.example"])]);
    let chains = vec![chain(&[], Some(settings), to_http("web"))];
    let snapshot = gateway(chains, &[("web", &[backend.address()])]);
    let world = start(quick(), trusting(snapshot, &[network("127.0.0.1", 32)]));
    let mut client = Clients::of(&authority).open(world.address(), "web.example");
    // In one packet with the hello.
    let mut hello = Vec::new();
    client.stream.conn.write_tls(&mut hello).unwrap();
    client.stream.sock.write_all(&[&v2(0x21, 0x11, &BLOCK)[..], &hello].concat()).unwrap();
    assert_eq!(client.get("/").unwrap().body, b"203.0.113.7");
}

/// How a connection ends that sends these bytes: reset, or closed.
#[track_caller]
fn end(world: &World, bytes: &[u8]) -> io::ErrorKind {
    // The reset may come before all is written, or before the connection is seen to stand.
    let mut client = match TcpStream::connect_timeout(&world.address(), PATIENCE) {
        Ok(client) => client,
        Err(error) => return error.kind(),
    };
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = client.write_all(bytes);
    match client.read(&mut [0]) {
        Ok(0) => io::ErrorKind::UnexpectedEof,
        Ok(_) => panic!("{bytes:?} is answered"),
        Err(error) => error.kind(),
    }
}

#[test]
fn what_is_no_header_resets_the_connection() {
    let backend = telling();
    let world = web(&backend);
    for (bytes, label) in [
        (GET.to_vec(), "malformed"),
        (b"PROXY TCP4  203.0.113.7 198.51.100.2 12345 443\r\nGET".to_vec(), "malformed"),
        (v2(0x22, 0x11, &BLOCK), "malformed"),
        ([b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(), "large"),
        (v2(0x21, 0x11, &[0; 5000]), "large"),
    ] {
        let before = world.sum(COUNTER, label);
        assert_eq!(end(&world, &bytes), io::ErrorKind::ConnectionReset, "{bytes:?}");
        counted(&world, COUNTER, label, before + 1.0);
    }
    // Half a header, or nothing at all, waits for so long only.
    for bytes in [&b""[..], b"PROXY TCP4 203.0.", b"\r\n\r\n\0\r\nQUIT\n\x21"] {
        let (before, began) = (world.sum(COUNTER, "timeout"), Instant::now());
        assert_eq!(end(&world, bytes), io::ErrorKind::ConnectionReset, "{bytes:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        counted(&world, COUNTER, "timeout", before + 1.0);
    }
    drop(connect(world.address()));
    counted(&world, COUNTER, "client_gone", 1.0);
    assert_eq!(backend.connections(), 0);
}

#[test]
fn nobody_else_may_send_one_and_nobody_without_trust_comes_in() {
    let backend = telling();
    let clusters = [("web", &[backend.address()][..])];
    let plain = || gateway(vec![chain(&[], None, to_http("web"))], &clusters);
    let world = start(quick(), trusting(plain(), &[network("10.0.0.0", 8), network("::1", 128)]));
    for bytes in [GET, b"PROXY TCP4 10.0.0.1 198.51.100.2 12345 443\r\n"] {
        assert_eq!(end(&world, bytes), io::ErrorKind::ConnectionReset);
    }
    counted(&world, COUNTER, "untrusted", 2.0);

    // Where none is expected, it is no request.
    let world = start(quick(), plain());
    let mut client = connect(world.address());
    client.write_all(&[&b"PROXY TCP4 10.0.0.1 198.51.100.2 12345 443\r\n"[..], GET].concat()).unwrap();
    assert!(head(&mut client).starts_with("http/1.1 400 "));
    assert_eq!(world.sum(COUNTER, ""), 0.0);
}

#[test]
fn on_the_way_in_the_workload_is_that_of_the_client() {
    let backend = telling();
    let mut inbound = snapshot(&[backend.address()], |_| {});
    let routes = inbound.listeners[0].route_tables().next().unwrap().clone();
    let port = model::Inbound { container: "app".into(), port: 9080, port_name: "http".into() };
    inbound.listeners = vec![Arc::new(model::Listener {
        name: LISTENER.into(),
        direction: model::Direction::Inbound(Arc::new(port)),
        port: 9080,
        proxy_protocol: Some([network("127.0.0.1", 32)].into()),
        chains: vec![model::Chain::plain(routes)],
    })];
    let caller = model::Workload::new("caller-v1", "shop", "caller-v1-0", "Kubernetes", Default::default());
    inbound.peers = Arc::new([("203.0.113.7".parse().unwrap(), Arc::new(caller))].into());
    let world = start(quick(), inbound);
    let mut client = connect(world.address());
    client.write_all(&[&v2(0x21, 0x11, &BLOCK), GET].concat()).unwrap();
    head(&mut client);
    counted(&world, "istio_requests_total", "caller-v1", 1.0);
}

/// The first line that an upstream gets.
fn line(upstream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        upstream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// The header of version 1 for a connection.
fn named(client: SocketAddr, to: SocketAddr) -> String {
    format!("PROXY TCP4 {} {} {} {}\r\n", client.ip(), to.ip(), client.port(), to.port())
}

#[test]
fn bytes_begin_with_the_header_that_their_cluster_wants() {
    let (server, handed) = handing();
    let snapshot = || gateway(vec![chain(&[], None, to_tcp(&[("db", 1)]))], &[("db", &[server])]);

    let world = start(quick(), announcing(snapshot(), model::ProxyProtocol::V1));
    let mut client = connect(world.address());
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    // Before the client has said anything.
    assert_eq!(line(&mut upstream), named(client.local_addr().unwrap(), world.address()));
    client.write_all(b"x").unwrap();
    assert_eq!(read_some(&mut upstream), b"x");
    // What we say ourselves is not the client's.
    counted(&world, "istio_tcp_received_bytes_total", "db", 1.0);

    // One proxy tells the next.
    let snapshot = announcing(snapshot(), model::ProxyProtocol::V2);
    let world = start(quick(), trusting(snapshot, &[network("127.0.0.0", 8)]));
    let mut client = connect(world.address());
    client.write_all(b"PROXY TCP4 203.0.113.7 198.51.100.2 12345 443\r\nselect").unwrap();
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    let mut header = [0; 28];
    upstream.read_exact(&mut header).unwrap();
    assert_eq!(header[..], v2(0x21, 0x11, &BLOCK));
    assert_eq!(read_some(&mut upstream), b"select");
}

#[test]
fn a_connection_that_names_a_client_serves_no_other_and_is_not_kept() {
    let (server, handed) = handing();
    let world = proxy_with(quick(), announcing(snapshot(&[server], |_| {}), model::ProxyProtocol::V1));
    let mut client = connect(world.address());
    for _ in 0..2 {
        client.write_all(GET).unwrap();
        let mut upstream = handed.recv_timeout(PATIENCE).expect("a connection of its own");
        assert_eq!(line(&mut upstream), named(client.local_addr().unwrap(), world.address()));
        assert!(head(&mut upstream).starts_with("get / http/1.1\r\n"));
        upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert!(head(&mut client).starts_with("http/1.1 204 "));
        assert_eq!(upstream.read(&mut [0]).unwrap(), 0, "it ends with its request");
    }
    counted(&world, "envoy_cluster_upstream_cx_total", "", 2.0);
    counted(&world, "envoy_cluster_upstream_cx_active", "", 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_a_client_has_connections_of_its_own_too() {
    let (server, handed) = handing();
    let mut policy = announcing(snapshot(&[server], |_| {}), model::ProxyProtocol::V1);
    for cluster in policy.clusters.values_mut() {
        Arc::make_mut(cluster).http = model::UpstreamHttp::Http2;
    }
    let world = proxy_with(quick(), policy);
    let socket = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let header = named(socket.local_addr().unwrap(), world.address());
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    // Two at the same time, of one client over one connection.
    let answers = [(); 2].map(|()| {
        let request = http::Request::builder().uri("http://web/").body(()).unwrap();
        client.send_request(request, true).unwrap().0
    });
    let mut servers = Vec::new();
    for _ in 0..2 {
        let mut upstream = tokio::task::block_in_place(|| handed.recv_timeout(PATIENCE)).expect("one for each");
        assert_eq!(tokio::task::block_in_place(|| line(&mut upstream)), header);
        servers.push(tokio::task::spawn_blocking(move || {
            // What follows the header is HTTP/2.
            let mut server = raw::Connection::server(upstream, &raw::settings(&[])).expect("a preface");
            server.await_answer(1).expect("a request");
            let no_content = raw::Block::new().field(":status", "204");
            server.send(&raw::headers(1, true, &no_content)).expect("it reads");
            assert!(!matches!(server.await_end(), ReadError::Deadline(_)), "it ends with its request");
        }));
    }
    for answer in answers {
        assert_eq!(answer.await.expect("an answer").status(), 204);
    }
    for server in servers {
        server.await.expect("no panic");
    }
    counted(&world, "envoy_cluster_upstream_cx_total", "", 2.0);
    counted(&world, "envoy_cluster_upstream_cx_active", "", 0.0);
}

#[test]
fn kept_connections_are_not_used_once_a_header_is_wanted() {
    let (server, handed) = handing();
    let world = proxy_with(quick(), snapshot(&[server], |_| {}));
    let mut client = connect(world.address());
    let exchange = |upstream: &mut TcpStream| {
        assert!(head(upstream).starts_with("get / http/1.1\r\n"));
        upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    };
    client.write_all(GET).unwrap();
    let mut kept = handed.recv_timeout(PATIENCE).unwrap();
    exchange(&mut kept);
    head(&mut client);
    world.proxy.apply(Arc::new(announcing(snapshot(&[server], |_| {}), model::ProxyProtocol::V1)));
    // It takes a moment until the workers know; until then the kept connection is used.
    eventually("a connection with a header", || {
        client.write_all(GET).unwrap();
        let found = handed.recv_timeout(Duration::from_millis(200));
        match found {
            Ok(mut upstream) => {
                assert!(line(&mut upstream).starts_with("PROXY TCP4 "));
                exchange(&mut upstream);
                head(&mut client);
                Some(())
            }
            Err(_) => {
                exchange(&mut kept);
                head(&mut client);
                None
            }
        }
    });
    assert_eq!(kept.read(&mut [0]).unwrap(), 0, "what is of no use is closed");
}

#[test]
fn a_tunnel_begins_with_the_header() {
    let (server, handed) = handing();
    let mut snapshot = announcing(snapshot(&[server], |_| {}), model::ProxyProtocol::V1);
    let table = snapshot.listeners[0].route_tables().next().unwrap();
    let mut vhost = model::VirtualHost::clone(&table.virtual_hosts[0]);
    vhost.name = "web.default.svc.cluster.local:80".into();
    let routes = model::RouteTable { virtual_hosts: vec![Arc::new(vhost)], unmatched: model::Unmatched::NotFound };
    snapshot.listeners = vec![Arc::new(model::Listener::outbound(Arc::new(routes)))];
    let world = proxy_with(quick(), snapshot);
    let address = world.address();
    let mut client = connect(address);
    client.write_all(b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n").unwrap();
    assert!(head(&mut client).starts_with("http/1.1 200 "));
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(line(&mut upstream), named(client.local_addr().unwrap(), address));
    client.write_all(b"x").unwrap();
    assert_eq!(read_some(&mut upstream), b"x");
}
