//! Judges the conditions of a route (Istio `HTTPMatchRequest`, RFC 9110 for joined fields).
//!
//! Regular expressions must match the whole; a condition on a missing thing does not hold, unless it is turned round.

use std::borrow::Cow;

use outrigger_model::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};

use super::query;
use crate::request::RequestView;

/// Whether the condition on the path holds.
pub(super) fn path_matches(matches: &RouteMatch, path: &[u8]) -> bool {
    let fold = matches.path_ignore_case;
    match &matches.path {
        PathMatch::Any => true,
        PathMatch::Exact(want) if fold => path.eq_ignore_ascii_case(want.as_bytes()),
        PathMatch::Exact(want) => path == want.as_bytes(),
        PathMatch::Prefix(want) if fold => {
            path.get(..want.len()).is_some_and(|start| start.eq_ignore_ascii_case(want.as_bytes()))
        }
        PathMatch::Prefix(want) => path.starts_with(want.as_bytes()),
        PathMatch::Segments(want) => has_segments(path, want.as_bytes(), fold),
        PathMatch::Regex(pattern) => pattern.matches(path),
    }
}

/// Whether a path is this prefix or lies below it, segment by segment. Everything lies below the empty one, which stands
/// for `/`: the target `*` of an `OPTIONS` request, too.
fn has_segments(path: &[u8], prefix: &[u8], fold: bool) -> bool {
    if prefix.is_empty() {
        return true;
    }
    let Some((start, rest)) = path.split_at_checked(prefix.len()) else { return false };
    let same = if fold { start.eq_ignore_ascii_case(prefix) } else { start == prefix };
    same && rest.first().is_none_or(|next| *next == b'/')
}

/// Whether all conditions but the one on the path hold.
pub(super) fn others_match(matches: &RouteMatch, request: &RequestView<'_>) -> bool {
    matches.method.as_ref().is_none_or(|want| want.matches(request.method))
        && matches.scheme.as_ref().is_none_or(|want| want.matches(request.scheme.as_bytes()))
        && matches.authority.as_ref().is_none_or(|want| want.matches(request.authority))
        && matches.headers.iter().all(|want| header_matches(want, request))
        && matches.query.iter().all(|want| parameter_matches(want, request))
}

fn header_matches(want: &HeaderMatch, request: &RequestView<'_>) -> bool {
    let value = joined(request, want.name.as_str());
    let holds = match (&want.value, value) {
        (ValueMatch::Present, value) => value.is_some(),
        (ValueMatch::String(string), Some(value)) => string.matches(&value),
        (ValueMatch::String(string), None) => want.invert && string.matches(b""),
    };
    holds != want.invert
}

fn parameter_matches(want: &QueryMatch, request: &RequestView<'_>) -> bool {
    query::parameter(request.query, &want.name).is_some_and(|value| match &want.value {
        ValueMatch::Present => true,
        ValueMatch::String(string) => string.matches(&value),
    })
}

