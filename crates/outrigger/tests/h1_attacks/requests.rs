//! The request side of the catalogue: ambiguous framing, malformed heads, hostile targets, floods.

use std::time::Duration;

use outrigger_testkit::Request;

use crate::case::{Case, anything, case};

/// A POST to the case's target with these fields and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST {{T}} HTTP/1.1\r\nHost: {{H}}\r\n{fields}\r\n{body}")
}

/// A POST with a chunked body.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A GET of the case's target with these fields.
fn get(fields: &str) -> String {
    format!("GET {{T}} HTTP/1.1\r\nHost: {{H}}\r\n{fields}\r\n")
}

/// Bytes with one of them exchanged for another that text cannot hold.
fn with_byte(text: &str, mark: char, byte: u8) -> Vec<u8> {
    text.bytes().map(|b| if b == mark as u8 { byte } else { b }).collect()
}

/// Every request-side case.
pub(crate) fn all() -> Vec<Case> {
    [
        lengths(),
        codings(),
        chunks(),
        trailers_and_bodies(),
        expectations(),
        hosts(),
        targets(),
        heads(),
        limits(),
        hops(),
    ]
    .concat()
}

/// H1-01 to H1-09: lengths.
fn lengths() -> Vec<Case> {
    let te = "Transfer-Encoding: chunked\r\n";
    let mut cases = vec![
        case("H1-01", "CL, TE", post(&format!("Content-Length: 5\r\n{te}"), "0\r\n\r\n{S}")).refused(&[400]),
        case("H1-02", "TE, CL", post(&format!("{te}Content-Length: 5\r\n"), "0\r\n\r\n{S}")).refused(&[400]),
        case("H1-03", "two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello{S}")).refused(&[400]),
        case("H1-04", "one length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"))
            .refused(&[400])
            .passes(b"hello", anything),
        case("H1-05", "1, 1", post("Content-Length: 1, 1\r\n", "a{S}")).refused(&[400]),
        case("H1-05", "1, 2", post("Content-Length: 1, 2\r\n", "a{S}")).refused(&[400]),
        // Blanks around a value are not part of it (RFC 9110 §5.5), a tab among them.
        case("H1-06", "tab", post("Content-Length: \t1\r\n", "a")).refused(&[400]).passes(b"a", anything),
        case("H1-08", "010", post("Content-Length: 010\r\n", "0123456789"))
            .refused(&[400])
            .passes(b"0123456789", anything),
        case("H1-09", "empty, then one", post("Content-Length:\r\nContent-Length: 59\r\n", "{S}")).refused(&[400]),
    ];
    for value in ["+1", "-1", "0x1", "1_0", "1e1", "1.0", "٣", "", "1 ;", "1 1", "a", "1,"] {
        cases.push(case("H1-06", value, post(&format!("Content-Length: {value}\r\n"), "a{S}")).refused(&[400]));
    }
    for value in ["18446744073709551616", "18446744073709551615", "9223372036854775808", "99999999999999999999999"] {
        cases.push(case("H1-07", value, post(&format!("Content-Length: {value}\r\n"), "a{S}")).refused(&[400]));
    }
    cases
}

