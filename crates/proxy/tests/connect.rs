//! CONNECT through the forward proxy: where a tunnel leads, what passes, what is refused, and what is counted.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use common::gateway::{self, chain, to_http};
use common::sockets::{connect, counted, handing, head, read_some};
use common::{World, proxy_with, snapshot};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, How, PATIENCE, Reply, eventually, response};

const SERVICE: &str = "web.default.svc.cluster.local";

/// A snapshot that knows the service as `web` and by its whole name, at port 80.
fn registry(endpoints: &[SocketAddr], unmatched: model::Unmatched) -> model::Snapshot {
    let mut snapshot = snapshot(endpoints, |route| {
        // The routes of HTTP have no say over a tunnel.
        let model::Action::Forward(forward) = &mut route.action else { unreachable!("it forwards") };
        forward.destinations[0].cluster = model::ClusterName::new("outbound|80||elsewhere");
    });
    let table = snapshot.listeners[0].route_tables().next().unwrap();
    let mut vhost = model::VirtualHost::clone(&table.virtual_hosts[0]);
    vhost.name = format!("{SERVICE}:80").into();
    let domain =
        |name: &str| model::Domain { host: model::HostPattern::Exact(name.into()), port: model::DomainPort::Exact(80) };
    vhost.domains = vec![domain("web"), domain(SERVICE)];
    let routes = model::RouteTable { virtual_hosts: vec![Arc::new(vhost)], unmatched };
    snapshot.listeners = vec![Arc::new(model::Listener::outbound(Arc::new(routes)))];
    snapshot
}

fn world(endpoints: &[SocketAddr], unmatched: model::Unmatched) -> World {
    proxy_with(Settings::default(), registry(endpoints, unmatched))
}

fn request(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Connection: keep-alive\r\n\r\n")
}

/// A client with a tunnel.
fn open(world: &World, authority: &str) -> TcpStream {
    let mut client = connect(world.address());
    client.write_all(request(authority).as_bytes()).unwrap();
    let answer = head(&mut client);
    assert!(answer.starts_with("http/1.1 200 "), "{authority}: {answer}");
    assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
    client
}

/// The status of a tunnel that is refused, in a connection that ends with it: what a hopeful client sent behind is never
/// taken for a request.
#[track_caller]
fn refused(world: &World, request: &str) -> u16 {
    let mut client = Client::connect(world.address()).unwrap();
    client.send(format!("{request}GET http://web/smuggled HTTP/1.1\r\nHost: web\r\n\r\n").as_bytes()).unwrap();
    let answer = client.read_response("CONNECT").unwrap();
    assert!(answer.closes(), "{request}: {:?}", answer.fields);
    let ending = client.read_ending();
    assert_eq!((ending.how, ending.bytes.len()), (How::Closed, 0), "{request}");
    answer.status
}

fn active(world: &World) -> u32 {
    world.proxy.clusters().iter().flat_map(|cluster| &cluster.endpoints).map(|e| e.active_requests).sum()
}

#[test]
fn a_tunnel_leads_to_an_endpoint_of_the_service() {
    let (server, handed) = handing();
    let world = world(&[server], model::Unmatched::BlackHole);
    for (at, name) in ["web:80", "WEB:80", &format!("{SERVICE}:80"), &format!("{SERVICE}.:80")].into_iter().enumerate()
    {
        let mut client = connect(world.address());
        client.write_all(format!("{}early", request(name)).as_bytes()).unwrap();
        let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
        upstream.write_all(b"first").unwrap();
        assert!(head(&mut client).starts_with("http/1.1 200 "));
        assert_eq!((read_some(&mut client), read_some(&mut upstream)), (b"first".to_vec(), b"early".to_vec()));
        assert_eq!(active(&world), 1);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(upstream.read(&mut [0]).unwrap(), 0, "each side finishes by itself");
        upstream.write_all(b"bye").unwrap();
        drop(upstream);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"bye");
        counted(&world, "istio_requests_total", "200", (at + 1) as f64);
    }
    assert!(world.has_only("istio_requests_total", "destination_service", SERVICE));
    let sum = |metric| world.sum(metric, "");
    counted(&world, "istio_tcp_connections_closed_total", "-", 4.0);
    assert_eq!((sum("istio_tcp_received_bytes_total"), sum("istio_tcp_sent_bytes_total")), (20.0, 32.0));
    assert_eq!((sum("istio_requests_total"), sum("envoy_cluster_upstream_rq_total")), (4.0, 4.0));
    assert_eq!(sum("envoy_cluster_upstream_cx_total"), 4.0);
    eventually("a free endpoint", || (active(&world) == 0).then_some(()));
}

#[test]
fn requests_pass_in_a_tunnel_and_endpoints_take_turns() {
    let backends = ["one", "two"].map(|name| {
        Backend::start(move |request| Reply::Keep(response(200, &[], format!("{name} {}", request.target).as_bytes())))
    });
    let world = world(&backends.each_ref().map(Backend::address), model::Unmatched::BlackHole);
    let mut answers = Vec::new();
    for _ in 0..8 {
        let mut tunnel = open(&world, "web:80");
        tunnel.write_all(b"GET /a HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").unwrap();
        tunnel.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        tunnel.read_to_string(&mut answer).unwrap();
        answers.push(answer.split("\r\n\r\n").nth(1).unwrap().to_owned());
    }
    answers.sort();
    answers.dedup();
    assert_eq!(answers, ["one /a", "two /a"]);
}

