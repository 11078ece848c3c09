//! `outrigger echo` over HTTP/1.1: what it tells, what it plays, and what it survives.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outrigger_testkit::{Client, How, ReadError, Response};
use serde_json::Value;

use crate::{ECHO, start};

fn ask(address: SocketAddr, request: &str) -> Result<Response, ReadError> {
    Client::connect(address).expect("it listens").exchange(request.as_bytes())
}

/// A GET with these fields.
fn get(address: SocketAddr, fields: &str) -> Result<Response, ReadError> {
    ask(address, &format!("GET /p?q=1 HTTP/1.1\r\nhost: reviews\r\n{fields}\r\n"))
}

#[test]
fn it_tells_what_arrived() {
    let (_process, v1, _) = start();
    let answer = ask(v1, "POST /p?q=1 HTTP/1.1\r\nHost: reviews\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 5\r\n\r\nhello");
    let told: Value = serde_json::from_slice(&answer.expect("an answer").body).expect("JSON");
    let expected = serde_json::json!({
        "path": "/p?q=1", "host": "reviews", "method": "POST", "proto": "HTTP/1.1",
        "headers": {"host": ["reviews"], "x-a": ["1", "2"], "content-length": ["5"]},
        "httpPort": v1.port().to_string(), "namespace": "shop", "ingress": "", "service": "reviews",
        "pod": format!("reviews-v1-{}", v1.port()), "container": "echo", "version": "v1", "client_principal": "",
        "bodyBytes": 5,
    });
    assert_eq!(told, expected);
}

#[test]
fn it_plays_what_is_asked() {
    let (_process, v1, v2) = start();
    let status = |address, fields: &str| get(address, fields).expect("an answer").status;
    assert_eq!(status(v1, "x-echo-status: 418\r\n"), 418);
    assert_eq!(status(v1, "x-echo-status: 503;version=v2\r\n"), 200);
    assert_eq!(status(v2, "x-echo-status: 503;version=v2\r\n"), 503);
    assert_eq!(status(v1, "x-echo-status: 1000\r\n"), 400);
    let statuses: Vec<_> = [v1, v2, v1].map(|to| status(to, "x-echo-fail-first: 2;status=500;key=k\r\n")).into();
    assert_eq!(statuses, [500, 500, 200], "all listeners count together");
    assert!(matches!(get(v1, "x-echo-abort: before\r\n"), Err(ReadError::Closed)));
    assert!(matches!(get(v1, "x-echo-abort: after-headers\r\n"), Err(ReadError::Truncated(_))));
    let answer = get(v1, "x-echo-set-header: x-k=v; w\r\nx-echo-body-bytes: 100000\r\n").expect("an answer");
    assert_eq!((answer.fields.get("x-k"), answer.body.len()), (Some("v; w"), 100_000));
    assert_eq!(answer.fields.get("x-echo-version"), Some("v1"));
    let before = Instant::now();
    assert_eq!(status(v1, "x-echo-delay: 60ms\r\n"), 200);
    assert!(before.elapsed() >= Duration::from_millis(60));
    let failed = (0..200).filter(|_| status(v1, "x-echo-fail-rate: 0.5\r\n") == 503).count();
    assert!((50..150).contains(&failed), "{failed} of 200 failed at a rate of one half");
}

#[test]
fn it_speaks_http_1_1() {
    let (_process, v1, _) = start();
    let mut client = Client::connect(v1).expect("it listens");
    let head = |method, rest: &str| format!("{method} / HTTP/1.1\r\nhost: a\r\n{rest}\r\n");
    let chunks = "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n";
    // Four requests in one packet are answered in order, and bodies end where they end.
    let pipeline = [
        head("HEAD", ""),
        head("POST", "transfer-encoding: chunked\r\n") + chunks,
        head("POST", "content-length: 3\r\n") + "GET",
        head("GET", "x-echo-status: 204\r\n"),
    ];
    client.send(pipeline.concat().as_bytes()).expect("sent");
    assert_eq!(client.read_response("HEAD").expect("an answer").body, b"");
    for bytes in [5, 3] {
        let answer = client.read_response("POST").expect("an answer");
        let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(told["bodyBytes"], bytes);
    }
    assert_eq!(client.read_response("GET").expect("an answer").status, 204);
    // A client that waits for 100 Continue gets it.
    client.send(head("POST", "expect: 100-continue\r\ncontent-length: 2\r\n").as_bytes()).expect("sent");
    client.await_text("100 Continue").expect("an invitation");
    let answer = client.exchange(b"ok").expect("an answer");
    assert_eq!((answer.interim.as_slice(), answer.status), ([100].as_slice(), 200));
    // HTTP/1.0 closes unless asked.
    let answer = ask(v1, "GET / HTTP/1.0\r\n\r\n").expect("an answer");
    assert!(answer.closes());
    let answer = ask(v1, "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").expect("an answer");
    assert!(!answer.closes());
}

