//! Many requests on few connections to servers: none is forgotten, none goes where nobody takes it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, Reason};
use http::Response;
use outrigger_model::{Cluster, UpstreamHttp};
use outrigger_testkit::eventually;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::common::http2::{Serve, Server, Stream, connect, exchange, get, read, request, trailers};
use super::{proxy_edited, proxy_to};

/// Waits beside the runtime, whose tasks have to go on.
async fn until(what: &'static str, mut check: impl FnMut() -> bool + Send + 'static) {
    let waited = tokio::task::spawn_blocking(move || eventually(what, || check().then_some(())));
    waited.await.expect("it comes to pass");
}

/// Waits until whatever a client sends without having heard anything is here.
async fn all_at_hand(socket: &tokio::net::TcpStream) {
    let (mut room, mut length, mut looks) = ([0; 16 * 1024], 0, 0);
    while looks < 2000 {
        let now = socket.peek(&mut room).await.expect("an open socket");
        looks = if now == length && now > 100 { looks + 1 } else { 0 };
        length = now;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_beyond_what_a_server_takes_have_their_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("bound");
    let held = Arc::new(Mutex::new(Vec::new()));
    let hold = held.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let hold = hold.clone();
            tokio::spawn(async move {
                all_at_hand(&socket).await;
                let mut one_at_a_time = h2::server::Builder::new();
                one_at_a_time.max_concurrent_streams(1);
                let mut connection = one_at_a_time.handshake::<_, Bytes>(socket).await.expect("a client");
                while let Some(Ok((_, respond))) = connection.accept().await {
                    hold.lock().unwrap().push(respond);
                }
            });
        }
    });
    let world = proxy_to(&[address], UpstreamHttp::Http2);
    let client = connect(world.address()).await;
    let all: Vec<_> = (0..12)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { get(&mut client, "web/").await })
        })
        .collect();
    let came = held.clone();
    until("a connection for each", move || came.lock().unwrap().len() == 12).await;
    for mut respond in held.lock().unwrap().drain(..) {
        respond.send_response(Response::new(()), true).expect("a client that waits");
    }
    for answer in all {
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.expect("nobody is forgotten");
        assert_eq!(answer.unwrap().expect("an answer").line, "200");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_cluster_says_so() {
    let server = Server::scripted(|_| (Response::new(()), Bytes::new(), None)).await;
    let short = |cluster: &mut Cluster| cluster.pool.idle_timeout = Some(Duration::from_millis(100));
    let world = proxy_edited(&[server.address], UpstreamHttp::Http2, short, |_| {});
    let mut client = connect(world.address()).await;
    get(&mut client, "web/").await.expect("an answer");
    let world = Arc::new(world);
    let idle = world.clone();
    until("no connection", move || idle.sum("envoy_cluster_upstream_cx_active", "") == 0.0).await;
    get(&mut client, "web/").await.expect("an answer over another");
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

/// A server that says GOAWAY on all its connections when told to, and counts those on which this has been read.
struct Leaving {
    address: std::net::SocketAddr,
    leave: Arc<Notify>,
    told: Arc<AtomicUsize>,
}

impl Leaving {
    async fn start(serve: Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("bound");
        let (leave, told) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (order, count) = (leave.clone(), told.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Self::serve(socket, serve.clone(), order.clone(), count.clone()));
            }
        });
        Self { address, leave, told }
    }

    async fn serve(socket: tokio::net::TcpStream, serve: Serve, leave: Arc<Notify>, told: Arc<AtomicUsize>) {
        let mut connection = h2::server::handshake(socket).await.expect("a client");
        let mut ping = connection.ping_pong().expect("nobody has it yet");
        let left = leave.notified();
        tokio::pin!(left);
        left.as_mut().enable();
        loop {
            tokio::select! {
                () = &mut left => break,
                Some(Ok((request, respond))) = connection.accept() => {
                    let (head, body) = request.into_parts();
                    serve(Stream { head, body, respond });
                }
            }
        }
        connection.graceful_shutdown();
        tokio::spawn(async move {
            // Who answers the second has read what was sent before the first was answered.
            for _ in 0..2 {
                ping.ping(Ping::opaque()).await.expect("the connection goes on");
            }
            told.fetch_add(1, Ordering::Relaxed);
        });
        while connection.accept().await.is_some() {}
    }
}

