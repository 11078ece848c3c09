//! A gRPC call as `outrigger request` makes it: one message there, and status and messages back.

use crate::client::Answer;
use crate::echo;

/// Status and messages of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// `grpc-status`, where there is one that is a number.
    pub(super) status: Option<u16>,
    /// `grpc-message`, decoded.
    pub(super) message: String,
    /// The messages, as text where they are.
    pub(super) messages: Vec<String>,
}

/// Names of the statuses, by number.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The bytes of a message as they are sent: not compressed, and its length before it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a command line is far shorter");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

impl Outcome {
    /// Reads an answer; `is_echo` says that its messages are those of `outrigger.echo.v1.Echo`.
    pub(super) fn of(answer: &Answer, is_echo: bool) -> Self {
        // Without messages, head and trailers are one.
        let field = |name: &str| answer.trailer(name).or(answer.field(name));
        let mut messages = Vec::new();
        let mut rest = &*answer.body;
        while let Some((prefix, after)) = rest.split_first_chunk::<5>() {
            let [_, length @ ..] = prefix;
            let Some((message, after)) = after.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
            messages.push(text(message, is_echo));
            rest = after;
        }
        Self {
            status: field("grpc-status").and_then(|status| status.parse().ok()),
            message: field("grpc-message").map(percent_decode).unwrap_or_default(),
            messages,
        }
    }

    /// Number and name of the status.
    pub(super) fn describe(&self) -> String {
        let Some(status) = self.status else { return "there is no grpc-status".to_owned() };
        let name = NAMES.get(usize::from(status)).map(|name| format!(" {name}")).unwrap_or_default();
        let message = if self.message.is_empty() { String::new() } else { format!(": {}", self.message) };
        format!("grpc-status {status}{name}{message}")
    }

    /// The status as a key to count by.
    pub(super) fn key(&self) -> String {
        self.status.map_or_else(|| "none".to_owned(), |status| status.to_string())
    }
}

/// A message as text.
fn text(message: &[u8], is_echo: bool) -> String {
    if let Some(json) = echo::json_of(message).filter(|_| is_echo) {
        return json;
    }
    match str::from_utf8(message) {
        Ok(text) if !text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace()) => text.to_owned(),
        _ => format!("[{} bytes: {}]", message.len(), hexadecimal(message)),
    }
}

/// The beginning of a message that is no text.
fn hexadecimal(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    let shown: String = bytes.iter().take(SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN_MAX { shown + "…" } else { shown }
}

/// `%XX` as the byte that it stands for; what is none stays.
fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let escaped = after.split_at_checked(2).filter(|_| *byte == b'%');
        let value = escaped.and_then(|(digits, _)| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        (rest, _) = match (value, escaped) {
            (Some(value), Some((_, after))) => (after, decoded.push(value)),
            _ => (after, decoded.push(*byte)),
        };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn messages_and_status_are_read() {
        let body = [framed(b"{}"), framed(b"\x00\xff"), b"\0\0\0\0\x09cut".to_vec()].concat();
        let answer = Answer { body, trailers: fields(&[("grpc-status", "0")]), ..Answer::default() };
        let outcome = Outcome::of(&answer, false);
        assert_eq!((outcome.status, outcome.messages.join(" ").as_str()), (Some(0), "{} [2 bytes: 00ff]"));
        assert_eq!(outcome.describe(), "grpc-status 0 OK");
    }

    #[test]
    fn a_status_may_stand_in_the_head() {
        let head = fields(&[("grpc-status", "14"), ("grpc-message", "50%25 of %C3%A4%zz%4")]);
        let outcome = Outcome::of(&Answer { fields: head, ..Answer::default() }, false);
        assert_eq!(outcome.describe(), "grpc-status 14 UNAVAILABLE: 50% of ä%zz%4");
        let none = Outcome::of(&Answer::default(), false);
        assert_eq!((none.describe().as_str(), none.key().as_str()), ("there is no grpc-status", "none"));
    }
}