#[test]
fn trailers_come_and_go() {
    let (_process, v1, _) = start();
    let chunks = "3\r\nabc\r\n0\r\nT: 1\r\nt:2 \r\n\r\n";
    let fields = "x-echo-set-trailer: x-k=v; w\r\nx-echo-set-trailer: x-k=2\r\n";
    let head = |method, rest: &str| format!("{method} / HTTP/1.1\r\nhost: a\r\n{fields}{rest}\r\n");
    let answer = ask(v1, &(head("POST", "transfer-encoding: chunked\r\n") + chunks)).expect("an answer");
    let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&told["trailers"], &told["bodyBytes"]), (&serde_json::json!({"t": ["1", "2"]}), &3.into()));
    assert_eq!(answer.trailers.all("x-k").collect::<Vec<_>>(), ["v; w", "2"]);
    let answer = ask(v1, &head("GET", "x-echo-body-bytes: 40000\r\n")).expect("an answer");
    assert_eq!((answer.body.len(), answer.trailers.get("x-k")), (40_000, Some("v; w")));
    let answer = ask(v1, &head("GET", "x-echo-abort: after-headers\r\n"));
    assert!(matches!(answer, Err(ReadError::Truncated(_))));
    assert_eq!(ask(v1, &head("GET", "").replace("HTTP/1.1", "HTTP/1.0")).expect("an answer").status, 400);
    let bad = "0\r\nno field\r\n\r\n";
    assert_eq!(ask(v1, &(head("POST", "transfer-encoding: chunked\r\n") + bad)).expect("an answer").status, 400);
}

#[test]
fn it_survives_garbage() {
    let (mut process, v1, _) = start();
    let long = "a".repeat(70_000);
    let head = |rest: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{rest}\r\n");
    let cases: &[(String, u16)] = &[
        ("garbage\r\n\r\n".to_owned(), 400),
        ("\u{0}\u{1}\u{2}\u{3}\u{ff}".repeat(30_000), 400),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n".to_owned(), 505),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000)), 431),
        (head("content-length: 1\r\ncontent-length: 1\r\n"), 400),
        (head("content-length: +1\r\n"), 400),
        (head("content-length: 99999999999999999999\r\n"), 400),
        (head("content-length: 1\r\ntransfer-encoding: chunked\r\n"), 400),
        (head("transfer-encoding: gzip, chunked\r\n"), 501),
        (head("transfer-encoding: chunked\r\n") + "0x1\r\n", 400),
        (head("transfer-encoding: chunked\r\n") + "1\r\nab\r\n", 400),
        (head("transfer-encoding: chunked\r\n") + "ffffffffffffffffff\r\n", 400),
        (head("transfer-encoding: chunked\r\n") + "0\r\nt: " + &long, 400),
    ];
    for (bytes, status) in cases {
        let shown = &bytes[..bytes.len().min(80)];
        let mut client = Client::connect(v1).expect("it listens");
        // It may close before all of it is sent; the answer is there all the same.
        let _ = client.send(bytes.as_bytes());
        let answer = client.read_response("POST").unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(answer.status, *status, "{shown}");
        assert!(answer.closes(), "{shown}");
        assert_ne!(client.read_ending().how, How::Open, "{shown}");
    }
    Client::connect(v1).expect("it listens").reset();
    assert_eq!(get(v1, "").expect("an answer").status, 200);
    process.assert_well();
}

