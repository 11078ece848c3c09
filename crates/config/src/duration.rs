//! Durations as Go and Istio write them.
//!
//! Not for times of day or dates; those are `jiff::Timestamp`. Called by the kinds through [`Decode`].

use std::time::Duration;

use crate::codes;
use crate::decode::{Cx, Decode, clip};
use crate::node::Node;
use crate::scalar::describe;

/// Why text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// Not of the form `1h30m`, `1.5s`, `250ms`.
    Form,
    /// A number without unit.
    Unit,
    /// Longer than 292 years, the range of Go's durations.
    Long,
}

/// Reads a duration as Go's `ParseDuration`: signed decimal numbers with units `ns us µs ms s m h`; result in
/// nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        None => return Err(DurationError::Form),
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Form);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let (part, after) = duration_part(rest)?;
        nanos += part;
        if nanos > i128::from(i64::MAX) {
            return Err(DurationError::Long);
        }
        rest = after;
    }
    let nanos = i64::try_from(nanos).map_err(|_| DurationError::Long)?;
    Ok(if negative { -nanos } else { nanos })
}

/// One number with its unit, in nanoseconds (a fraction of a nanosecond is cut off), and the rest of the text.
fn duration_part(text: &str) -> Result<(i128, &str), DurationError> {
    let number_len = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, rest) = text.split_at(number_len);
    let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let unit_nanos: i128 = match unit {
        "ns" => 1,
        // Micro sign and Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" if !number.is_empty() => return Err(DurationError::Unit),
        _ => return Err(DurationError::Form),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(DurationError::Form);
    }
    if whole.len() > 19 {
        return Err(DurationError::Long);
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::Form)? };
    let (mut numerator, mut denominator) = (0, 1);
    // Digits beyond the 18th are below a nanosecond for every unit.
    for digit in fraction.bytes().take(18) {
        numerator = numerator * 10 + i128::from(digit - b'0');
        denominator *= 10;
    }
    Ok((whole * unit_nanos + numerator * unit_nanos / denominator, rest))
}

impl Decode for Duration {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        const EXPECTED: &str = "a duration such as `10s`, `1m30s` or `250ms`";
        let Some(scalar) = node.scalar() else {
            cx.mismatch(node, EXPECTED);
            return None;
        };
        let hint = match parse_duration(&scalar.text) {
            Ok(nanos) => match u64::try_from(nanos) {
                Ok(nanos) => return Some(Self::from_nanos(nanos)),
                Err(_) => "a duration cannot be negative here".to_owned(),
            },
            Err(DurationError::Form) => String::new(),
            Err(DurationError::Unit) => format!("add the unit: `{}s`", clip(&scalar.text)),
            Err(DurationError::Long) => "the longest duration is 292 years".to_owned(),
        };
        let message = format!("found {}, expected {EXPECTED}", describe(scalar));
        cx.report(codes::SCHEMA, node.pos, message, hint);
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{DurationError, parse_duration};

    #[test]
    fn durations_are_those_of_go() {
        const SECOND: i64 = 1_000_000_000;
        let table: &[(&str, Result<i64, DurationError>)] = &[
            ("0", Ok(0)),
            ("+0", Ok(0)),
            ("0s", Ok(0)),
            ("1s", Ok(SECOND)),
            ("-1s", Ok(-SECOND)),
            ("1.5h", Ok(5_400 * SECOND)),
            ("1m30s", Ok(90 * SECOND)),
            (".5s", Ok(SECOND / 2)),
            ("5.s", Ok(5 * SECOND)),
            ("1h1h", Ok(7_200 * SECOND)),
            ("250ms", Ok(SECOND / 4)),
            ("3us", Ok(3_000)),
            ("3\u{b5}s", Ok(3_000)),
            ("3\u{3bc}s", Ok(3_000)),
            ("1.9ns", Ok(1)),
            ("0.000000001s", Ok(1)),
            ("0.99999999999999999999999s", Ok(SECOND - 1)),
            ("2562047h47m16.854775807s", Ok(i64::MAX)),
            ("2562047h47m16.854775808s", Err(DurationError::Long)),
            ("99999999h", Err(DurationError::Long)),
            ("99999999999999999999999999h", Err(DurationError::Long)),
            ("10", Err(DurationError::Unit)),
            ("1m10", Err(DurationError::Unit)),
            ("", Err(DurationError::Form)),
            ("-", Err(DurationError::Form)),
            (".", Err(DurationError::Unit)),
            (".s", Err(DurationError::Form)),
            ("s", Err(DurationError::Form)),
            ("1d", Err(DurationError::Form)),
            ("1 s", Err(DurationError::Form)),
            ("1s ", Err(DurationError::Form)),
            ("1.2.3s", Err(DurationError::Form)),
            ("1e3s", Err(DurationError::Form)),
            ("--1s", Err(DurationError::Form)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), *expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(nanos in any::<i64>().prop_filter("Go cannot write it", |n| *n != i64::MIN)) {
            let magnitude = nanos.unsigned_abs();
            let sign = if nanos < 0 { "-" } else { "" };
            let text = format!("{sign}{}s{}ns", magnitude / 1_000_000_000, magnitude % 1_000_000_000);
            prop_assert_eq!(parse_duration(&text), Ok(nanos));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn parts_add_up(hours in 0_i64..1_000, minutes in 0_i64..1_000, millis in 0_i64..1_000_000) {
            let expected = (hours * 3_600_000 + minutes * 60_000 + millis) * 1_000_000;
            prop_assert_eq!(parse_duration(&format!("{hours}h{minutes}m{millis}ms")), Ok(expected));
        }
    }
}
