//! The head of a request, whatever version of HTTP brought it, and what came after it.

use super::wire::{Framing, ReadError};

/// A field of a head or of trailers: the name in lower case, and the value as it came.
pub(super) type Field = (String, Vec<u8>);

/// A request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Method as sent.
    pub(super) method: String,
    /// Target as sent; of HTTP/2 its `:path`.
    pub(super) target: String,
    /// `:authority` of HTTP/2.
    pub(super) authority: Option<String>,
    /// What brought it.
    pub(super) version: Version,
    /// In the order sent.
    pub(super) fields: Vec<Field>,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
    Http2,
}

/// What came after a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// Length of the body, without its framing.
    pub(super) body_bytes: u64,
    /// The fields after it.
    pub(super) trailers: Vec<Field>,
}

impl Head {
    /// All values of a field; `name` is lower case.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// Whether a comma-separated field names this token; `name` and `token` are lower case.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether it begins a gRPC call. `application/grpc-web` is another protocol, and plain HTTP to us.
    pub(super) fn is_grpc(&self) -> bool {
        let is_grpc = |value: &[u8]| match value.to_ascii_lowercase().strip_prefix(b"application/grpc") {
            Some(rest) => matches!(rest.first(), None | Some(b'+' | b';' | b' ')),
            None => false,
        };
        self.version == Version::Http2 && self.all("content-type").any(is_grpc)
    }

    /// Whether a client of HTTP/1 means to send another request on this connection.
    pub(super) fn keeps_alive(&self) -> bool {
        let by_default = self.version == Version::Http11;
        !self.has_token("connection", "close") && (by_default || self.has_token("connection", "keep-alive"))
    }

    /// How the body ends in HTTP/1.
    pub(super) fn framing(&self) -> Result<Framing, ReadError> {
        let refused = |reason| Err(ReadError::Refused(400, reason));
        let mut lengths = self.all("content-length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return refused("more than one Content-Length");
        }
        let mut codings = self.all("transfer-encoding");
        match (codings.next(), length) {
            (None, None) => Ok(Framing::Length(0)),
            (None, Some(length)) => match parse_length(length) {
                Some(length) => Ok(Framing::Length(length)),
                None => refused("Content-Length is not a number of bytes"),
            },
            (Some(_), Some(_)) => refused("both Transfer-Encoding and Content-Length"),
            (Some(_), None) if self.version == Version::Http10 => refused("Transfer-Encoding in an HTTP/1.0 request"),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
                Ok(Framing::Chunked)
            }
            (Some(_), None) => Err(ReadError::Refused(501, "a Transfer-Encoding other than chunked")),
        }
    }

    #[cfg(test)]
    pub(super) fn get(target: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            target: target.to_owned(),
            authority: None,
            version: Version::Http11,
            fields: Vec::new(),
        }
    }
}

impl Version {
    /// As Go's servers, and so echo-basic, write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// 1*DIGIT that fits.
fn parse_length(text: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(text).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let is_grpc = |content_type: &str, version| {
            let fields = vec![("content-type".to_owned(), content_type.as_bytes().to_vec())];
            Head { fields, version, ..Head::get("/") }.is_grpc()
        };
        for grpc in ["application/grpc", "application/grpc+proto", "Application/gRPC; charset=utf-8"] {
            assert!(is_grpc(grpc, Version::Http2), "{grpc}");
            assert!(!is_grpc(grpc, Version::Http11), "{grpc}");
        }
        for other in ["application/grpc-web", "application/grpc-web+proto", "application/grp", "application/json"] {
            assert!(!is_grpc(other, Version::Http2), "{other}");
        }
    }
}
