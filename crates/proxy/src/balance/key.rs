//! What of a request decides its endpoint under a consistent hash, hashed as Envoy hashes it (xxHash64, seed 0).

use std::io::Write as _;
use std::net::IpAddr;

use outrigger_model::{CookieKey, HashKey};
use xxhash_rust::xxh64::xxh64;

use crate::request::RequestView;
use crate::route::query;

/// The key of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The request has one.
    Hash(u64),
    /// The request lacks the cookie, and gets one with the response, so that it will come back to the same endpoint.
    Issue {
        /// Hash of the new cookie.
        hash: u64,
        /// Value of the `Set-Cookie` field to add.
        set_cookie: Vec<u8>,
    },
    /// The request lacks what is hashed: any endpoint will do.
    None,
}

/// The key of a request.
///
/// `connection` is a number drawn at random when the connection was opened. New cookies are made of it, so that
/// requests that race on one connection get the same. Envoy takes the addresses of both ends, which would do the same
/// but tells clients what they are.
pub(crate) fn hash_key(key: &HashKey, request: &RequestView<'_>, connection: u64) -> Key {
    let hash = match key {
        HashKey::Header(name) => header(request, name.as_str()),
        HashKey::SourceIp => Some(address(request.peer.to_canonical())),
        HashKey::Query(name) => query::parameter(request.query, name).map(|value| xxh64(&value, 0)),
        HashKey::Cookie(cookie) => match cookie_value(request, cookie.name.as_bytes()) {
            Some(value) => Some(xxh64(value, 0)),
            None if cookie.ttl.is_some() => return issue(cookie, connection),
            None => None,
        },
    };
    hash.map_or(Key::None, Key::Hash)
}

/// The hash of an address as text.
fn address(address: IpAddr) -> u64 {
    let mut text = [0; "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".len()];
    let mut free = &mut text[..];
    write!(free, "{address}").expect("no address is longer");
    let free = free.len();
    xxh64(&text[..text.len() - free], 0)
}

/// Several fields of a name are hashed in sorted order, so that their order does not matter.
fn header(request: &RequestView<'_>, name: &str) -> Option<u64> {
    let mut fields = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let (first, second) = (fields.next()?, fields.next());
    let Some(second) = second else { return Some(xxh64(first.value, 0)) };
    let mut values: Vec<&[u8]> = [first, second].into_iter().chain(fields).map(|field| field.value).collect();
    values.sort_unstable();
    Some(chained(&values))
}

/// The hash of several texts: each is the seed of the next.
fn chained(texts: &[&[u8]]) -> u64 {
    texts.iter().fold(0, |seed, text| xxh64(text, seed))
}

/// The value of the first cookie of this name that is not empty, without its quotes (RFC 6265 §4.1.1).
fn cookie_value<'a>(request: &RequestView<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let fields = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("cookie"));
    let mut pairs = fields.flat_map(|field| field.value.split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = memchr::memchr(b'=', pair)?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        let value = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
        (key == name && !value.is_empty()).then_some(value)
    })
}

fn issue(cookie: &CookieKey, connection: u64) -> Key {
    let value = format!("{:016x}", xxh64(&connection.to_le_bytes(), 0));
    let mut set_cookie = format!("{}=\"{value}\"", cookie.name);
    // A lifetime of zero is the browser's session.
    if let Some(seconds) = cookie.ttl.map(|ttl| ttl.as_secs()).filter(|seconds| *seconds > 0) {
        set_cookie.push_str(&format!("; Max-Age={seconds}"));
    }
    if !cookie.path.is_empty() {
        set_cookie.push_str(&format!("; Path={}", cookie.path));
    }
    for (name, value) in &cookie.attributes {
        set_cookie.push_str("; ");
        set_cookie.push_str(name);
        if !value.is_empty() {
            set_cookie.push('=');
            set_cookie.push_str(value);
        }
    }
    set_cookie.push_str("; HttpOnly");
    Key::Issue { hash: xxh64(value.as_bytes(), 0), set_cookie: set_cookie.into_bytes() }
}

#[cfg(test)]
mod tests;
