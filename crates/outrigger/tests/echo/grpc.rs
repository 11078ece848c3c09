//! `outrigger echo` over gRPC, frame by frame.

use std::net::SocketAddr;

use outrigger_testkit::h2::{Answer, Block, Connection, code, data, headers, reset};
use prost::Message;
use serde_json::Value;

use crate::start;

/// A call with these fields.
fn call(method: &str, fields: &[(&str, &str)]) -> Block {
    let block = Block::request("POST", "http", "reviews", method);
    let usual = [("content-type", "application/grpc"), ("te", "trailers")];
    usual.iter().chain(fields).fold(block, |block, (name, value)| block.field(name, value))
}

/// A message with its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

/// The messages of an answer; they must all be whole.
fn messages(answer: &Answer) -> Vec<Vec<u8>> {
    let (mut messages, mut rest) = (Vec::new(), &*answer.body);
    while let Some(([flag, length @ ..], after)) = rest.split_first_chunk::<5>() {
        let (message, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        assert_eq!(*flag, 0);
        messages.push(message.to_vec());
        rest = after;
    }
    assert!(rest.is_empty(), "{} bytes are left", rest.len());
    messages
}

/// The status of a call, and its message.
fn status(answer: &Answer) -> (&str, &str) {
    let end = answer.trailers().or(answer.head()).expect("a head");
    (end.get("grpc-status").unwrap_or("none"), end.get("grpc-message").unwrap_or_default())
}

/// What a call with these bytes as body gets, on a connection of its own.
fn ask(address: SocketAddr, method: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut connection = Connection::connect(address).expect("it listens");
    let mut frames = headers(1, false, &call(method, fields));
    for part in body.chunks(16_000) {
        frames.extend(data(1, false, part));
    }
    frames.extend(data(1, true, ""));
    // It may have answered before all of it is sent.
    let _ = connection.send(&frames);
    connection.await_answer(1).expect("an answer")
}

/// `outrigger.echo.v1.EchoResponse`, as its `.proto` would say it.
#[derive(Clone, PartialEq, Message)]
struct EchoResponse {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(string, tag = "2")]
    json: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
    #[prost(uint64, tag = "4")]
    messages: u64,
}

/// `outrigger.echo.v1.EchoRequest`.
#[derive(Clone, PartialEq, Message)]
struct EchoRequest {
    #[prost(bytes = "vec", tag = "1")]
    payload: Vec<u8>,
    #[prost(int32, tag = "2")]
    count: i32,
}

fn request(payload: &[u8], count: i32) -> Vec<u8> {
    framed(&EchoRequest { payload: payload.to_vec(), count }.encode_to_vec())
}

/// The answers of a method of `outrigger.echo.v1.Echo`, which must end well.
fn echoed(address: SocketAddr, method: &str, body: &[u8]) -> Vec<EchoResponse> {
    let answer = ask(address, &format!("/outrigger.echo.v1.Echo/{method}"), &[], body);
    assert_eq!(status(&answer), ("0", ""), "{method}");
    messages(&answer).iter().map(|message| EchoResponse::decode(&**message).expect("protobuf")).collect()
}

#[test]
fn any_method_answers_each_message_at_once() {
    let (_process, v1, _) = start();
    let mut connection = Connection::connect(v1).expect("it listens");
    connection.send(&headers(1, false, &call("/shop.Cart/Watch", &[]))).expect("sent");
    for (number, message) in ["one", "three", ""].iter().enumerate() {
        connection.send(&data(1, false, framed(message.as_bytes()))).expect("sent");
        // The call is open: the answer does not wait for its end.
        while messages_so_far(&connection.answer(1)) <= number {
            connection.step().expect("an answer");
        }
    }
    connection.send(&data(1, true, "")).expect("sent");
    let answer = connection.await_answer(1).expect("an answer");
    let told: Vec<Value> = messages(&answer).iter().map(|json| serde_json::from_slice(json).expect("JSON")).collect();
    let bytes: Vec<_> = told.iter().map(|told| told["bodyBytes"].as_u64()).collect();
    assert_eq!(bytes, [Some(3), Some(8), Some(8)]);
    assert_eq!((&told[0]["path"], &told[0]["proto"]), (&"/shop.Cart/Watch".into(), &"HTTP/2.0".into()));
    assert_eq!((&told[0]["service"], &told[0]["version"]), (&"reviews".into(), &"v1".into()));
    assert_eq!(status(&answer), ("0", ""));
    let head = answer.head().expect("a head");
    assert_eq!((head.get("content-type"), head.get("x-echo-version")), (Some("application/grpc"), Some("v1")));
}

