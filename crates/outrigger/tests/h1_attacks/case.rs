//! One attack: what is sent, what may come of it, and how that is judged.

use std::time::Duration;

use outrigger_testkit::{Client, How, ReadError, Request, Response};

use crate::site::{HOST, Site};

/// One attack on the request side.
///
/// In `bytes` and targets, `{T}` stands for the target that belongs to the case, `{H}` for the host that is served, and
/// `{S}` for a whole second request, to a target that no backend may ever see.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Row of the catalogue, `H1-01`.
    pub(crate) id: &'static str,
    /// Which variant of it.
    pub(crate) variant: String,
    bytes: Vec<u8>,
    /// Statuses of a refusal; empty when it must not be refused. A refusal closes, and nothing whole reaches a backend.
    refused: &'static [u16],
    /// Whether closing without an answer is a refusal too: where the flood may outrun the answer.
    silent: bool,
    /// What may be answered instead, in order; `None` when it must be refused.
    passes: Option<Vec<Pass>>,
    /// How long the answer may take.
    patience: Duration,
}

/// One request that reaches the backend, and is answered.
#[derive(Clone, Debug)]
struct Pass {
    target: String,
    body: Option<&'static [u8]>,
    check: Check,
}

/// Judges a request that reached the backend.
pub(crate) type Check = fn(&Request) -> Result<(), String>;

/// A case to be completed by what may come of it.
pub(crate) fn case(id: &'static str, variant: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    Case {
        id,
        variant: variant.into(),
        bytes: bytes.as_ref().to_vec(),
        refused: &[],
        silent: false,
        passes: None,
        patience: Duration::from_secs(8),
    }
}

/// Nothing more to check.
pub(crate) fn anything(_: &Request) -> Result<(), String> {
    Ok(())
}

impl Case {
    /// It may be refused with one of these.
    pub(crate) fn refused(mut self, statuses: &'static [u16]) -> Self {
        self.refused = statuses;
        self
    }

    /// As [`Self::refused`], or closed without an answer.
    pub(crate) fn refused_or_closed(mut self, statuses: &'static [u16]) -> Self {
        self.silent = true;
        self.refused(statuses)
    }

    /// It may reach the backend, with this body, if `check` likes it.
    pub(crate) fn passes(self, body: &'static [u8], check: Check) -> Self {
        self.and_passes("{T}", Some(body), check)
    }

    /// It may reach the backend with another target.
    pub(crate) fn passes_as(self, target: &str) -> Self {
        self.and_passes(target, Some(b""), anything)
    }

    /// One request more may reach the backend.
    pub(crate) fn and_passes(mut self, target: &str, body: Option<&'static [u8]>, check: Check) -> Self {
        self.passes.get_or_insert_default().push(Pass { target: target.to_owned(), body, check });
        self
    }

    /// How long the answer may take.
    pub(crate) fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The target that belongs to the case; `number` keeps variants apart.
    fn target(&self, number: usize) -> String {
        format!("/{}/{number}", self.id)
    }

