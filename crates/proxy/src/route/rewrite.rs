//! The path and query a request is sent on with (Istio `rewrite`, Envoy `prefix_rewrite`, `regex_rewrite`).
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
        PathRewrite::Prefix(new) => write_path(out, &[new.as_bytes(), after_prefix(matches, request.path)]),
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

/// What of `path` lies behind the prefix that matched; nothing when something else than a prefix matched.
///
/// No condition counts as the prefix `/`, which is what Istio makes of it.
pub(super) fn after_prefix<'a>(matches: &RouteMatch, path: &'a [u8]) -> &'a [u8] {
    let length = match &matches.path {
        PathMatch::Any => 1,
        PathMatch::Prefix(prefix) => prefix.len(),
        PathMatch::Exact(_) | PathMatch::Regex(_) => path.len(),
    };
    path.get(length..).unwrap_or_default()
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
