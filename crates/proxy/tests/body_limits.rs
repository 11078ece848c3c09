//! Longest bodies, whatever the two sides speak.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::http2::{self, Message, Server, connect, request};
use common::{World, proxy_with, snapshot};
use http::Response;
use outrigger_model::{self as model, UpstreamHttp};
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Client, How, Reply, eventually, response};

/// Longer than what is held of a body, and than a block.
const MAX: usize = 100_000;

fn proxy(to: std::net::SocketAddr, http: UpstreamHttp, limits: model::BodyLimits) -> World {
    let mut snapshot = snapshot(&[to], |route| route.body_limits = limits);
    let cluster = snapshot.clusters.values_mut().next().unwrap();
    *cluster = Arc::new(model::Cluster { http, ..model::Cluster::clone(cluster) });
    proxy_with(Settings::default(), snapshot)
}

fn of_requests(max: usize) -> model::BodyLimits {
    model::BodyLimits { request_bytes: Some(max as u64), response_bytes: None }
}

fn of_answers(max: usize) -> model::BodyLimits {
    model::BodyLimits { request_bytes: None, response_bytes: Some(max as u64) }
}

/// Two backends that tell how many bytes they got: one of HTTP/1, one of HTTP/2.
struct Backends {
    one: Backend,
    two: Server,
}

impl Backends {
    async fn start() -> Self {
        let one =
            Backend::start(|request| Reply::Keep(response(200, &[], format!("got {}", request.body.len()).as_bytes())));
        let two = Server::scripted(|request: &Message| {
            let got = format!("got {}", request.body.len());
            (Response::builder().status(200).body(()).unwrap(), got.into(), None)
        });
        Self { one, two: two.await }
    }

    fn addresses(&self) -> [(std::net::SocketAddr, UpstreamHttp); 2] {
        [(self.one.address(), UpstreamHttp::Http1), (self.two.address, UpstreamHttp::Http2)]
    }
}

/// Status and body of the answer to a request whose body is so long, by HTTP/1.
async fn post_http1(world: &World, bytes: usize, chunked: bool) -> (String, String) {
    let address = world.address();
    let posted = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(address).unwrap();
        let body = "x".repeat(bytes);
        let request = match chunked {
            false => format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{body}"),
            true => {
                let mut request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
                for chunk in body.as_bytes().chunks(5000) {
                    let chunk = std::str::from_utf8(chunk).unwrap();
                    request.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
                }
                request + "0\r\n\r\n"
            }
        };
        let answer = client.exchange(request.as_bytes()).unwrap();
        (answer.status.to_string(), answer.text())
    });
    posted.await.unwrap()
}