/// H1-10 to H1-17: transfer codings.
fn codings() -> Vec<Case> {
    let with = |field: &str| post(field, "0\r\n\r\n{S}");
    let mut cases = Vec::new();
    for value in ["xchunked", "chunked, identity", "identity", "chunked;q=1", "gzip, chunked", "chunked, chunked", ""] {
        cases.push(case("H1-10", value, with(&format!("Transfer-Encoding: {value}\r\n"))).refused(&[400, 501]));
    }
    for value in [",chunked", "chunked,", "\"chunked\"", "chunked chunked", "'chunked'", "chunk", "chunked\u{200b}"] {
        cases.push(case("H1-11", value, with(&format!("Transfer-Encoding: {value}\r\n"))).refused(&[400, 501]));
    }
    for byte in [0x0b, 0x0c, 0xa0, 0x85, 0x00, 0xff] {
        for value in ["@chunked", "chunked@"] {
            let bytes = with_byte(&with(&format!("Transfer-Encoding: {value}\r\n")), '@', byte);
            cases.push(case("H1-12", format!("{value} with {byte:#04x}"), bytes).refused(&[400, 501]));
        }
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    cases.extend([
        case("H1-13", "twice", with(twice)).refused(&[400, 501]),
        case("H1-14", "space before colon", with("Transfer-Encoding : chunked\r\n")).refused(&[400]),
        case("H1-14", "tab before colon", with("Transfer-Encoding\t: chunked\r\n")).refused(&[400]),
        case("H1-15", "folded value", with("Transfer-Encoding:\r\n chunked\r\n")).refused(&[400]),
        case("H1-15", "folded value, length too", with("Content-Length: 5\r\nTransfer-Encoding:\r\n\tchunked\r\n"))
            .refused(&[400]),
        case("H1-15", "split name", with("Transfer-\r\n Encoding: chunked\r\n")).refused(&[400]),
        case(
            "H1-16",
            "1.0",
            "POST {T} HTTP/1.0\r\nHost: {H}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{S}",
        )
        .refused(&[400]),
        case("H1-17", "Transfer_Encoding", post("Transfer_Encoding: chunked\r\nContent-Length: 1\r\n", "Z"))
            .refused(&[400])
            .passes(b"Z", anything),
        case("H1-17", "Content_Length", post("Content_Length: 5\r\nContent-Length: 1\r\n", "Z"))
            .refused(&[400])
            .passes(b"Z", anything),
    ]);
    cases
}

/// H1-18 to H1-24: chunks.
fn chunks() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in ["0x1", "+1", "-1", " 1", "1 ", "1_0", "Z", "", "\t1", "1,", "1\0"] {
        cases.push(case("H1-18", size, chunked(&format!("{size}\r\nZ\r\n0\r\n\r\n{{S}}"))).refused(&[400]));
    }
    for size in ["10000000000000001", "00000000000000001", "ffffffffffffffff", "fffffffffffffffff"] {
        cases.push(case("H1-19", size, chunked(&format!("{size}\r\nZ\r\n0\r\n\r\n{{S}}"))).refused(&[400]));
    }
    for (id, variant, body) in [
        ("H1-20", "LF after size", "1\nZ\r\n0\r\n\r\n{S}"),
        ("H1-20", "LF after extension", "1;a\nZ\r\n0\r\n\r\n{S}"),
        ("H1-20", "LF in extension", "2;a\nxx\r\n4c\r\nZZ\r\n0\r\n\r\n{S}"),
        ("H1-20", "LF after data", "1\r\nZ\n0\r\n\r\n{S}"),
        ("H1-21", "CR in extension", "1;a\rb\r\nZ\r\n0\r\n\r\n{S}"),
        ("H1-21", "CR CR", "1\r\r;x\r\nZ\r\n0\r\n\r\n{S}"),
        ("H1-21", "CR in blanks", "1 \r ;x\r\nZ\r\n0\r\n\r\n{S}"),
        ("H1-21", "CR X", "1\rXZ\r\n0\r\n\r\n{S}"),
        ("H1-23", "longer", "1\r\nZZZZ\r\n0\r\n\r\n{S}"),
        ("H1-23", "no CRLF", "1\r\nZ0\r\n\r\n{S}"),
        ("H1-23", "CR only", "1\r\nZ\r0\r\n\r\n{S}"),
        ("H1-24", "XX", "0\r\nXX{S}"),
        ("H1-24", "XXXX", "0\r\nXXXX\r\n\r\n{S}"),
        ("H1-24", "LF, CRLF", "0\n\r\n{S}"),
        ("H1-24", "CRLF, LF", "0\r\n\n{S}"),
        ("H1-24", "00", "00\n\r\n{S}"),
    ] {
        cases.push(case(id, variant, chunked(body)).refused(&[400]));
    }
    // `X:` makes what follows trailers, with a Host among them: legal, and none of it may be taken for a request.
    cases.push(case("H1-24", "X:", chunked("0\r\nX:{S}")).refused(&[400]).passes(b"", has_no_trailers));
    let extension = "a".repeat(64 * 1024);
    let many = format!("1;{}\r\nZ\r\n", "a".repeat(1024)).repeat(10_000);
    cases.extend([
        case("H1-22", "64 KiB extension", chunked(&format!("1;{extension}\r\nZ\r\n0\r\n\r\n")))
            .refused_or_closed(&[400, 413, 431]),
        case("H1-22", "10,000 extensions", chunked(&format!("{many}0\r\n\r\n"))).refused_or_closed(&[400, 413, 431]),
        case("H1-22", "a small extension", chunked("1;name=\"v;a\"\r\nZ\r\n0\r\n\r\n")).passes(b"Z", anything),
    ]);
    cases
}

