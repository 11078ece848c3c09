//! A raw HTTP client, and an independent reader of the text formats.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer as it came over the wire, body unchunked.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text is UTF-8")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// Sends one request on a fresh connection that closes after it.
pub(crate) fn send(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut lines = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        lines += &format!("Host: {to}\r\n");
    }
    for (name, value) in headers {
        lines += &format!("{name}: {value}\r\n");
    }
    raw(to, (lines + "\r\n").as_bytes())
}

pub(crate) fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, "GET", path, &[])
}

/// Sends these bytes and reads until the peer closes.
pub(crate) fn raw(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).expect("writes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("reads");
    parse(&answer)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunk(&answer.body);
    }
    answer
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").expect("a chunk size: the body was cut off");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// Label names to values.
pub(crate) type LabelSet = BTreeMap<String, String>;

/// What a text exposition says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Document {
    /// Family to type.
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) helps: BTreeMap<String, String>,
    pub(crate) units: BTreeMap<String, String>,
    /// Sample name and labels to value.
    pub(crate) samples: BTreeMap<(String, LabelSet), f64>,
    pub(crate) eof: bool,
}

/// Reads either text format and panics on what neither allows: duplicates, families in two places, bad escapes.
pub(crate) fn read(text: &str) -> Document {
    let mut document = Document::default();
    let mut finished = BTreeSet::new();
    let mut current = String::new();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line must end");
    for line in text.lines() {
        assert!(!document.eof, "something follows # EOF: {line}");
        if line == "# EOF" {
            document.eof = true;
        } else if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
            if name != current {
                assert!(finished.insert(std::mem::replace(&mut current, name.to_owned())), "{name} comes twice");
                assert!(!finished.contains(name), "{name} comes twice");
            }
            let table = match word {
                "HELP" => &mut document.helps,
                "TYPE" => &mut document.types,
                "UNIT" => &mut document.units,
                other => panic!("comment {other}"),
            };
            assert_eq!(table.insert(name.to_owned(), rest.to_owned()), None, "{line}");
        } else {
            let (name, labels, value) = read_sample(line);
            assert!(name.starts_with(&current), "{name} stands among {current}");
            assert_eq!(document.samples.insert((name, labels), value), None, "twice: {line}");
        }
    }
    document
}

fn read_sample(line: &str) -> (String, LabelSet, f64) {
    let name_end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(name_end);
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':'), "{line}");
    let mut labels = LabelSet::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inside.split_once("=\"").expect(line);
            let (value, after) = read_quoted(after);
            assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
            match after.strip_prefix(',') {
                Some(more) => inside = more,
                None => {
                    rest = after.strip_prefix('}').expect(line);
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').expect(line);
    assert!(!value.contains(' '), "{line}");
    (name.to_owned(), labels, value.parse().expect(line))
}

fn read_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next().expect("a closing quote") {
            (at, '"') => return (value, &text[at + 1..]),
            (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                c => panic!("escape \\{c}"),
            }),
            (_, c) => value.push(c),
        }
    }
}
