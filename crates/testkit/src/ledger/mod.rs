//! A ledger of requests: what was sent, what backends saw, and how the two add up.
//!
//! Status codes alone do not show a request that was answered twice, by the wrong backend, or with another's body. So
//! every request carries an id and a body drawn from it, backends write down what they saw before they answer with a
//! body drawn from the same id, and [`Account::new`] reconciles both lists.

mod backend;
mod http2;
mod load;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

pub use backend::{Entry, Witness, answer};
pub use http2::{Front, Http2Backend, Http2Load, Manner, Tally};
pub use load::{Kind, Load};

/// What became of one request, as the client saw it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// `run.worker.sequence`.
    pub id: String,
    /// Which backends may see it.
    pub class: String,
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Whether its connection had carried a request before.
    pub reused: bool,
    /// From when it was due to the last byte of its answer.
    pub latency: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete answer.
    Answered {
        /// Its status.
        status: u16,
        /// The id it bears, empty when it bears none.
        id: String,
        /// The backend it names, empty when it names none.
        backend: String,
        /// Whether its body is the one that belongs to the id.
        is_intact: bool,
        /// `proxy-status`, for messages.
        cause: String,
    },
    /// Bytes were written and no complete answer came.
    Failed(String),
    /// No byte was written: there was no connection to be had.
    NotSent(String),
}

/// How everything adds up. Each list holds ids with what went wrong.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Requests of which at least one byte was written.
    pub sent: usize,
    /// Answered with 200, in full, by the right backend.
    pub ok: usize,
    /// Sent, and no complete answer with 200.
    pub lost: Vec<String>,
    /// Seen more than once by backends, and not idempotent.
    pub duplicated: Vec<String>,
    /// Seen more than once by backends, idempotent: allowed.
    pub repeated: usize,
    /// Seen by a backend of another class.
    pub misrouted: Vec<String>,
    /// Answered with another request's id.
    pub cross_talk: Vec<String>,
    /// A body that is not the one that belongs to the id, on either side.
    pub corrupted: Vec<String>,
    /// Later than [`LATE`].
    pub late: usize,
    /// Not sent: no connection.
    pub refused: Vec<String>,
    /// Answers by status.
    pub by_status: BTreeMap<u16, usize>,
    /// Answers by backend.
    pub by_backend: BTreeMap<String, usize>,
}

/// Which classes each backend may serve.
pub type Classes = BTreeMap<String, Vec<String>>;

/// A table of classes from text, for tests.
pub fn classes(backends: &[(&str, &[&str])]) -> Classes {
    let owned = |classes: &[&str]| classes.iter().map(|class| (*class).to_owned()).collect();
    backends.iter().map(|(backend, classes)| ((*backend).to_owned(), owned(classes))).collect()
}

/// From when on an answer counts as late.
pub const LATE: Duration = Duration::from_secs(1);

impl Account {
    /// Reconciles what clients sent with what witnesses saw. `classes` tells which classes each backend may serve.
    pub fn new(sent: &[Sent], seen: &[Entry], classes: &Classes) -> Self {
        let mut account = Self::default();
        let mut entries: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in seen {
            entries.entry(&entry.id).or_default().push(entry);
        }
        for request in sent {
            let seen = entries.remove(request.id.as_str()).unwrap_or_default();
            account.add(request, &seen, classes);
        }
        // A backend saw an id that nobody sent: bytes of one request became another.
        account.cross_talk.extend(entries.into_keys().map(|id| format!("{id}: nobody sent it")));
        account
    }

    /// Whether nothing went wrong but what the table of known differences allows (repeated, late).
    pub fn is_clean(&self) -> bool {
        [&self.lost, &self.duplicated, &self.misrouted, &self.cross_talk, &self.corrupted]
            .iter()
            .all(|list| list.is_empty())
    }

