//! Mutated requests, by the thousand: whatever the proxy makes of them, the backend gets requests that the proxy wrote.
//!
//! Each case is a good request with a second one hidden in its body, damaged in a few places where framing is decided.
//! A request at the backend without the mark that the proxy puts on each would be a smuggled one. The seed is fixed and
//! printed; `OUTRIGGER_MUTATIONS=N` asks for more cases.

use std::net::SocketAddr;
use std::thread;

use outrigger_testkit::{Backend, Client, Endpoint, How, Process, Reply, World, response, service_yaml};

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: app\r\n\r\n";

/// What is put in: everything that some parser takes for framing and another does not.
const TOKENS: [&[u8]; 32] = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\x0b",
    b"\0",
    b":",
    b";",
    b",",
    b"0",
    b"+",
    b"-",
    b"0x",
    b"_",
    b"chunked",
    b"Transfer-Encoding",
    b"Content-Length",
    b"Content-Length: 0\r\n",
    b"Content_Length: 5\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"\r\n ",
    b"\xff",
    b"HTTP/1.0",
    b"Connection: Content-Length\r\n",
    b"Connection: Transfer-Encoding\r\n",
    b"Connection: Host\r\n",
    b"Upgrade: foo\r\nConnection: upgrade\r\n",
    b"\"",
    b"ffffffffffffffff",
];

fn bases() -> Vec<Vec<u8>> {
    let length = HIDDEN.len();
    [
        format!("POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"),
        format!("GET /a HTTP/1.1\r\nHost: app\r\nContent-Length: {length}\r\nConnection: keep-alive\r\n\r\n{HIDDEN}"),
        format!("POST /a HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n"),
        format!(
            "POST /a HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n{length:X}\r\n{HIDDEN}\r\n\
             0\r\nX: y\r\n\r\n"
        ),
        format!("POST /a HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{HIDDEN}"),
        format!("PUT /a HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd{HIDDEN}"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn mutate(random: &mut fastrand::Rng, base: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=bytes.len());
        let token = TOKENS[random.usize(..TOKENS.len())];
        match random.u8(0..10) {
            0..5 => drop(bytes.splice(at..at, token.iter().copied())),
            5..7 => drop(bytes.drain(at..bytes.len().min(at + random.usize(1..=4)))),
            7..9 => {
                let end = bytes.len().min(at + 1);
                drop(bytes.splice(at..end, [token[0]]));
            }
            _ => {
                let from = random.usize(0..bytes.len());
                let piece = bytes[from..bytes.len().min(from + 20)].to_vec();
                drop(bytes.splice(at..at, piece));
            }
        }
        if bytes.is_empty() {
            return base.to_vec();
        }
    }
    bytes
}

fn send(proxy: SocketAddr, seed: u64, count: usize) {
    let (mut random, bases) = (fastrand::Rng::with_seed(seed), bases());
    for case in 0..count {
        let bytes = mutate(&mut random, &bases[case % bases.len()]);
        let mut client = Client::connect(proxy).expect("the proxy accepts");
        // A proxy that has read enough may close before all is sent.
        let _ = client.send(&bytes).and_then(|()| client.finish());
        let ending = client.read_ending();
        assert_ne!(ending.how, How::Open, "seed {seed} case {case}: no end to {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn no_mutation_smuggles_a_request() {
    let count: usize = std::env::var("OUTRIGGER_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let backend = Backend::start(|_| Reply::Keep(response(200, &[], b"ok")));
    let world = World::new();
    let endpoint = Endpoint { address: backend.address(), pod: "app-0".into(), version: "v1".into() };
    world.write("app.yaml", &service_yaml("default", "app", 80, &[endpoint]));
    let path = world.path().display().to_string();
    let flags = ["run", &path, "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];
    let mut process = Process::start(env!("CARGO_BIN_EXE_outrigger"), flags);
    let proxy = process.address("outbound");
    println!("seeds 1 to 4, {count} cases in all");
    let senders: Vec<_> = (1..=4).map(|seed| thread::spawn(move || send(proxy, seed, count / 4))).collect();
    senders.into_iter().for_each(|sender| sender.join().expect("every case has an end"));
    process.assert_well();
    let seen = backend.seen();
    assert!(seen.len() > count / 10, "hardly anything passes: {} of {count}", seen.len());
    for request in &seen {
        let marks: Vec<&str> = request.fields.all("x-envoy-attempt-count").collect();
        assert_eq!(marks, ["1"], "smuggled: {request:?}");
    }
    assert_eq!(backend.garbage(), Vec::<String>::new(), "the backend got what is not HTTP/1");
}