#[test]
fn an_unknown_host_is_reached_where_that_is_allowed() {
    let (server, handed) = handing();
    let world = world(&[], model::Unmatched::Passthrough);
    let mut client = open(&world, &server.to_string());
    let mut upstream = handed.recv_timeout(PATIENCE).unwrap();
    client.write_all(b"x").unwrap();
    assert_eq!(read_some(&mut upstream), b"x");
    drop(client);
    drop(upstream);
    counted(&world, "istio_requests_total", "PassthroughCluster", 1.0);
    counted(&world, "istio_tcp_connections_closed_total", "PassthroughCluster", 1.0);

    assert_eq!(refused(&world, &request(&world.address().to_string())), 508, "the proxy itself");
    // A port that is taken and on which nobody listens.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    taken.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = taken.local_addr().unwrap().as_socket().unwrap();
    assert_eq!(refused(&world, &request(&address.to_string())), 503);
    counted(&world, "istio_requests_total", "UF", 1.0);
}

#[test]
fn an_unknown_host_is_refused_where_configuration_says_so() {
    let victim = Backend::start(|_| Reply::Keep(response(200, &[], b"")));
    let world = world(&[victim.address()], model::Unmatched::BlackHole);
    for authority in [victim.address().to_string(), format!("localhost:{}", victim.address().port()), "web:81".into()] {
        assert_eq!(refused(&world, &request(&authority)), 502, "{authority}");
    }
    counted(&world, "istio_requests_total", "BlackHoleCluster", 3.0);
    assert_eq!(victim.connections(), 0, "nobody was dialled");
}

#[test]
fn a_service_without_endpoints_or_cluster_is_told_so() {
    let world = world(&[], model::Unmatched::Passthrough);
    assert_eq!(refused(&world, &request("web:80")), 503);
    counted(&world, "istio_requests_total", "UH", 1.0);
    let mut without = registry(&[], model::Unmatched::Passthrough);
    without.clusters.clear();
    world.proxy.apply(Arc::new(without));
    eventually("no cluster", || {
        refused(&world, &request("web:80"));
        (world.sum("istio_requests_total", "NC") > 0.0).then_some(())
    });
    assert_eq!(world.sum("istio_tcp_connections_opened_total", ""), 0.0);
}

#[test]
fn what_is_no_tunnel_is_refused() {
    let (server, handed) = handing();
    let world = world(&[server], model::Unmatched::Passthrough);
    let with = |line: &str| request("web:80").replace("Proxy-Connection: keep-alive", line);
    for bad in [
        request("web"),
        request("web:0"),
        request("web:65536"),
        with("Content-Length: 3"),
        with("Transfer-Encoding: chunked"),
        with("Content-Length: 0"),
        "CONNECT / HTTP/1.1\r\nHost: web\r\n\r\n".into(),
        "CONNECT http://web:80/ HTTP/1.1\r\nHost: web:80\r\n\r\n".into(),
    ] {
        assert_eq!(refused(&world, &bad), 400, "{bad}");
    }
    assert!(handed.try_recv().is_err(), "nobody was dialled");
}

#[test]
fn a_gateway_and_a_containers_port_are_no_forward_proxy() {
    let (server, handed) = handing();
    let snapshot = gateway::gateway(vec![chain(&[], None, to_http("web"))], &[("web", &[server])]);
    let world = gateway::start(Settings::default(), snapshot);
    for authority in [server.to_string(), "web.example:443".into(), "[::1]:22".into(), "a:80".into()] {
        assert_eq!(refused(&world, &request(&authority)), 405, "{authority}");
    }

    let mut inbound = registry(&[server], model::Unmatched::NotFound);
    let routes = inbound.listeners[0].route_tables().next().unwrap().clone();
    let port = model::Inbound { container: "app".into(), port: 80, port_name: "http".into() };
    inbound.listeners = vec![Arc::new(model::Listener {
        // The name under which the test's socket is known.
        name: model::Listener::OUTBOUND.into(),
        direction: model::Direction::Inbound(Arc::new(port)),
        port: 80,
        proxy_protocol: None,
        chains: vec![model::Chain::plain(routes)],
    })];
    let world = proxy_with(Settings::default(), inbound);
    assert_eq!(refused(&world, &request("web:80")), 405);
    assert!(handed.try_recv().is_err(), "nobody was dialled");
}

#[test]
fn what_breaks_off_on_one_side_is_reset_on_the_other() {
    let (server, handed) = handing();
    let world = world(&[server], model::Unmatched::BlackHole);
    for (client_breaks, flag) in [(true, "DC"), (false, "UC")] {
        let client = open(&world, "web:80");
        let upstream = handed.recv_timeout(PATIENCE).unwrap();
        let (broken, mut other) = if client_breaks { (client, upstream) } else { (upstream, client) };
        socket2::SockRef::from(&broken).set_linger(Some(Duration::ZERO)).unwrap();
        drop(broken);
        assert_eq!(other.read(&mut [0]).expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
        counted(&world, "istio_requests_total", flag, 1.0);
        counted(&world, "istio_tcp_connections_closed_total", flag, 1.0);
    }
}
