//! What single values mean: booleans, numbers, strings and choices. (Durations, quantities, addresses: their own files.)
//!
//! The target type judges a scalar, by the rules of Kubernetes' YAML (YAML 1.1 booleans and octal numbers) and of Go.
//! Where Kubernetes would silently read something else than what stands there, such as `010` for a port, that is an
//! error here. Used by the kinds through [`Decode`] and the functions for `with(…)`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::codes;
use crate::decode::{Cx, Decode, clip, list, nearest};
use crate::node::{Node, Scalar, Style};

/// What an unquoted scalar is to Kubernetes' YAML.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Meaning {
    /// Text.
    Text,
    /// `true`, `yes`, `on` and their opposites, in three spellings each.
    Bool(bool),
    /// An integer. `octal`: written with a leading zero, so that YAML 1.1 reads base 8.
    Int {
        /// Its value.
        value: i128,
        /// Whether a leading zero makes it octal.
        octal: bool,
    },
    /// A number with fraction or exponent, `.inf` or `.nan`.
    Float(f64),
}

/// What a scalar means by itself; quoted and block scalars are text.
pub fn meaning(scalar: &Scalar<'_>) -> Meaning {
    let text = &*scalar.text;
    if scalar.style != Style::Plain || text.is_empty() {
        return Meaning::Text;
    }
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            return Meaning::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Meaning::Bool(false);
        }
        _ => {}
    }
    if !matches!(text.as_bytes()[0], b'0'..=b'9' | b'+' | b'-' | b'.') {
        return Meaning::Text;
    }
    if let Some((value, octal)) = integer(text) {
        return Meaning::Int { value, octal };
    }
    float(text).map_or(Meaning::Text, Meaning::Float)
}

/// An integer as Go's `ParseInt(text, 0, …)` reads it, with underscores dropped as go-yaml does.
fn integer(text: &str) -> Option<(i128, bool)> {
    let (negative, digits) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let digits = digits.replace('_', "");
    let (radix, body, octal) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..], false),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..], false),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..], false),
        [b'0', _, ..] => (8, &digits[1..], true),
        _ => (10, &digits[..], false),
    };
    if body.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from_str_radix(body, radix).ok()?;
    Some((if negative { -value } else { value }, octal))
}

/// A float by go-yaml's pattern: digits with point or exponent, `.inf`, `.nan`.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
        }
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    let plausible = unsigned.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
        && unsigned.bytes().any(|b| b.is_ascii_digit());
    if plausible { text.parse().ok() } else { None }
}

/// What a scalar is, for messages.
pub(crate) fn describe(scalar: &Scalar<'_>) -> String {
    let text = clip(&scalar.text);
    match meaning(scalar) {
        Meaning::Text => format!("the string {text:?}"),
        Meaning::Bool(_) => format!("the boolean {text}"),
        Meaning::Int { value, octal: true } => format!("the octal number {text} (decimal {value})"),
        Meaning::Int { .. } | Meaning::Float(_) => format!("the number {text}"),
    }
}

/// Reads an integer within a range. Octal spellings and floats are refused: they hide what is meant.
pub fn int_in(node: &Node<'_>, cx: &mut Cx, range: RangeInclusive<i64>) -> Option<i64> {
    let expected = || match (*range.start(), *range.end()) {
        (i64::MIN, i64::MAX) => "an integer".to_owned(),
        (start, i64::MAX) => format!("an integer of at least {start}"),
        (start, end) => format!("an integer from {start} to {end}"),
    };
    let Some(scalar) = node.scalar() else {
        cx.mismatch(node, &expected());
        return None;
    };
    let hint = match meaning(scalar) {
        Meaning::Int { value, octal: false } => match i64::try_from(value) {
            Ok(value) if range.contains(&value) => return Some(value),
            _ => String::new(),
        },
        Meaning::Int { value, octal: true } => {
            let digits = scalar.text.trim_start_matches('0');
            format!("YAML reads a leading zero as octal: write {digits}, or {value} if octal is meant")
        }
        Meaning::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => format!("write {value:.0}"),
        Meaning::Text if scalar.style != Style::Plain && integer_text(&scalar.text) => "remove the quotes".to_owned(),
        Meaning::Text | Meaning::Bool(_) | Meaning::Float(_) => String::new(),
    };
    let found = crate::decode::describe(node);
    cx.report(codes::SCHEMA, node.pos, format!("found {found}, expected {}", expected()), hint);
    None
}