fn messages_so_far(answer: &Answer) -> usize {
    let (mut count, mut rest) = (0, &*answer.body);
    while let Some(([_, length @ ..], after)) = rest.split_first_chunk::<5>() {
        let Some((_, after)) = after.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        (count, rest) = (count + 1, after);
    }
    count
}

#[test]
fn the_echo_service_has_all_kinds_of_calls() {
    let (_process, v1, _) = start();
    let unary = echoed(v1, "Unary", &request(b"hello", 0));
    let [answer] = &unary[..] else { panic!("{unary:?}") };
    assert_eq!((answer.payload.as_slice(), answer.messages), (b"hello".as_slice(), 1));
    assert_eq!(answer.pod, format!("reviews-v1-{}", v1.port()));
    let told: Value = serde_json::from_str(&answer.json).expect("JSON");
    assert_eq!((&told["pod"], &told["path"]), (&answer.pod.as_str().into(), &"/outrigger.echo.v1.Echo/Unary".into()));

    let answers = echoed(v1, "ServerStream", &request(b"x", 100));
    assert!(answers.len() == 100 && answers.iter().all(|answer| answer.payload == b"x"));
    assert_eq!(echoed(v1, "ServerStream", &request(b"x", 0)).len(), 1);
    let three = [request(b"a", 0), request(b"b", 0), request(b"c", 0)].concat();
    let answers = echoed(v1, "ClientStream", &three);
    assert_eq!((answers.len(), answers[0].messages, &*answers[0].payload), (1, 3, b"c".as_slice()));
    let payloads: Vec<_> = echoed(v1, "Bidi", &three).into_iter().map(|answer| answer.payload).collect();
    assert_eq!(payloads, [b"a", b"b", b"c"]);
    // More would be against the window.
    let long = vec![7; 60_000];
    assert!(echoed(v1, "Unary", &request(&long, 0))[0].payload == long);

    for (method, body) in
        [("ServerStream", request(b"", -1)), ("ServerStream", Vec::new()), ("Unary", framed(b"\x0a\xff"))]
    {
        let answer = ask(v1, &format!("/outrigger.echo.v1.Echo/{method}"), &[], &body);
        assert_eq!(status(&answer).0, "3", "{method} {body:?}");
    }
}

#[test]
fn it_plays_what_is_asked() {
    let (_process, v1, v2) = start();
    let one = framed(b"x");
    let ask = |address, fields: &[(&str, &str)]| ask(address, "/a.B/C", fields, &one);
    // Trailers-only: all in the head.
    let answer = ask(v1, &[("x-echo-grpc-status", "8;version=v1"), ("x-echo-set-trailer", "x-t=1")]);
    let head = answer.head().expect("a head");
    assert_eq!((head.get("grpc-status"), head.get("x-t"), answer.blocks.len()), (Some("8"), Some("1"), 1));
    assert!(answer.body.is_empty());
    assert_eq!(status(&ask(v2, &[("x-echo-grpc-status", "8;version=v1")])).0, "0");
    let first = |how| status(&ask(v1, &[("x-echo-fail-first", how)])).0.to_owned();
    assert_eq!([first("1;key=a"), first("1;key=a")], ["14", "0"]);
    assert_eq!(first("1;key=b;status=401"), "16");
    assert_eq!(first("1;key=c;grpc-status=4"), "4");
    let closed = ask(v1, &[("x-echo-fail-first", "1;key=d;close")]);
    assert_eq!((closed.reset, closed.status()), (Some(code::INTERNAL_ERROR), None));
    // What says an HTTP status means that, as a proxy in between would.
    let answer = ask(v1, &[("x-echo-status", "502")]);
    assert_eq!((answer.status(), status(&answer).0), (Some(502), "none"));
    let answer = ask(v1, &[("x-echo-body-bytes", "100000"), ("x-echo-set-trailer", "x-t=1")]);
    let trailers = answer.trailers().expect("trailers");
    assert_eq!((messages(&answer)[0].len(), trailers.get("x-t"), status(&answer).0), (100_000, Some("1"), "0"));
    let cut = ask(v1, &[("x-echo-body-bytes", "100000"), ("x-echo-abort", "after-headers")]);
    assert_eq!((cut.status(), cut.body.len(), cut.reset), (Some(200), 50_005, Some(code::INTERNAL_ERROR)));
    let answer = ask(v1, &[("x-echo-stauts", "502")]);
    assert!(status(&answer).0 == "3" && status(&answer).1.starts_with("x-echo-stauts: 502: unknown"), "{answer:?}");
}