#[test]
fn sigterm_ends_it_after_the_last_answer() {
    let (mut process, v1, _) = start();
    let mut idle = Client::connect(v1).expect("it listens");
    let mut busy = Client::connect(v1).expect("it listens");
    assert_eq!(idle.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("an answer").status, 200);
    busy.send(b"GET / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n").expect("sent");
    // The head has been read when the invitation is there: the request is under way.
    busy.await_text("100 Continue").expect("an invitation");
    process.signal("TERM");
    assert_eq!(idle.read_ending().how, How::Closed);
    let answer = busy.exchange(b"x").expect("an answer");
    assert!(answer.status == 200 && answer.closes());
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn wrong_use_is_told() {
    let run = |args: &[&str]| {
        let output = std::process::Command::new(ECHO).args(args).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["echo", "--listen", "127.0.0.1:0,pods=x"]);
    assert!(code == Some(2) && said.contains("unknown name \"pods\""), "{said}");
    let (code, said) = run(&["echo", "--listen", "192.0.2.1:1"]);
    assert!(code == Some(2) && said.contains("could not listen on 192.0.2.1:1"), "{said}");
    let (code, said) = run(&["run", ".", "--forward", "127.0.0.1:0=db"]);
    assert!(code == Some(2) && said.contains("expected ADDR=HOST:PORT"), "{said}");
    let (code, said) = run(&["run", ".", "--access-log", "json"]);
    assert!(code == Some(2) && said.contains("--access-log is not supported"), "{said}");
}

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
        longer => {
            frame.push(0x80 | 127);
            frame.extend((longer as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

const WEBSOCKET: &str = "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What comes back for these frames, until the server has closed.
fn messages(address: SocketAddr, frames: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(address).expect("it listens");
    client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{WEBSOCKET}\r\n").as_bytes()).expect("sent");
    let answer = client.read_response("GET").expect("an answer");
    assert_eq!((answer.status, answer.fields.get("x-echo-version")), (101, Some("v1")));
    assert_eq!(answer.fields.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.send(frames).expect("sent");
    let ending = client.read_ending();
    assert_eq!(ending.how, How::Closed);
    ending.bytes
}

#[test]
fn messages_of_a_websocket_come_back() {
    let (_process, v1, _) = start();
    let long = "0123456789".repeat(10_000).into_bytes();
    let sent = [
        // The masked `Hello` of RFC 6455 §5.7.
        vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
        frame(0x02, b"in "),
        frame(0x89, b"ping"),
        frame(0x80, b"parts"),
        frame(0x8a, b"nobody asked"),
        frame(0x82, b""),
        frame(0x82, &long[..300]),
        frame(0x82, &long),
        frame(0x88, &[0x03, 0xe8]),
    ];
    let expected = [
        b"\x81\x05Hello\x02\x03in \x8a\x04ping\x80\x05parts\x82\x00\x82\x7e\x01\x2c".to_vec(),
        long[..300].to_vec(),
        b"\x82\x7f\x00\x00\x00\x00\x00\x01\x86\xa0".to_vec(),
        long.clone(),
        b"\x88\x02\x03\xe8".to_vec(),
    ];
    assert!(messages(v1, &sent.concat()) == expected.concat());

    for (what, bad) in [
        ("no mask", b"\x81\x05Hello".to_vec()),
        ("reserved bit", frame(0xc1, b"x")),
        ("reserved opcode", frame(0x83, b"x")),
        ("a ping in parts", frame(0x09, b"x")),
        ("a long ping", frame(0x89, &long[..126])),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("half a code", frame(0x88, b"x")),
        ("a length that needs less", b"\x82\xfe\x00\x01\x00\x00\x00\x00x".to_vec()),
    ] {
        assert_eq!(messages(v1, &bad), b"\x88\x02\x03\xea", "{what}");
    }
    let two = [frame(0x01, b"a"), frame(0x01, b"b")].concat();
    assert_eq!(messages(v1, &two), b"\x01\x01a\x88\x02\x03\xea", "a message within a message");
}

#[test]
fn a_websocket_is_refused_as_any_request() {
    let (_process, v1, _) = start();
    let status = |fields: &str| get(v1, fields).expect("an answer").status;
    assert_eq!(status(&format!("{WEBSOCKET}x-echo-status: 403\r\n")), 403);
    assert_eq!(status(&WEBSOCKET.replace("version: 13", "version: 12")), 400);
    assert_eq!(status(&WEBSOCKET.replace("sec-websocket-key", "x-key")), 400);
    assert_eq!(status(&WEBSOCKET.replace("Upgrade", "x")), 200, "nothing is asked for");
}
