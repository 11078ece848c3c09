//! Messages pass whole whatever the two sides speak.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use outrigger_model::UpstreamHttp;
use outrigger_testkit::{Backend, Client, Reply, response};

use super::common::http2::{self, Message, Server, connect, exchange, get, request};
use super::{proxy_edited, proxy_to};

/// Answers with what it got.
async fn mirror() -> Server {
    Server::scripted(|request: &Message| {
        let answer = Response::builder().status(200).header("x-app", "1").body(()).unwrap();
        (answer, request.body.clone(), Some(http2::trailers(&[("x-sum", "42")])))
    })
    .await
}

#[tokio::test]
async fn both_sides_speak_http_2() {
    let server = mirror().await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let fields =
        [("cookie", "a=1"), ("cookie", "b=2"), ("x-empty", ""), ("te", "trailers"), ("x-envoy-retry-on", "5xx")];
    let sent = request("POST", "web.example/a/../b?q=1", &fields);
    let body = vec![b'x'; 300_000];
    let answer = exchange(&mut client, sent, &body, Some(http2::trailers(&[("x-end", "1"), ("host", "evil")]))).await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.line.as_str(), answer.body.len()), ("200", body.len()));
    assert_eq!((answer.fields, answer.trailers), (vec!["x-app: 1".to_owned()], vec!["x-sum: 42".to_owned()]));
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST http://web.example/b?q=1");
    assert_eq!(seen.fields, ["cookie: a=1", "cookie: b=2", "te: trailers", "x-empty: "]);
    assert_eq!((seen.body.len(), &seen.trailers[..]), (body.len(), &["x-end: 1".to_owned()][..]));
}

#[tokio::test]
async fn a_client_of_http_2_reaches_a_server_of_http_1() {
    let backend = Backend::start(|request| {
        assert!(request.body.len() == 70_000 || request.body.is_empty(), "the body is whole");
        let mut answer = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec();
        answer.extend_from_slice(
            b"HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        answer.extend_from_slice(b"5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n");
        Reply::Keep(answer)
    });
    let world = proxy_to(&[backend.address()], UpstreamHttp::Http1);
    let mut client = connect(world.address()).await;
    let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")];
    let sent = request("PUT", "web.example/x", &fields);
    let answer = exchange(&mut client, sent, &vec![b'x'; 70_000], Some(http2::trailers(&[("x-end", "1")]))).await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.line.as_str(), &answer.body[..]), ("200", &b"hello"[..]));
    assert_eq!((answer.fields, answer.trailers), (Vec::new(), vec!["x-sum: 42".to_owned()]));
    get(&mut client, "web.example/y").await.expect("the connection to the server is kept, as is the client's");
    let seen = backend.seen();
    assert_eq!((seen[0].target.as_str(), seen[0].version.as_str()), ("/x", "HTTP/1.1"));
    assert_eq!(seen[0].fields.get("cookie"), Some("a=1; b=2"));
    assert_eq!(seen[0].fields.get("host"), Some("web.example"));
    assert_eq!(seen[0].fields.get("transfer-encoding"), Some("chunked"));
    assert!(seen[0].fields.get("te").is_none());
    assert!(seen[1].fields.get("transfer-encoding").is_none() && seen[1].fields.get("content-length").is_none());
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_client_of_http_1_reaches_a_server_of_http_2() {
    let server = mirror().await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let address = world.address();
    let answers = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(address).unwrap();
        let chunked =
            b"POST /c HTTP/1.1\r\nHost: web\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-End: 1\r\n\r\n";
        let first = client.exchange(chunked).unwrap();
        let second = client.exchange(b"POST /l HTTP/1.1\r\nHost: web\r\ncontent-length: 2\r\n\r\nde").unwrap();
        let third = client.exchange(b"GET /n HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
        [first, second, third].map(|answer| (answer.status, answer.text()))
    });
    let answers = answers.await.expect("no panic");
    assert_eq!(answers, [(200, "abc".to_owned()), (200, "de".to_owned()), (200, String::new())]);
    let seen = server.seen();
    assert_eq!(seen[0].trailers, ["x-end: 1"]);
    assert_eq!(seen[1].fields, ["content-length: 2"]);
    assert_eq!(seen[2].line, "GET http://web/n");
    assert_eq!(server.connections.load(std::sync::atomic::Ordering::Relaxed), 1, "one connection carries them all");
}

