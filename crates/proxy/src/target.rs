//! The parts of what a request asks for: host, pod, path, query.

use std::borrow::Cow;

use crate::h1::head::split_port;
use crate::h1::path;

/// Longest host name that is looked up: DNS allows no longer one.
pub(crate) const HOST_BYTES_MAX: usize = 255 + 6;

/// A host in lower case, unless it is too long to be one.
pub(crate) fn lower_case<'b>(text: &str, room: &'b mut [u8; HOST_BYTES_MAX]) -> Option<&'b str> {
    let room = room.get_mut(..text.len())?;
    room.copy_from_slice(text.as_bytes());
    room.make_ascii_lowercase();
    std::str::from_utf8(room).ok()
}

/// Path and query of a target; an empty path is that of the root.
pub(crate) fn split_target(target: &str) -> (&[u8], Option<&[u8]>) {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (target, None),
    };
    (if path.is_empty() { b"/" } else { path.as_bytes() }, query)
}

/// The path as routes and endpoints see it.
pub(crate) fn normal_path(path: &[u8]) -> Result<Cow<'_, [u8]>, path::BadPath> {
    if path == b"*" { Ok(Cow::Borrowed(path)) } else { path::normalise(path) }
}

/// The pod that a host names: its first label.
pub(crate) fn pod_of(authority: &str) -> String {
    authority.split('.').next().unwrap_or(authority).to_ascii_lowercase()
}

/// The host of an authority, without port and brackets.
pub(crate) fn host_of(authority: &str) -> String {
    let (host, _) = split_port(authority).unwrap_or((authority, None));
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}
