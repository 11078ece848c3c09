//! Rows of the catalogue that are stories: many streams, answers that nobody reads, and what HTTP/1 makes of HTTP/2.

use std::time::Duration;

use outrigger_testkit::h2::{Block, Connection, code, data, flag, frame, headers, kind, settings, window_update};
use outrigger_testkit::{Backend, Reply, Request, eventually, response};

use crate::site::{Site, mirror};
use crate::{FLOOD_KIB_MAX, case};

/// A GET of a target of a host.
fn get(host: &str, target: &str) -> Block {
    Block::request("GET", "http", host, target)
}

/// A backend whose answers are 10 MB long.
fn long_winded() -> Backend {
    let body = vec![b'x'; 10_000_000];
    Backend::start(move |_: &Request| Reply::Keep(response(200, &[], &body)))
}

/// H2-13, H2-14: what a client does not take is not fetched from the backend either.
#[test]
fn answers_that_nobody_takes_hold_little_memory() {
    let backend = long_winded();
    let mut site = Site::start(&[("long", backend.address())], "");
    site.assert_healthy();
    let (no_window, wide) = (settings(&[(4, 0)]), settings(&[(4, 1 << 24)]));
    let every_window = |bytes: u32| -> Vec<u8> { (0..100).flat_map(|n| window_update(2 * n + 1, bytes)).collect() };
    let stories: [(&str, Vec<u8>, Vec<u8>); 4] = [
        ("no window", no_window.clone(), Vec::new()),
        ("a byte at a time", no_window, every_window(1).repeat(10)),
        ("the windows of the start, nothing read", settings(&[]), Vec::new()),
        ("wide windows, nothing read", wide, window_update(0, 1 << 30)),
    ];
    for (story, first, then) in stories {
        let (before, seen) = (site.process.resident_kib(), backend.seen().len());
        site.process.forget_peak();
        let mut client = Connection::connect(site.proxy).expect("the proxy accepts");
        let opened = (0..100).flat_map(|n| headers(2 * n + 1, true, &get("long.default", "/")));
        client.send(&first.into_iter().chain(opened).collect::<Vec<_>>()).expect("sent");
        eventually("all requests to reach the backend", || (backend.seen().len() >= seen + 100).then_some(()));
        client.flood(&then, 1);
        site.assert_healthy();
        if let (Some(before), Some(peak)) = (before, site.process.peak_kib()) {
            assert!(peak <= before + FLOOD_KIB_MAX, "{story}: memory went from {before} to {peak} KiB");
        }
    }
    site.process.assert_well();
}

/// H2-28: the hundred and first stream is refused, and harms none of the others.
#[test]
fn one_stream_too_many_is_refused() {
    let site = Site::start(&[], "");
    let mut client = Connection::connect(site.proxy).expect("the proxy accepts");
    // Its SETTINGS, which name the limit, are known and acknowledged by then.
    client.await_pong(*b"settings").expect("acknowledged");
    let streams: Vec<u32> = (0..101).map(|number| 2 * number + 1).collect();
    let opened = streams.iter().flat_map(|id| headers(*id, false, &case::request("POST", "H2-28")));
    client.send(&opened.collect::<Vec<_>>()).expect("sent");
    let refused = client.await_answer(201).expect("an end of the last one");
    assert_eq!((refused.reset, refused.status()), (Some(code::REFUSED_STREAM), None));
    for id in &streams[..100] {
        client.send(&data(*id, true, "x")).expect("sent");
    }
    for id in &streams[..100] {
        let answer = client.await_answer(*id).expect("an answer");
        assert_eq!((answer.status(), answer.text().as_str()), (Some(200), "/"), "stream {id}");
    }
}

/// H2-28: a connection does not wear out.
#[test]
fn ten_thousand_streams_pass_one_after_another() {
    let site = Site::start(&[], "");
    let mut client = Connection::connect(site.proxy).expect("the proxy accepts");
    client.set_patience(Duration::from_secs(60));
    let streams: Vec<u32> = (0..10_000).map(|number| 2 * number + 1).collect();
    for batch in streams.chunks(50) {
        let path = |id: &u32| headers(*id, true, &get("app.default", &format!("/{id}")));
        client.send(&batch.iter().flat_map(path).collect::<Vec<_>>()).expect("sent");
        for id in batch {
            let answer = client.await_answer(*id).expect("an answer");
            assert_eq!((answer.status(), answer.text()), (Some(200), format!("/{id}")));
        }
    }
}

/// What a backend of HTTP/1 answers for a story of H2-23.
fn teller(request: &Request) -> Reply {
    let bytes: &[u8] = match request.target.as_str() {
        "/trailers" => {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"
        }
        "/hints" => b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n",
        "/kept" => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        "/head" => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        _ => return mirror(request),
    };
    Reply::Keep(bytes.to_vec())
}

/// H2-23: framing is each protocol's own.
#[test]
fn framing_is_translated_between_versions() {
    let backend = Backend::start(teller);
    let site = Site::start(&[("teller", backend.address())], "");
    let mut client = Connection::connect(site.proxy).expect("the proxy accepts");
    let stories = [
        ("GET", "/trailers", 200, "abc"),
        ("GET", "/hints", 200, "ok"),
        ("GET", "/none", 204, ""),
        ("GET", "/kept", 304, ""),
        ("HEAD", "/head", 200, ""),
    ];
    for (number, (method, target, status, body)) in (0..).zip(stories) {
        let stream = 2 * number + 1;
        let block = Block::request(method, "http", "teller.default", target);
        client.send(&headers(stream, true, &block)).expect("sent");
        let answer = client.await_answer(stream).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!((answer.status(), answer.text().as_str(), answer.ended), (Some(status), body, true), "{answer:?}");
        let of_hop = ["transfer-encoding", "connection", "keep-alive"];
        assert!(answer.blocks.iter().all(|block| of_hop.iter().all(|name| block.get(name).is_none())), "{answer:?}");
        match target {
            "/trailers" => assert_eq!(answer.trailers().and_then(|t| t.get("x-sum")), Some("6"), "{answer:?}"),
            "/hints" => assert_eq!(answer.blocks[0].get(":status"), Some("103"), "{answer:?}"),
            "/head" => assert_eq!(answer.head().and_then(|head| head.get("content-length")), Some("5"), "{answer:?}"),
            _ => {}
        }
    }
    let post = Block::request("POST", "http", "teller.default", "/sent").field("trailer", "x-sum");
    let trailers = Block::new().field("x-sum", "6");
    client
        .send(&[headers(101, false, &post), data(101, false, "abc"), headers(101, true, &trailers)].concat())
        .expect("sent");
    assert_eq!(client.await_answer(101).expect("an answer").status(), Some(200));
    let expecting = Block::request("POST", "http", "teller.default", "/expected").field("expect", "100-continue");
    client.send(&headers(103, false, &expecting)).expect("sent");
    while client.answer(103).blocks.is_empty() {
        client.step().expect("an invitation");
    }
    assert_eq!(client.answer(103).blocks[0].get(":status"), Some("100"));
    client.send(&frame(kind::DATA, flag::END_STREAM, 103, "abc")).expect("sent");
    assert_eq!(client.await_answer(103).expect("an answer").status(), Some(200));
    for (target, sum) in [("/sent", Some("6")), ("/expected", None)] {
        let seen = backend.seen();
        let request = seen.iter().find(|request| request.target == target).expect("seen");
        let got = (request.body.as_slice(), request.trailers.get("x-sum"), request.is_complete);
        assert_eq!(got, (b"abc".as_slice(), sum, true), "{request:?}");
    }
}
