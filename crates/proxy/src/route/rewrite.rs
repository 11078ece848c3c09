//! The path and query a request is sent on with (Istio `rewrite`, Envoy `prefix_rewrite`, `regex_rewrite`; Gateway API
//! `HTTPPathModifier`).
//!
//! What configuration or a capture brings in is percent-encoded where it could end a line, a request target or a path,
//! so that no rewrite can inject anything. Escapes that are there already stay as they are: they are never decoded.

use outrigger_model::{PathMatch, PathRewrite, RouteMatch};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::request::RequestView;

/// A rewritten target grew beyond [`TARGET_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TargetTooLong;

/// Longest request target a rewrite may make, in bytes: what fits the limit on a whole head. A regular expression that
/// multiplies its captures could otherwise turn one long path into megabytes.
pub(crate) const TARGET_BYTES_MAX: usize = 60 * 1024;

/// Appends the new path and the query to `out`, or leaves `out` alone and says `false` when nothing changes.
pub(crate) fn write_target(
    out: &mut Vec<u8>,
    matches: &RouteMatch,
    rewrite: &PathRewrite,
    request: &RequestView<'_>,
) -> Result<bool, TargetTooLong> {
    // `OPTIONS *` names no path.
    if *rewrite == PathRewrite::Keep || request.path == b"*" {
        return Ok(false);
    }
    let start = out.len();
    match rewrite {
        PathRewrite::Keep => {}
        PathRewrite::Full(path) => write_path(out, &[path.as_bytes()]),
        PathRewrite::Prefix(new) => write_path(out, &with_prefix(matches, new, request.path)),
        PathRewrite::Regex { pattern, substitution } => {
            write_path(out, &[&pattern.replace_all(request.path, substitution)]);
        }
    }
    write_query(out, start, request.query);
    if out.len() - start > TARGET_BYTES_MAX {
        out.truncate(start);
        return Err(TargetTooLong);
    }
    Ok(true)
}

/// `path` with `new` in place of the prefix that matched; `new` alone when something else than a prefix matched.
///
/// Istio replaces characters. Gateway API replaces segments: the slash between what is new and what stays is there once,
/// whether or not `new` ends with one. No condition counts as the prefix `/`, which is what Istio makes of it.
pub(super) fn with_prefix<'a>(matches: &RouteMatch, new: &'a str, path: &'a [u8]) -> [&'a [u8]; 2] {
    let (new, length) = match &matches.path {
        PathMatch::Any => (new, 1),
        PathMatch::Prefix(prefix) => (new, prefix.len()),
        PathMatch::Segments(prefix) => (new.trim_end_matches('/'), prefix.len()),
        PathMatch::Exact(_) | PathMatch::Regex(_) => (new, path.len()),
    };
    [new.as_bytes(), path.get(length..).unwrap_or_default()]
}

/// Appends the parts as one encoded path that begins with a slash.
pub(super) fn write_path(out: &mut Vec<u8>, parts: &[&[u8]]) {
    if parts.iter().find_map(|part| part.first()) != Some(&b'/') {
        out.push(b'/');
    }
    for part in parts {
        write_encoded(out, part);
    }
}

/// Appends the request's query; a path that has brought its own keeps both.
fn write_query(out: &mut Vec<u8>, start: usize, query: Option<&[u8]>) {
    if let Some(query) = query {
        out.push(if out[start..].contains(&b'?') { b'&' } else { b'?' });
        write_encoded(out, query);
    }
}