#[tokio::test]
async fn connections_that_take_no_more_requests_are_passed_over() {
    let (held, came) = mpsc::channel();
    let serve: Serve = Arc::new(move |mut stream: Stream| match stream.head.uri.path() {
        "/held" => held.send(stream.respond).expect("the test goes on"),
        _ => drop(stream.respond.send_response(Response::new(()), true)),
    });
    let server = Leaving::start(serve).await;
    let two = |cluster: &mut Cluster| cluster.pool.streams_max = Some(2);
    let world = proxy_edited(&[server.address], UpstreamHttp::Http2, two, |_| {});
    let mut client = connect(world.address()).await;
    let mut held = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(client.send_request(request("GET", "web/held", &[]), true).expect("room").0);
        held.push(loop {
            match came.try_recv() {
                Ok(respond) => break respond,
                Err(_) => tokio::task::yield_now().await,
            }
        });
    }
    // One of the two on each connection is done: they have room again.
    for (respond, answer) in held.iter_mut().zip(&mut waiting).step_by(2) {
        respond.send_response(Response::new(()), true).expect("a client that waits");
        answer.await.expect("an answer");
    }
    server.leave.notify_waiters();
    let told = server.told.clone();
    until("five connections say GOAWAY", move || told.load(Ordering::Relaxed) == 5).await;
    let answer = exchange(&mut client, request("POST", "web/last", &[]), b"x", None).await;
    assert_eq!(answer.expect("an answer").line, "200", "over a connection of its own");
    assert_eq!(world.sum("envoy_cluster_upstream_rq_retry", ""), 0.0, "at the first try");
    for (mut respond, answer) in held.into_iter().zip(waiting).skip(1).step_by(2) {
        drop(
            respond.send_response(Response::new(()), true).expect("a client that waits").send_data(Bytes::new(), true),
        );
        assert_eq!(answer.await.expect("what was on its way is finished").status(), 200);
    }
}

#[tokio::test]
async fn a_server_that_ends_every_shared_connection_is_not_asked_for_ever() {
    // The first request of a connection is answered, with the second it is closed.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.expect("a client");
                let mut first = true;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if !std::mem::take(&mut first) {
                        return;
                    }
                    let _ = respond.send_response(Response::new(()), true);
                }
            });
        }
    });
    let world = proxy_to(&[address], UpstreamHttp::Http2);
    let client = connect(world.address()).await;
    let all: Vec<_> = (0..60)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { get(&mut client, "web/").await })
        })
        .collect();
    for answer in all {
        let answer = answer.await.unwrap().expect("an answer");
        assert!(matches!(&*answer.line, "200" | "503"), "{answer:?}");
    }
    // Each round has a connection that all of them share.
    let connections = connections.load(Ordering::Relaxed);
    assert!(connections <= 30, "{connections} connections");
}

#[tokio::test]
async fn a_client_of_http_1_that_leaves_is_noticed_at_the_server() {
    let (left, noticed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, came) = (left.clone(), noticed.clone());
    let serve: Serve = Arc::new(move |mut stream: Stream| {
        let count = count.clone();
        came.notify_one();
        tokio::spawn(async move {
            let reason = std::future::poll_fn(|cx| stream.respond.poll_reset(cx)).await;
            assert_eq!(reason.expect("the connection goes on"), Reason::CANCEL);
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    let server = Server::start(h2::server::Builder::new(), serve).await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = tokio::net::TcpStream::connect(world.address()).await.expect("the proxy listens");
    client.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await.expect("it reads");
    noticed.notified().await;
    client.set_zero_linger().expect("an open socket");
    drop(client);
    until("the server hears of it", move || left.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_body_on_its_way_goes_again_with_a_request_that_was_refused() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let (log, seen) = mpsc::channel();
    let serve: Serve = Arc::new(move |stream: Stream| {
        let (count, log) = (count.clone(), log.clone());
        tokio::spawn(async move {
            let Stream { mut body, mut respond, .. } = stream;
            if count.fetch_add(1, Ordering::Relaxed) < 2 {
                // Not before it has come as far as it comes by itself.
                body.data().await.expect("it has a body").expect("which comes");
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
            let whole = read(String::new(), &Default::default(), &mut body).await.expect("all of it");
            log.send(whole).expect("the test goes on");
            drop(respond.send_response(Response::new(()), true));
        });
    });
    let server = Server::start(h2::server::Builder::new(), serve).await;
    let world = proxy_to(&[server.address], UpstreamHttp::Http2);
    let mut client = connect(world.address()).await;
    let (answer, mut stream) = client.send_request(request("POST", "web/", &[]), false).expect("room");
    stream.send_data(Bytes::from_static(b"first "), false).expect("room");
    let twice = refused.clone();
    until("two refusals", move || twice.load(Ordering::Relaxed) >= 2).await;
    stream.send_data(Bytes::from_static(b"second"), false).expect("room");
    stream.send_trailers(trailers(&[("x-sum", "1")])).expect("room");
    assert_eq!(answer.await.expect("an answer").status(), 200);
    let whole = seen.recv().expect("it came");
    assert_eq!((&whole.body[..], &whole.trailers[..]), (&b"first second"[..], &["x-sum: 1".to_owned()][..]));
}
