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