fn has_no_trailers(request: &Request) -> Result<(), String> {
    let found = request.trailers.0.iter().find(|(name, _)| name != "x");
    found.map_or(Ok(()), |(name, _)| Err(format!("trailer {name} went on")))
}

/// H1-25 to H1-27: trailers, and bodies where none is expected.
fn trailers_and_bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for trailer in
        ["Host: evil", "Content-Length: 3", "Transfer-Encoding: chunked", "Authorization: Basic x", ":path: /x"]
    {
        let bytes = chunked(&format!("1\r\nZ\r\n0\r\n{trailer}\r\n\r\n"));
        cases.push(case("H1-25", trailer, bytes).refused(&[400]).passes(b"Z", has_no_trailers));
    }
    let long = format!("1\r\nZ\r\n0\r\nX: {}\r\n\r\n", "a".repeat(65 * 1024));
    let many = format!("1\r\nZ\r\n0\r\n{}\r\n", "x: y\r\n".repeat(11_000));
    cases.push(case("H1-25", "65 KiB trailer", chunked(&long)).refused_or_closed(&[400, 431]));
    cases.push(case("H1-25", "65 KiB of trailers", chunked(&many)).refused_or_closed(&[400, 431]));
    // A body is a body, whatever the method and however much it looks like a request.
    const BODY: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: app.default\r\n\r\n";
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let head = format!("{method} {{T}} HTTP/1.1\r\nHost: {{H}}\r\nContent-Length: {}\r\n\r\n", BODY.len());
        cases.push(case("H1-26", method, [head.as_bytes(), BODY].concat()).refused(&[400]).passes(BODY, anything));
    }
    let second = "GET {T}/2 HTTP/1.1\r\nHost: {H}\r\n\r\n";
    cases.push(case("H1-27", "POST without a length", post("", second)).passes(b"", anything).and_passes(
        "{T}/2",
        Some(b""),
        anything,
    ));
    cases
}

/// H1-29, H1-31, H1-32, H1-34: expectations, upgrades and tunnels.
fn expectations() -> Vec<Case> {
    let upgrade = "Upgrade: foo\r\nConnection: upgrade\r\n";
    let second = "GET {T}/2 HTTP/1.1\r\nHost: {H}\r\n\r\n";
    let socket = "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let mut cases = vec![
        case("H1-29", "foo", get("Expect: foo\r\n")).refused(&[417, 400]).passes(b"", anything),
        case("H1-29", "on GET", get("Expect: 100-continue\r\n")).refused(&[417, 400]).passes(b"", anything),
        case("H1-29", "y 100-continue", post("Expect: y 100-continue\r\nContent-Length: 1\r\n", "Z"))
            .refused(&[417, 400])
            .passes(b"Z", anything),
        case("H1-31", "Upgrade: foo, then a request", get(upgrade) + second)
            .refused(&[400, 501])
            .passes(b"", has_no_upgrade)
            .and_passes("{T}/2", Some(b""), anything),
        case("H1-32", "no Connection", get(&format!("{socket}{version}"))).refused(&[400]).passes(b"", has_no_upgrade),
        case("H1-32", "POST", post(&format!("Connection: upgrade\r\n{socket}{version}Content-Length: 1\r\n"), "Z"))
            .refused(&[400, 501])
            .passes(b"Z", has_no_upgrade),
        case(
            "H1-32",
            "HTTP/1.0",
            format!("GET {{T}} HTTP/1.0\r\nHost: {{H}}\r\nConnection: upgrade\r\n{socket}{version}\r\n"),
        )
        .refused(&[400, 501])
        .passes(b"", has_no_upgrade),
        case("H1-32", "version 12", get(&format!("Connection: upgrade\r\n{socket}Sec-WebSocket-Version: 12\r\n")))
            .refused(&[400, 426, 501])
            .passes(b"", has_no_upgrade),
        case(
            "H1-32",
            "h2c",
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        )
        .refused(&[400, 501])
        .passes(b"", has_no_upgrade),
    ];
    // A refused tunnel must close: what a hopeful client sent after it was meant for the far end. Those that are well
    // formed stand in `special`, where the registry is all that may be reached.
    for authority in ["a", "a:", "a:0", "a:99999", "[::1]", ":80", "a:80:80", "http://a:80", "/"] {
        let bytes = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n{{S}}");
        cases.push(case("H1-34", authority, bytes).refused(&[400]));
    }
    cases
}

