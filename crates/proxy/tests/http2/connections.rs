//! What becomes of connections: shared, full, told to go, gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::Held;
use h2::Reason;
use http::Response;
use outrigger_model::{BackOff, RetryPolicy, UpstreamHttp};
use outrigger_testkit::eventually;

use super::common::http2::{Serve, Server, Stream, connect, exchange, get, request};
use super::{proxy_edited, proxy_to};

/// Streams that a test answers when it likes to.
mod futures {
    use std::sync::{Arc, Mutex};

    use super::{Bytes, Response, Serve, Stream};

    #[derive(Clone, Default)]
    pub(super) struct Held(Arc<Mutex<Vec<Stream>>>);

    impl Held {
        pub(super) fn serve(&self) -> Serve {
            let held = self.0.clone();
            Arc::new(move |stream| held.lock().unwrap().push(stream))
        }

        pub(super) fn count(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        pub(super) fn answer_all(&self) {
            for mut stream in self.0.lock().unwrap().drain(..) {
                let _ = stream
                    .respond
                    .send_response(Response::new(()), false)
                    .map(|mut body| body.send_data(Bytes::from_static(b"late"), true));
            }
        }
    }
}

#[tokio::test]
async fn requests_share_a_connection_until_it_is_full() {
    let held = Held::default();
    let server = Server::start(h2::server::Builder::new(), held.serve()).await;
    let three = |cluster: &mut outrigger_model::Cluster| cluster.pool.streams_max = Some(3);
    let world = proxy_edited(&[server.address], UpstreamHttp::Http2, three, |_| {});
    let client = connect(world.address()).await;
    let waiting: Vec<_> = (0..7)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { get(&mut client, "web/").await })
        })
        .collect();
    let server_held = held.clone();
    let all =
        tokio::task::spawn_blocking(move || eventually("seven streams", || (server_held.count() == 7).then_some(())));
    all.await.expect("they all come");
    assert_eq!(server.connections.load(Ordering::Relaxed), 3, "of three streams each");
    held.answer_all();
    for answer in waiting {
        assert_eq!(&answer.await.unwrap().expect("an answer").body[..], b"late");
    }
}

#[tokio::test]
async fn a_connection_serves_as_many_requests_as_it_may() {
    let server = Server::scripted(|_| (Response::new(()), Bytes::new(), None)).await;
    let two = |cluster: &mut outrigger_model::Cluster| cluster.pool.requests_per_connection_max = Some(2);
    let world = proxy_edited(&[server.address], UpstreamHttp::Http2, two, |_| {});
    let mut client = connect(world.address()).await;
    for _ in 0..5 {
        get(&mut client, "web/").await.expect("an answer");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 3);
    eventually("the count", || (world.sum("envoy_cluster_upstream_cx_max_requests", "") == 2.0).then_some(()));
}

#[tokio::test]
async fn what_a_server_refuses_unread_goes_elsewhere_with_its_body() {
    let (refusals, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (refused, answered) = (refusals.clone(), seen.clone());
    let serve: Serve = Arc::new(move |mut stream: Stream| {
        if refused.fetch_add(1, Ordering::Relaxed) < 2 {
            return stream.respond.send_reset(Reason::REFUSED_STREAM);
        }
        answered.fetch_add(1, Ordering::Relaxed);
        let _ = stream.respond.send_response(Response::new(()), true);
    });
    let server = Server::start(h2::server::Builder::new(), serve).await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let answer = exchange(&mut client, request("POST", "web/", &[]), b"once", None).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.line, "200", "{answer:?}");
    assert_eq!(seen.load(Ordering::Relaxed), 1, "a POST is not repeated once somebody has taken it");
    eventually("the count", || (world.sum("envoy_cluster_upstream_rq_retry", "") == 2.0).then_some(()));
}

