//! Header names and values that are safe to write to a wire, and edits made of them.
//!
//! Configuration is a place from which header injection can come; a name or value that would end a line, or that would
//! change the framing of a message, cannot be built here.

use std::fmt;
use std::sync::Arc;

/// A lower-case header field name (RFC 9110 §5.1 token), not one that frames a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderName(Arc<str>);

/// A header field value without control characters (RFC 9110 §5.5), at most [`HeaderValue::BYTES_MAX`] long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderValue(Arc<str>);

/// Why text is no header name or value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Empty name.
    Empty,
    /// A byte that is no token character, or a control character in a value; with its offset.
    Byte {
        /// The offending byte.
        byte: u8,
        /// Its position in the text.
        at: usize,
    },
    /// A pseudo-header such as `:path`.
    Pseudo,
    /// A field that frames the message or belongs to one connection, which an edit must not touch.
    Framing,
    /// Longer than allowed; with the limit in bytes.
    Long(usize),
}

/// Fields that say where a message ends, or that concern one connection only.
const FRAMING: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

impl HeaderName {
    /// Longest accepted name in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Reads a name for matching: any token, folded to lower case.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        if text.is_empty() {
            return Err(HeaderError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(HeaderError::Long(Self::BYTES_MAX));
        }
        if text.starts_with(':') {
            return Err(HeaderError::Pseudo);
        }
        if let Some(at) = text.bytes().position(|b| !is_token(b)) {
            return Err(HeaderError::Byte { byte: text.as_bytes()[at], at });
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// Reads a name for an edit: as [`Self::parse`], and not one that frames the message.
    pub fn parse_editable(text: &str) -> Result<Self, HeaderError> {
        let name = Self::parse(text)?;
        if FRAMING.contains(&name.as_str()) {
            return Err(HeaderError::Framing);
        }
        Ok(name)
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HeaderValue {
    /// Longest accepted value in bytes.
    pub const BYTES_MAX: usize = 16 * 1024;

    /// Reads a value: no control characters but tab.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        if text.len() > Self::BYTES_MAX {
            return Err(HeaderError::Long(Self::BYTES_MAX));
        }
        match text.bytes().position(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            Some(at) => Err(HeaderError::Byte { byte: text.as_bytes()[at], at }),
            None => Ok(Self(text.trim_matches([' ', '\t']).into())),
        }
    }

    /// The value as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a header name must not be empty"),
            Self::Byte { byte, at } => write!(f, "byte 0x{byte:02x} at offset {at} is not allowed in a header"),
            Self::Pseudo => {
                f.write_str("pseudo-headers cannot be edited; use the rewrite field for path and authority")
            }
            Self::Framing => {
                f.write_str("this header frames the message or belongs to one connection; a proxy sets it itself")
            }
            Self::Long(max) => write!(f, "longer than {max} bytes"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// Header operations on a request or a response (Istio `headers.{request,response}`).
///
/// Applied in the order remove, set, add; `set` beats `add` for one name, as Istio does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replace all fields of this name by one.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Append one more field of this name.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Take away all fields of this name.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_frames_or_injects_is_refused() {
        assert_eq!(HeaderName::parse("X-A").unwrap().as_str(), "x-a");
        assert_eq!(HeaderName::parse(""), Err(HeaderError::Empty));
        assert_eq!(HeaderName::parse("a b"), Err(HeaderError::Byte { byte: b' ', at: 1 }));
        assert_eq!(HeaderName::parse(":path"), Err(HeaderError::Pseudo));
        assert_eq!(HeaderName::parse_editable("Content-Length"), Err(HeaderError::Framing));
        assert!(HeaderName::parse("content-length").is_ok(), "matching on it is harmless");
    }

    #[test]
    fn a_value_never_ends_a_line() {
        assert_eq!(HeaderValue::parse("a\r\nb"), Err(HeaderError::Byte { byte: b'\r', at: 1 }));
        assert_eq!(HeaderValue::parse("a\0"), Err(HeaderError::Byte { byte: 0, at: 1 }));
        assert_eq!(HeaderValue::parse(" a\tb ").unwrap().as_str(), "a\tb");
    }
}
