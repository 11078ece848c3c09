//! H2-32: the same from the other side. A backend that floods loses its connection; its client gets an answer, and nobody
//! else notices.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use outrigger_testkit::h2::{
    Block, Connection, code, data, flag, frame, goaway, headers, kind, ping, reset, settings, window_update,
};
use outrigger_testkit::{Endpoint, service_yaml};

use crate::site::{Site, judge_all};
use crate::{FLOOD_KIB_MAX, assert_none};

/// What a backend does once it has read the head of a request, which is that of stream 1.
struct Case {
    variant: &'static str,
    /// What it sends when the connection begins.
    first: Vec<u8>,
    /// What it sends when the request is there.
    then: Vec<u8>,
    /// Statuses that the client may get; 0 stands for a stream that is reset.
    statuses: &'static [u16],
    /// Whether the connection must be given up.
    ends: bool,
}

/// Statuses of a gateway's failures.
const FAILED: &[u16] = &[502, 503];

/// As [`FAILED`], or a stream that breaks off, since its head had been passed on.
const BROKEN: &[u16] = &[0, 502, 503];

fn case(variant: &'static str, then: Vec<u8>, statuses: &'static [u16]) -> Case {
    Case { variant, first: settings(&[]), then, statuses, ends: true }
}

fn all() -> Vec<Case> {
    let ok = || Block::new().field(":status", "200");
    let begun = || headers(1, false, &ok());
    let after_head = |bytes: Vec<u8>| [begun(), bytes].concat();
    let whole = || [begun(), data(1, true, "fine")].concat();
    let continuations = |size: usize, times| {
        let more = frame(kind::CONTINUATION, flag::NONE, 1, vec![0; size]);
        [frame(kind::HEADERS, flag::NONE, 1, ok().bytes()), more.repeat(times)].concat()
    };
    let bomb = ok().incremental("a", "").indexed(62, 16_000);
    let status = |status: &str| headers(1, false, &Block::new().field(":status", status));
    let stays = |case: Case| Case { ends: false, ..case };
    vec![
        case("PING", ping([1; 8]).repeat(20_000), FAILED),
        case("SETTINGS", settings(&[(4, 65_535)]).repeat(10_000), FAILED),
        case("2700 settings", settings(&[(0x99, 1); 2_700]), FAILED),
        case("WINDOW_UPDATE", window_update(0, 1).repeat(50_000), FAILED),
        case("unknown frames", frame(0xee, 0, 0, []).repeat(10_000), FAILED),
        stays(case("interim answers", status("103").repeat(1_000), BROKEN)),
        case("empty CONTINUATION", continuations(0, 10_000), FAILED),
        case("CONTINUATION", continuations(16_384, 100), FAILED),
        case("GOAWAY", goaway(1, 0).repeat(1_000), BROKEN),
        case("empty DATA", after_head(data(1, false, "").repeat(20_000)), BROKEN),
        case("DATA of a byte", after_head(data(1, false, "x").repeat(60_000)), BROKEN),
        // Beyond the window of its stream, which is reset (RFC 9113 §6.9.1); beyond that of the connection only if it is
        // faster than what is thrown away.
        stays(case(
            "DATA beyond the window",
            after_head(data(1, false, [0; 16_384]).repeat(1_000)),
            &[0, 200, 502, 503],
        )),
        case("PUSH_PROMISE", frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, [0, 0, 0, 2, 0x82]), FAILED),
        case("a window beyond 2^31", window_update(0, 0x7fff_ffff).repeat(2), FAILED),
        case("index 0", frame(kind::HEADERS, flag::END_HEADERS, 1, [0x80]), FAILED),
        case("an answer to nobody", headers(3, true, &ok()), FAILED),
        case("HTTP/1.1", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(), FAILED),
        case("GOAWAY before any stream", goaway(0, code::ENHANCE_YOUR_CALM), FAILED),
        stays(case("16000 fields", frame(kind::HEADERS, flag::END_HEADERS, 1, bomb.bytes()), FAILED)),
        stays(case("RST_STREAM", reset(1, code::INTERNAL_ERROR), FAILED)),
        stays(case("REFUSED_STREAM", reset(1, code::REFUSED_STREAM), FAILED)),
        stays(case("no status", headers(1, true, &Block::new().field("a", "b")), FAILED)),
        stays(case("a status of 99", status("99"), FAILED)),
        stays(case("a status that is none", status("2OO"), FAILED)),
        stays(case("connection", headers(1, true, &ok().field("connection", "close")), FAILED)),
        stays(case(
            "a length of 5, 3 bytes",
            [headers(1, false, &ok().field("content-length", "5")), data(1, true, "abc")].concat(),
            BROKEN,
        )),
        stays(case(
            "two lengths",
            {
                let block = ok().field("content-length", "3").field("content-length", "4");
                [headers(1, false, &block), data(1, true, "abc")].concat()
            },
            BROKEN,
        )),
        stays(case("a reset in the middle", after_head([data(1, false, "abc"), reset(1, 2)].concat()), BROKEN)),
        stays(case("an end without data", after_head([data(1, false, "fine"), data(1, true, "")].concat()), &[200])),
        stays(case(
            "an end by trailers",
            {
                let trailers = headers(1, true, &Block::new().field("a", "b"));
                after_head([data(1, false, "fine"), trailers].concat())
            },
            &[200],
        )),
        stays(case("an answer, then a reset that says there is no error", [whole(), reset(1, 0)].concat(), &[200])),
        stays(case("GOAWAY with the answer", [goaway(1, 0), whole()].concat(), &[200])),
        Case { first: settings(&[(3, 0)]), ..case("no streams, then GOAWAY", goaway(0, 0), FAILED) },
    ]
}

