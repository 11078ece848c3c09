//! What a connection carries where nobody says: each kind of beginning goes its way, and is counted.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use common::World;
use common::gateway::{chain, gateway, start, to_http, to_tcp};
use common::sockets::{connect, counted, read_some, serve};
use outrigger_model as model;
use outrigger_proxy::Settings;
use outrigger_testkit::pass_time;

const TOTAL: &str = "outrigger_detection_total";

/// A server that says its name, and then what it hears.
fn relayed() -> SocketAddr {
    serve(|mut socket| {
        socket.write_all(b"relayed:")?;
        let mut bytes = [0; 1024];
        loop {
            match socket.read(&mut bytes)? {
                0 => return Ok(()),
                count => socket.write_all(&bytes[..count])?,
            }
        }
    })
}

/// A server of one answer a connection.
fn routed() -> SocketAddr {
    serve(|mut socket| {
        let mut bytes = [0; 1024];
        let _ = socket.read(&mut bytes)?;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nrouted")
    })
}

/// A listener that detects; silence lasts 300 ms at most.
fn undetermined() -> World {
    let (model::Serve::Http(http), model::Serve::Tcp(tcp)) = (to_http("web"), to_tcp(&[("db", 1)])) else {
        unreachable!("that is what they serve")
    };
    let chains = vec![chain(&[], None, model::Serve::Detect { http, tcp })];
    let settings = Settings { detect_timeout: Duration::from_millis(300), ..Settings::default() };
    start(settings, gateway(chains, &[("db", &[relayed()][..]), ("web", &[routed()])]))
}

/// Sends the parts one after the other, and returns what comes back.
fn said(world: &World, parts: &[&[u8]]) -> io::Result<String> {
    let mut client = connect(world.address());
    for part in parts {
        client.write_all(part)?;
        // Each arrives by itself.
        pass_time(Duration::from_millis(5));
    }
    if !parts[0].starts_with(b"GET") {
        client.shutdown(Shutdown::Write)?;
    }
    let mut text = String::new();
    client.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn what_begins_like_http_is_routed_and_all_else_is_relayed_whole() {
    let world = undetermined();
    for parts in [
        &[&b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"[..]][..],
        &[b"G", b"ET ", b"/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"],
    ] {
        let answer = said(&world, parts).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("routed"), "{answer}");
    }
    counted(&world, TOTAL, "http1", 2.0);
    for (parts, result) in [
        (&[&b"*1\r\n$4\r\nPING\r\n"[..]][..], "opaque"),
        (&[b"SE", b"T a b\r\n"], "opaque"),
        (&[&[22], &[3, 1, 0, 1, 7]], "tls"),
    ] {
        let before = world.sum(TOTAL, result);
        let whole = String::from_utf8(parts.concat()).unwrap();
        assert_eq!(said(&world, parts).unwrap(), format!("relayed:{whole}"));
        counted(&world, TOTAL, result, before + 1.0);
    }
}

#[test]
fn a_client_that_waits_for_its_server_gets_through() {
    let world = undetermined();
    let mut silent = connect(world.address());
    assert_eq!(read_some(&mut silent), b"relayed:");
    silent.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(read_some(&mut silent), b"GET / HTTP/1.1\r\n", "what comes later changes nothing");
    // Neither does a beginning that never goes on.
    let mut slow = connect(world.address());
    slow.write_all(b"GE").unwrap();
    let mut greeting = [0; 10];
    slow.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"relayed:GE");
    counted(&world, TOTAL, "timeout", 2.0);
}

#[test]
fn whoever_only_looks_whether_the_port_is_open_reaches_nobody() {
    let world = undetermined();
    let mut client = connect(world.address());
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "it is closed in good order");
    counted(&world, TOTAL, "closed", 1.0);
    assert_eq!(world.sum("istio_tcp_connections_opened_total", ""), 0.0);
}
