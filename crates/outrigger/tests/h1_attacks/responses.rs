//! The response side of the catalogue: backends that answer what no client should see.

use outrigger_testkit::{Backend, Client, How, ReadError, Reply, Response, response};

use crate::site::Site;

/// What a backend sends, and what may become of it.
pub(crate) struct Case {
    /// Row of the catalogue.
    pub(crate) id: &'static str,
    /// Which variant of it.
    pub(crate) variant: &'static str,
    method: &'static str,
    reply: Vec<u8>,
    /// What the backend does after it.
    end: End,
    outcomes: &'static [Outcome],
}

/// What a backend does after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Keeps the connection open, which tempts to use it again.
    Keep,
    /// Closes in good order.
    Close,
    /// Resets.
    Reset,
}

/// One thing that may become of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// 502 instead.
    BadGateway,
    /// Delivered, with this status and body.
    Delivered(u16, &'static str),
    /// Begun and cut: the client can tell that it is not whole.
    Cut,
}
use Outcome::{BadGateway, Cut, Delivered};

/// What follows a message that should have ended, as another answer.
const LEAK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nleak";

fn case(id: &'static str, variant: &'static str, reply: &str, outcomes: &'static [Outcome]) -> Case {
    Case { id, variant, method: "GET", reply: reply.replace("{LEAK}", LEAK).into(), end: End::Keep, outcomes }
}

impl Case {
    fn then(self, end: End) -> Self {
        Self { end, ..self }
    }

    fn of(self, method: &'static str) -> Self {
        Self { method, ..self }
    }
}

