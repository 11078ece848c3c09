//! What a port speaks, by Istio's rules: `appProtocol`, then the name's prefix, then well-known numbers, else detection.

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP of any version, gRPC among it, or nothing stated (detected): it is routed.
    Http,
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
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Of a Service port: a name is judged by what stands before its first `-`.
    pub(crate) fn of_service_port(app_protocol: Option<&str>, name: Option<&str>, number: u16) -> Self {
        let stated = match app_protocol {
            Some(app) => by_app_protocol(app),
            None => name.and_then(by_name),
        };
        stated.unwrap_or(if WELL_KNOWN_TCP.contains(&number) { Self::Tcp } else { Self::Http })
    }

    /// Of a ServiceEntry port: by `protocol`, else by name.
    pub(crate) fn of_entry_port(protocol: Option<&str>, name: &str, number: u16) -> Self {
        let stated = match protocol.filter(|p| !p.is_empty()) {
            Some(protocol) => by_word(protocol),
            None => by_name(name),
        };
        stated.unwrap_or(if WELL_KNOWN_TCP.contains(&number) { Self::Tcp } else { Self::Http })
    }
}

/// What a container's port speaks, in the word that stands for it: `http`, `http2`, `grpc`, `grpc-web`, `https`, `tls`,
/// `tcp`, `mongo`, `redis` or `mysql`. HTTP where nothing says otherwise.
pub(crate) fn spoken(app_protocol: Option<&str>, name: Option<&str>, number: u16) -> &'static str {
    let stated = match app_protocol.map(str::to_ascii_lowercase).as_deref() {
        Some("kubernetes.io/h2c") => Some("http2"),
        Some("kubernetes.io/ws") => Some("http"),
        Some("kubernetes.io/wss") => Some("tls"),
        Some(app) => word_of(app),
        None => name.and_then(word_of),
    };
    stated.unwrap_or(if WELL_KNOWN_TCP.contains(&number) { "tcp" } else { "http" })
}

fn word_of(name: &str) -> Option<&'static str> {
    const WORDS: [&str; 9] = ["http", "http2", "grpc", "https", "tls", "tcp", "mongo", "redis", "mysql"];
    let name = name.to_ascii_lowercase();
    if name.starts_with("grpc-web") {
        return Some("grpc-web");
    }
    let word = name.split('-').next().unwrap_or_default();
    WORDS.into_iter().find(|known| *known == word).or_else(|| (word == "http_proxy").then_some("http"))
}

/// SMTP, DNS, MySQL, MongoDB: the server speaks first, or detection would wait in vain.
const WELL_KNOWN_TCP: [u16; 4] = [25, 53, 3306, 27017];

fn by_app_protocol(app: &str) -> Option<Protocol> {
    match app.to_ascii_lowercase().as_str() {
        "kubernetes.io/h2c" | "kubernetes.io/ws" => Some(Protocol::Http),
        "kubernetes.io/wss" => Some(Protocol::Tls),
        _ => by_name(app),
    }
}

fn by_name(name: &str) -> Option<Protocol> {
    if name.len() >= 8 && name.as_bytes()[..8].eq_ignore_ascii_case(b"grpc-web") {
        return Some(Protocol::Http);
    }
    by_word(name.split('-').next().unwrap_or_default())
}

fn by_word(word: &str) -> Option<Protocol> {
    match word.to_ascii_lowercase().as_str() {
        "http" | "http2" | "grpc" | "grpc-web" | "http_proxy" => Some(Protocol::Http),
        "https" | "tls" => Some(Protocol::Tls),
        "tcp" | "mongo" | "redis" | "mysql" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_and_the_protocol_agree() {
        let apps = [None, Some(""), Some("kubernetes.io/h2c"), Some("kubernetes.io/wss"), Some("GRPC"), Some("x")];
        let names =
            [None, Some("http"), Some("grpc-web-x"), Some("redis-a"), Some("https"), Some("metrics"), Some("Tcp")];
        for (app, name) in apps.into_iter().flat_map(|app| names.map(|name| (app, name))) {
            for number in [80, 53] {
                let of_word = by_word(spoken(app, name, number)).unwrap();
                assert_eq!(of_word, Protocol::of_service_port(app, name, number), "{app:?} {name:?} {number}");
            }
        }
        assert_eq!(spoken(Some("kubernetes.io/h2c"), Some("grpc"), 80), "http2");
        assert_eq!(spoken(None, Some("grpc-web-x"), 80), "grpc-web");
        assert_eq!((spoken(None, None, 3306), spoken(None, Some("a"), 9)), ("tcp", "http"));
    }

    #[test]
    fn app_protocol_beats_the_name_and_the_name_beats_the_number() {
        let of = Protocol::of_service_port;
        assert_eq!(of(Some("tcp"), Some("http"), 80), Protocol::Tcp);
        assert_eq!(of(Some("kubernetes.io/h2c"), Some("tcp"), 80), Protocol::Http);
        assert_eq!(of(None, Some("http-mysql"), 3306), Protocol::Http);
        assert_eq!(of(None, Some("httpx"), 3306), Protocol::Tcp);
        assert_eq!(of(None, Some("GRPC-WEB-x"), 25), Protocol::Http);
        assert_eq!(of(None, Some("metrics"), 9090), Protocol::Http);
        assert_eq!(of(None, None, 53), Protocol::Tcp);
        assert_eq!(of(None, Some("https"), 443), Protocol::Tls);
        assert_eq!(Protocol::of_entry_port(Some("MONGO"), "http", 1), Protocol::Tcp);
        assert_eq!(Protocol::of_entry_port(None, "tls-x", 1), Protocol::Tls);
    }
}