fn has_no_upgrade(request: &Request) -> Result<(), String> {
    let found = ["upgrade", "http2-settings"].into_iter().find(|name| request.fields.get(name).is_some());
    found.map_or(Ok(()), |name| Err(format!("{name} went on to the backend")))
}

/// H1-35 to H1-37: hosts and forms of targets.
fn hosts() -> Vec<Case> {
    let mut cases = vec![
        case("H1-35", "none", "GET {T} HTTP/1.1\r\n\r\n").refused(&[400]),
        case("H1-35", "two", get("Host: {H}\r\n")).refused(&[400]),
        case("H1-35", "two, different", get("Host: b\r\n")).refused(&[400]),
        case("H1-36", "absolute, other Host", "GET http://{H}{T} HTTP/1.1\r\nHost: b\r\n\r\n")
            .refused(&[400])
            .passes(b"", host_is_ours),
        case("H1-36", "absolute, same Host", "GET http://{H}{T} HTTP/1.1\r\nHost: {H}\r\n\r\n")
            .passes(b"", host_is_ours),
        case("H1-36", "absolute, no Host", "GET http://{H}{T} HTTP/1.1\r\n\r\n").refused(&[400]),
        case("H1-36", "absolute with userinfo", "GET http://u@{H}{T} HTTP/1.1\r\nHost: {H}\r\n\r\n").refused(&[400]),
        case("H1-36", "absolute, ftp", "GET ftp://{H}{T} HTTP/1.1\r\nHost: {H}\r\n\r\n").refused(&[400, 501]),
        // Two slashes begin a path like any other; what must not happen is that `evil` becomes the host.
        case("H1-37", "//evil", "GET //evil{T} HTTP/1.1\r\nHost: {H}\r\n\r\n").refused(&[400]).and_passes(
            "//evil{T}",
            Some(b""),
            host_is_ours,
        ),
        case("H1-37", "http:/\\evil", "GET http:/\\evil{T} HTTP/1.1\r\nHost: {H}\r\n\r\n").refused(&[400]),
        case("H1-37", "evil.com/", "GET evil.com{T} HTTP/1.1\r\nHost: {H}\r\n\r\n").refused(&[400]),
        case("H1-37", "GET *", "GET * HTTP/1.1\r\nHost: {H}\r\n\r\n").refused(&[400]),
        case("H1-37", "?", "GET ?{T} HTTP/1.1\r\nHost: {H}\r\n\r\n").refused(&[400]),
    ];
    for host in
        ["", "u@{H}", "{H}/b", "{H},b", "a b", "{H}\0", "{H}?", "{H}#", "{H}:x", "{H}:99999", "[::1", "{H} {H}", "\\"]
    {
        cases.push(case("H1-35", host, format!("GET {{T}} HTTP/1.1\r\nHost: {host}\r\n\r\n")).refused(&[400]));
    }
    cases
}

fn host_is_ours(request: &Request) -> Result<(), String> {
    match request.fields.get("host") {
        Some(crate::site::HOST) => Ok(()),
        other => Err(format!("Host went on as {other:?}")),
    }
}

