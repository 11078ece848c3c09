//! Connections of HTTP/2 that endpoints end without a word, with requests on them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use outrigger_model::UpstreamHttp;
use outrigger_testkit::Client;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::common::http2::{connect, exchange, get, request};
use super::proxy_to;

/// A server whose first connection ends when its second request comes, with both on it where the first has no answer yet;
/// those after it are served. Tells each request by its method.
async fn ending(answers_first: bool) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("bound");
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lasts = 1;
        while let Ok((socket, _)) = listener.accept().await {
            let (tell, last) = (tell.clone(), lasts);
            lasts = usize::MAX;
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                // What is held has no answer before the connection ends.
                let (mut held, mut served) = (Vec::new(), 0);
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let _ = tell.send(request.method().to_string());
                    served += 1;
                    if served > last {
                        drop(connection);
                        break;
                    }
                    if last == 1 && !answers_first {
                        held.push(respond);
                        continue;
                    }
                    if let Ok(mut body) = respond.send_response(Response::new(()), false) {
                        let _ = body.send_data(Bytes::from_static(b"served"), true);
                    }
                }
                drop(held);
            });
        }
    });
    (address, told)
}

/// Of two requests the second makes the server end the connection: neither is lost, though the first was the first on it.
#[tokio::test]
async fn what_a_later_request_ended_goes_out_again() {
    let (server, mut told) = ending(false).await;
    let world = proxy_to(&[server], UpstreamHttp::Http2);
    let client = connect(world.address()).await;
    let mut own = client.clone();
    let first = tokio::spawn(async move { get(&mut own, "web/").await });
    assert_eq!(told.recv().await.as_deref(), Some("GET"));
    let mut own = client.clone();
    let second = get(&mut own, "web/").await.expect("an answer");
    assert_eq!(&second.body[..], b"served");
    assert_eq!(&first.await.unwrap().expect("an answer").body[..], b"served");
}

/// What may not be done twice is told to have failed, and not sent again.
#[tokio::test]
async fn what_may_have_been_done_does_not_go_out_again() {
    let (server, mut told) = ending(false).await;
    let world = proxy_to(&[server], UpstreamHttp::Http2);
    let client = connect(world.address()).await;
    let mut own = client.clone();
    let first = tokio::spawn(async move { exchange(&mut own, request("POST", "web/", &[]), b"", None).await });
    assert_eq!(told.recv().await.as_deref(), Some("POST"));
    let mut own = client.clone();
    assert_eq!(&get(&mut own, "web/").await.expect("an answer").body[..], b"served");
    assert_eq!(first.await.unwrap().expect("an answer").line, "503");
    assert_eq!([told.recv().await.unwrap(), told.recv().await.unwrap()], ["GET", "GET"]);
    assert!(told.try_recv().is_err(), "nothing else came");
}

/// A body that is still on its way over HTTP/1 is waited for, so that it is there to be sent again.
#[tokio::test]
async fn a_body_that_comes_late_is_not_gone_when_a_shared_connection_ends() {
    let (server, mut told) = ending(true).await;
    let world = proxy_to(&[server], UpstreamHttp::Http2);
    let address = world.address();
    let asked = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.exchange(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap().text(), "served");
        client.send(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
        outrigger_testkit::pass_time(Duration::from_millis(50));
        client.send(b"half").unwrap();
        client.read_response("PUT").unwrap().text()
    });
    assert_eq!(asked.await.unwrap(), "served");
    let mut methods = Vec::new();
    while let Ok(method) = told.try_recv() {
        methods.push(method);
    }
    assert_eq!(methods, ["GET", "PUT", "PUT"]);
}
