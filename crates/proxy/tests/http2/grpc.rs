//! Calls of gRPC: status in trailers, messages counted, deadlines kept, failures told in gRPC's words.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use outrigger_model::UpstreamHttp;
use outrigger_testkit::eventually;

use super::common::World;
use super::common::http2::{self, Message, Server, connect, exchange, request};
use super::proxy_to;

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// Two messages, of three bytes and of none.
const MESSAGES: &[u8] = &[0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0];

/// A series is there by and by: it is written once the answer has left.
fn counted(world: &World, metric: &str, label: &str, value: &str) {
    eventually("the count", || world.has_only(metric, label, value).then_some(()));
}

async fn answering(status: &'static str) -> Server {
    Server::scripted(move |request: &Message| {
        let answer = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        (answer, request.body.clone(), Some(http2::trailers(&[("grpc-status", status)])))
    })
    .await
}

#[tokio::test]
async fn a_call_is_counted_by_its_status_and_its_messages() {
    let server = answering("5").await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let answer = exchange(&mut client, request("POST", "web/pkg.Svc/Get", &GRPC), MESSAGES, None).await;
    let answer = answer.expect("an answer");
    assert_eq!((&answer.body[..], &answer.trailers[..]), (MESSAGES, &["grpc-status: 5".to_owned()][..]));
    assert!(server.seen()[0].fields.contains(&"te: trailers".to_owned()));
    counted(&world, "istio_requests_total", "grpc_response_status", "5");
    counted(&world, "istio_requests_total", "request_protocol", "grpc");
    counted(&world, "istio_requests_total", "response_code", "200");
    assert_eq!(world.sum("istio_request_messages_total", ""), 2.0);
    assert_eq!(world.sum("istio_response_messages_total", ""), 2.0);
}

#[tokio::test]
async fn an_answer_of_trailers_alone_stays_one() {
    let server = Server::scripted(|_| {
        let answer = Response::builder().header("content-type", "application/grpc").header("grpc-status", "12");
        (answer.body(()).unwrap(), Bytes::new(), None)
    })
    .await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let answer = exchange(&mut client, request("POST", "web/a/b", &GRPC), MESSAGES, None).await.expect("an answer");
    assert_eq!(answer.fields, ["content-type: application/grpc", "grpc-status: 12"]);
    counted(&world, "istio_requests_total", "grpc_response_status", "12");
}

#[tokio::test]
async fn failures_are_told_in_the_words_of_grpc() {
    let world = proxy_to(&[], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let answer = exchange(&mut client, request("POST", "web/a/b", &GRPC), MESSAGES, None).await.expect("an answer");
    assert_eq!((answer.line.as_str(), answer.body.len()), ("200", 0));
    assert!(answer.fields.contains(&"grpc-status: 14".to_owned()), "{:?}", answer.fields);
    assert!(answer.fields.iter().any(|field| field.starts_with("grpc-message: no healthy upstream")));
    counted(&world, "istio_requests_total", "response_flags", "UH");
    counted(&world, "istio_requests_total", "grpc_response_status", "14");
}

#[tokio::test]
async fn a_call_has_the_time_that_its_client_gives_it() {
    let server = Server::start(
        h2::server::Builder::new(),
        std::sync::Arc::new(|stream| {
            tokio::spawn(async move {
                let _stream = stream;
                std::future::pending::<()>().await;
            });
        }),
    )
    .await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let fields = [GRPC[0], GRPC[1], ("grpc-timeout", "200m")];
    let call = exchange(&mut client, request("POST", "web/a/b", &fields), MESSAGES, None);
    let answer = tokio::time::timeout(Duration::from_secs(20), call).await.expect("in time").expect("an answer");
    assert!(answer.fields.contains(&"grpc-status: 4".to_owned()), "{:?}", answer.fields);
    counted(&world, "istio_requests_total", "response_flags", "UMSDR");
}

#[tokio::test]
async fn grpc_web_is_plain_http() {
    let server = answering("0").await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let fields = [("content-type", "application/grpc-web+proto")];
    exchange(&mut client, request("POST", "web/a/b", &fields), MESSAGES, None).await.expect("an answer");
    counted(&world, "istio_requests_total", "request_protocol", "http");
    assert_eq!(world.sum("istio_request_messages_total", ""), 0.0);
}
