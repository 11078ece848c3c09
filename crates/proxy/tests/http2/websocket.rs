//! WebSocket where a side speaks HTTP/2 (RFC 8441), and CONNECT over HTTP/2. Between two sides of HTTP/1 it is `upgrade.rs`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use outrigger_model::{self as model, UpstreamHttp};
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, PATIENCE, Reply, response};
use tokio::task::{block_in_place, spawn_blocking};

use super::common::http2::{self, Server, Stream, connect, get};
use super::common::sockets::{self, bytes, counted, handing, head, read_some};
use super::common::{World, proxy_with};
use super::{policy, proxy_to};

const ASKS: &str = "GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    Sec-WebSocket-Protocol: chat\r\nOrigin: http://web\r\n\r\n";
const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// A client's CONNECT for a WebSocket.
fn asks() -> Request<()> {
    let mut request = http2::request("CONNECT", "web/chat", &[("sec-websocket-version", "13")]);
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    request.headers_mut().insert("origin", "http://web".parse().unwrap());
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

/// Asks for a WebSocket over HTTP/2.
fn ask(client: &mut SendRequest<Bytes>) -> (ResponseFuture, SendStream<Bytes>) {
    client.send_request(asks(), false).expect("the stream is open")
}

/// A server of HTTP/2 that takes WebSockets and hands its streams to the test.
async fn taking() -> (Server, Receiver<Stream>) {
    let (hand, handed) = channel();
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let server = Server::start(builder, Arc::new(move |stream| drop(hand.send(stream)))).await;
    (server, handed)
}

/// The next that is handed over, while others go on.
fn next<T>(handed: &Receiver<T>) -> T {
    block_in_place(|| handed.recv_timeout(PATIENCE)).expect("it comes")
}

/// A proxy with a short limit on silence.
fn impatient(endpoint: SocketAddr, http: UpstreamHttp) -> World {
    let settings = Settings { upgrade_idle_timeout: Duration::from_secs(1), ..Settings::default() };
    proxy_with(settings, policy(&[endpoint], http, |_| {}, |_| {}))
}

fn send(stream: &mut SendStream<Bytes>, data: &'static str, ends: bool) {
    stream.send_data(Bytes::from_static(data.as_bytes()), ends).expect("the stream is open");
}

/// The next bytes of a stream; nothing at its end.
async fn some(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let Some(data) = tokio::time::timeout(PATIENCE, body.data()).await.expect("in time") else {
        return Ok(Bytes::new());
    };
    let data = data?;
    body.flow_control().release_capacity(data.len())?;
    Ok(data)
}

/// Everything until the end of a stream.
async fn rest(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match some(body).await.expect("no reset") {
            data if data.is_empty() && body.is_end_stream() => return all,
            data => all.extend_from_slice(&data),
        }
    }
}

/// What an exchange that became a WebSocket has left in the metrics.
#[track_caller]
fn told(world: &World, flag: &str, received: usize, sent: usize) {
    block_in_place(|| {
        counted(world, "istio_requests_total", "101", 1.0);
        counted(world, "istio_requests_total", flag, 1.0);
        counted(world, "istio_tcp_connections_closed_total", flag, 1.0);
        counted(world, "istio_tcp_connections_opened_total", "", 1.0);
        counted(world, "istio_tcp_received_bytes_total", "", received as f64);
        counted(world, "istio_tcp_sent_bytes_total", "", sent as f64);
        counted(world, "envoy_cluster_upstream_rq_active", "", 0.0);
        counted(world, "envoy_http_downstream_rq_active", "", 0.0);
    });
}