/// All fields of a name as one value, joined by commas; without allocation when there is one.
fn joined<'a>(request: &RequestView<'a>, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut fields = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let mut value = Cow::Borrowed(fields.next()?.value);
    for field in fields {
        let joined = value.to_mut();
        joined.push(b',');
        joined.extend_from_slice(field.value);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{string, with_request};
    use super::*;
    use outrigger_model::HeaderName;
    use proptest::prelude::*;

    proptest! {
        /// The same by the book: cut at the slashes, and compare segment by segment.
        #[test]
        fn segments_are_what_lies_between_slashes(prefix in "(/[aAb]{0,2}){0,3}", path in "(/[aAb]{0,2}){1,4}", fold: bool) {
            let prefix = prefix.trim_end_matches('/');
            let cut = |text: &str| -> Vec<String> {
                text.split('/').map(|s| if fold { s.to_ascii_lowercase() } else { s.to_owned() }).collect()
            };
            let matches = RouteMatch {
                path: PathMatch::Segments(prefix.into()), path_ignore_case: fold, ..RouteMatch::default()
            };
            let expected = cut(&path).starts_with(&cut(prefix));
            prop_assert_eq!(path_matches(&matches, path.as_bytes()), expected, "{} of {}", path, prefix);
        }
    }

    fn value(text: &str) -> ValueMatch {
        if text == "*" { ValueMatch::Present } else { ValueMatch::String(string(text)) }
    }

    /// `want` is what the header `x` must be, with `!` in front for `withoutHeaders`.
    #[track_caller]
    fn check_header(want: &str, sent: &[&str], expected: bool) {
        let fields: Vec<(&str, &str)> = sent.iter().map(|value| ("X", *value)).chain([("xy", "other")]).collect();
        let condition = HeaderMatch {
            name: HeaderName::parse("x").unwrap(),
            value: value(want.trim_start_matches('!')),
            invert: want.starts_with('!'),
        };
        let matches = RouteMatch { headers: vec![condition], ..RouteMatch::default() };
        let found = with_request("GET http://a/", &fields, |request| others_match(&matches, request));
        assert_eq!(found, expected, "{want} of {sent:?}");
    }

    #[test]
    fn headers() {
        check_header("=a", &["a"], true);
        check_header("=a", &["A"], false);
        check_header("=a", &[], false);
        check_header("=", &[], false);
        check_header("=", &[""], true);
        check_header("^a", &["abc"], true);
        check_header("~a.c", &["abc"], true);
        check_header("~a.", &["abc"], false);
        check_header("~.*", &[], false);
        check_header("*", &[""], true);
        check_header("*", &[], false);
    }

    #[test]
    fn several_fields_of_a_name_are_one_value() {
        check_header("=a,b", &["a", "b"], true);
        check_header("=a", &["a", "b"], false);
        check_header("^a", &["a", "b"], true);
        check_header("~.*b", &["a", "b"], true);
        check_header("=b", &["a", "b"], false);
    }

    #[test]
    fn without_headers() {
        check_header("!=a", &["a"], false);
        check_header("!=a", &["b"], true);
        check_header("!=a", &[], true);
        check_header("!=", &[], false);
        check_header("!=", &["a"], true);
        check_header("!~.*", &[], false);
        check_header("!~.+", &[], true);
        check_header("!*", &[], true);
        check_header("!*", &[""], false);
        check_header("!^a", &["x", "a"], true);
    }

    #[track_caller]
    fn check_query(want: &str, query: &str, expected: bool) {
        let matches =
            RouteMatch { query: vec![QueryMatch { name: "k".into(), value: value(want) }], ..RouteMatch::default() };
        let found = with_request(&format!("GET http://a/{query}"), &[], |request| others_match(&matches, request));
        assert_eq!(found, expected, "{want} of {query}");
    }

    #[test]
    fn query_parameters() {
        check_query("=v", "?k=v", true);
        check_query("=v", "?j=1&k=v", true);
        check_query("=v", "?k=w&k=v", false);
        check_query("=v", "", false);
        check_query("=v", "?k=%76", true);
        check_query("=", "?k", true);
        check_query("=", "?k=", true);
        check_query("=", "?j", false);
        check_query("*", "?k", true);
        check_query("*", "?kk", false);
        check_query("~v[0-9]", "?k=v1", true);
        check_query("~v", "?k=v1", false);
        check_query("^v", "?k=v1", true);
    }

    #[test]
    fn method_scheme_and_authority() {
        let request = "GET https://a.b:80/";
        let check = |matches: RouteMatch, expected: bool| {
            let found = with_request(request, &[], |request| others_match(&matches, request));
            assert_eq!(found, expected, "{matches:?}");
        };
        check(RouteMatch { method: Some(string("=GET")), ..RouteMatch::default() }, true);
        check(RouteMatch { method: Some(string("=get")), ..RouteMatch::default() }, false);
        check(RouteMatch { scheme: Some(string("=https")), ..RouteMatch::default() }, true);
        check(RouteMatch { scheme: Some(string("^http:")), ..RouteMatch::default() }, false);
        check(RouteMatch { authority: Some(string("=a.b:80")), ..RouteMatch::default() }, true);
        check(RouteMatch { authority: Some(string("=a.b")), ..RouteMatch::default() }, false);
        check(RouteMatch { authority: Some(string("~a\\.b(:[0-9]+)?")), ..RouteMatch::default() }, true);
    }

    #[test]
    fn all_conditions_must_hold() {
        let mut matches =
            RouteMatch { method: Some(string("=GET")), scheme: Some(string("=http")), ..RouteMatch::default() };
        assert!(with_request("GET http://a/", &[], |request| others_match(&matches, request)));
        matches.query.push(QueryMatch { name: "k".into(), value: ValueMatch::Present });
        assert!(!with_request("GET http://a/", &[], |request| others_match(&matches, request)));
    }
}
