//! Matching of strings, headers and query parameters, and the regular expressions in it.

use std::fmt;
use std::sync::Arc;

use crate::HeaderName;

/// A regular expression with RE2's meaning: full match on bytes, ASCII classes, bounded in length and size.
///
/// Two patterns are equal when their sources are.
#[derive(Clone)]
pub struct Pattern {
    source: Arc<str>,
    full: regex::bytes::Regex,
    part: regex::bytes::Regex,
}

/// Why text is no usable regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// Longer than [`Pattern::CHARS_MAX`] characters.
    Long(usize),
    /// Compiles to more than [`Pattern::PROGRAM_BYTES_MAX`].
    Large,
    /// A construct RE2 does not have, or a plain syntax error.
    Syntax(String),
}

impl Pattern {
    /// Longest accepted source in characters; Istio settled on the same bound after a long regex stopped its control plane.
    pub const CHARS_MAX: usize = 1024;
    /// Largest compiled program in bytes.
    pub const PROGRAM_BYTES_MAX: usize = 1 << 20;

    /// Compiles RE2 syntax.
    pub fn parse(source: &str) -> Result<Self, PatternError> {
        let chars = source.chars().count();
        if chars > Self::CHARS_MAX {
            return Err(PatternError::Long(chars));
        }
        let build = |text: &str| {
            regex::bytes::RegexBuilder::new(text)
                .unicode(false)
                .size_limit(Self::PROGRAM_BYTES_MAX)
                .dfa_size_limit(Self::PROGRAM_BYTES_MAX)
                .build()
                .map_err(|e| match e {
                    regex::Error::CompiledTooBig(_) => PatternError::Large,
                    other => PatternError::Syntax(last_line(&other.to_string())),
                })
        };
        // The group keeps an alternation inside the anchors; a newline ends a comment in verbose mode.
        Ok(Self { source: source.into(), full: build(&format!("\\A(?:{source})\\z"))?, part: build(source)? })
    }

    /// The text the pattern was made from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.full.is_match(text)
    }

    /// Replaces every match in `text`, with RE2's `\1` group references in `substitution` (Envoy `RegexRewrite`).
    pub fn replace_all(&self, text: &[u8], substitution: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + substitution.len());
        let mut end = 0;
        for found in self.part.captures_iter(text) {
            let whole = found.get(0).expect("group 0 is the whole match");
            out.extend_from_slice(&text[end..whole.start()]);
            let mut bytes = substitution.bytes().peekable();
            while let Some(b) = bytes.next() {
                match (b, bytes.peek().copied()) {
                    (b'\\', Some(digit)) if digit.is_ascii_digit() => {
                        bytes.next();
                        if let Some(group) = found.get(usize::from(digit - b'0')) {
                            out.extend_from_slice(group.as_bytes());
                        }
                    }
                    (b'\\', Some(b'\\')) => {
                        bytes.next();
                        out.push(b'\\');
                    }
                    _ => out.push(b),
                }
            }
            end = whole.end();
        }
        out.extend_from_slice(&text[end..]);
        out
    }
}

/// The line of a regex error that says what is wrong; those before it draw the pattern.
fn last_line(error: &str) -> String {
    let line = error.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long(n) => write!(f, "{n} characters long; at most {} are allowed", Pattern::CHARS_MAX),
            Self::Large => {
                write!(f, "compiles to more than {} bytes; simplify its repetitions", Pattern::PROGRAM_BYTES_MAX)
            }
            Self::Syntax(what) => write!(f, "not an RE2 regular expression: {what}"),
        }
    }
}

impl std::error::Error for PatternError {}

/// Istio's `StringMatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    /// The whole text.
    Exact(Arc<str>),
    /// How the text begins.
    Prefix(Arc<str>),
    /// RE2, whole text.
    Regex(Pattern),
}

impl StringMatch {
    /// Whether `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(want) => want.as_bytes() == text,
            Self::Prefix(want) => text.starts_with(want.as_bytes()),
            Self::Regex(pattern) => pattern.matches(text),
        }
    }
}

/// What a header or query value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// There at all, whatever the value (Istio's `{}` and header regex `*`).
    Present,
    /// There, with this value.
    String(StringMatch),
}

/// One condition on a request header.
///
/// Several fields of one name are judged as their comma-joined value (RFC 9110 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Which header.
    pub name: HeaderName,
    /// What it must be.
    pub value: ValueMatch,
    /// Whether the condition is turned round (Istio `withoutHeaders`); a missing header then counts as empty text.
    pub invert: bool,
}

/// One condition on a query parameter; its value is percent-decoded before the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// Which parameter, decoded. The first of several counts.
    pub name: Arc<str>,
    /// What it must be. `Exact("")` also matches a bare key.
    pub value: ValueMatch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text() {
        let p = Pattern::parse("a|b").unwrap();
        assert!(p.matches(b"a") && p.matches(b"b"));
        assert!(!p.matches(b"ab") && !p.matches(b"xb"));
        assert!(Pattern::parse(r"\d+").unwrap().matches(b"42"));
        assert!(!Pattern::parse(r"\d").unwrap().matches("٣".as_bytes()), "RE2's \\d is ASCII");
    }

    #[test]
    fn a_bomb_is_refused_by_length_or_by_size() {
        assert_eq!(Pattern::parse(&"a".repeat(1025)).unwrap_err(), PatternError::Long(1025));
        assert_eq!(Pattern::parse("(?:a{1000}){1000}").unwrap_err(), PatternError::Large);
        assert!(matches!(Pattern::parse("(?=a)").unwrap_err(), PatternError::Syntax(_)));
        assert!(!Pattern::parse("(a*)*$").unwrap().matches(&[b'b'; 4096]));
    }

    #[test]
    fn substitution_takes_re2_group_references() {
        let p = Pattern::parse("^/v1/([^/]+)/(.*)$").unwrap();
        assert_eq!(p.replace_all(b"/v1/cart/items", r"/\1/v2/\2"), b"/cart/v2/items");
        assert_eq!(Pattern::parse("b").unwrap().replace_all(b"abcb", "x"), b"axcx");
    }
}
