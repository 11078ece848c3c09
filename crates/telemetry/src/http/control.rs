//! What an operator may change by hand, `POST /api/v1/…`, and the token without which nobody may.
//!
//! A request is read whole before anything changes, as with `/logging`. What is asked for is a [`Control`]; whoever knows the
//! proxies does it ([`super::AdminState::control`]). Without a configured token every such request is refused: whatever runs
//! in the pod reaches loopback, too.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::query::Query;
use super::reply::{JSON, reply};

/// Longest time for which anything may be forced or drained: who wants it for longer writes it into the configuration.
pub const CONTROL_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Longest name of a person or tool that acts.
const BY_BYTES_MAX: usize = 64;

/// What is asked for by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Which proxy: `?proxy=`; `None` is the main one.
    pub proxy: Option<String>,
    /// Who asks, by their own word: `?by=`, or `admin`. The token says that they may.
    pub by: String,
    /// What.
    pub action: ControlAction,
}

/// One thing that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAction {
    /// `circuits/NAME/force?state=open|closed&ttl=`.
    Force {
        /// The circuit.
        circuit: String,
        /// Open, or closed.
        is_open: bool,
        /// For so long.
        ttl: Duration,
    },
    /// `circuits/NAME/release`.
    Release {
        /// The circuit.
        circuit: String,
    },
    /// `endpoints/drain?cluster=&endpoint=&ttl=`.
    Drain {
        /// The cluster.
        cluster: String,
        /// The address of the endpoint, or its pod's name.
        endpoint: String,
        /// For so long.
        ttl: Duration,
    },
    /// `endpoints/restore?cluster=&endpoint=`.
    Restore {
        /// As with [`Self::Drain`].
        cluster: String,
        /// As with [`Self::Drain`].
        endpoint: String,
    },
    /// `endpoints/reset-ejection?cluster=&endpoint=`.
    ResetEjection {
        /// As with [`Self::Drain`].
        cluster: String,
        /// As with [`Self::Drain`].
        endpoint: String,
    },
}

/// Why a request under `/api/v1` is not answered with what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be understood: 400.
    Bad(String),
    /// What it names is not there: 404.
    Unknown(String),
    /// There is no room for one more: 409.
    Full(String),
}

impl Refusal {
    pub(super) fn response(self) -> Response {
        let (status, text) = match self {
            Self::Bad(text) => (StatusCode::BAD_REQUEST, text),
            Self::Unknown(text) => (StatusCode::NOT_FOUND, text),
            Self::Full(text) => (StatusCode::CONFLICT, text),
        };
        error(status, &text)
    }
}

/// An error as JSON.
pub(super) fn error(status: StatusCode, text: &str) -> Response {
    reply(status, JSON, format!("{}\n", json!({ "error": text })))
}

/// What a path below `/api/v1/` asks for: the verb, and the name between, where there is one.
pub(super) fn verb(path: &str) -> Option<(&str, Option<&str>)> {
    match path {
        "circuits/force" | "circuits/release" => Some((path, None)),
        "endpoints/drain" | "endpoints/restore" | "endpoints/reset-ejection" => Some((path, None)),
        _ => {
            let (name, verb) = path.strip_prefix("circuits/")?.rsplit_once('/')?;
            let verb = match verb {
                "force" => "circuits/force",
                "release" => "circuits/release",
                _ => return None,
            };
            (!name.is_empty()).then_some((verb, Some(name)))
        }
    }
}

impl Control {
    /// Reads a request for one of the verbs.
    pub(super) fn parse((verb, name): (&str, Option<&str>), query: &Query) -> Result<Self, String> {
        let allowed: &[&str] = match verb {
            "circuits/force" => &["circuit", "state", "ttl", "proxy", "by"],
            "circuits/release" => &["circuit", "proxy", "by"],
            "endpoints/drain" => &["cluster", "endpoint", "ttl", "proxy", "by"],
            _ => &["cluster", "endpoint", "proxy", "by"],
        };
        for (at, (key, _)) in query.pairs().iter().enumerate() {
            if !allowed.contains(&key.as_str()) {
                return Err(format!("parameter \"{}\" is not known; there are {}", clip(key), allowed.join(", ")));
            }
            if query.pairs()[..at].iter().any(|(other, _)| other == key) {
                return Err(format!("parameter {key} comes twice"));
            }
        }
        let wanted = |key: &str| {
            let value = query.get(key).filter(|value| !value.is_empty());
            value.map(str::to_owned).ok_or_else(|| format!("parameter {key} is missing"))
        };
        let circuit = || match (name.map(decode), query.has("circuit")) {
            (Some(_), true) => Err("the circuit stands in the path already; leave the parameter out".to_owned()),
            (Some(name), false) => name,
            (None, _) => wanted("circuit"),
        };
        let ttl = || parse_ttl(&wanted("ttl")?);
        let at = || Ok::<_, String>((wanted("cluster")?, wanted("endpoint")?));
        let action = match verb {
            "circuits/force" => {
                let state = wanted("state")?;
                let is_open = match state.as_str() {
                    "open" => true,
                    "closed" => false,
                    _ => return Err(format!("state is \"{}\"; it must be open or closed", clip(&state))),
                };
                ControlAction::Force { circuit: circuit()?, is_open, ttl: ttl()? }
            }
            "circuits/release" => ControlAction::Release { circuit: circuit()? },
            "endpoints/drain" => {
                let (cluster, endpoint) = at()?;
                ControlAction::Drain { cluster, endpoint, ttl: ttl()? }
            }
            "endpoints/restore" => at().map(|(cluster, endpoint)| ControlAction::Restore { cluster, endpoint })?,
            _ => at().map(|(cluster, endpoint)| ControlAction::ResetEjection { cluster, endpoint })?,
        };
        let by = query.get("by").unwrap_or("admin");
        // It goes into logs and tables.
        if by.is_empty() || by.len() > BY_BYTES_MAX || !by.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(format!("by must be 1 to {BY_BYTES_MAX} printable characters of ASCII"));
        }
        Ok(Self { proxy: query.get("proxy").map(str::to_owned), by: by.to_owned(), action })
    }
}

