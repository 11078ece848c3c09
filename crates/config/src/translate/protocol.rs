//! What a port speaks, by Istio's rules: `appProtocol`, then the name's prefix, then well-known numbers, else detection.

use outrigger_model::UpstreamHttp;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, gRPC among it, and gRPC-Web, which Istio counts as HTTP/2.
    Http2,
    /// Nobody says: the first bytes of a connection do. It is routed, as far as they are HTTP.
    Undetermined,
    /// TLS that is not ended here.
    Tls,
    /// Opaque bytes.
    Tcp,
    /// Datagrams: not proxied at all.
    Udp,
}

impl Protocol {
    /// For messages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP/2",
            Self::Undetermined => "what its clients speak",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Whether requests for it are routed.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Undetermined)
    }

    /// What is spoken to its endpoints, if nothing but the port decides.
    pub(crate) fn upstream(self) -> UpstreamHttp {
        match self {
            Self::Http2 => UpstreamHttp::Http2,
            Self::Undetermined => UpstreamHttp::AsClient,
            Self::Http | Self::Tls | Self::Tcp | Self::Udp => UpstreamHttp::Http1,
        }
    }

    /// Of a Service port: a name is judged by what stands before its first `-`.
    pub(crate) fn of_service_port(app_protocol: Option<&str>, name: Option<&str>, number: u16) -> Self {
        Self::of_word(service_word(app_protocol, name), number)
    }

    /// Of a ServiceEntry port: by `protocol`, else by name.
    pub(crate) fn of_entry_port(protocol: Option<&str>, name: &str, number: u16) -> Self {
        Self::of_word(entry_word(protocol, name), number)
    }

    fn of_word(word: Option<&'static str>, number: u16) -> Self {
        match word {
            Some("http") => Self::Http,
            Some("http2" | "grpc" | "grpc-web") => Self::Http2,
            Some("https" | "tls") => Self::Tls,
            Some("udp") => Self::Udp,
            Some(_) => Self::Tcp,
            None if WELL_KNOWN_TCP.contains(&number) => Self::Tcp,
            None => Self::Undetermined,
        }
    }
}

/// What a container's port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// The word that stands for it: `http`, `http2`, `grpc`, `grpc-web`, `https`, `tls`, `tcp`, `mongo`, `redis`, `mysql`
    /// or `udp`. `http` where nothing says otherwise.
    pub(crate) word: &'static str,
    /// The same, as it is treated.
    pub(crate) protocol: Protocol,
}

impl Spoken {
    /// Of a Service port.
    pub(crate) fn of_service_port(app_protocol: Option<&str>, name: Option<&str>, number: u16) -> Self {
        Self::of_word(service_word(app_protocol, name), number)
    }

    /// Of a ServiceEntry port.
    pub(crate) fn of_entry_port(protocol: Option<&str>, name: &str, number: u16) -> Self {
        Self::of_word(entry_word(protocol, name), number)
    }

    fn of_word(word: Option<&'static str>, number: u16) -> Self {
        let protocol = Protocol::of_word(word, number);
        let unstated = if protocol == Protocol::Tcp { "tcp" } else { "http" };
        Self { word: word.unwrap_or(unstated), protocol }
    }
}

/// SMTP, DNS, MySQL, MongoDB: the server speaks first, or detection would wait in vain.
const WELL_KNOWN_TCP: [u16; 4] = [25, 53, 3306, 27017];

/// What a Service port states.
fn service_word(app_protocol: Option<&str>, name: Option<&str>) -> Option<&'static str> {
    match app_protocol.map(str::to_ascii_lowercase).as_deref() {
        Some("kubernetes.io/h2c") => Some("http2"),
        Some("kubernetes.io/ws") => Some("http"),
        Some("kubernetes.io/wss") => Some("tls"),
        Some(app) => named_word(app),
        None => name.and_then(named_word),
    }
}

/// What a ServiceEntry port states.
fn entry_word(protocol: Option<&str>, name: &str) -> Option<&'static str> {
    match protocol.filter(|p| !p.is_empty()) {
        Some(protocol) => known_word(protocol),
        None => named_word(name),
    }
}

/// What a name states by what stands before its first `-`.
fn named_word(name: &str) -> Option<&'static str> {
    if name.len() >= 8 && name.as_bytes()[..8].eq_ignore_ascii_case(b"grpc-web") {
        return Some("grpc-web");
    }
    known_word(name.split('-').next().unwrap_or_default())
}

fn known_word(word: &str) -> Option<&'static str> {
    const WORDS: [&str; 11] =
        ["http", "http2", "grpc", "grpc-web", "https", "tls", "tcp", "mongo", "redis", "mysql", "udp"];
    let word = word.to_ascii_lowercase();
    WORDS.into_iter().find(|known| *known == word).or_else(|| (word == "http_proxy").then_some("http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_a_word_is_told_from_one_that_says_http() {
        let of = |app, name, number| {
            let spoken = Spoken::of_service_port(app, name, number);
            assert_eq!(spoken.protocol, Protocol::of_service_port(app, name, number));
            (spoken.word, spoken.protocol.upstream())
        };
        assert_eq!(of(Some("kubernetes.io/h2c"), Some("grpc"), 80), ("http2", UpstreamHttp::Http2));
        assert_eq!(of(None, Some("grpc-web-x"), 80), ("grpc-web", UpstreamHttp::Http2));
        assert_eq!(of(None, Some("http"), 80), ("http", UpstreamHttp::Http1));
        assert_eq!(of(None, Some("a"), 9), ("http", UpstreamHttp::AsClient));
        assert_eq!(of(Some("own.example.com/x"), Some("http"), 9), ("http", UpstreamHttp::AsClient));
        assert_eq!(of(None, None, 3306), ("tcp", UpstreamHttp::Http1));
        assert_eq!(Spoken::of_entry_port(Some("UDP"), "http", 1).word, "udp");
        assert_eq!(Spoken::of_entry_port(Some("FOO"), "http", 1).protocol, Protocol::Undetermined);
    }

    #[test]
    fn app_protocol_beats_the_name_and_the_name_beats_the_number() {
        let of = Protocol::of_service_port;
        assert_eq!(of(Some("tcp"), Some("http"), 80), Protocol::Tcp);
        assert_eq!(of(Some("kubernetes.io/h2c"), Some("tcp"), 80), Protocol::Http2);
        assert_eq!(of(Some("kubernetes.io/ws"), Some("grpc"), 80), Protocol::Http);
        assert_eq!(of(None, Some("http-mysql"), 3306), Protocol::Http);
        assert_eq!(of(None, Some("httpx"), 3306), Protocol::Tcp);
        assert_eq!(of(None, Some("GRPC-WEB-x"), 25), Protocol::Http2);
        assert_eq!(of(None, Some("metrics"), 9090), Protocol::Undetermined);
        assert_eq!(of(None, None, 53), Protocol::Tcp);
        assert_eq!(of(None, Some("https"), 443), Protocol::Tls);
        assert_eq!(Protocol::of_entry_port(Some("MONGO"), "http", 1), Protocol::Tcp);
        assert_eq!(Protocol::of_entry_port(None, "tls-x", 1), Protocol::Tls);
        assert_eq!(Protocol::of_entry_port(Some(""), "grpc", 1), Protocol::Http2);
    }
}
