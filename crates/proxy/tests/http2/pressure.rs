//! Readers that do not read: whoever writes to them waits, and nobody else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::Response;
use outrigger_model::UpstreamHttp;
use outrigger_proxy::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::common::http2::{self, Serve, Server, Stream, connect, connect_with, exchange, get, read, request};
use super::common::proxy_with;
use super::{policy, proxy_to};

/// Longer than everything that may lie on the way.
const LONG: usize = 50 * 1024 * 1024;

/// Sends as the windows allow, and counts.
async fn pour(mut stream: SendStream<Bytes>, count: Arc<AtomicUsize>) {
    let block = Bytes::from(vec![b'x'; 16 * 1024]);
    for _ in 0..LONG / block.len() {
        stream.reserve_capacity(block.len());
        while stream.capacity() < block.len() {
            let Some(Ok(_)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        }
        if stream.send_data(block.clone(), false).is_err() {
            return;
        }
        count.fetch_add(block.len(), Ordering::Relaxed);
    }
    let _ = stream.send_data(Bytes::new(), true);
}

/// A server with an answer of this length at `/long`, and short ones elsewhere.
async fn pouring() -> (Server, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let serve: Serve = Arc::new(move |mut stream: Stream| {
        let answer = Response::new(());
        if stream.head.uri.path() != "/long" {
            let mut body = stream.respond.send_response(answer, false).expect("a client");
            return body.send_data(Bytes::from_static(b"short"), true).expect("it is open");
        }
        let body = stream.respond.send_response(answer, false).expect("a client");
        tokio::spawn(pour(body, count.clone()));
    });
    (Server::start(h2::server::Builder::new(), serve).await, sent)
}

/// What a count comes to: it no longer grows while others go to and fro.
async fn settled(count: &AtomicUsize, proxy: std::net::SocketAddr) -> usize {
    let mut client = connect(proxy).await;
    loop {
        let before = count.load(Ordering::Relaxed);
        for _ in 0..200 {
            get(&mut client, "web/short").await.expect("an answer");
        }
        if before > 0 && count.load(Ordering::Relaxed) == before {
            return before;
        }
    }
}

#[tokio::test]
async fn a_client_of_http_2_that_does_not_read_stops_the_server() {
    let (server, sent) = pouring().await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let (answer, _) = client.send_request(request("GET", "web/long", &[]), true).expect("room");
    let mut body = answer.await.expect("an answer").into_body();
    let on_the_way = settled(&sent, world.address()).await;
    assert!(on_the_way < 1024 * 1024, "{on_the_way} bytes");
    let mut received = 0;
    while let Some(data) = body.data().await {
        received += data.as_ref().expect("no reset").len();
        body.flow_control().release_capacity(data.expect("seen").len()).expect("it came");
    }
    assert_eq!(received, LONG, "it goes on when it is read");
}

#[tokio::test]
async fn a_client_of_http_1_that_does_not_read_stops_the_server() {
    let (server, sent) = pouring().await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = TcpStream::connect(world.address()).await.expect("the proxy listens");
    client.write_all(b"GET /long HTTP/1.1\r\nHost: web\r\n\r\n").await.expect("it reads");
    client.readable().await.expect("an answer");
    let on_the_way = settled(&sent, world.address()).await;
    // The system holds some megabytes for a socket.
    assert!(on_the_way < LONG / 2, "{on_the_way} bytes");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_a_server_of_http_1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("bound");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let length = socket.read(&mut head).await.expect("a request");
                if !head[..length].starts_with(b"GET /long") {
                    let short = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nshort";
                    return socket.write_all(short).await.expect("it reads");
                }
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n");
                socket.write_all(head.as_bytes()).await.expect("it reads");
                let block = vec![b'x'; 16 * 1024];
                while socket.write_all(&block).await.is_ok() {
                    count.fetch_add(block.len(), Ordering::Relaxed);
                }
            });
        }
    });
    let world = proxy_to(&[address], UpstreamHttp::Http1);
    let mut client = connect(world.address()).await;
    let (answer, _) = client.send_request(request("GET", "web/long", &[]), true).expect("room");
    let _body = answer.await.expect("an answer").into_body();
    let on_the_way = settled(&sent, world.address()).await;
    assert!(on_the_way < LONG / 2, "{on_the_way} bytes");
}

#[tokio::test]
async fn clients_that_do_not_read_hold_up_nobody_else() {
    let (server, sent) = pouring().await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    // Room on the connection, but none on its streams beyond the first 64 KiB.
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(64 * 1024 * 1024);
    let mut client = connect_with(builder, world.address()).await;
    let mut unread = Vec::new();
    for _ in 0..60 {
        let (answer, _) = client.send_request(request("GET", "web/long", &[]), true).expect("room");
        unread.push(answer.await.expect("an answer").into_body());
    }
    let count = tokio::time::timeout(Duration::from_secs(60), settled(&sent, world.address())).await;
    count.expect("others have their answers");
    let short = tokio::time::timeout(Duration::from_secs(20), get(&mut client, "web/short")).await;
    assert_eq!(&short.expect("at once").expect("an answer").body[..], b"short");
}

#[tokio::test]
async fn a_server_that_takes_its_time_gets_all_of_an_upload() {
    let serve: Serve = Arc::new(|mut stream: Stream| {
        tokio::spawn(async move {
            if stream.head.uri.path() == "/never" {
                return std::future::pending().await;
            }
            // Longer than a client may take: a call with a deadline tells when.
            let proxy = stream.head.headers["x-proxy"].to_str().expect("an address").parse().expect("an address");
            let fields = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "900m")];
            let mut client = connect(proxy).await;
            exchange(&mut client, request("POST", "web/never", &fields), b"x", None).await.expect("an answer");
            let upload = read(String::new(), &Default::default(), &mut stream.body).await.expect("all of it");
            let answer = Response::builder().header("x-length", upload.body.len()).body(()).expect("legal");
            drop(stream.respond.send_response(answer, true));
        });
    });
    let server = Server::start(h2::server::Builder::new(), serve).await;
    let settings = Settings { write_stall_timeout: Duration::from_millis(300), ..Settings::default() };
    let world = proxy_with(settings, policy(&[server.address], UpstreamHttp::Http2, |_| {}, |_| {}));
    let address = world.address().to_string();
    let mut client = connect(world.address()).await;
    let (answer, mut stream) =
        client.send_request(request("POST", "web/", &[("x-proxy", &address)]), false).expect("room");
    let body = Bytes::from(vec![b'x'; 2 * 1024 * 1024]);
    let (answer, ()) = tokio::join!(answer, http2::send(&mut stream, body, None));
    assert_eq!(answer.expect("an answer").headers()["x-length"], (2 * 1024 * 1024).to_string());
}