/// A server of HTTP/2 that does what its case says on every connection.
struct Hostile {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    /// Connections on which the case was played and that still stand.
    open: Arc<AtomicUsize>,
    played: Arc<AtomicUsize>,
}

impl Hostile {
    fn start(first: Vec<u8>, then: Vec<u8>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (stopped, open, played) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let hostile = Self { address, stopped: stopped.clone(), open: open.clone(), played: played.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (first, then, open, played) = (first.clone(), then.clone(), open.clone(), played.clone());
                thread::spawn(move || {
                    open.fetch_add(1, Ordering::SeqCst);
                    play(stream, &first, &then, &played);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        hostile
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn play(stream: TcpStream, first: &[u8], then: &[u8], played: &AtomicUsize) {
    let Ok(mut server) = Connection::server(stream, first) else { return };
    server.set_patience(Duration::from_secs(30));
    // A client that may open no stream sends no request; it has acknowledged that by then.
    let is_ready = |frame: &outrigger_testkit::h2::Frame| {
        frame.kind == kind::HEADERS || (frame.kind == kind::SETTINGS && frame.flags & flag::ACK != 0 && first.len() > 9)
    };
    loop {
        match server.step() {
            Ok(frame) if is_ready(&frame) => break,
            Ok(_) => {}
            Err(_) => return,
        }
    }
    played.fetch_add(1, Ordering::SeqCst);
    server.flood(then, 1);
    // Who asks again on the same connection is refused.
    while let Ok(frame) = server.step() {
        if frame.kind == kind::HEADERS {
            played.fetch_add(1, Ordering::SeqCst);
            let _ = server.send(&reset(frame.stream, code::REFUSED_STREAM));
        }
    }
}

fn judge(case: &Case, hostile: &Hostile, site: &Site, host: &str) -> Result<(), String> {
    let mut client = Connection::connect(site.proxy).map_err(|error| error.to_string())?;
    client.set_patience(Duration::from_secs(20));
    let block = Block::request("GET", "http", host, "/");
    client.send(&headers(1, true, &block)).map_err(|error| error.to_string())?;
    let answer = client.await_answer(1).map_err(|error| format!("no answer: {error}"))?;
    let status = if answer.reset.is_some() { 0 } else { answer.status().unwrap_or(0) };
    if !case.statuses.contains(&status) {
        return Err(format!("{answer:?}, wanted one of {:?}", case.statuses));
    }
    if hostile.played.load(Ordering::SeqCst) > 8 {
        return Err("asked more than eight times".to_owned());
    }
    // The client's connection is none of the backend's business.
    client
        .send(&headers(3, true, &Block::request("GET", "http", "app.default", "/after")))
        .map_err(|e| e.to_string())?;
    let after = client.await_answer(3).map_err(|error| format!("afterwards: {error}"))?;
    if after.text() != "/after" {
        return Err(format!("afterwards: {after:?}"));
    }
    let is_gone = || (hostile.open.load(Ordering::SeqCst) == 0).then_some(());
    if case.ends && outrigger_testkit::within(Duration::from_secs(10), is_gone).is_none() {
        return Err("its connection still stands".to_owned());
    }
    Ok(())
}

#[test]
fn hostile_backends_lose_their_connection_and_nothing_else() {
    let cases = all();
    let backends: Vec<_> = cases.iter().map(|case| Hostile::start(case.first.clone(), case.then.clone())).collect();
    let yaml = |(number, backend): (usize, &Hostile)| {
        let endpoint = Endpoint { address: backend.address, pod: format!("h{number}-0"), version: "v1".to_owned() };
        // A port by the name of `http2` speaks it.
        service_yaml("default", &format!("h{number}"), 80, &[endpoint])
            .replace("{name: http,", "{name: http2,")
            .replace("targetPort: http}", "targetPort: http2}")
    };
    let services: Vec<_> = backends.iter().enumerate().map(yaml).collect();
    let mut site = Site::start(&[], &services.join("---\n"));
    site.assert_healthy();
    let before = site.process.resident_kib();
    site.process.forget_peak();
    let failures = judge_all(&site, &cases, |number, case| {
        let host = format!("h{number}.default");
        judge(case, &backends[number], &site, &host).map_err(|why| format!("H2-32 [{}]: {why}", case.variant))
    });
    assert_none(&failures, cases.len());
    if let (Some(before), Some(peak)) = (before, site.process.peak_kib()) {
        // Sixteen at a time.
        assert!(peak <= before + 16 * FLOOD_KIB_MAX, "memory went from {before} to {peak} KiB");
    }
    site.process.assert_well();
}