/// Every response-side case.
pub(crate) fn all() -> Vec<Case> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let with = |fields: &str, body: &str| format!("{ok}{fields}\r\n{body}");
    let bad: &[Outcome] = &[BadGateway];
    let mut cases = vec![
        case(
            "H1-33",
            "101",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n{LEAK}",
            bad,
        ),
        case("H1-50", "CL, TE", &with("content-length: 3\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), bad),
        case("H1-50", "TE, CL", &with("transfer-encoding: chunked\r\ncontent-length: 3\r\n", "0\r\n\r\n"), bad),
        case("H1-50", "two lengths", &with("content-length: 2\r\ncontent-length: 3\r\n", "abc"), bad),
        case(
            "H1-50",
            "one length twice",
            &with("content-length: 3\r\ncontent-length: 3\r\n", "abc"),
            &[BadGateway, Delivered(200, "abc")],
        ),
        case("H1-50", "length +3", &with("content-length: +3\r\n", "abc"), bad),
        case("H1-50", "length 2^64", &with("content-length: 18446744073709551616\r\n", "abc"), bad),
        case(
            "H1-50",
            "body longer than its length",
            &with("content-length: 2\r\n", "ab{LEAK}"),
            &[Delivered(200, "ab")],
        ),
        case("H1-50", "gzip, chunked", &with("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), bad),
        case("H1-50", "identity", &with("transfer-encoding: identity\r\n", "abc"), bad),
        case(
            "H1-50",
            "chunked twice",
            &with("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
            bad,
        ),
        case(
            "H1-50",
            "chunked in 1.0",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            &[BadGateway, Delivered(200, "")],
        ),
        case(
            "H1-50",
            "bad chunk size",
            &with("transfer-encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n"),
            &[BadGateway, Cut],
        ),
        case(
            "H1-50",
            "chunk too long",
            &with("transfer-encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"),
            &[BadGateway, Cut],
        ),
        case(
            "H1-50",
            "chunk ends in LF",
            &with("transfer-encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n"),
            &[BadGateway, Cut],
        ),
        case(
            "H1-50",
            "huge chunk",
            &with("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n"),
            &[BadGateway, Cut],
        ),
        case(
            "H1-50",
            "after the last chunk",
            &with("transfer-encoding: chunked\r\n", "1\r\na\r\n0\r\n\r\n{LEAK}"),
            &[Delivered(200, "a")],
        ),
        case("H1-50", "no status", "HTTP/1.1\r\n\r\n", bad),
        case("H1-50", "status 99", "HTTP/1.1 99 No\r\ncontent-length: 0\r\n\r\n", bad),
        case("H1-50", "status 1000", "HTTP/1.1 1000 No\r\ncontent-length: 0\r\n\r\n", bad),
        case("H1-50", "status 2x0", "HTTP/1.1 2x0 No\r\ncontent-length: 0\r\n\r\n", bad),
        case("H1-50", "HTTP/2.0", "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", bad),
        case("H1-50", "HTTP/1.2", "HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n", bad),
        case("H1-50", "not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", bad),
        case("H1-50", "folded", &with("x: a\r\n b\r\ncontent-length: 0\r\n", ""), bad),
        case("H1-50", "NUL", &with("x: a\0b\r\ncontent-length: 0\r\n", ""), bad),
        case("H1-50", "no colon", &with("x\r\ncontent-length: 0\r\n", ""), bad),
        case("H1-50", "space before colon", &with("content-length : 3\r\n", "abc"), bad),
        case("H1-50", "204 with a body", "HTTP/1.1 204 No\r\n\r\n{LEAK}", &[Delivered(204, "")]),
        case(
            "H1-50",
            "304 with a body",
            "HTTP/1.1 304 No\r\ncontent-length: 4\r\n\r\nbody{LEAK}",
            &[Delivered(304, "")],
        ),
        case(
            "H1-50",
            "unasked second answer",
            &format!("{ok}content-length: 1\r\n\r\na{LEAK}{LEAK}"),
            &[Delivered(200, "a")],
        ),
        case("H1-51", "CR in a value", &with("x: a\rset-cookie: evil=1\r\ncontent-length: 0\r\n", ""), bad),
        case("H1-51", "LF in a value", &with("x: a\nset-cookie: evil=1\r\ncontent-length: 0\r\n", ""), bad),
        case("H1-51", "CR in the reason", "HTTP/1.1 200 O\rK\r\ncontent-length: 0\r\n\r\n", bad),
    ];
    let megabyte = "a".repeat(1_000_000);
    cases.extend([
        case("H1-50", "a field of 1 MB", &with(&format!("x: {megabyte}\r\ncontent-length: 0\r\n"), ""), bad),
        case("H1-50", "1xx x 10,000", &"HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000), bad),
        case("H1-50", "to the end", &with("", "abc"), &[Delivered(200, "abc")]).then(End::Close),
        // Without a length only a clean end says that all of it came.
        case("H1-50", "to the end, reset", &with("", "abc"), &[BadGateway, Cut]).then(End::Reset),
        case("H1-50", "HEAD with a body", &with("content-length: 4\r\n", "body{LEAK}"), &[Delivered(200, "")])
            .of("HEAD"),
        case(
            "H1-50",
            "HEAD, chunked",
            &with("transfer-encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n"),
            &[Delivered(200, "")],
        )
        .of("HEAD"),
    ]);
    for end in [End::Close, End::Reset] {
        let short = with("content-length: 9\r\n", "abc");
        let unended = with("transfer-encoding: chunked\r\n", "3\r\nabc\r\n");
        cases.extend([
            case("H1-50", "body shorter than its length", &short, &[BadGateway, Cut]).then(end),
            case("H1-50", "chunks without end", &unended, &[BadGateway, Cut]).then(end),
            case("H1-50", "half a head", "HTTP/1.1 200 OK\r\ncontent-le", bad).then(end),
        ]);
    }
    cases
}

/// A backend for one case: the attack for `/attack`, the target for everything else.
pub(crate) fn backend(case: &Case) -> Backend {
    let (reply, end) = (case.reply.clone(), case.end);
    Backend::start(move |request| match (request.target.as_str(), end) {
        ("/attack", End::Close) => Reply::Close(reply.clone()),
        ("/attack", End::Reset) => Reply::Reset(reply.clone()),
        ("/attack", End::Keep) => Reply::Keep(reply.clone()),
        (target, _) => Reply::Keep(response(200, &[], target.as_bytes())),
    })
}

/// The service that stands for case `number`.
pub(crate) fn service(number: usize) -> String {
    format!("bad-{number}")
}

/// Attacks and judges.
pub(crate) fn run(case: &Case, site: &Site, number: usize) -> Result<(), String> {
    let host = service(number) + ".default";
    let request = |method: &str, target: &str| format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let connect = || Client::connect(site.proxy).map_err(|error| format!("could not connect: {error}"));
    let mut client = connect()?;
    let answer = client.exchange(request(case.method, "/attack").as_bytes());
    let outcome = judge(&answer)?;
    if !case.outcomes.iter().any(|allowed| is_same(*allowed, &outcome)) {
        return Err(format!("became {outcome:?}, allowed are {:?}", case.outcomes));
    }
    // Whatever the backend's connection still holds must not become the answer to the next request, here or elsewhere.
    let mut clients = vec![connect()?, connect()?];
    match answer {
        Ok(answer) if !answer.closes() => clients.push(client),
        _ => {
            let ending = client.read_ending();
            if ending.how == How::Open || (outcome != Seen::Cut && !ending.bytes.is_empty()) {
                return Err(format!("left {:?} with {:?}", ending.how, String::from_utf8_lossy(&ending.bytes)));
            }
        }
    }
    for (index, mut client) in clients.into_iter().rev().enumerate() {
        let target = format!("/next-{index}");
        let answer =
            client.exchange(request("GET", &target).as_bytes()).map_err(|error| format!("{target}: {error}"))?;
        if answer.status != 200 || answer.text() != target {
            return Err(format!("{target} got {} {:?}", answer.status, answer.text()));
        }
    }
    Ok(())
}

/// What became of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    BadGateway,
    Delivered(u16, String),
    Cut,
}

fn judge(answer: &Result<Response, ReadError>) -> Result<Seen, String> {
    match answer {
        Ok(answer) if answer.fields.get("set-cookie").is_some() => Err("a header was split".to_owned()),
        Ok(answer) if answer.status == 502 && answer.fields.get("proxy-status").is_none() => {
            Err("502 without Proxy-Status".to_owned())
        }
        Ok(answer) if answer.status == 502 => Ok(Seen::BadGateway),
        Ok(answer) => Ok(Seen::Delivered(answer.status, answer.text())),
        Err(ReadError::Truncated(_) | ReadError::Reset(_)) => Ok(Seen::Cut),
        Err(error) => Err(error.to_string()),
    }
}

fn is_same(allowed: Outcome, seen: &Seen) -> bool {
    match (allowed, seen) {
        (BadGateway, Seen::BadGateway) | (Cut, Seen::Cut) => true,
        (Delivered(status, body), Seen::Delivered(seen, text)) => status == *seen && body == text,
        _ => false,
    }
}
