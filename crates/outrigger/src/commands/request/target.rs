//! What the user typed, made into parts of a request; whatever would make another request of it is refused.

use std::net::IpAddr;

use anyhow::{Context, bail};

/// A URL of the mesh.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host, with its port if one was given.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    /// Reads `http://HOST[:PORT][/PATH][?QUERY]`.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => bail!("{url}: scheme {scheme} is not supported; expected http://HOST[:PORT]/PATH"),
            None => bail!("{url}: expected http://HOST[:PORT]/PATH"),
        };
        if let Some(bad) = rest.chars().find(|c| !c.is_ascii_graphic()) {
            bail!("{url}: {bad:?} must be percent-encoded");
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = host_and_port(authority);
        if host.is_empty() || host.contains(['@', ',', '\\']) {
            bail!("{url}: expected a host after http://, without user name");
        }
        if let Some(port) = port {
            port.parse::<u16>().ok().filter(|port| *port > 0).with_context(|| format!("{url}: {port:?} is no port"))?;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { authority: authority.to_owned(), path: format!("{slash}{path}") })
    }

    /// The host, where it is an address.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host_and_port().0.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The port, where one was given.
    pub(super) fn port(&self) -> Option<u16> {
        self.host_and_port().1?.parse().ok()
    }

    fn host_and_port(&self) -> (&str, Option<&str>) {
        host_and_port(&self.authority)
    }
}

/// Cuts the port off; an address of version 6 keeps its brackets.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Reads `K: V`; the name comes back in lower case.
pub(super) fn parse_field(line: &str) -> anyhow::Result<(String, &str)> {
    let (name, value) = line.split_once(':').with_context(|| format!("-H {line:?}: expected 'name: value'"))?;
    if !is_token(name) {
        bail!("-H {line:?}: {name:?} is not a field name");
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        bail!("-H {line:?}: a field value has no control characters");
    }
    let name = name.to_ascii_lowercase();
    if ["content-length", "transfer-encoding", "connection", "upgrade", "expect"].contains(&name.as_str()) {
        bail!("-H {line:?}: {name} frames the request and is set by outrigger request itself");
    }
    Ok((name, value.trim()))
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parsed = |url: &str| Target::parse(url).map(|t| (t.authority, t.path)).map_err(|error| error.to_string());
        let is = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(parsed("http://reviews.default:9080/a?b#c"), is("reviews.default:9080", "/a?b"));
        assert_eq!(parsed("HTTP://reviews"), is("reviews", "/"));
        assert_eq!(parsed("http://reviews?q"), is("reviews", "/?q"));
        assert_eq!(parsed("http://[::1]:80/"), is("[::1]:80", "/"));
        assert_eq!(parsed("http://[::1]/"), is("[::1]", "/"));
        for bad in
            ["reviews", "https://a/", "http://", "http:///a", "http://u@a/", "http://a:0/", "http://a:x/", "http://a/ö"]
        {
            assert!(parsed(bad).expect_err(bad).contains(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        let parts = |url: &str| Target::parse(url).map(|t| (t.ip(), t.port())).expect("legal");
        assert_eq!(parts("http://127.0.2.1/a"), (Some([127, 0, 2, 1].into()), None));
        assert_eq!(parts("http://[::1]:81/"), ("::1".parse().ok(), Some(81)));
        assert_eq!(parts("http://reviews:9080"), (None, Some(9080)));
    }

    #[test]
    fn fields() {
        assert_eq!(parse_field("X-A:  b: c ").expect("legal"), ("x-a".to_owned(), "b: c"));
        for bad in ["x", "a b: c", ": c", "x: a\r\nb: c", "Content-Length: 3", "transfer-encoding: chunked"] {
            assert!(parse_field(bad).is_err(), "{bad}");
        }
    }
}
