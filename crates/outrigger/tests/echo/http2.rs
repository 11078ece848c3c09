//! `outrigger echo` over HTTP/2 with prior knowledge, frame by frame.

use std::net::SocketAddr;

use outrigger_testkit::Client;
use outrigger_testkit::h2::{Answer, Block, Connection, PREFACE, code, data, headers, kind, reset, settings};
use serde_json::{Value, json};

use crate::start;

/// A request without a body.
fn get(fields: &[(&str, &str)]) -> Block {
    let block = Block::request("GET", "http", "reviews:80", "/p?q=1");
    fields.iter().fold(block, |block, (name, value)| block.field(name, value))
}

/// What one request with these fields gets, on a connection of its own.
fn ask(address: SocketAddr, fields: &[(&str, &str)]) -> Answer {
    let mut connection = Connection::connect(address).expect("it listens");
    connection.send(&headers(1, true, &get(fields))).expect("sent");
    connection.await_answer(1).expect("an answer")
}

#[test]
fn it_tells_what_arrived() {
    let (_process, v1, _) = start();
    let mut connection = Connection::connect(v1).expect("it listens");
    let head = Block::request("POST", "http", "reviews:80", "/p?q=1").field("x-a", "1").field("x-a", "2");
    let trailers = Block::new().field("t", "1").field("t", "2");
    let frames = [headers(1, false, &head), data(1, false, "hel"), data(1, false, "lo"), headers(1, true, &trailers)];
    connection.send(&frames.concat()).expect("sent");
    let answer = connection.await_answer(1).expect("an answer");
    let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let expected = json!({
        "path": "/p?q=1", "host": "reviews:80", "method": "POST", "proto": "HTTP/2.0",
        "headers": {"x-a": ["1", "2"]}, "trailers": {"t": ["1", "2"]},
        "httpPort": v1.port().to_string(), "namespace": "shop", "ingress": "", "service": "reviews",
        "pod": format!("reviews-v1-{}", v1.port()), "container": "echo", "version": "v1", "client_principal": "",
        "bodyBytes": 5,
    });
    assert_eq!(told, expected);
    let head = answer.head().expect("a head");
    assert_eq!(head.get("content-length"), Some(&*answer.body.len().to_string()));
    assert_eq!((head.get("content-type"), answer.trailers()), (Some("application/json"), None));
}

#[test]
fn it_plays_what_is_asked() {
    let (_process, v1, v2) = start();
    let status = |address, field| ask(address, &[field]).status();
    assert_eq!(status(v1, ("x-echo-status", "418")), Some(418));
    assert_eq!(status(v1, ("x-echo-status", "503;version=v2")), Some(200));
    assert_eq!(status(v2, ("x-echo-status", "503;version=v2")), Some(503));
    assert_eq!(status(v1, ("x-echo-status", "1000")), Some(400));
    assert_eq!(status(v1, ("x-echo-grpc-status", "14")), Some(400), "it is no gRPC call");
    assert_eq!(status(v1, ("x-echo-set-header", "te=x")), Some(400), "HTTP/2 cannot say it");
    let failing = ("x-echo-fail-first", "2;status=500;key=k");
    assert_eq!(
        [v1, v2, v1].map(|to| status(to, failing)),
        [Some(500), Some(500), Some(200)],
        "listeners count together"
    );

    let closed = ask(v1, &[("x-echo-fail-first", "1;key=c;close")]);
    assert_eq!((closed.reset, closed.status()), (Some(code::INTERNAL_ERROR), None));
    assert_eq!(status(v1, ("x-echo-fail-first", "1;key=c;close")), Some(200));
    assert_eq!(ask(v1, &[("x-echo-abort", "before")]).reset, Some(code::INTERNAL_ERROR));
    let cut = ask(v1, &[("x-echo-abort", "after-headers"), ("x-echo-body-bytes", "50000")]);
    assert_eq!((cut.status(), cut.body.len(), cut.reset), (Some(200), 25_000, Some(code::INTERNAL_ERROR)));

    let answer = ask(
        v1,
        &[
            ("x-echo-set-header", "x-k=v; w"),
            ("x-echo-set-trailer", "x-t=1"),
            ("x-echo-set-trailer", "x-u=2;version=v2"),
            ("x-echo-body-bytes", "100000"),
        ],
    );
    let head = answer.head().expect("a head");
    assert_eq!((head.get("x-k"), head.get("x-echo-version"), answer.body.len()), (Some("v; w"), Some("v1"), 100_000));
    let trailers = answer.trailers().expect("trailers");
    assert_eq!((trailers.get("x-t"), trailers.get("x-u")), (Some("1"), None));
    let empty = ask(v1, &[("x-echo-status", "204")]);
    assert_eq!((empty.body.len(), empty.head().and_then(|head| head.get("content-length"))), (0, None));
}