fn integer_text(text: &str) -> bool {
    !text.is_empty() && text.len() < 19 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `with(int_from_to(0..=100))`: an integer within a range, as any integer type that holds it.
pub fn within<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl FnOnce(&Node<'_>, &mut Cx) -> Option<T> {
    move |node, cx| int_in(node, cx, range).and_then(|value| T::try_from(value).ok())
}

/// A protobuf integer or `UInt32Value`: protobuf JSON allows a number or a string of digits.
pub fn u32_or_string(node: &Node<'_>, cx: &mut Cx) -> Option<u32> {
    if let Some(scalar) = node.scalar()
        && scalar.style != Style::Plain
        && integer_text(&scalar.text)
        && let Ok(value) = scalar.text.parse()
    {
        return Some(value);
    }
    int_in(node, cx, 0..=u32::MAX.into()).and_then(|value| u32::try_from(value).ok())
}

/// A port, 1 to 65535.
pub fn port(node: &Node<'_>, cx: &mut Cx) -> Option<u16> {
    int_in(node, cx, 1..=65_535).and_then(|value| u16::try_from(value).ok())
}

macro_rules! integers {
    ($($ty:ty: $range:expr;)+) => {$(
        impl Decode for $ty {
            fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
                int_in(node, cx, $range).and_then(|value| Self::try_from(value).ok())
            }
        }
    )+};
}

integers! {
    u16: 0..=u16::MAX.into();
    u32: 0..=u32::MAX.into();
    i32: i32::MIN.into()..=i32::MAX.into();
    i64: i64::MIN..=i64::MAX;
    u64: 0..=i64::MAX;
}

impl Decode for bool {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        if let Some(Meaning::Bool(value)) = node.scalar().map(meaning) {
            return Some(value);
        }
        let quoted = node.scalar().is_some_and(|s| matches!(&*s.text, "true" | "false"));
        let hint = if quoted { "remove the quotes" } else { "" };
        let found = crate::decode::describe(node);
        cx.report(codes::SCHEMA, node.pos, format!("found {found}, expected `true` or `false`"), hint);
        None
    }
}

impl Decode for f64 {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let value = match node.scalar().map(meaning) {
            Some(Meaning::Float(value)) if value.is_finite() => Some(value),
            // Far beyond what any field holds, so that precision does not matter.
            Some(Meaning::Int { value, octal: false }) => Some(value as Self),
            _ => None,
        };
        if value.is_none() {
            cx.mismatch(node, "a finite number");
        }
        value
    }
}

/// A percentage, 0 to 100, fractions allowed.
pub fn percent(node: &Node<'_>, cx: &mut Cx) -> Option<f64> {
    let value = f64::decode(node, cx)?;
    if (0.0..=100.0).contains(&value) {
        return Some(value);
    }
    cx.mismatch(node, "a percentage from 0 to 100");
    None
}

impl Decode for Arc<str> {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        string(node, cx).map(|text| cx.text(text))
    }
}

/// Reads a string; an unquoted number or boolean is an error, as it is to the API server.
pub fn string<'n>(node: &'n Node<'_>, cx: &mut Cx) -> Option<&'n str> {
    let Some(scalar) = node.scalar() else {
        cx.mismatch(node, "a string");
        return None;
    };
    if meaning(scalar) == Meaning::Text {
        return Some(&scalar.text);
    }
    let found = describe(scalar);
    let hint = format!("put it in quotes: \"{}\"", clip(&scalar.text));
    cx.report(codes::SCHEMA, node.pos, format!("found {found}, expected a string"), hint);
    None
}

