//! H2-15 to H2-22, H2-30 and H2-31: requests whose framing is in order and whose fields are not.

use outrigger_testkit::h2::{PREFACE, code, data, flag, frame, headers, kind, settings};

use crate::case::Outcome::{Closed, GoAway, Http1, Reset, Status};
use crate::case::{Cases, Outcome, fields, get, request};
use crate::site::HOST;

/// What may come of a malformed request (RFC 9113 §8.1.1): an error of the stream, 400, or, where the library sees it while
/// it decodes, an error of the connection.
const MALFORMED: &[Outcome] = &[Reset(code::PROTOCOL_ERROR), Status(400), GoAway(code::PROTOCOL_ERROR)];

/// Malformed, or taken with what is harmless in it.
const MALFORMED_OR_TAKEN: &[Outcome] = &[Reset(code::PROTOCOL_ERROR), Status(400), Status(200)];

/// What is no preface of HTTP/2 may be a request of HTTP/1.1, for which it is not good enough either.
const NO_PREFACE: &[Outcome] = &[Closed, GoAway(code::PROTOCOL_ERROR), Http1];

/// Answered.
const TAKEN: &[Outcome] = &[Status(200)];

/// All of them.
pub(crate) fn add_to(cases: &mut Cases) {
    targets(cases);
    authorities(cases);
    methods_and_schemes(cases);
    schemes_of_others(cases);
    pseudo_fields(cases);
    syntax(cases);
    hops(cases);
    lengths(cases);
    upgrades(cases);
    grpc(cases);
}

/// A GET of which one pseudo-field is different.
fn with(tag: &str, name: &str, value: &str) -> Vec<u8> {
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/")];
    let changed = usual.map(|(usual, text)| (usual, if usual == name { value } else { text }));
    headers(1, true, &fields(tag, &changed))
}

fn targets(cases: &mut Cases) {
    for path in ["admin", "", "*", "http://x/", "?a", "/a b", "/a\rb", "/a\nb", "/a\0b", "/a\r\nx: y", "\\"] {
        cases.add("H2-15", path.escape_debug().to_string(), MALFORMED, |tag| with(tag, ":path", path));
    }
    // The library cuts fragments off, and what is left of the last one is `/` for routes and backend alike.
    for path in ["//x", "/a#b", "#"] {
        cases.add("H2-15", path, MALFORMED_OR_TAKEN, |tag| with(tag, ":path", path));
    }
}

fn authorities(cases: &mut Cases) {
    for authority in
        ["a@app.default", "app.default,b", "app.default/x", "app.default\r\nx: y", "app default", "a\0", "[::1"]
    {
        let variant = authority.escape_debug().to_string();
        cases.add("H2-16", variant, MALFORMED, |tag| with(tag, ":authority", authority));
    }
    cases.add("H2-16", "empty, nothing else", MALFORMED, |tag| with(tag, ":authority", ""));
    cases.add("H2-16", "another host", MALFORMED, |tag| headers(1, true, &get(tag).field("host", "victim.default")));
    cases.add("H2-16", "two hosts", MALFORMED, |tag| {
        headers(1, true, &get(tag).field("host", HOST).field("host", "victim.default"))
    });
    cases.add("H2-16", "another port", MALFORMED, |tag| {
        headers(1, true, &get(tag).field("host", format!("{HOST}:8080")))
    });
    cases.add("H2-16", "the same host", TAKEN, |tag| headers(1, true, &get(tag).field("host", HOST)));
    cases.add("H2-16", "the same host in capitals", TAKEN, |tag| {
        headers(1, true, &get(tag).field("host", HOST.to_uppercase()))
    });
    let without = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    cases.add("H2-16", "host alone", TAKEN, |tag| headers(1, true, &fields(tag, &without).field("host", HOST)));
    cases.add("H2-16", "two hosts alone", MALFORMED, |tag| {
        headers(1, true, &fields(tag, &without).field("host", HOST).field("host", HOST))
    });
    cases.add("H2-16", "no host at all", MALFORMED, |tag| headers(1, true, &fields(tag, &without)));
}