#[tokio::test]
async fn a_policy_says_how_often_a_refused_stream_is_sent_again() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let refused = refusals.clone();
    let serve: Serve = Arc::new(move |mut stream: Stream| {
        refused.fetch_add(1, Ordering::Relaxed);
        stream.respond.send_reset(Reason::REFUSED_STREAM);
    });
    let server = Server::start(h2::server::Builder::new(), serve).await;
    let retries = |route: &mut outrigger_model::Route| {
        route.retry = Some(RetryPolicy {
            attempts: 2,
            per_try_timeout: None,
            retry_on: "refused-stream".split(',').collect(),
            status_codes: Vec::new(),
            headers: Vec::new(),
            back_off: BackOff { min: Duration::ZERO, base: Duration::from_millis(1), max: Duration::from_millis(10) },
            remote_localities: false,
            avoid_previous_hosts: true,
            non_idempotent: false,
        });
    };
    let world = proxy_edited(&[server.address], UpstreamHttp::Http2, |_| {}, retries);
    let mut client = connect(world.address()).await;
    let answer = get(&mut client, "web/").await.expect("an answer");
    assert_eq!(answer.line, "503");
    assert_eq!(refusals.load(Ordering::Relaxed), 3, "one try and two more, and none beside them");
    eventually("the count", || (world.sum("envoy_cluster_upstream_rq_retry", "") == 2.0).then_some(()));
}

#[tokio::test]
async fn a_stream_that_the_server_resets_is_told_as_such() {
    let serve: Serve = Arc::new(|mut stream: Stream| stream.respond.send_reset(Reason::INTERNAL_ERROR));
    let server = Server::start(h2::server::Builder::new(), serve).await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let answer = get(&mut client, "web/").await.expect("an answer");
    assert_eq!(answer.line, "503");
    assert!(answer.fields.iter().any(|field| field.ends_with("flag=UR")), "{:?}", answer.fields);
    eventually("the count", || (world.sum("envoy_cluster_upstream_rq_rx_reset", "") == 1.0).then_some(()));
}

#[tokio::test]
async fn an_answer_that_breaks_off_resets_the_client_s_stream() {
    let serve: Serve = Arc::new(|mut stream: Stream| {
        let mut body = stream.respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        tokio::spawn(async move {
            // With the data on its way, or not: either is half an answer.
            tokio::task::yield_now().await;
            body.send_reset(Reason::INTERNAL_ERROR);
        });
    });
    let server = Server::start(h2::server::Builder::new(), serve).await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    match get(&mut client, "web/").await {
        Err(error) => assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR)),
        Ok(answer) => assert_eq!(answer.line, "503", "the reset overtook the head: {answer:?}"),
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_the_server() {
    let (came, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (arrived, count) = (came.clone(), gone.clone());
    let serve: Serve = Arc::new(move |mut stream: Stream| {
        arrived.fetch_add(1, Ordering::Relaxed);
        let count = count.clone();
        tokio::spawn(async move {
            let reason = std::future::poll_fn(|cx| stream.respond.poll_reset(cx)).await;
            assert_eq!(reason.expect("the connection goes on"), Reason::CANCEL);
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    let server = Server::start(h2::server::Builder::new(), serve).await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let (answer, mut stream) = client.send_request(request("GET", "web/", &[]), true).unwrap();
    let here = came.clone();
    tokio::task::spawn_blocking(move || {
        eventually("the request", || (here.load(Ordering::Relaxed) == 1).then_some(()));
    })
    .await
    .expect("it comes");
    stream.send_reset(Reason::CANCEL);
    assert!(answer.await.is_err());
    tokio::task::spawn_blocking(move || {
        eventually("the server hears of it", || (gone.load(Ordering::Relaxed) == 1).then_some(()));
    })
    .await
    .expect("it does");
}

#[tokio::test]
async fn a_drain_finishes_what_came_and_takes_no_more() {
    let held = Held::default();
    let server = Server::start(h2::server::Builder::new(), held.serve()).await;
    let world = Arc::new(proxy_to(&[server.address], UpstreamHttp::Http2));
    let mut client = connect(world.address()).await;
    let mut early = client.clone();
    let waiting = tokio::spawn(async move { get(&mut early, "web/").await });
    let came = held.clone();
    tokio::task::spawn_blocking(move || eventually("the request", || (came.count() == 1).then_some(())))
        .await
        .expect("it comes");
    let draining = world.clone();
    let drain = tokio::spawn(async move { draining.proxy.drain().await });
    // Told to go (GOAWAY), a client sends no more on this connection.
    std::future::poll_fn(|cx| {
        let told = client.poll_ready(cx).map(|ready| ready.is_err());
        if told != std::task::Poll::Ready(true) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
    held.answer_all();
    assert_eq!(&waiting.await.unwrap().expect("it is answered").body[..], b"late");
    assert_eq!(drain.await.expect("no panic"), 0, "nothing was cut");
}