    fn add(&mut self, request: &Sent, seen: &[&Entry], classes: &Classes) {
        let id = &request.id;
        if seen.len() > 1 {
            let is_idempotent = matches!(request.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE");
            match is_idempotent {
                true => self.repeated += 1,
                false => self.duplicated.push(format!("{id}: {} seen {} times", request.method, seen.len())),
            }
        }
        for entry in seen {
            if !classes.get(&entry.backend).is_some_and(|classes| classes.contains(&request.class)) {
                self.misrouted.push(format!("{id}: for {} seen by {}", request.class, entry.backend));
            }
            if !entry.is_intact {
                self.corrupted.push(format!("{id}: its body at {}", entry.backend));
            }
        }
        if let Outcome::NotSent(why) = &request.outcome {
            self.refused.push(format!("{id}: {why}"));
            return;
        }
        self.sent += 1;
        self.late += usize::from(request.latency > LATE);
        match &request.outcome {
            Outcome::Answered { status: 200, id: answered, backend, is_intact, .. } => {
                *self.by_status.entry(200).or_default() += 1;
                *self.by_backend.entry(backend.clone()).or_default() += 1;
                if answered != id {
                    self.cross_talk.push(format!("{id}: the answer bears {answered:?}"));
                } else if !is_intact {
                    self.corrupted.push(format!("{id}: the answer's body from {backend}"));
                } else if seen.is_empty() {
                    self.cross_talk.push(format!("{id}: answered as {backend}, which did not see it"));
                } else {
                    self.ok += 1;
                }
            }
            Outcome::Answered { status, cause, .. } => {
                *self.by_status.entry(*status).or_default() += 1;
                self.lost.push(format!("{id}: {} got {status} {cause}", request.method));
            }
            Outcome::Failed(why) => {
                let reused = if request.reused { "reused" } else { "fresh" };
                self.lost.push(format!("{id}: {} on a {reused} connection: {why}", request.method));
            }
            Outcome::NotSent(_) => {}
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, ok, lost, duplicated, repeated, misrouted, cross_talk, corrupted, late, refused, .. } = self;
        write!(
            f,
            "sent {sent}, ok {ok}, lost {}, duplicated {}, misrouted {}, cross-talk {}, corrupted {}, late {late}, \
             repeated (idempotent) {repeated}, refused {}; status {:?}; backend {:?}",
            lost.len(),
            duplicated.len(),
            misrouted.len(),
            cross_talk.len(),
            corrupted.len(),
            refused.len(),
            self.by_status,
            self.by_backend
        )?;
        for list in [lost, duplicated, misrouted, cross_talk, corrupted] {
            for line in list.iter().take(5) {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

/// Which of the two bodies of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// The same as the one message of a gRPC call: not compressed, its length, itself.
pub(crate) fn message_of(id: &str, side: Side) -> Vec<u8> {
    let body = body_of(id, side);
    let length = u32::try_from(body.len()).expect("bodies are short").to_be_bytes();
    [&[0], &length[..], &body].concat()
}

/// No request is longer: 64 KiB is what a proxy keeps of one, pieces counted, in order to send it again.
const REQUEST_BYTES_MAX: usize = 60_000;

/// The body that belongs to an id: pseudo-random bytes of a pseudo-random size from a fixed list.
pub(crate) fn body_of(id: &str, side: Side) -> Vec<u8> {
    const SIZES: [usize; 12] = [0, 1, 17, 64, 200, 512, 1000, 1500, 4096, 9000, 16_384, 65_536];
    // FNV-1a over id and side: any hash will do that both ends compute alike.
    let seed = id
        .bytes()
        .chain([side as u8])
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut random = fastrand::Rng::with_seed(seed);
    let size = SIZES[random.usize(..SIZES.len())];
    let mut body = vec![0; if side == Side::Request { size.min(REQUEST_BYTES_MAX) } else { size }];
    random.fill(&mut body);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: &str, method: &'static str, outcome: Outcome) -> Sent {
        let (class, latency) = ("a".to_owned(), Duration::ZERO);
        Sent { id: id.to_owned(), class, method, reused: false, latency, outcome }
    }

    fn answered(status: u16, id: &str, is_intact: bool) -> Outcome {
        let (id, backend, cause) = (id.to_owned(), "a1".to_owned(), String::new());
        Outcome::Answered { status, id, backend, is_intact, cause }
    }

    fn entry(id: &str, backend: &str) -> Entry {
        Entry { id: id.to_owned(), backend: backend.to_owned(), method: "GET".to_owned(), is_intact: true }
    }

    #[test]
    fn every_fault_is_found() {
        let classes = classes(&[("a1", &["a"]), ("b1", &["b"])]);
        let requests = [
            sent("ok", "GET", answered(200, "ok", true)),
            sent("lost", "GET", Outcome::Failed("reset".to_owned())),
            sent("refused", "GET", Outcome::NotSent("no".to_owned())),
            sent("503", "GET", answered(503, "", false)),
            sent("twice", "POST", answered(200, "twice", true)),
            sent("again", "GET", answered(200, "again", true)),
            sent("strayed", "GET", answered(200, "strayed", true)),
            sent("mixed", "GET", answered(200, "ok", true)),
            sent("broken", "GET", answered(200, "broken", false)),
            sent("forged", "GET", answered(200, "forged", true)),
        ];
        let seen = [
            entry("ok", "a1"),
            entry("twice", "a1"),
            entry("twice", "a1"),
            entry("again", "a1"),
            entry("again", "a1"),
            entry("strayed", "b1"),
            entry("mixed", "a1"),
            entry("broken", "a1"),
            entry("smuggled", "a1"),
        ];
        let account = Account::new(&requests, &seen, &classes);
        let counts = [
            account.sent,
            account.lost.len(),
            account.duplicated.len(),
            account.repeated,
            account.misrouted.len(),
            account.cross_talk.len(),
            account.corrupted.len(),
            account.refused.len(),
        ];
        assert_eq!(counts, [9, 2, 1, 1, 1, 3, 1, 1], "{account}");
        assert!(!account.is_clean());
        let clean = Account::new(&requests[..1], &seen[..1], &classes);
        assert!(clean.is_clean() && clean.ok == 1);
    }

    #[test]
    fn bodies_belong_to_ids() {
        assert_eq!(body_of("1.2.3", Side::Request), body_of("1.2.3", Side::Request));
        let different = (0..50).filter(|n| body_of(&n.to_string(), Side::Request) != body_of("x", Side::Request));
        assert!(different.count() > 40);
        assert!((0..50).any(|n| body_of(&n.to_string(), Side::Request) != body_of(&n.to_string(), Side::Response)));
    }
}
