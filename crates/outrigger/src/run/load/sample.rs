//! A text that a condition accepts.

use outrigger_model::{Pattern, StringMatch};
use regex_syntax::hir::{Class, Hir, HirKind};

/// Longest text that is made of a regular expression, in bytes.
const BYTES_MAX: usize = 1024;

/// A text that matches.
pub(super) fn of(condition: &StringMatch) -> Option<String> {
    match condition {
        StringMatch::Exact(text) | StringMatch::Prefix(text) => Some(text.to_string()),
        StringMatch::Regex(pattern) => of_pattern(pattern),
    }
}

/// A short text that matches as a whole; `None` where that takes more than going along the expression once.
pub(super) fn of_pattern(pattern: &Pattern) -> Option<String> {
    // `.*` and the like accept the empty text, which says little in a path or header.
    if pattern.matches(b"x") {
        return Some("x".to_owned());
    }
    let parsed = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(pattern.source()).ok()?;
    let mut bytes = Vec::new();
    walk(&parsed, &mut bytes)?;
    let text = String::from_utf8(bytes).ok()?;
    pattern.matches(text.as_bytes()).then_some(text)
}

/// Adds a text for one part. Assertions are passed over: whether they hold is seen at the end.
fn walk(part: &Hir, out: &mut Vec<u8>) -> Option<()> {
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(class) => out.push(plainest(class)?),
        HirKind::Repetition(repetition) => {
            for _ in 0..repetition.min {
                walk(&repetition.sub, out)?;
            }
        }
        HirKind::Capture(capture) => walk(&capture.sub, out)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| walk(part, out))?,
        HirKind::Alternation(parts) => walk(parts.first()?, out)?,
    }
    (out.len() <= BYTES_MAX).then_some(())
}

/// A letter or digit of the class, else another visible character.
fn plainest(class: &Class) -> Option<u8> {
    let holds = |byte: &u8| match class {
        Class::Unicode(class) => class.ranges().iter().any(|r| (r.start()..=r.end()).contains(&char::from(*byte))),
        Class::Bytes(class) => class.ranges().iter().any(|r| (r.start()..=r.end()).contains(byte)),
    };
    let mut plain = (b'a'..=b'z').chain(b'0'..=b'9').chain(b'A'..=b'Z').chain(b'!'..=b'~');
    plain.find(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_for_what_people_write() {
        for (source, want) in [
            ("/api/v[0-9]+/.*", Some("/api/v0/")),
            ("^(.*?;)?(user=jason)(;.*)?$", Some("user=jason")),
            ("(GET|HEAD)", Some("GET")),
            (".*", Some("x")),
            (".*\\.png$", Some(".png")),
            ("[^/]{3}", Some("aaa")),
            ("\\d+", Some("0")),
            ("a\\b", Some("a")),
            ("a\\Bb", Some("ab")),
            ("a\\bb", None),
            ("(?:a{1000}){2}", None),
        ] {
            assert_eq!(of_pattern(&Pattern::parse(source).expect("legal")).as_deref(), want, "{source}");
        }
    }
}