    /// Attacks and judges.
    pub(crate) fn run(&self, site: &Site, number: usize) -> Result<(), String> {
        let target = self.target(number);
        let bytes = fill(&self.bytes, &target);
        let mut client = Client::connect(site.proxy).map_err(|error| format!("could not connect: {error}"))?;
        client.set_patience(self.patience);
        // It may be refused, and closed, before all of it is sent.
        let _ = client.send(&bytes);
        let method = if bytes.starts_with(b"HEAD") { "HEAD" } else { "GET" };
        let first = client.read_response(method);
        let outcome = match &first {
            Ok(answer) if self.refused.contains(&answer.status) => {
                site.count_refusal(answer.status);
                self.judge_refusal(answer, &mut client)
            }
            Ok(answer) if self.passes.is_some() => return self.judge_passes(site, answer, client, method, &target),
            Ok(answer) => Err(format!("answered {}: {}", answer.status, answer.text())),
            Err(ReadError::Closed | ReadError::Reset(_)) if self.silent => {
                site.count_refusal(0);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        outcome?;
        // Part of a body may have been on its way when its framing turned out to be broken; a whole request may not.
        match site.backend.seen().iter().find(|request| request.target.contains(&target) && request.is_complete) {
            Some(request) => Err(format!("refused, yet the backend saw {} {}", request.method, request.target)),
            None => Ok(()),
        }
    }

    fn judge_refusal(&self, answer: &Response, client: &mut Client) -> Result<(), String> {
        let status = answer.status;
        if answer.fields.get("proxy-status").is_none() {
            return Err(format!("refused with {status}, without Proxy-Status"));
        }
        if !answer.closes() {
            return Err(format!("refused with {status}, without saying that it closes"));
        }
        let ending = client.read_ending();
        match (ending.how, ending.bytes.is_empty()) {
            (How::Open, _) => Err(format!("refused with {status}, but left open")),
            (_, false) => Err(format!("after the refusal came {:?}", String::from_utf8_lossy(&ending.bytes))),
            (How::Closed | How::Reset, true) => Ok(()),
        }
    }

    fn judge_passes(
        &self,
        site: &Site,
        first: &Response,
        mut client: Client,
        method: &str,
        target: &str,
    ) -> Result<(), String> {
        let passes = self.passes.as_deref().unwrap_or_default();
        let mut answer = first.clone();
        let mut expected = Vec::new();
        for (index, pass) in passes.iter().enumerate() {
            if index > 0 {
                if answer.closes() {
                    break; // Closing instead of going on with the connection is always safe.
                }
                answer = client.read_response(method).map_err(|error| format!("answer {index}: {error}"))?;
            }
            let wanted = fill_text(&pass.target, target);
            if answer.status != 200 || (method != "HEAD" && answer.text() != wanted) {
                return Err(format!("answer {index}: {} {:?}, wanted {wanted:?}", answer.status, answer.text()));
            }
            expected.push((wanted, pass));
        }
        ask_once_more(&mut client, &answer, target)?;
        let seen: Vec<_> = site.backend.seen();
        let mut seen = seen.iter().filter(|r| r.target.contains(target) && !r.target.ends_with("/after"));
        for (wanted, pass) in expected {
            let request = seen.next().ok_or("answered, yet the backend did not see it")?;
            if request.target != wanted || pass.body.is_some_and(|body| request.body != body) {
                let body = String::from_utf8_lossy(&request.body);
                return Err(format!("the backend saw {} with {body:?}, wanted {wanted}", request.target));
            }
            (pass.check)(request)?;
        }
        seen.next().map_or(Ok(()), |request| Err(format!("the backend also saw {} {}", request.method, request.target)))
    }
}

/// Sends one request more on a connection that was left open: only its own answer may follow.
fn ask_once_more(client: &mut Client, last: &Response, target: &str) -> Result<(), String> {
    if !last.closes() {
        let after = format!("{target}/after");
        let request = format!("GET {after} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let answer = client.exchange(request.as_bytes()).map_err(|error| format!("one request more: {error}"))?;
        if answer.text() != after {
            return Err(format!("one request more got {} {:?}", answer.status, answer.text()));
        }
    }
    let ending = client.read_ending();
    match ending.bytes.is_empty() && ending.how != How::Open {
        true => Ok(()),
        false => Err(format!("after the last answer: {:?}, {:?}", ending.how, String::from_utf8_lossy(&ending.bytes))),
    }
}

/// Puts the case's own words in.
fn fill(bytes: &[u8], target: &str) -> Vec<u8> {
    let smuggled = format!("GET /smuggled{target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut filled = bytes.to_vec();
    for (mark, text) in [("{S}", smuggled.as_str()), ("{T}", target), ("{H}", HOST)] {
        let mut next = Vec::with_capacity(filled.len());
        let mut rest = filled.as_slice();
        while let Some(at) = rest.windows(mark.len()).position(|window| window == mark.as_bytes()) {
            next.extend_from_slice(&rest[..at]);
            next.extend_from_slice(text.as_bytes());
            rest = &rest[at + mark.len()..];
        }
        next.extend_from_slice(rest);
        filled = next;
    }
    filled
}

fn fill_text(text: &str, target: &str) -> String {
    String::from_utf8_lossy(&fill(text.as_bytes(), target)).into_owned()
}