/// Reads a string that is not empty.
pub fn non_empty(node: &Node<'_>, cx: &mut Cx) -> Option<Arc<str>> {
    let text = string(node, cx)?;
    if text.is_empty() {
        cx.mismatch(node, "a string that is not empty");
        return None;
    }
    Some(cx.text(text))
}

/// Reads one of the named choices, or its protobuf number.
pub fn choice<T: Copy>(node: &Node<'_>, cx: &mut Cx, choices: &[(&str, Option<i64>, T)]) -> Option<T> {
    let names: Vec<&str> = choices.iter().map(|c| c.0).collect();
    let Some(scalar) = node.scalar() else {
        cx.mismatch(node, &format!("one of {}", list(&names)));
        return None;
    };
    // By text and not by meaning, so that a choice called `ON` or `OFF` may be written without quotes.
    if let Some(found) = choices.iter().find(|c| c.0 == scalar.text) {
        return Some(found.2);
    }
    if let Meaning::Int { value, octal: false } = meaning(scalar)
        && let Some(found) = choices.iter().find(|c| c.1.is_some_and(|n| i128::from(n) == value))
    {
        return Some(found.2);
    }
    let hint = nearest(&scalar.text, &names).map_or(String::new(), |near| format!("did you mean `{near}`?"));
    let message = format!("found {}, expected one of {}", describe(scalar), list(&names));
    cx.report(codes::SCHEMA, node.pos, message, hint);
    None
}

/// A number or a name (`targetPort: 8080`, `targetPort: http`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// Text, also `"8080"` in quotes.
    Text(Arc<str>),
}

impl Decode for IntOrString {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        match node.scalar().map(meaning) {
            Some(Meaning::Text) => string(node, cx).map(|text| Self::Text(cx.text(text))),
            Some(Meaning::Int { octal: false, value }) => {
                let value = i32::try_from(value).ok();
                if value.is_none() {
                    cx.mismatch(node, "a number that fits 32 bits, or a name");
                }
                value.map(Self::Int)
            }
            _ => {
                cx.mismatch(node, "a number or a name");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Meaning, meaning};
    use crate::node::{Scalar, Style};

    fn plain(text: &str) -> Meaning {
        meaning(&Scalar { text: text.into(), style: Style::Plain })
    }

    #[test]
    fn plain_scalars_mean_what_kubernetes_reads() {
        let int = |value| Meaning::Int { value, octal: false };
        let octal = |value| Meaning::Int { value, octal: true };
        let table: &[(&str, Meaning)] = &[
            ("yes", Meaning::Bool(true)),
            ("Off", Meaning::Bool(false)),
            ("n", Meaning::Bool(false)),
            ("yEs", Meaning::Text),
            ("0", int(0)),
            ("-0", int(0)),
            ("+80", int(80)),
            ("1_000", int(1_000)),
            ("0x1F", int(31)),
            ("0b101", int(5)),
            ("0o17", int(15)),
            ("017", octal(15)),
            ("-017", octal(-15)),
            ("08", Meaning::Float(8.0)),
            ("1e3", Meaning::Float(1e3)),
            ("1.20", Meaning::Float(1.2)),
            (".5", Meaning::Float(0.5)),
            ("-.inf", Meaning::Float(f64::NEG_INFINITY)),
            ("1.2.3", Meaning::Text),
            ("10.0.0.1", Meaning::Text),
            ("12:30", Meaning::Text),
            ("2024-05-01", Meaning::Text),
            ("1e", Meaning::Text),
            ("-", Meaning::Text),
            ("+-1", Meaning::Text),
            ("0x", Meaning::Text),
            ("0x-1", Meaning::Text),
            ("7d9c5b8f6", Meaning::Text),
            ("12e4", Meaning::Float(12e4)),
        ];
        for (text, expected) in table {
            assert_eq!(plain(text), *expected, "{text:?}");
        }
        assert_eq!(meaning(&Scalar { text: "80".into(), style: Style::Quoted }), Meaning::Text);
    }

    proptest! {
        #[test]
        fn integers_read_back(value in any::<i64>()) {
            prop_assert_eq!(plain(&value.to_string()), Meaning::Int { value: value.into(), octal: false });
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = plain(&text);
        }
    }
}