#[test]
fn messages_are_bounded_and_whole() {
    let (mut process, v1, _) = start();
    let prefix = |flag: u8, length: u32| [&[flag], &length.to_be_bytes()[..]].concat();
    for (body, expected) in [
        (prefix(1, 0), "12"),
        (prefix(7, 0), "13"),
        (prefix(0, 4 * 1024 * 1024 + 1), "8"),
        (prefix(0, u32::MAX), "8"),
        (prefix(0, 3), "13"),
        (b"\0\0\0".to_vec(), "13"),
        ([framed(b"x"), prefix(1, 0)].concat(), "12"),
        (Vec::new(), "0"),
    ] {
        assert_eq!(status(&ask(v1, "/a.B/C", &[], &body)).0, expected, "{body:?}");
    }
    // A length alone is no reason to set memory aside: so many would not fit.
    let mut connection = Connection::connect(v1).expect("it listens");
    let opened = (0..500).flat_map(|number| {
        let stream = 2 * number + 1;
        let head = headers(stream, false, &call("/outrigger.echo.v1.Echo/Unary", &[]));
        [head, data(stream, false, [prefix(0, 4 * 1024 * 1024), b"\x0a".to_vec()].concat())]
    });
    connection.send(&opened.collect::<Vec<_>>().concat()).expect("sent");
    connection.await_pong(*b"all here").expect("an answer");
    let resident_kib = process.resident_kib().expect("it runs");
    assert!(resident_kib < 200 * 1024, "{resident_kib} KiB");
    process.assert_well();
}

#[test]
fn health_is_told_until_the_end() {
    let (mut process, v1, _) = start();
    assert_eq!(messages(&ask(v1, "/grpc.health.v1.Health/Check", &[], &framed(b""))), [b"\x08\x01"]);
    let answer = ask(v1, "/grpc.health.v1.Health/Check", &[("x-echo-grpc-status", "14")], &framed(b""));
    assert_eq!(status(&answer).0, "14");
    let mut connection = Connection::connect(v1).expect("it listens");
    let watch = |stream| {
        [headers(stream, false, &call("/grpc.health.v1.Health/Watch", &[])), data(stream, true, framed(b""))].concat()
    };
    connection.send(&[watch(1), watch(3)].concat()).expect("sent");
    while [1, 3].iter().any(|stream| connection.answer(*stream).body.is_empty()) {
        connection.step().expect("an answer");
    }
    // One client leaves; the other learns that the server stops.
    connection.send(&reset(3, code::CANCEL)).expect("sent");
    connection.await_pong(*b"it left!").expect("an answer");
    process.signal("TERM");
    let answer = connection.await_answer(1).expect("an answer");
    assert_eq!((messages(&answer), status(&answer).0), (vec![b"\x08\x01".to_vec(), b"\x08\x02".to_vec()], "14"));
    assert_eq!(messages(&connection.answer(3)), [b"\x08\x01"]);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn reflection_describes_what_is_served() {
    let (_process, v1, _) = start();
    for version in ["v1", "v1alpha"] {
        let method = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        // Questions by field number: 3 a file, 4 a symbol, 7 all services.
        let question =
            |number: u8, text: &str| framed(&[&[number << 3 | 2, text.len() as u8], text.as_bytes()].concat());
        let body = [
            question(7, ""),
            question(4, "outrigger.echo.v1.Echo"),
            question(3, "grpc/health/v1/health.proto"),
            question(4, "no.Such"),
        ];
        let answer = ask(v1, &method, &[], &body.concat());
        assert_eq!(status(&answer), ("0", ""));
        let told: Vec<_> = messages(&answer).iter().map(|m| String::from_utf8_lossy(m).into_owned()).collect();
        let [services, echo, health, none] = &told[..] else { panic!("{told:?}") };
        for service in ["outrigger.echo.v1.Echo", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
            assert!(services.contains(service), "{services}");
        }
        for name in ["ServerStream", "ClientStream", ".outrigger.echo.v1.EchoRequest", "payload", "proto3"] {
            assert!(echo.contains(name), "{name}: {echo}");
        }
        assert!(health.contains("NOT_SERVING") && health.contains("Watch"), "{health}");
        assert!(none.contains("there is no no.Such"), "{none}");
    }
}