pub(super) fn write_encoded(out: &mut Vec<u8>, text: &[u8]) {
    for piece in percent_encode(text, UNSAFE) {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// What may not stand raw in a request target: controls, what ends it, what begins a fragment, and (always encoded by
/// the crate) everything beyond ASCII. The rest is left as the client or the configuration wrote it.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'#');

#[cfg(test)]
mod tests {
    use super::super::testing::{pattern, with_request};
    use super::*;
    use proptest::prelude::*;

    fn rewritten(matches: &RouteMatch, rewrite: &PathRewrite, target: &str) -> Result<Option<String>, TargetTooLong> {
        let mut out = b"GET ".to_vec();
        let done = with_request(&format!("GET http://a{target}"), &[], |request| {
            write_target(&mut out, matches, rewrite, request)
        })?;
        let text = String::from_utf8(out).unwrap();
        let target = text.strip_prefix("GET ").expect("what stood there stays");
        assert!(done || target.is_empty());
        Ok(done.then(|| target.to_owned()))
    }

    /// `matched` is `^prefix`, `/segments`, either with `!` behind without case, `=exact` or `*`; `rewrite` is `=whole`, `^prefix` or
    /// `~pattern substitution`.
    #[track_caller]
    fn check(matched: &str, rewrite: &str, target: &str, expected: &str) {
        let text = matched.trim_end_matches('!');
        let path = match text.split_at(1) {
            ("^", text) => PathMatch::Prefix(text.into()),
            ("=", text) => PathMatch::Exact(text.into()),
            ("/", _) => PathMatch::Segments(text.trim_end_matches('/').into()),
            _ => PathMatch::Any,
        };
        let matches = RouteMatch { path, path_ignore_case: text != matched, ..RouteMatch::default() };
        let rewrite = match rewrite.split_at(1) {
            ("=", text) => PathRewrite::Full(text.into()),
            ("^", text) => PathRewrite::Prefix(text.into()),
            (_, text) => {
                let (source, substitution) = text.split_once(' ').unwrap();
                PathRewrite::Regex { pattern: pattern(source), substitution: substitution.into() }
            }
        };
        assert_eq!(rewritten(&matches, &rewrite, target), Ok(Some(expected.to_owned())), "{matched} {rewrite:?}");
    }

    #[test]
    fn a_prefix_is_replaced_as_text() {
        check("^/foo", "^/bar", "/foo/x?q=1", "/bar/x?q=1");
        check("^/foo", "^/bar", "/foobar", "/barbar");
        check("^/foo/", "^/", "/foo/x", "/x");
        check("^/foo", "^/", "/foo/x", "//x");
        check("^/foo", "^", "/foo/x", "/x");
        check("^/foo", "^", "/foo", "/");
        check("^/foo", "^bar", "/foo/x", "/bar/x");
        check("^/foo!", "^/bar", "/FOO/X", "/bar/X");
        check("^/", "^/api/", "/x", "/api/x");
        check("*", "^/api/", "/x", "/api/x");
        check("=/foo", "^/bar", "/foo?q", "/bar?q");
    }

    /// The table of Gateway API's `replacePrefixMatch`, and what it leaves to its sense.
    #[test]
    fn a_prefix_of_segments_is_replaced_as_segments() {
        for (target, matched, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo", "/foo", "/xyz/", "/xyz"),
            ("/foo/", "/foo", "/xyz/", "/xyz/"),
            ("/foo?q=/1", "/foo", "/", "/?q=/1"),
            ("/FOO/Bar", "/foo!", "/xyz", "/xyz/Bar"),
            ("/foo", "/", "/xyz", "/xyz/foo"),
            ("/foo", "/", "/xyz/", "/xyz/foo"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/foo", "/", "/", "/foo"),
            ("/", "/", "", "/"),
            ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
            ("/prefix/one/two", "/prefix/one", "/one", "/one/two"),
            ("/strip-prefix/three", "/strip-prefix", "/", "/three"),
            ("/strip-prefix", "/strip-prefix", "/", "/"),
        ] {
            check(matched, &format!("^{new}"), target, expected);
        }
    }

    #[test]
    fn a_whole_path_is_replaced_and_the_query_stays() {
        check("*", "=/new", "/old/path?q=1", "/new?q=1");
        check("*", "=new", "/old", "/new");
        check("*", "=/new?v=2", "/old?q=1", "/new?v=2&q=1");
        check("*", "=/new?v=2", "/old", "/new?v=2");
        check("*", "=/new", "/old?", "/new?");
    }

    #[test]
    fn every_match_of_a_pattern_is_replaced() {
        check("*", r"~^/v1/([^/]+)/(.*)$ /\1/v2/\2", "/v1/cart/items?a=b", "/cart/v2/items?a=b");
        check("*", "~a b", "/aXa", "/bXb");
        check("*", "~/x /y", "/nothing", "/nothing");
        check("*", "~^/.* gone", "/old", "/gone");
    }

    #[test]
    fn nothing_that_ends_a_line_or_a_target_gets_out() {
        check("^/a", "^/b\r\nX-Injected: 1", "/a/c", "/b%0D%0AX-Injected:%201/c");
        check("*", "=/a b#c\u{e9}\0\u{7f}", "/", "/a%20b%23c%C3%A9%00%7F");
        check("*", "~^/(.*)$ /q/\\1\n", "/x%0d%0ay", "/q/x%0d%0ay%0A");
        check("^/a", "^/100%", "/a", "/100%");
    }

    #[test]
    fn without_a_rewrite_nothing_is_written() {
        assert_eq!(rewritten(&RouteMatch::default(), &PathRewrite::Keep, "/a?b"), Ok(None));
        assert_eq!(rewritten(&RouteMatch::default(), &PathRewrite::Full("/x".into()), ""), Ok(None), "OPTIONS *");
    }

    #[test]
    fn a_rewrite_that_blows_up_is_refused() {
        let rewrite = PathRewrite::Regex { pattern: pattern("^.*$"), substitution: "\\0".repeat(70).into() };
        let target = format!("/{}", "x".repeat(999));
        assert_eq!(rewritten(&RouteMatch::default(), &rewrite, &target), Err(TargetTooLong));
        let target = format!("/{}", "x".repeat(99));
        assert_eq!(rewritten(&RouteMatch::default(), &rewrite, &target).map(|t| t.unwrap().len()), Ok(7_000));
    }

    fn segments(path: &str) -> Vec<&str> {
        path.split('/').filter(|segment| !segment.is_empty()).collect()
    }

    proptest! {
        /// Whatever slashes there are: the segments are those of the replacement, then those that did not match.
        #[test]
        fn segments_in_place_of_segments(
            prefix in "(/[ab]{1,2}){0,3}", rest in "(/[abc]{0,2}){0,3}", new in "(/[xy]{1,2}){0,3}/?",
        ) {
            let target = format!("{prefix}{rest}");
            prop_assume!(!target.is_empty());
            let matches = RouteMatch { path: PathMatch::Segments(prefix.as_str().into()), ..RouteMatch::default() };
            let replaced = |new: &str| {
                rewritten(&matches, &PathRewrite::Prefix(new.into()), &target).unwrap().expect("a rewrite")
            };
            let out = replaced(&new);
            let expected: Vec<&str> = segments(&new).into_iter().chain(segments(&rest)).collect();
            prop_assert_eq!(segments(&out), expected, "{} for {} of {}", new, prefix, target);
            prop_assert!(out.contains("//") == rest.contains("//"), "{} has a slash too many or too few", out);
            prop_assert_eq!(replaced(&prefix), target, "a prefix replaced by itself changes nothing");
        }

        #[test]
        fn any_rewrite_gives_one_visible_word_that_begins_with_a_slash(
            prefix in "\\PC*", new in any::<String>(), path in "/[ -~&&[^?# ]]*", query in prop::option::of("[!-~]*"),
            whole in any::<bool>(),
        ) {
            let matches = RouteMatch { path: PathMatch::Prefix(prefix.into()), ..RouteMatch::default() };
            let rewrite = if whole { PathRewrite::Full(new.into()) } else { PathRewrite::Prefix(new.into()) };
            let target = query.map_or(path.clone(), |query| format!("{path}?{query}"));
            if let Ok(Some(out)) = rewritten(&matches, &rewrite, &target) {
                prop_assert!(out.starts_with('/') && out.bytes().all(|byte| byte.is_ascii_graphic()), "{}", out);
            }
        }
    }
}