fn methods_and_schemes(cases: &mut Cases) {
    for method in ["GET /x HTTP/1.1", "GET\r\n", "GET\r\nx: y", "", "G\0T", "GE(T"] {
        let variant = method.escape_debug().to_string();
        cases.add("H2-17", variant, MALFORMED, |tag| with(tag, ":method", method));
    }
    // Methods have cases, and nobody knows them all.
    cases.add("H2-17", "get", MALFORMED_OR_TAKEN, |tag| with(tag, ":method", "get"));
    for scheme in ["http://evil", "javascript", "", "ftp", "http\r\n", "-"] {
        let variant = scheme.escape_debug().to_string();
        cases.add("H2-18", variant, MALFORMED, |tag| with(tag, ":scheme", scheme));
    }
}

/// What the client's connection to a proxy before us was like is not for us to know: it says `https` in cleartext.
fn schemes_of_others(cases: &mut Cases) {
    cases.add("H2-18", "https in cleartext", MALFORMED_OR_TAKEN, |tag| with(tag, ":scheme", "https"));
}

fn pseudo_fields(cases: &mut Cases) {
    let usual = [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/")];
    for (number, (name, _)) in usual.iter().enumerate() {
        if *name != ":authority" {
            let left: Vec<_> = usual.iter().enumerate().filter(|(at, _)| *at != number).map(|(_, f)| *f).collect();
            cases.add("H2-19", format!("without {name}"), MALFORMED, |tag| headers(1, true, &fields(tag, &left)));
        }
        let twice = [&usual[..], &[usual[number]]].concat();
        cases.add("H2-19", format!("{name} twice"), MALFORMED, |tag| headers(1, true, &fields(tag, &twice)));
    }
    let more = [("late", ":path", "/"), ("unknown", ":unknown", "x"), ("of answers", ":status", "200")];
    for (variant, name, value) in more {
        cases.add("H2-19", variant, MALFORMED, |tag| headers(1, true, &get(tag).field(name, value)));
    }
    cases.add("H2-19", ":protocol without CONNECT", MALFORMED, |tag| {
        let all = [&usual[..], &[(":protocol", "websocket")]].concat();
        headers(1, true, &fields(tag, &all))
    });
    for (name, value) in [(":path", "/"), (":status", "200")] {
        // The head is on its way by then; the library drops what it does not know in trailers.
        cases
            .add("H2-19", format!("{name} in trailers"), MALFORMED_OR_TAKEN, |tag| {
                let trailers = outrigger_testkit::h2::Block::new().field(name, value);
                [headers(1, false, &request("POST", tag)), data(1, false, "x"), headers(1, true, &trailers)].concat()
            })
            .forwarded(1);
    }
}

fn syntax(cases: &mut Cases) {
    let bad = [
        ("Upper", "x"),
        ("", "x"),
        ("a:b", "x"),
        ("a b", "x"),
        ("a\r\nb", "x"),
        ("a\0", "x"),
        ("a\u{e4}", "x"),
        ("a", "x\ry"),
        ("a", "x\ny"),
        ("a", "x\r\nhost: b"),
        ("a", "x\0y"),
    ];
    for (name, value) in bad {
        let variant = format!("{}: {}", name.escape_debug(), value.escape_debug());
        cases.add("H2-20", variant, MALFORMED, |tag| headers(1, true, &get(tag).field(name, value)));
    }
    for value in [" x", "x ", "\tx\t", ""] {
        let variant = format!("a: {}", value.escape_debug());
        cases.add("H2-20", variant, MALFORMED_OR_TAKEN, |tag| headers(1, true, &get(tag).field("a", value)));
    }
}

fn hops(cases: &mut Cases) {
    let of_hops = [
        ("connection", "close"),
        ("connection", "x-case"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ];
    for (name, value) in of_hops {
        let variant = format!("{name}: {value}");
        cases.add("H2-21", variant, MALFORMED, |tag| headers(1, true, &get(tag).field(name, value)));
    }
    cases.add("H2-21", "te: trailers", TAKEN, |tag| headers(1, true, &get(tag).field("te", "trailers")));
}

fn lengths(cases: &mut Cases) {
    let post = |tag: &str, lengths: &[&str], body: &str| {
        let block = lengths.iter().fold(request("POST", tag), |block, length| block.field("content-length", length));
        [headers(1, false, &block), data(1, true, body)].concat()
    };
    cases.add("H2-22", "right", TAKEN, |tag| post(tag, &["3"], "abc"));
    // The head is on its way when the body turns out to be shorter or longer.
    cases.add("H2-22", "10 with 3 bytes", MALFORMED, |tag| post(tag, &["10"], "abc")).forwarded(1);
    cases.add("H2-22", "3 with 10 bytes", MALFORMED, |tag| post(tag, &["3"], "0123456789")).forwarded(1);
    cases.add("H2-22", "3 and 4", MALFORMED, |tag| post(tag, &["3", "4"], "abc"));
    cases.add("H2-22", "3 and 3", MALFORMED_OR_TAKEN, |tag| post(tag, &["3", "3"], "abc"));
    for length in ["3, 3", "+3", "-3", "0x3", "3.0", "", "18446744073709551616", "٣"] {
        cases.add("H2-22", format!("{length:?}"), MALFORMED, |tag| post(tag, &[length], "abc"));
    }
    cases.add("H2-22", "3 and END_STREAM", MALFORMED, |tag| {
        headers(1, true, &request("POST", tag).field("content-length", "3"))
    });
    cases
        .add("H2-22", "in trailers", MALFORMED_OR_TAKEN, |tag| {
            let trailers = outrigger_testkit::h2::Block::new().field("content-length", "10");
            [headers(1, false, &request("POST", tag)), data(1, false, "x"), headers(1, true, &trailers)].concat()
        })
        .forwarded(1);
}

/// H2-30: HTTP/2 by upgrade is of the past (RFC 9113 §3.1), and nothing that speaks of it goes to the backend as such.
fn upgrades(cases: &mut Cases) {
    cases.add("H2-30", "a preface of another version", NO_PREFACE, |_| {
        [b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n".to_vec(), settings(&[])].concat()
    });
    cases.0.last_mut().expect("just added").raw().watching(0);
    cases.add("H2-30", "a preface that breaks off differently", NO_PREFACE, |_| {
        [PREFACE[..18].to_vec(), b"XX\r\n\r\n".to_vec(), settings(&[])].concat()
    });
    cases.0.last_mut().expect("just added").raw().watching(0);
    cases.add("H2-30", "HTTP2-Settings", MALFORMED_OR_TAKEN, |tag| {
        headers(1, true, &get(tag).field("http2-settings", "AAMAAABk"))
    });
}

/// H2-31: what a gRPC message says of itself is the business of its reader.
fn grpc(cases: &mut Cases) {
    let call = |tag: &str, more: &[(&str, &str)], body: &[u8]| {
        let block = request("POST", tag).field("content-type", "application/grpc");
        let block = more.iter().fold(block, |block, (name, value)| block.field(name, value));
        [headers(1, false, &block), data(1, true, body)].concat()
    };
    for timeout in ["99999999H", "-1S", "1x", "999999999S", "S", "", "1 S"] {
        cases.add("H2-31", format!("grpc-timeout: {timeout}"), MALFORMED_OR_TAKEN, |tag| {
            call(tag, &[("te", "trailers"), ("grpc-timeout", timeout)], &[0; 5])
        });
    }
    let bodies: [(&str, &[u8]); 3] = [
        ("a length of 4 GiB", &[0, 255, 255, 255, 255]),
        ("compressed by nothing", &[1, 0, 0, 0, 0]),
        ("half", &[0, 0]),
    ];
    for (variant, body) in bodies {
        cases.add("H2-31", variant, TAKEN, |tag| call(tag, &[("te", "trailers")], body));
    }
    cases.add("H2-31", "without te", TAKEN, |tag| call(tag, &[], &[0; 5]));
    cases.add("H2-31", "padding", TAKEN, |tag| {
        let padded = frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        [headers(1, false, &request("POST", tag)), padded].concat()
    });
}
