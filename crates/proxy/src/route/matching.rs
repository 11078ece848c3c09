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
        PathMatch::Regex(pattern) => pattern.matches(path),
    }
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