#[tokio::test]
async fn an_answer_without_body_keeps_a_client_s_connection_of_http_1() {
    let server = Server::scripted(|request: &Message| {
        let status = if request.line.ends_with("/none") { 304 } else { 200 };
        (Response::builder().status(status).body(()).unwrap(), Bytes::new(), None)
    })
    .await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let address = world.address();
    let lengths = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(address).expect("it listens");
        [("GET", "/"), ("HEAD", "/"), ("GET", "/none"), ("DELETE", "/")].map(|(method, target)| {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: web\r\n\r\n");
            let answer = client.exchange(request.as_bytes()).expect("an answer that ends");
            answer.fields.get("content-length").map(str::to_owned)
        })
    });
    // Who asks by HEAD learns what it would be only from those who know.
    let zero = Some("0".to_owned());
    assert_eq!(lengths.await.expect("no panic"), [zero.clone(), None, None, zero]);
}

#[tokio::test]
async fn a_cluster_may_speak_as_its_client_does() {
    let (server, backend) = (mirror().await, Backend::start(|_| Reply::Keep(response(200, &[], b"one"))));
    let world = proxy_to(&[server.address], UpstreamHttp::AsClient);
    let mut client = connect(world.address()).await;
    assert_eq!(get(&mut client, "web/").await.expect("over HTTP/2").line, "200");
    let world = proxy_to(&[backend.address()], UpstreamHttp::AsClient);
    let address = world.address();
    let answer = tokio::task::spawn_blocking(move || {
        Client::connect(address).unwrap().exchange(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap().text()
    });
    assert_eq!(answer.await.expect("no panic"), "one");
}

#[tokio::test]
async fn heads_without_body_end_at_once() {
    let server = Server::scripted(|request: &Message| {
        let status = if request.line.starts_with("HEAD") { 200 } else { 204 };
        let answer = Response::builder().status(status);
        let answer = if status == 200 { answer.header("content-length", "5") } else { answer };
        (answer.body(()).unwrap(), Bytes::new(), None)
    })
    .await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let head = exchange(&mut client, request("HEAD", "web/", &[]), b"", None).await.expect("an answer");
    assert_eq!((head.line.as_str(), head.fields), ("200", vec!["content-length: 5".to_owned()]));
    let answer = get(&mut client, "web/").await.expect("an answer");
    assert_eq!((answer.line.as_str(), answer.fields.len()), ("204", 0));
}

#[tokio::test]
async fn what_the_proxy_says_itself_reads_as_http_2() {
    let world = proxy_edited(&[], UpstreamHttp::Http2, |_| {}, |_| {});
    let mut client = connect(world.address()).await;
    let answer = get(&mut client, "web/").await.expect("an answer");
    assert_eq!(answer.line, "503");
    assert!(answer.body.starts_with(b"no healthy upstream\n"));
    assert!(answer.fields.iter().any(|field| field.starts_with("proxy-status: ") && field.ends_with("flag=UH")));
    assert!(!answer.fields.iter().any(|field| field.starts_with("connection")));
}

#[tokio::test]
async fn a_route_s_timeout_ends_a_stream_that_nobody_answers() {
    let server = Server::start(
        h2::server::Builder::new(),
        std::sync::Arc::new(|stream| {
            // Kept, and never answered.
            tokio::spawn(async move {
                let _stream = stream;
                std::future::pending::<()>().await;
            });
        }),
    )
    .await;
    let limit = |route: &mut outrigger_model::Route| route.timeout = Some(Duration::from_millis(200));
    let world = proxy_edited(&[server.address], UpstreamHttp::Http2, |_| {}, limit);
    let mut client = connect(world.address()).await;
    let answer = get(&mut client, "web/").await.expect("an answer");
    assert!(answer.line == "504" && answer.body.starts_with(b"upstream request timeout"), "{answer:?}");
}