/// H1-38, H1-40 to H1-42, H1-44, H1-45: bytes that do not belong where they are.
fn targets() -> Vec<Case> {
    let line = |line: &str| format!("{line}\r\nHost: {{H}}\r\n\r\n");
    let mut cases = vec![
        case("H1-38", "fragment", line("GET {T}#b HTTP/1.1")).refused(&[400]).passes_as("{T}"),
        case("H1-38", "fragment with a path", line("GET {T}#/../admin HTTP/1.1")).refused(&[400]).passes_as("{T}"),
        case("H1-40", "LF only", "GET {T} HTTP/1.1\nHost: {H}\n\n").refused(&[400]),
        case("H1-40", "LF after the request line", "GET {T} HTTP/1.1\nHost: {H}\r\n\r\n").refused(&[400]),
        case("H1-40", "LF after a field", "GET {T} HTTP/1.1\r\nHost: {H}\nX: 1\r\n\r\n").refused(&[400]),
        case("H1-40", "LF at the end", "GET {T} HTTP/1.1\r\nHost: {H}\r\n\n").refused(&[400]),
        case("H1-40", "CR in a value", get("X: a\rb\r\n")).refused(&[400]),
        case("H1-40", "CR before CRLF", get("X: a\r\r\n")).refused(&[400]),
        case("H1-40", "CR only", "GET {T} HTTP/1.1\rHost: {H}\r\r{S}").refused(&[400]),
        case("H1-41", "NUL in a value", get("X: a\0b\r\n")).refused(&[400]),
        case("H1-41", "NUL in a name", get("X\0: a\r\n")).refused(&[400]),
        case("H1-41", "NUL in the target", line("GET {T}\0 HTTP/1.1")).refused(&[400]),
        case("H1-41", "NUL in the method", line("GE\0T {T} HTTP/1.1")).refused(&[400]),
        case("H1-42", "no colon", get("X\r\n")).refused(&[400]),
        case("H1-42", "no name", get(": a\r\n")).refused(&[400]),
        case("H1-42", "space before the first", "GET {T} HTTP/1.1\r\n Host: {H}\r\n\r\n").refused(&[400]),
        case("H1-42", "(", get("X(: a\r\n")).refused(&[400]),
        case("H1-42", "0xef", with_byte(&get("X@: a\r\n"), '@', 0xef)).refused(&[400]),
        case("H1-42", "0x01 in a name", get("X\u{1}: a\r\n")).refused(&[400]),
        case("H1-42", "0x01 in a value", get("X: a\u{1}\r\n")).refused(&[400]),
        case("H1-42", "0x7f in a value", get("X: a\u{7f}\r\n")).refused(&[400]),
        case("H1-42", "space in a name", get("X Y: a\r\n")).refused(&[400]),
        case("H1-42", "folded", get("X: a\r\n b\r\n")).refused(&[400]),
        case("H1-44", "lower case", line("get {T} HTTP/1.1")).refused(&[400, 405, 501]).passes(b"", anything),
        case("H1-44", "unknown token", line("PURGE {T} HTTP/1.1")).passes(b"", anything),
        case("H1-44", "0x01", line("G\u{1}T {T} HTTP/1.1")).refused(&[400]),
        case("H1-44", "G=\"x\"", line("G=\"x\" {T} HTTP/1.1")).refused(&[400]),
        case("H1-44", "empty", line(" {T} HTTP/1.1")).refused(&[400]),
        case("H1-44", "1 MB", line(&format!("{} {{T}} HTTP/1.1", "G".repeat(1_000_000))))
            .refused_or_closed(&[400, 414, 431]),
        case("H1-45", "two spaces before the target", line("GET  {T} HTTP/1.1")).refused(&[400]),
        case("H1-45", "two spaces after the target", line("GET {T}  HTTP/1.1")).refused(&[400, 505]),
        case("H1-45", "tab", line("GET\t{T} HTTP/1.1")).refused(&[400]),
        case("H1-45", "tab after the target", line("GET {T}\tHTTP/1.1")).refused(&[400]),
        case("H1-45", "space in the target", line("GET {T} x HTTP/1.1")).refused(&[400, 505]),
        case("H1-45", "space first", line(" GET {T} HTTP/1.1")).refused(&[400]),
        case("H1-45", "1,000 CRLF", "\r\n".repeat(1_000) + &get("")).refused(&[400]),
    ];
    for blank_lines in [1, 2] {
        let bytes = "\r\n".repeat(blank_lines) + &get("");
        cases.push(case("H1-45", format!("{blank_lines} CRLF"), bytes).refused(&[400]).passes(b"", anything));
    }
    cases
}

