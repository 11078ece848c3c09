//! Reads parameters of a query string.
//!
//! Names and values are percent-decoded; a plus sign stays one, as in Envoy. Nothing else is normalised.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The decoded value of the first parameter called `name` (decoded); a bare key has the empty value.
pub(crate) fn parameter<'a>(query: Option<&'a [u8]>, name: &str) -> Option<Cow<'a, [u8]>> {
    query?.split(|byte| *byte == b'&').find_map(|pair| {
        let equals = memchr::memchr(b'=', pair);
        let (key, value) = equals.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
        (!pair.is_empty() && percent_decode(key).eq(name.bytes())).then(|| percent_decode(value).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, name: &str, expected: Option<&str>) {
        let found = parameter(Some(query.as_bytes()), name);
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name} in {query:?}");
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        check("a=1&b=2", "b", Some("2"));
        check("a=1&a=2", "a", Some("1"));
        check("a&a=2", "a", Some(""));
        check("a=", "a", Some(""));
        check("a=b=c", "a", Some("b=c"));
        check("ab=1", "a", None);
        check("A=1", "a", None);
        check("", "a", None);
        check("&&a=1", "a", Some("1"));
        check("=1", "", Some("1"));
        check("&", "", None);
        assert_eq!(parameter(None, "a"), None);
    }

    #[test]
    fn names_and_values_are_percent_decoded() {
        check("us%65r=a%20b", "user", Some("a b"));
        check("user=a+b", "user", Some("a+b"));
        check("user=%zz%4", "user", Some("%zz%4"));
        check("%26=%26", "&", Some("&"));
        assert_eq!(parameter(Some(b"u=%ff"), "u").as_deref(), Some(&b"\xff"[..]));
    }
}
