//! One spelling of a path for policy, route and upstream (RFC 3986 §6.2.2; Istio `pathNormalization: BASE`).
//!
//! Backslashes become slashes, escapes of unreserved characters are decoded, dot segments are removed. Repeated slashes
//! stay. An escaped NUL is refused: it ends strings in too many backends.

use std::borrow::Cow;

/// The path cannot be given one meaning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadPath;

/// The normal form of a path that begins with `/`; borrowed when it is normal already.
pub(crate) fn normalise(path: &[u8]) -> Result<Cow<'_, [u8]>, BadPath> {
    if !needs_work(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    Ok(Cow::Owned(remove_dot_segments(&decoded)))
}

/// Whether there is an escape, a backslash, or a segment that begins with a dot.
fn needs_work(path: &[u8]) -> bool {
    memchr::memchr2(b'%', b'\\', path).is_some() || memchr::memchr_iter(b'.', path).any(|at| path[at - 1] == b'/')
}

fn decode(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        match b {
            b'\\' => out.push(b'/'),
            b'%' => match escape(tail) {
                Some(0) => return Err(BadPath),
                Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                    out.push(byte);
                    rest = &tail[2..];
                }
                _ => out.push(b'%'),
            },
            _ => out.push(b),
        }
    }
    Ok(out)
}

fn escape(tail: &[u8]) -> Option<u8> {
    let hex = |b: u8| char::from(b).to_digit(16);
    Some((hex(*tail.first()?)? * 16 + hex(*tail.get(1)?)?) as u8)
}

/// RFC 3986 §5.2.4 on a path that begins with a slash; `..` at the root stays at the root.
fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path[1..].split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    out.truncate(memchr::memrchr(b'/', &out).unwrap_or(0));
                }
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_has_one_spelling() {
        for (path, want) in [
            ("/", "/"),
            ("/a/b.c", "/a/b.c"),
            ("/a//b", "/a//b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/pub/../admin", "/admin"),
            ("/pub/%2e%2E/admin", "/admin"),
            ("/pub\\..\\admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/../..", "/"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/pub/..%2fadmin", "/pub/..%2fadmin"),
            ("/a%20b%", "/a%20b%"),
            ("/a/...", "/a/..."),
        ] {
            let got = normalise(path.as_bytes()).unwrap();
            assert_eq!(std::str::from_utf8(&got).unwrap(), want, "{path}");
            assert_eq!(normalise(&got).unwrap(), got, "normal form of {path} is stable");
        }
        assert_eq!(normalise(b"/a%00b"), Err(BadPath));
    }
}