fn fields(message: &http::HeaderMap) -> Vec<&str> {
    message.keys().map(http::HeaderName::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http2_reaches_an_endpoint_of_http1() {
    let (server, handed) = handing();
    let world = proxy_to(&[server], UpstreamHttp::Http1);
    let mut client = connect(world.address()).await;
    let (answer, mut up) = ask(&mut client);
    // A hopeful client does not wait for the answer.
    send(&mut up, "early", false);
    let mut upstream = next(&handed);
    let asked = block_in_place(|| head(&mut upstream));
    for line in ["get /chat http/1.1", "host: web", "connection: upgrade", "upgrade: websocket", "origin: http://web"] {
        assert_eq!(asked.lines().filter(|l| *l == line).count(), 1, "{line} in {asked}");
    }
    for line in ["sec-websocket-version: 13", "sec-websocket-protocol: chat"] {
        assert_eq!(asked.lines().filter(|l| *l == line).count(), 1, "{line} in {asked}");
    }
    let key = asked.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("RFC 6455 asks for one");
    assert_eq!(key.len(), 24);
    assert!(!asked.contains("transfer-encoding") && !asked.contains("content-length"), "{asked}");
    upstream.write_all(format!("{GRANTED}first").as_bytes()).unwrap();
    let (answer, mut down) = answer.await.expect("an answer").into_parts();
    assert_eq!(answer.status, 200, "a WebSocket over HTTP/2 is granted by a plain success");
    assert_eq!(answer.headers["sec-websocket-protocol"], "chat");
    for name in ["connection", "upgrade", "sec-websocket-accept", "transfer-encoding", "content-length"] {
        assert!(!answer.headers.contains_key(name), "{name} in {:?}", fields(&answer.headers));
    }
    assert_eq!(some(&mut down).await.unwrap(), "first");
    assert_eq!(block_in_place(|| read_some(&mut upstream)), b"early");
    // Each side finishes by itself, and the connection goes on.
    send(&mut up, "", true);
    assert_eq!(block_in_place(|| upstream.read(&mut [0])).unwrap(), 0);
    upstream.write_all(b"bye").unwrap();
    drop(upstream);
    assert_eq!(rest(&mut down).await, b"bye");
    told(&world, "-", 5, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_http2() {
    let (server, handed) = taking().await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let (answer, mut up) = ask(&mut client);
    send(&mut up, "early", false);
    let Stream { head, mut body, mut respond } = next(&handed);
    assert_eq!(head.extensions.get::<Protocol>().map(Protocol::as_str), Some("websocket"));
    assert_eq!(
        (&head.method, head.uri.path(), head.uri.authority().map(|a| a.as_str())),
        (&Method::CONNECT, "/chat", Some("web"))
    );
    assert_eq!(
        (&head.headers["sec-websocket-version"], &head.headers["sec-websocket-protocol"]),
        (&"13".parse().unwrap(), &"chat".parse().unwrap())
    );
    assert!(!head.headers.contains_key("sec-websocket-key"), "that is of HTTP/1");
    let granted = Response::builder().header("sec-websocket-protocol", "chat").body(()).unwrap();
    let mut back = respond.send_response(granted, false).unwrap();
    send(&mut back, "first", false);
    let (answer, mut down) = answer.await.expect("an answer").into_parts();
    assert_eq!((answer.status.as_u16(), &answer.headers["sec-websocket-protocol"]), (200, &"chat".parse().unwrap()));
    assert!(!answer.headers.contains_key("sec-websocket-accept"));
    assert_eq!((some(&mut down).await.unwrap(), some(&mut body).await.unwrap()), ("first".into(), "early".into()));
    send(&mut up, "last", true);
    assert_eq!(rest(&mut body).await, b"last");
    send(&mut back, "bye", true);
    assert_eq!(rest(&mut down).await, b"bye");
    told(&world, "-", 9, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http1_reaches_an_endpoint_of_http2() {
    let (server, handed) = taking().await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = sockets::connect(world.address());
    client.write_all(format!("{ASKS}early").as_bytes()).unwrap();
    let Stream { head: asked, mut body, mut respond } = next(&handed);
    assert_eq!((asked.method, asked.uri.path()), (Method::CONNECT, "/chat"));
    let names = fields(&asked.headers);
    for name in ["connection", "upgrade", "sec-websocket-key"] {
        assert!(!names.contains(&name), "{name} in {names:?}");
    }
    let granted = Response::builder().header("sec-websocket-protocol", "chat").body(()).unwrap();
    let mut back = respond.send_response(granted, false).unwrap();
    let answer = block_in_place(|| head(&mut client));
    assert!(answer.starts_with("http/1.1 101 switching protocols\r\n"), "{answer}");
    let accept = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";
    for line in [accept, "connection: upgrade", "upgrade: websocket", "sec-websocket-protocol: chat"] {
        assert_eq!(answer.lines().filter(|l| *l == line).count(), 1, "{line} in {answer}");
    }
    assert!(!answer.contains("transfer-encoding") && !answer.contains("content-length"), "{answer}");
    assert_eq!(some(&mut body).await.unwrap(), "early");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut body).await, b"");
    send(&mut back, "bye", true);
    let mut received = Vec::new();
    block_in_place(|| client.read_to_end(&mut received)).unwrap();
    assert_eq!(received, b"bye");
    told(&world, "-", 5, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_none_over_http2_is_asked_over_http1() {
    let (server, handed) = handing();
    let world = proxy_to(&[server], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let (answer, _up) = ask(&mut client);
    let mut shared = next(&handed);
    // SETTINGS that say nothing of it.
    shared.write_all(&outrigger_testkit::h2::settings(&[])).unwrap();
    let mut upstream = next(&handed);
    assert!(block_in_place(|| head(&mut upstream)).starts_with("get /chat http/1.1\r\n"));
    upstream.write_all(GRANTED.as_bytes()).unwrap();
    assert_eq!(answer.await.expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_answer_passes_and_nothing_of_the_client_is_relayed() {
    let old = Backend::start(|_| Reply::Keep(response(403, &[("x-app", "1")], b"no")));
    let (new, handed) = taking().await;
    let refusing = std::thread::spawn(move || {
        for mut stream in handed {
            let answer = Response::builder().status(403).header("x-app", "1").body(()).unwrap();
            let mut body = stream.respond.send_response(answer, false).unwrap();
            body.send_data(Bytes::from_static(b"no"), true).unwrap();
        }
    });
    for (endpoint, http) in [(old.address(), UpstreamHttp::Http1), (new.address, UpstreamHttp::Http2)] {
        let world = proxy_to(&[endpoint], http);
        let mut client = connect(world.address()).await;
        let (answer, mut up) = ask(&mut client);
        send(&mut up, "early", false);
        let (answer, mut body) = answer.await.expect("an answer").into_parts();
        assert_eq!((answer.status.as_u16(), &answer.headers["x-app"]), (403, &"1".parse().unwrap()), "{http:?}");
        assert_eq!(rest(&mut body).await, b"no", "{http:?}");
        // The connection goes on.
        assert_eq!(get(&mut client, "web/").await.expect("an answer").line, "403");

        let mut client = outrigger_testkit::Client::connect(world.address()).unwrap();
        let answer = block_in_place(|| client.exchange(ASKS.as_bytes())).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (403, "no"), "{http:?}");
        block_in_place(|| counted(&world, "istio_requests_total", "403", 3.0));
        assert_eq!(world.sum("istio_tcp_connections_opened_total", ""), 0.0);
    }
    assert!(old.garbage().is_empty(), "{:?}", old.garbage());
    assert!(!refusing.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_another_protocol_or_half_of_one_is_reset() {
    let (server, handed) = handing();
    let world = proxy_to(&[server], UpstreamHttp::Http1);
    let mut client = connect(world.address()).await;
    let mut other = asks();
    other.extensions_mut().insert(Protocol::from_static("connect-udp"));
    let (answer, _up) = client.send_request(other, false).unwrap();
    assert_eq!(answer.await.expect_err("a reset").reason(), Some(Reason::PROTOCOL_ERROR));
    assert!(handed.try_recv().is_err(), "nobody hears of it");
}

/// Copies both ways at once, more than any window, and compares.
async fn much(client: (SendStream<Bytes>, RecvStream), mut upstream: TcpStream) -> (usize, usize) {
    let (up, down) = (bytes(5 * 1024 * 1024), bytes(4 * 1024 * 1024 + 1));
    let (mut sending, mut receiving) = client;
    let (want_up, want_down) = (up.clone(), down.clone());
    let mut writing = upstream.try_clone().unwrap();
    let answering = spawn_blocking(move || {
        writing.write_all(&down).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    let reading = spawn_blocking(move || {
        let mut received = Vec::new();
        upstream.read_to_end(&mut received).unwrap();
        received
    });
    let length = (up.len(), want_down.len());
    let (received, ()) = tokio::join!(rest(&mut receiving), async {
        http2::send(&mut sending, up.into(), None).await;
    });
    assert!(received == want_down);
    assert!(reading.await.unwrap() == want_up);
    answering.await.unwrap();
    length
}

#[tokio::test(flavor = "multi_thread")]
async fn much_passes_both_ways() {
    let (server, handed) = handing();
    let world = proxy_to(&[server], UpstreamHttp::Http1);
    let mut client = connect(world.address()).await;
    let (answer, up) = ask(&mut client);
    let mut upstream = next(&handed);
    block_in_place(|| head(&mut upstream));
    upstream.write_all(GRANTED.as_bytes()).unwrap();
    let down = answer.await.expect("an answer").into_body();
    let (received, sent) = much((up, down), upstream).await;
    told(&world, "-", received, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_on_one_side_is_reset_on_the_other() {
    let (server, handed) = handing();
    let (new, streams) = taking().await;
    let (old_world, new_world) =
        (proxy_to(&[server], UpstreamHttp::Http1), proxy_to(&[new.address], UpstreamHttp::Http2));

    let mut client = connect(old_world.address()).await;
    let (answer, mut up) = ask(&mut client);
    let mut upstream = next(&handed);
    block_in_place(|| head(&mut upstream));
    upstream.write_all(GRANTED.as_bytes()).unwrap();
    let _down = answer.await.expect("an answer");
    up.send_reset(Reason::CANCEL);
    let broken = block_in_place(|| upstream.read(&mut [0])).expect_err("a reset").kind();
    assert_eq!(broken, std::io::ErrorKind::ConnectionReset);
    told(&old_world, "DC", 0, 0);

    let mut client = connect(new_world.address()).await;
    let (answer, _up) = ask(&mut client);
    let mut stream = next(&streams);
    let mut back = stream.respond.send_response(Response::new(()), false).unwrap();
    let mut down = answer.await.expect("an answer").into_body();
    back.send_reset(Reason::INTERNAL_ERROR);
    assert!(some(&mut down).await.is_err(), "an end would look as if all was said");
    told(&new_world, "UC", 0, 0);
    assert!(get_reset(&mut client).await, "the connection goes on");
}

/// Whether a connection still takes requests.
async fn get_reset(client: &mut SendRequest<Bytes>) -> bool {
    std::future::poll_fn(|cx| client.poll_ready(cx)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_has_a_limit() {
    let (server, streams) = taking().await;
    let world = impatient(server.address, UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let (answer, mut up) = ask(&mut client);
    let mut stream = next(&streams);
    let mut back = stream.respond.send_response(Response::new(()), false).unwrap();
    let mut down = answer.await.expect("an answer").into_body();
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(1600) {
        send(&mut up, "x", false);
        assert_eq!(some(&mut stream.body).await.unwrap(), "x", "what one side says keeps both");
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(100)).await;
    }
    assert!(some(&mut down).await.is_err());
    assert!(std::future::poll_fn(|cx| back.poll_reset(cx)).await.is_ok());
    block_in_place(|| counted(&world, "istio_requests_total", "SI", 1.0));
}

/// A proxy that knows the service as `web:80`.
fn forward_proxy(endpoint: SocketAddr) -> World {
    let mut snapshot = policy(&[endpoint], UpstreamHttp::Http2, |_| {}, |_| {});
    let table = snapshot.listeners[0].route_tables().next().unwrap();
    let mut vhost = model::VirtualHost::clone(&table.virtual_hosts[0]);
    vhost.name = "web.default.svc.cluster.local:80".into();
    let routes = model::RouteTable { virtual_hosts: vec![Arc::new(vhost)], unmatched: model::Unmatched::NotFound };
    snapshot.listeners = vec![Arc::new(model::Listener::outbound(Arc::new(routes)))];
    proxy_with(Settings::default(), snapshot)
}

/// A CONNECT without protocol: to a host and port.
fn tunnel(client: &mut SendRequest<Bytes>) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::builder().method("CONNECT").uri("web:80").body(()).unwrap();
    client.send_request(request, false).expect("the stream is open")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_over_http2_leads_to_an_endpoint_of_the_service() {
    let (server, handed) = handing();
    let world = forward_proxy(server);
    let mut client = connect(world.address()).await;
    // Two at the same time on one connection.
    let mut tunnels: Vec<_> = (0..2)
        .map(|_| {
            let (answer, mut up) = tunnel(&mut client);
            send(&mut up, "early", false);
            (answer, up, next(&handed))
        })
        .collect();
    for (answer, up, upstream) in &mut tunnels {
        let (answer, mut down) = answer.await.expect("an answer").into_parts();
        assert_eq!(answer.status, 200);
        for name in ["content-length", "transfer-encoding"] {
            assert!(!answer.headers.contains_key(name), "RFC 9110 §9.3.6: no {name}");
        }
        assert_eq!(block_in_place(|| read_some(upstream)), b"early", "bytes as they are, whatever the service speaks");
        upstream.write_all(b"first").unwrap();
        assert_eq!(some(&mut down).await.unwrap(), "first");
        send(up, "", true);
        assert_eq!(block_in_place(|| upstream.read(&mut [0])).unwrap(), 0, "each side finishes by itself");
        upstream.write_all(b"bye").unwrap();
        upstream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut down).await, b"bye");
    }
    block_in_place(|| {
        counted(&world, "istio_requests_total", "200", 2.0);
        counted(&world, "istio_tcp_connections_closed_total", "-", 2.0);
        counted(&world, "istio_tcp_received_bytes_total", "", 10.0);
        counted(&world, "istio_tcp_sent_bytes_total", "", 16.0);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_cannot_be_is_an_answer() {
    let world = forward_proxy(outrigger_testkit::free_address());
    let mut client = connect(world.address()).await;
    let (answer, _up) = tunnel(&mut client);
    assert_eq!(answer.await.expect("an answer").status(), 503);
    block_in_place(|| counted(&world, "istio_requests_total", "UF", 1.0));
    assert!(get_reset(&mut client).await, "the connection goes on");
}