/// Reads a time to live: numbers with units, such as `90s` or `1h30m`.
pub(super) fn parse_ttl(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "ttl is \"{}\"; it must be a time such as 60s, 5m or 1h30m (units ms, s, m, h), at most 24h",
            clip(text)
        )
    };
    let (mut total_ms, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = &rest[digits..];
        let unit = &unit[..unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len())];
        let ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        total_ms = count.checked_mul(ms).and_then(|more| total_ms.checked_add(more)).ok_or_else(bad)?;
        rest = &rest[digits + unit.len()..];
    }
    let ttl = Duration::from_millis(total_ms);
    if ttl.is_zero() || ttl > CONTROL_TTL_MAX { Err(bad()) } else { Ok(ttl) }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, String> {
    let bad = || format!("\"{}\" is not percent-encoded UTF-8", clip(text));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(bad)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        bytes.push(u8::from_str_radix(digits.ok_or_else(bad)?, 16).map_err(|_| bad())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// What a caller wrote, for a sentence: without control characters, and not longer than a name is.
fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().take(80).flat_map(char::escape_default).collect();
    if text.chars().nth(80).is_some() {
        clipped.push('…');
    }
    clipped
}

/// The secret that whoever changes something must show, `Authorization: Bearer TOKEN`. Kept in a file, which is read each
/// time: what mounts secrets replaces them. Neither it nor what callers show is ever logged.
#[derive(Clone, Debug)]
pub struct ControlToken {
    file: PathBuf,
}

impl ControlToken {
    /// Shortest token, in bytes: one that can be guessed is none.
    pub const BYTES_MIN: usize = 16;
    /// Longest token, in bytes.
    pub const BYTES_MAX: usize = 4096;

    /// A token in a file, which is looked at.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn in_file(file: impl Into<PathBuf>) -> Result<Self, String> {
        let token = Self { file: file.into() };
        token.read()?;
        Ok(token)
    }

    /// The token as it is now, for who has to show it.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn text(&self) -> Result<String, String> {
        self.read().map(|token| String::from_utf8_lossy(&token).into_owned())
    }

    /// The token as it is now, without white space around it.
    fn read(&self) -> Result<Vec<u8>, String> {
        let path = self.file.display();
        let file = File::open(&self.file).map_err(|error| format!("{path} cannot be read: {error}"))?;
        let mut bytes = Vec::new();
        let most = Self::BYTES_MAX as u64 + 2;
        file.take(most).read_to_end(&mut bytes).map_err(|error| format!("{path} cannot be read: {error}"))?;
        let token = bytes.trim_ascii();
        if !(Self::BYTES_MIN..=Self::BYTES_MAX).contains(&token.len()) || !token.iter().all(u8::is_ascii_graphic) {
            let (min, max) = (Self::BYTES_MIN, Self::BYTES_MAX);
            return Err(format!(
                "{path} holds no token: it must be {min} to {max} printable characters without spaces"
            ));
        }
        Ok(token.to_vec())
    }
}

/// `None` for who shows the token; for everybody else the answer that says what is missing.
pub(super) fn denied(token: Option<&ControlToken>, headers: &HeaderMap) -> Option<Response> {
    const OFF: &str = "Changes by hand are off: no token is configured. Write a secret of at least 16 characters to a \
                       file and start with --admin-token-file FILE; then send `Authorization: Bearer SECRET`.";
    const GONE: &str = "The file of --admin-token-file holds no token now; the log says what is wrong.";
    const ASK: &str = "This changes what the proxy does and needs the token of --admin-token-file: send `Authorization: \
                       Bearer SECRET`.";
    let Some(token) = token else { return Some(error(StatusCode::FORBIDDEN, OFF)) };
    let expected = match token.read() {
        Ok(expected) => expected,
        Err(problem) => {
            tracing::error!(problem, "the token of the admin interface is gone: nothing can be changed by hand");
            return Some(error(StatusCode::FORBIDDEN, GONE));
        }
    };
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let is_it = match (shown.next(), shown.next()) {
        (Some(value), None) => bearer(value.as_bytes()).is_some_and(|shown| is_same(shown, &expected)),
        _ => false,
    };
    if is_it {
        return None;
    }
    tracing::debug!("a change by hand was refused: no token, or another");
    let mut response = error(StatusCode::UNAUTHORIZED, ASK);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"outrigger\""));
    Some(response)
}

/// What follows the scheme, whose case does not matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether two secrets are the same; how long it takes tells only their lengths.
fn is_same(shown: &[u8], expected: &[u8]) -> bool {
    let differs = shown.iter().zip(expected).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b)));
    shown.len() == expected.len() && differs == 0
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