/// H1-43, H1-48: other versions and other protocols.
fn heads() -> Vec<Case> {
    let mut cases = vec![
        case("H1-43", "HTTP/0.9", "GET {T}\r\n").refused_or_closed(&[400, 505]),
        case("H1-43", "HTTP/0.9 with fields", "GET {T}\r\nHost: {H}\r\n\r\n").refused_or_closed(&[400, 505]),
    ];
    for version in
        ["HTTP/1.2", "HTTP/2.0", "HTTP/01.1", "http/1.1", "HTTP/1.1 ", "HTTP/1", "HTTP/1.10", "HTTP/1,1", "HTTP /1.1"]
    {
        let bytes = format!("GET {{T}} {version}\r\nHost: {{H}}\r\n\r\n");
        cases.push(case("H1-43", version, bytes).refused_or_closed(&[400, 505]));
    }
    let hello = b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03".iter().copied().chain((0..=232).map(|n| n ^ 0x5a));
    let hello: Vec<u8> = hello.collect();
    let all_bytes: Vec<u8> = (0..1024).map(|n| (n % 256) as u8).collect();
    let zeros = vec![0; 1024];
    cases.extend([
        case("H1-48", "TLS", hello).refused_or_closed(&[400]),
        case("H1-48", "SSH", "SSH-2.0-OpenSSH_9.2\r\n").refused_or_closed(&[400]),
        // HTTP/2 itself has a suite of its own.
        case("H1-48", "HTTP/2 of the future", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0")
            .refused_or_closed(&[400, 505]),
        case("H1-48", "0 to 255", all_bytes).refused_or_closed(&[400]),
        case("H1-48", "zeros", zeros).refused_or_closed(&[400]),
        case("H1-48", "half a head", "GET {T} HTTP/1.1\r\nHo").refused(&[408]).within(Duration::from_secs(15)),
    ]);
    cases
}

/// H1-46: sizes.
fn limits() -> Vec<Case> {
    let fields = |count: usize| (0..count).map(|n| format!("x-{n}: {n}\r\n")).collect::<String>();
    let long = |bytes: usize| "a".repeat(bytes);
    vec![
        case("H1-46", "90 fields", get(&fields(90))).passes(b"", anything),
        case("H1-46", "101 fields", get(&fields(101))).refused(&[431]),
        case("H1-46", "10,000 fields", get(&fields(10_000))).refused_or_closed(&[431]),
        case("H1-46", "a field of 32 KiB", get(&format!("x: {}\r\n", long(32 * 1024)))).passes(b"", anything),
        case("H1-46", "a field of 64 KiB", get(&format!("x: {}\r\n", long(64 * 1024)))).refused_or_closed(&[431]),
        case("H1-46", "a name of 1 MB", get(&format!("{}: x\r\n", long(1_000_000)))).refused_or_closed(&[431]),
        case("H1-46", "a target of 70 KB", format!("GET {{T}}/{} HTTP/1.1\r\nHost: {{H}}\r\n\r\n", long(70_000)))
            .refused_or_closed(&[414, 431]),
        case("H1-46", "a target of 20 KB", format!("GET {{T}}/{} HTTP/1.1\r\nHost: {{H}}\r\n\r\n", long(20_000)))
            .refused(&[414, 431]),
    ]
}

/// H1-49: what `Connection` may and may not take away.
fn hops() -> Vec<Case> {
    let identity = "X-Forwarded-For: 192.0.2.9\r\nAuthorization: Basic x\r\nX-Request-Id: 11111111-1111-4111-8111-111111111111\r\n";
    vec![
        case(
            "H1-49",
            "identity",
            get(&format!("Connection: close, X-Forwarded-For, Authorization, X-Request-Id\r\n{identity}")),
        )
        .passes(b"", keeps_identity),
        case("H1-49", "framing", post("Connection: Content-Length, Host\r\nContent-Length: 1\r\n", "Z"))
            .refused(&[400])
            .passes(b"Z", anything),
        case("H1-49", "a field of its own", get("Connection: X-Hop\r\nX-Hop: 1\r\n")).passes(b"", has_no_hops),
        case(
            "H1-49",
            "the classic ones",
            get(
                "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nProxy-Authorization: Basic x\r\n",
            ),
        )
        .passes(b"", has_no_hops),
    ]
}

fn keeps_identity(request: &Request) -> Result<(), String> {
    let gone =
        ["x-forwarded-for", "authorization", "x-request-id"].into_iter().find(|n| request.fields.get(n).is_none());
    gone.map_or(Ok(()), |name| Err(format!("a client's Connection took {name} away")))
}

fn has_no_hops(request: &Request) -> Result<(), String> {
    let hops = ["x-hop", "keep-alive", "proxy-connection", "te"];
    let found = hops.into_iter().find(|name| request.fields.get(name).is_some());
    found.map_or(Ok(()), |name| Err(format!("hop-by-hop {name} went on to the backend")))
}