#[test]
fn a_preface_may_come_in_pieces() {
    let (_process, v1, _) = start();
    let mut connection = Connection::silent(v1).expect("it listens");
    for byte in PREFACE {
        connection.send(&[*byte]).expect("sent");
    }
    connection.send(&settings(&[])).expect("sent");
    connection.send(&headers(1, true, &get(&[]))).expect("sent");
    assert_eq!(connection.await_answer(1).expect("an answer").status(), Some(200));
    // What begins like a preface and goes on otherwise is HTTP/1.
    let mut client = Client::connect(v1).expect("it listens");
    client.send(b"P").expect("sent");
    let answer = client.exchange(b"RIX / HTTP/1.1\r\nhost: a\r\n\r\n").expect("an answer");
    let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&told["method"], &told["proto"]), (&"PRIX".into(), &"HTTP/1.1".into()));
}

#[test]
fn an_invitation_is_sent_where_it_is_awaited() {
    let (_process, v1, _) = start();
    let mut connection = Connection::connect(v1).expect("it listens");
    let head = Block::request("POST", "http", "a", "/").field("expect", "100-continue");
    connection.send(&headers(1, false, &head)).expect("sent");
    while connection.answer(1).blocks.is_empty() {
        connection.step().expect("an invitation");
    }
    assert_eq!(connection.answer(1).blocks[0].get(":status"), Some("100"));
    connection.send(&data(1, true, "x")).expect("sent");
    assert_eq!(connection.await_answer(1).expect("an answer").status(), Some(200));
}

#[test]
fn a_thousand_streams_are_answered_side_by_side() {
    let (_process, v1, _) = start();
    let mut connection = Connection::connect(v1).expect("it listens");
    // None can be answered before the last is there: its own body is what each waits for.
    let streams: Vec<u32> = (0..1_000).map(|number| 2 * number + 1).collect();
    let head = Block::request("POST", "http", "a", "/").field("x-echo-status", "201");
    let heads: Vec<_> = streams.iter().map(|stream| headers(*stream, false, &head)).collect();
    connection.send(&heads.concat()).expect("sent");
    connection.await_pong(*b"all here").expect("an answer");
    assert_eq!(connection.answers.len(), 0);
    let bodies: Vec<_> = streams.iter().map(|stream| data(*stream, true, "x")).collect();
    connection.send(&bodies.concat()).expect("sent");
    for stream in streams {
        assert_eq!(connection.await_answer(stream).expect("an answer").status(), Some(201), "stream {stream}");
    }
}

#[test]
fn limits_hold() {
    let (mut process, v1, _) = start();
    let mut connection = Connection::connect(v1).expect("it listens");
    let announced = loop {
        let frame = connection.step().expect("SETTINGS");
        if frame.kind == kind::SETTINGS {
            break frame.payload;
        }
    };
    let value = |id: u16| {
        let entry = announced.chunks(6).find(|entry| entry.starts_with(&id.to_be_bytes())).expect("it is announced");
        u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]])
    };
    // SETTINGS_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_HEADER_LIST_SIZE.
    assert_eq!([3, 4, 6].map(value), [1_000, 65_536, 65_536]);
    let many = (0..161).fold(get(&[]), |block, _| block.field("a", "b"));
    connection.send(&headers(1, true, &many)).expect("sent");
    assert_eq!(connection.await_answer(1).expect("an answer").status(), Some(431));
    // Streams that are opened only to be reset end the connection, and nothing else.
    let opened = (0..2_000).flat_map(|number| {
        let stream = 2 * number + 3;
        [headers(stream, true, &get(&[("x-echo-delay", "1s")])), reset(stream, code::CANCEL)]
    });
    // It may close before all of it is sent.
    let _ = connection.send(&opened.collect::<Vec<_>>().concat());
    connection.await_end();
    assert_eq!(connection.goaway.map(|(code, _)| code), Some(code::ENHANCE_YOUR_CALM));
    assert_eq!(ask(v1, &[]).status(), Some(200));
    process.assert_well();
}

#[test]
fn sigterm_ends_it_after_the_last_answer() {
    let (mut process, v1, _) = start();
    let mut idle = Connection::connect(v1).expect("it listens");
    idle.await_pong(*b"settled!").expect("an answer");
    let mut busy = Connection::connect(v1).expect("it listens");
    busy.send(&headers(1, false, &Block::request("POST", "http", "a", "/"))).expect("sent");
    busy.await_pong(*b"settled!").expect("an answer");
    process.signal("TERM");
    idle.await_end();
    assert_eq!(idle.goaway.map(|(code, _)| code), Some(code::NO_ERROR));
    while busy.goaway.is_none() {
        busy.step().expect("a GOAWAY");
    }
    busy.send(&data(1, true, "x")).expect("sent");
    assert_eq!(busy.await_answer(1).expect("an answer").status(), Some(200));
    busy.await_end();
    assert_eq!(process.wait().code(), Some(0));
}