/// The same by HTTP/2.
async fn post_http2(world: &World, bytes: usize, states_length: bool) -> (String, String) {
    let length = bytes.to_string();
    let fields = [("content-length", length.as_str())];
    let fields = if states_length { &fields[..] } else { &[] };
    let mut client = connect(world.address()).await;
    let sent = request("POST", "a/", fields);
    let answer = http2::exchange(&mut client, sent, &vec![b'x'; bytes], None).await.unwrap();
    (answer.line, String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn a_request_may_be_as_long_as_allowed_and_not_a_byte_longer() {
    let backends = Backends::start().await;
    // Short ones are held whole, long ones are relayed as they come.
    for max in [10, MAX] {
        for (address, http) in backends.addresses() {
            let world = proxy(address, http, of_requests(max));
            for (bytes, expected) in
                [(max, ("200", format!("got {max}"))), (max + 1, ("413", "Payload Too Large".into()))]
            {
                for known in [true, false] {
                    let what = format!("{bytes} of {max} to {http:?}, length known: {known}");
                    for (status, body) in
                        [post_http1(&world, bytes, !known).await, post_http2(&world, bytes, known).await]
                    {
                        let first = body.lines().next().unwrap_or_default();
                        assert_eq!((status.as_str(), first), (expected.0, expected.1.as_str()), "{what}");
                    }
                }
            }
            let details = "request_payload_too_large";
            eventually("the refusals are counted", || {
                (world.sum("outrigger_proxy_replies_total", details) == 4.0).then_some(())
            });
            assert_eq!(world.sum("istio_requests_total", "DPE"), 4.0);
        }
    }
    assert!(backends.one.seen().iter().all(|seen| seen.body.len() != MAX + 1), "none went through whole");
    assert!(backends.two.seen().iter().all(|seen| seen.body.len() <= MAX));
}

#[test]
fn what_is_known_to_be_too_long_is_not_even_asked_for() {
    let backend = Backend::start(|_| Reply::Keep(response(200, &[], b"")));
    let world = proxy(backend.address(), UpstreamHttp::Http1, of_requests(10));
    let mut client = Client::connect(world.address()).unwrap();
    let expecting = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n";
    let answer = client.exchange(expecting).unwrap();
    assert_eq!((answer.status, answer.interim, backend.connections()), (413, Vec::new(), 0));
}

/// Backends whose answers are so long, with a stated length or without.
async fn answering(bytes: usize, states_length: bool) -> Backends {
    let one = Backend::start(move |_| {
        if states_length {
            return Reply::Keep(response(200, &[], &vec![b'x'; bytes]));
        }
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in vec![b'x'; bytes].chunks(5000) {
            answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\n\r\n");
        Reply::Keep(answer)
    });
    let two = Server::scripted(move |_: &Message| {
        let mut head = Response::builder().status(200);
        if states_length {
            head = head.header("content-length", bytes);
        }
        (head.body(()).unwrap(), Bytes::from(vec![b'x'; bytes]), None)
    });
    Backends { one, two: two.await }
}

#[tokio::test]
async fn an_answer_is_refused_or_cut_where_it_is_too_long() {
    for (bytes, states_length, expected) in [
        (MAX, true, "200, whole"),
        (MAX, false, "200, whole"),
        (MAX + 1, true, "502, whole"),
        (MAX + 1, false, "200, cut"),
    ] {
        let backends = answering(bytes, states_length).await;
        for (address, http) in backends.addresses() {
            let world = proxy(address, http, of_answers(MAX));
            let what = format!("{bytes} from {http:?}, length known: {states_length}");
            let to = world.address();
            let of_http1 = tokio::task::spawn_blocking(move || {
                let mut client = Client::connect(to).unwrap();
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
                let ending = client.read_ending();
                let text = String::from_utf8_lossy(&ending.bytes).into_owned();
                let status = text.split(' ').nth(1).unwrap_or_default().to_owned();
                format!("{status}, {}", if ending.how == How::Reset { "cut" } else { "whole" })
            });
            assert_eq!(of_http1.await.unwrap(), expected, "by HTTP/1: {what}");
            let mut client = connect(to).await;
            let (answer, _) = client.send_request(request("GET", "a/", &[]), true).unwrap();
            let (head, mut body) = answer.await.unwrap().into_parts();
            let read = http2::read(head.status.as_str().to_owned(), &head.headers, &mut body).await;
            let end = if read.is_err() { "cut" } else { "whole" };
            assert_eq!(format!("{}, {end}", head.status.as_u16()), expected, "by HTTP/2: {what}");
            if bytes > MAX {
                eventually("both are counted", || (world.sum("istio_requests_total", "UPE") == 2.0).then_some(()));
            }
        }
    }
}

#[test]
fn an_answer_that_only_tells_a_length_is_not_judged_by_it() {
    let backend = Backend::start(|_| Reply::Keep(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n".to_vec()));
    let world = proxy(backend.address(), UpstreamHttp::Http1, of_answers(10));
    let mut client = Client::connect(world.address()).unwrap();
    let answer = client.exchange(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.fields.get("content-length")), (200, Some("5000")));
}

#[test]
fn an_answer_to_a_client_of_http_1_0_is_cut_too() {
    let mut answer = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
    answer.extend_from_slice(&[b'x'; 1000]);
    let backend = Backend::start(move |_| Reply::Close(answer.clone()));
    for (max, how) in [(1000, How::Closed), (999, How::Reset)] {
        let world = proxy(backend.address(), UpstreamHttp::Http1, of_answers(max));
        let mut client = Client::connect(world.address()).unwrap();
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.read_ending().how, how, "{max}");
    }
}
