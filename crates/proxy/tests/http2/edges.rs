//! What could be read in two ways, at either end.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol;
use outrigger_model::UpstreamHttp;
use outrigger_proxy::Settings;
use outrigger_testkit::{Backend, Reply, response};

use super::common::http2::{connect, request};
use super::common::proxy_with;
use super::{policy, proxy_to};

/// An extended CONNECT with these fields.
fn websocket(fields: &[(&str, &str)]) -> http::Request<()> {
    let mut request = request("CONNECT", "web/chat", fields);
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

#[tokio::test]
async fn half_a_websocket_is_none() {
    let backend = Backend::start(|_| Reply::Keep(response(200, &[], b"plain")));
    let world = proxy_to(&[backend.address()], UpstreamHttp::Http1);
    let mut client = connect(world.address()).await;
    for fields in [
        &[][..],
        &[("sec-websocket-version", "8")],
        &[("sec-websocket-version", "13"), ("sec-websocket-version", "13")],
        &[("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")],
    ] {
        let (answer, _up) = client.send_request(websocket(fields), false).expect("room");
        let error = answer.await.expect_err("it would be taken for a WebSocket");
        assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{fields:?}");
    }
    assert_eq!(backend.seen().len(), 0, "nobody hears of them");
}

#[tokio::test]
async fn a_plain_success_of_http_1_opens_no_websocket() {
    let backend = Backend::start(|_| Reply::Keep(response(200, &[], b"plain")));
    let world = proxy_to(&[backend.address()], UpstreamHttp::Http1);
    let mut client = connect(world.address()).await;
    let (answer, mut up) = client.send_request(websocket(&[("sec-websocket-version", "13")]), false).expect("room");
    up.send_data(Bytes::from_static(b"frames"), false).expect("room");
    assert_eq!(answer.await.expect("an answer").status(), 502);
}

#[tokio::test]
async fn a_client_that_asks_for_nothing_is_not_kept_by_its_pings() {
    let settings = Settings { idle_timeout: Duration::from_millis(300), ..Settings::default() };
    let world = proxy_with(settings, policy(&[], UpstreamHttp::Http2, |_| {}, |_| {}));
    let socket = tokio::net::TcpStream::connect(world.address()).await.expect("the proxy listens");
    let (_client, mut connection) = h2::client::handshake(socket).await.expect("a client begins by itself");
    let mut pings = connection.ping_pong().expect("nobody has it yet");
    tokio::spawn(async move {
        // Well within the limit, and no flood.
        let mut due = tokio::time::interval(Duration::from_millis(50));
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            due.tick().await;
        }
    });
    let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
    ended.expect("it is told to go").expect("without an error");
}
