//! The kit judges the proxy, so it is judged first: ledger and backends against each other with nothing between.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::ledger::{Account, Kind, Load, Witness, classes};
use crate::{Backend, Client, How, ReadError, Reply, response};

#[test]
fn the_ledger_is_clean_without_a_proxy() {
    let witness = Witness::default();
    let (_backend, proxy) = witness.start("a1", Ipv4Addr::LOCALHOST);
    let kinds = ["GET", "POST", "PUT", "HEAD", "DELETE"].map(|method| Kind::new(method, "a.test", "/", "a")).into();
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load { proxy, run: 1, requests: 2_000, rate: 4_000.0, workers: 8, kinds, stop };
    let account = Account::new(&load.run(), &witness.entries(), &classes(&[("a1", &["a"])]));
    assert!(account.is_clean() && account.ok == 2_000 && account.repeated == 0, "{account}");
}

#[test]
fn a_backend_that_loses_requests_is_found_out() {
    let witness = Witness::default();
    let shared = witness.share();
    let backend = Backend::start_unrecorded(Ipv4Addr::LOCALHOST, move |request| {
        shared.record(request, "a1");
        match request.sequence {
            1.. if request.connection % 2 == 0 => Reply::Close(Vec::new()),
            1.. => Reply::Reset(Vec::new()),
            0 => Reply::Keep(crate::ledger::answer(request, "a1")),
        }
    });
    let (kinds, stop) = (vec![Kind::new("POST", "a.test", "/", "a")], Arc::new(AtomicBool::new(false)));
    let load = Load { proxy: backend.address(), run: 1, requests: 100, rate: 1_000.0, workers: 1, kinds, stop };
    let account = Account::new(&load.run(), &witness.entries(), &classes(&[("a1", &["a"])]));
    assert_eq!((account.sent, account.ok, account.lost.len()), (100, 50, 50), "{account}");
}

#[test]
fn endings_are_told_apart() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/close" => Reply::Close(b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec()),
        "/short" => Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort".to_vec()),
        "/reset" => Reply::Reset(Vec::new()),
        "/chunks" => {
            Reply::Keep(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nt: 1\r\n\r\n".to_vec())
        }
        "/bad" => Reply::Keep(b"HTTP/1.1 200 OK\r\nbad\nname: 1\r\n\r\n".to_vec()),
        _ => Reply::Keep(response(200, &[], request.method.as_bytes())),
    });
    let ask = |target: &str| {
        let mut client = Client::connect(backend.address()).expect("it listens");
        let answer = client.exchange(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        (answer, client)
    };
    assert_eq!(ask("/close").0.expect("complete").text(), "to the end");
    assert!(matches!(ask("/short").0, Err(ReadError::Truncated(_))));
    assert!(matches!(ask("/reset").0, Err(ReadError::Reset(_))));
    assert!(matches!(ask("/bad").0, Err(ReadError::Malformed(..))));
    let (answer, mut client) = ask("/chunks");
    let answer = answer.expect("complete");
    assert_eq!((answer.text().as_str(), answer.trailers.get("t")), ("ab", Some("1")));
    assert!(!client.is_spent());
    client.set_patience(std::time::Duration::from_millis(20));
    assert_eq!(client.read_ending().how, How::Open);
    assert_eq!(backend.seen().len(), 5);
}
