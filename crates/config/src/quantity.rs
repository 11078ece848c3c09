//! Kubernetes quantities.
//!
//! Exact: no floating point. Called by the kinds through [`Decode`].

use crate::decode::{Cx, Decode};
use crate::node::Node;

/// A Kubernetes quantity (`500m`, `2Gi`, `1e3`), exact to a billionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// Reads a quantity by the grammar of Kubernetes' `resource.Quantity`; finer than a billionth is rounded up.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, body) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let number_len = body.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, suffix) = body.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
            return None;
        }
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let exponent = 9 - i32::try_from(fraction.len()).ok()?;
        let (binary, decimal) = quantity_scale(suffix)?;
        let scaled = digits.checked_mul(binary)?;
        let exponent = exponent + decimal;
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        let nanos = if exponent >= 0 { scaled.checked_mul(power)? } else { (scaled + power - 1) / power };
        Some(Self { nanos: if negative { -nanos } else { nanos } })
    }

    /// In thousandths, rounded up, as Kubernetes' `MilliValue`.
    pub fn milli(self) -> i128 {
        ceil_div(self.nanos, 1_000_000)
    }

    /// In whole units, rounded up, as Kubernetes' `Value`.
    pub fn units(self) -> i128 {
        ceil_div(self.nanos, 1_000_000_000)
    }
}

fn ceil_div(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

/// The factor (a power of two) and the decimal exponent of a quantity's suffix.
fn quantity_scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            // Kubernetes caps quantities at 2^63: what lies beyond E is out of range.
            if exponent.abs() > 18 {
                return None;
            }
            (1, exponent)
        }
    })
}

impl Decode for Quantity {
    fn decode(node: &Node<'_>, cx: &mut Cx) -> Option<Self> {
        let value = node.scalar().and_then(|scalar| Self::parse(&scalar.text));
        if value.is_none() {
            cx.mismatch(node, "a quantity such as `500m`, `2` or `1Gi`");
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Quantity;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        let table: &[(&str, Option<i128>)] = &[
            ("0", Some(0)),
            ("1", Some(1_000)),
            ("500m", Some(500)),
            ("1.5", Some(1_500)),
            (".5", Some(500)),
            ("5.", Some(5_000)),
            ("-1", Some(-1_000)),
            ("+2k", Some(2_000_000)),
            ("1e3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("1e-3", Some(1)),
            ("1Ki", Some(1_024_000)),
            ("0.5Gi", Some(536_870_912_000)),
            ("1u", Some(1)),
            ("1n", Some(1)),
            ("-1n", Some(0)),
            ("", None),
            ("m", None),
            ("1 Gi", None),
            ("1gi", None),
            ("1.2.3", None),
            ("0x10", None),
            ("1e99", None),
            ("9999999999999999999999999999999999", None),
        ];
        for (text, milli) in table {
            assert_eq!(Quantity::parse(text).map(Quantity::milli), *milli, "{text:?}");
        }
        assert_eq!(Quantity::parse("1500m").map(Quantity::units), Some(2));
    }

    proptest! {
        #[test]
        fn suffixes_agree(number in 0_u64..1_000_000_000) {
            let milli = Quantity::parse(&format!("{number}m"));
            prop_assert_eq!(milli.map(Quantity::milli), Some(i128::from(number)));
            prop_assert_eq!(milli, Quantity::parse(&format!("{}.{:03}", number / 1_000, number % 1_000)));
            prop_assert_eq!(milli, Quantity::parse(&format!("{number}e-3")));
            prop_assert_eq!(Quantity::parse(&format!("{number}Ki")), Quantity::parse(&(u128::from(number) * 1024).to_string()));
        }

        #[test]
        fn order_is_that_of_numbers(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000) {
            let quantity = |n: i64| Quantity::parse(&format!("{n}m"));
            prop_assert_eq!(quantity(a).cmp(&quantity(b)), a.cmp(&b));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Quantity::parse(&text);
        }
    }
}
