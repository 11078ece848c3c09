//! Heads as data: bytes in, verdict out.

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { head_bytes_max: 60 * 1024, target_bytes_max: 16 * 1024 };

fn verdict(text: &str) -> String {
    let mut room = fields();
    match request(text.as_bytes(), &mut room, BOUNDS) {
        Ok(None) => "partial".into(),
        Ok(Some(h)) => format!(
            "{} {} {} {:?}{}{}",
            h.method,
            h.target.authority,
            h.target.path_and_query,
            h.framing,
            if h.keep_alive { " keep" } else { " close" },
            if h.expects_continue { " expect" } else { "" }
        ),
        Err(refusal) => format!("{refusal:?}"),
    }
}

#[test]
fn requests_that_have_one_reading() {
    for (text, want) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a / None keep"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET a / None keep"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", "GET a / None close"),
        ("GET / HTTP/1.0\r\n\r\n", "GET  / None close"),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "GET a / None keep"),
        ("POST /x?y HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 007\r\n\r\n", "POST [::1]:80 /x?y Length(7) keep"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n",
            "POST a / Chunked keep expect",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", "GET a / None keep"),
        ("GET http://A:80/p HTTP/1.1\r\nHost: a\r\n\r\n", "GET A:80 /p None keep"),
        ("GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET a ?q None keep"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS a * None keep"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "partial"),
        ("", "partial"),
        ("\r", "partial"),
    ] {
        assert_eq!(verdict(text), want, "{text:?}");
    }
}

#[test]
fn requests_that_are_refused() {
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(61_440));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(17_000));
    for (text, want) in [
        ("GET / HTTP/1.1\r\n\r\n", r#"Malformed("host_missing")"#),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", r#"Malformed("host_twice")"#),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", r#"Malformed("host")"#),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", r#"Malformed("host")"#),
        ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", r#"Malformed("host")"#),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", r#"Malformed("host")"#),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", r#"Malformed("target_and_host_differ")"#),
        ("GET //x HTTP/1.1\r\nHost: a\r\n\r\n", r#"Malformed("target")"#),
        ("GET http://a//x HTTP/1.1\r\nHost: a\r\n\r\n", r#"Malformed("target")"#),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", r#"Malformed("target")"#),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", r#"Malformed("target")"#),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", r#"Malformed("method")"#),
        ("GET / HTTP/1.1\nHost: a\n\n", r#"Malformed("bare_lf")"#),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "Version"),
        ("GET /\r\n\r\n", r#"Malformed("syntax")"#),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", r#"Malformed("syntax")"#),
        ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", r#"Malformed("empty_lines")"#),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: foo\r\n\r\n", "Expectation"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            r#"Malformed("content_length_twice")"#,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", r#"Malformed("content_length")"#),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", r#"Malformed("content_length")"#),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "TransferCoding"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n", r#"Malformed("transfer_encoding")"#),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", r#"Malformed("syntax")"#),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", r#"Malformed("syntax")"#),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            r#"Malformed("transfer_encoding_in_http_1_0")"#,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            r#"Malformed("content_length_and_transfer_encoding")"#,
        ),
        (&large, "HeadLarge"),
        (&many, "HeadLarge"),
        (&long, "TargetLong"),
        (&long[..16_500], "TargetLong"),
        (&large[..61_440], "HeadLarge"),
        (&"M".repeat(40), r#"Malformed("method")"#),
    ] {
        assert_eq!(verdict(text), want, "{:?}", &text[..text.len().min(80)]);
    }
}

#[test]
fn responses_that_two_could_read_differently_are_refused() {
    let verdict = |text: &str| {
        let mut room = fields();
        match response(text.as_bytes(), &mut room, BOUNDS) {
            Ok(None) => "partial".into(),
            Ok(Some(h)) => format!("{} {:?} {}", h.status, h.framing, h.keep_alive),
            Err(rule) => rule.to_owned(),
        }
    };
    for (text, want) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "200 Length(2) true"),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", "200 Chunked true"),
        ("HTTP/1.0 200 OK\r\n\r\n", "200 UntilClose false"),
        ("HTTP/1.1 200 OK\r\n", "partial"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            "content_length_and_transfer_encoding",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", "framing_field_twice"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding"),
        ("HTTP/1.1 99 x\r\n\r\n", "syntax"),
        ("HTTP/1.1 200 OK\nA: b\n\n", "bare_lf"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "syntax"),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "syntax"),
    ] {
        assert_eq!(verdict(text), want, "{text:?}");
    }
}

/// Pieces that heads are made of, good and bad.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"GET ",
        b"POST ",
        b"/",
        b"*",
        b"http://a/",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host: a",
        b"Content-Length: 1",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b": ",
        b" ",
        b"\t",
        b"\0",
        b"%00",
        b"#",
        b"..",
        b"\\",
        b"Expect: 100-continue",
        b"[::1]:80",
        b"\xff",
    ];
    prop_oneof![
        4 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(proptest::num::u8::ANY, 0..8),
    ]
}

proptest! {
    /// Whatever comes, there is a verdict, and what is accepted has one framing, a legal method and a host.
    #[test]
    fn any_bytes_get_a_verdict(pieces in proptest::collection::vec(piece(), 0..24)) {
        let bytes = pieces.concat();
        let mut room = fields();
        if let Ok(Some(head)) = request(&bytes, &mut room, BOUNDS) {
            prop_assert!(head.len <= bytes.len() && bytes[..head.len].ends_with(b"\r\n\r\n"));
            prop_assert!(head.method.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_lowercase()));
            prop_assert!(head.version == Version::Http10 || !head.target.authority.is_empty());
            let named = |name: &str| head.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).count();
            prop_assert!(named("content-length") + named("transfer-encoding") <= 1);
            prop_assert!(!bytes[..head.len].contains(&0));
        }
        let mut room = fields();
        let _ = response(&bytes, &mut room, BOUNDS);
        if bytes.first() == Some(&b'/')
            && let Ok(normal) = crate::h1::path::normalise(&bytes)
        {
            prop_assert_eq!(crate::h1::path::normalise(&normal).map(|p| p.into_owned()), Ok(normal.clone().into_owned()));
            prop_assert!(normal.starts_with(b"/"));
        }
    }
}
