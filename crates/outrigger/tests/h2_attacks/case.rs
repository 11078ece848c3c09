//! One attack: the bytes of a client, what may come of them, and how that is judged.

use std::time::Duration;

use outrigger_testkit::ReadError;
use outrigger_testkit::h2::{Block, Connection, headers};

use crate::site::{HOST, Site};

/// What came of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The stream was reset with this code; the connection goes on.
    Reset(u32),
    /// The stream was answered with this status; the connection goes on.
    Status(u16),
    /// The connection was ended with GOAWAY and this code.
    GoAway(u32),
    /// It was taken for HTTP/1.1, and answered so.
    Http1,
    /// The connection was closed without a word.
    Closed,
    /// Nothing came of it; the connection goes on.
    Ignored,
}

/// One attack.
pub(crate) struct Case {
    /// Row of the catalogue, `H2-01`.
    pub(crate) id: &'static str,
    /// Which variant of it.
    pub(crate) variant: String,
    /// What the client sends after its preface and SETTINGS, or all it sends.
    pub(crate) bytes: Vec<u8>,
    /// Which of these it may come to.
    pub(crate) outcomes: &'static [Outcome],
    /// The value of `x-case` by which the backend's requests are known.
    tag: String,
    /// Whether preface and SETTINGS are part of `bytes`.
    is_raw: bool,
    /// Whether no more requests can be expected to be answered.
    is_last: bool,
    /// The stream whose end is awaited; 0 if none is.
    stream: u32,
    /// How many requests may reach the backend when it does not come to a 200.
    forwarded_max: usize,
}

/// The catalogue as it is written down.
#[derive(Default)]
pub(crate) struct Cases(pub(crate) Vec<Case>);

impl Cases {
    /// One more; `bytes` gets the tag that its requests must have as `x-case`.
    pub(crate) fn add(
        &mut self,
        id: &'static str,
        variant: impl Into<String>,
        outcomes: &'static [Outcome],
        bytes: impl FnOnce(&str) -> Vec<u8>,
    ) -> &mut Case {
        let tag = format!("{id}.{}", self.0.len());
        let (variant, bytes) = (variant.into(), bytes(&tag));
        let case =
            Case { id, variant, bytes, outcomes, tag, is_raw: false, is_last: false, stream: 1, forwarded_max: 0 };
        self.0.push(case);
        self.0.last_mut().expect("just pushed")
    }
}

/// A good GET of `/`.
pub(crate) fn get(tag: &str) -> Block {
    request("GET", tag)
}

/// A good request for `/`.
pub(crate) fn request(method: &str, tag: &str) -> Block {
    Block::request(method, "http", HOST, "/").field("x-case", tag)
}

/// A block of these fields in their order, then the tag.
pub(crate) fn fields(tag: &str, fields: &[(&str, &str)]) -> Block {
    let block = fields.iter().fold(Block::new(), |block, (name, value)| block.field(name, value));
    block.field("x-case", tag)
}

impl Case {
    /// The client sends these bytes and nothing before them.
    pub(crate) fn raw(&mut self) -> &mut Self {
        (self.is_raw, self.is_last) = (true, true);
        self
    }

    /// The client says itself that it sends no more.
    pub(crate) fn last(&mut self) -> &mut Self {
        self.is_last = true;
        self
    }

    /// The end of this stream is awaited; 0: of none.
    pub(crate) fn watching(&mut self, stream: u32) -> &mut Self {
        self.stream = stream;
        self
    }

    /// So many requests may reach the backend before it is stopped.
    pub(crate) fn forwarded(&mut self, most: usize) -> &mut Self {
        self.forwarded_max = most;
        self
    }

    /// Attacks over a connection made by `connect`, which gets what to send first, and judges.
    pub(crate) fn run(&self, site: &Site, connect: impl Fn(bool) -> std::io::Result<Connection>) -> Result<(), String> {
        let mut client = connect(self.is_raw).map_err(|error| format!("could not connect: {error}"))?;
        client.set_patience(Duration::from_secs(20));
        // It may be cut off before all of it is sent.
        client.flood(&self.bytes, 1);
        let outcome = self.await_outcome(&mut client)?;
        if !self.outcomes.contains(&outcome) {
            let said = client.goaway.map_or_else(String::new, |(_, debug)| format!(" {debug:?}"));
            return Err(format!("{outcome:?}{said}, wanted one of {:?}", self.outcomes));
        }
        if matches!(outcome, Outcome::Reset(_) | Outcome::Status(_) | Outcome::Ignored) && !self.is_last {
            let stream = 100_001;
            let block = Block::request("GET", "http", HOST, "/after");
            client.send(&headers(stream, true, &block)).map_err(|error| format!("{outcome:?}, then {error}"))?;
            let after = client.await_answer(stream).map_err(|error| format!("{outcome:?}, then {error}"))?;
            if after.status() != Some(200) || after.text() != "/after" {
                return Err(format!("{outcome:?}, then {after:?}"));
            }
        }
        let forwarded = self.forwarded_by(site);
        match (outcome, self.forwarded_max) {
            (Outcome::Status(200), _) if forwarded != 1 => Err(format!("answered 200, forwarded {forwarded} times")),
            (Outcome::Status(200), _) => Ok(()),
            (_, most) if forwarded > most => Err(format!("{outcome:?}, yet {forwarded} requests reached the backend")),
            _ => Ok(()),
        }
    }

    /// How many of its requests the backend saw.
    fn forwarded_by(&self, site: &Site) -> usize {
        site.backend.seen().iter().filter(|request| request.fields.get("x-case") == Some(&self.tag)).count()
    }

    /// Reads until it is decided what came of it.
    fn await_outcome(&self, client: &mut Connection) -> Result<Outcome, String> {
        // What is acknowledged may have been read and answered in one go with what went too far: only the second one tells.
        let marks = client.await_pong(*b"\0decided").and_then(|()| client.await_pong(*b"\0goes on"));
        let end = match marks {
            Err(end) => Some(end),
            Ok(()) if self.stream == 0 => None,
            Ok(()) => client.await_answer(self.stream).err(),
        };
        let answer = client.answer(self.stream);
        match (end, &client.goaway) {
            (Some(ReadError::Malformed(_, bytes)), _) if bytes.starts_with(b"HTTP/1.1 ") => Ok(Outcome::Http1),
            (Some(end @ (ReadError::Deadline(_) | ReadError::Malformed(..))), _) => {
                Err(format!("{end}; of the stream came {answer:?}, goaway is {:?}", client.goaway))
            }
            (_, Some((code, _))) => Ok(Outcome::GoAway(*code)),
            (Some(_), None) => Ok(Outcome::Closed),
            (None, None) => match (answer.status(), answer.reset) {
                (Some(status), _) => Ok(Outcome::Status(status)),
                (None, Some(code)) => Ok(Outcome::Reset(code)),
                (None, None) => Ok(Outcome::Ignored),
            },
        }
    }
}
