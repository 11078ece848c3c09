//! Listeners: where clients connect, what is terminated there, and the routes behind it.
//!
//! A listener says nothing of addresses: whoever starts a proxy binds sockets and names the listener each one serves.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{Destination, HostPattern, Origin, RouteTable};

/// A listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name, unique in a snapshot: [`Self::OUTBOUND`], `inbound|9080`, `gateway|443`.
    pub name: Arc<str>,
    /// Which way its traffic goes.
    pub direction: Direction,
    /// The port that configuration gives it, whatever the socket's: it decides on domains, redirects and labels.
    pub port: u16,
    /// Who may begin connections with a PROXY protocol header, versions 1 and 2, and then has to; `None`: nobody.
    pub proxy_protocol: Option<Arc<[Network]>>,
    /// What it serves; at least one. A connection goes to the most specific chain whose `server_names` take in its server
    /// name indication; one without (plain text among them) goes to a chain that names none.
    pub chains: Vec<Chain>,
}

impl Listener {
    /// The outbound HTTP listener and forward proxy.
    pub const OUTBOUND: &'static str = "outbound";
    /// The socket that takes what the system redirects on its way in. No listener has this name: what is not redirected, or
    /// no capture is for, is closed.
    pub const INBOUND: &'static str = "inbound";

    /// The outbound HTTP listener with these routes.
    pub fn outbound(routes: Arc<RouteTable>) -> Self {
        let name = Self::OUTBOUND.into();
        Self {
            name,
            direction: Direction::Outbound,
            port: 80,
            proxy_protocol: None,
            chains: vec![Chain::plain(routes)],
        }
    }

    /// The name of the inbound listener of a container's port.
    pub fn inbound_name(port: u16) -> Arc<str> {
        format!("inbound|{port}").into()
    }

    /// The name of a gateway's listener.
    pub fn gateway_name(port: u16) -> Arc<str> {
        format!("gateway|{port}").into()
    }

    /// The name of the listener at an address that relays connections to one service.
    pub fn forward_name(address: SocketAddr) -> Arc<str> {
        format!("forward|{address}").into()
    }

    /// The routes of all its chains.
    pub fn route_tables(&self) -> impl Iterator<Item = &Arc<RouteTable>> {
        self.chains.iter().filter_map(|chain| match &chain.serve {
            Serve::Http(routes) | Serve::Detect { http: routes, .. } => Some(routes),
            Serve::Tcp(_) => None,
        })
    }
}

/// Which way traffic goes, seen from the workload beside the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the workload, or from a client that uses the proxy as its own: `reporter="source"`.
    Outbound,
    /// To a container of the workload: `reporter="destination"`; the peer's address tells the source.
    Inbound(Arc<Inbound>),
    /// From strangers into the mesh: `reporter="source"`, and what they say of themselves is not believed.
    Gateway,
}

/// A container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The container.
    pub container: Arc<str>,
    /// The port's number.
    pub port: u16,
    /// The port's name, perhaps empty.
    pub port_name: Arc<str>,
}

/// What a listener does with some of its connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Server names it is for; empty: those no other chain is for.
    pub server_names: Vec<HostPattern>,
    /// TLS that is terminated. `None`: plain text, or TLS that passes through untouched.
    pub tls: Option<Arc<ServerTls>>,
    /// What it serves.
    pub serve: Serve,
}

impl Chain {
    /// Plain HTTP for everybody.
    pub fn plain(routes: Arc<RouteTable>) -> Self {
        Self { server_names: Vec::new(), tls: None, serve: Serve::Http(routes) }
    }
}

/// What a chain serves.
#[derive(Clone, Debug, PartialEq)]
pub enum Serve {
    /// HTTP by routes.
    Http(Arc<RouteTable>),
    /// Bytes, to one of several destinations by weight.
    Tcp(Arc<TcpRoute>),
    /// One of the two, as the first bytes of a connection say.
    Detect {
        /// For what begins like HTTP.
        http: Arc<RouteTable>,
        /// For everything else, and for clients that wait for the server to speak.
        tcp: Arc<TcpRoute>,
    },
}

/// Addresses with a common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any of them.
    pub address: IpAddr,
    /// Bits that they have in common.
    pub prefix: u8,
}

impl Network {
    /// Whether it takes in an address. An IPv4 address that is written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |a: u128, b: u128, width: u32| {
            let shift = width.saturating_sub(u32::from(self.prefix));
            shift >= 128 || (a >> shift) == (b >> shift)
        };
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => bits(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => bits(a.into(), b.into(), 128),
            _ => false,
        }
    }
}

/// Where the bytes of a connection go.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRoute {
    /// The object it came from.
    pub origin: Option<Arc<Origin>>,
    /// At least one; the weights have a positive sum. Header operations and `authority` have no meaning here.
    pub destinations: Vec<Destination>,
}

/// TLS that a listener terminates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// At least one. The one whose names take in the server name is shown, else the first.
    pub certificates: Vec<Arc<KeyPair>>,
    /// Whether clients show one.
    pub client: ClientCertificate,
    /// Oldest version spoken.
    pub version_min: TlsVersion,
    /// Newest version spoken.
    pub version_max: TlsVersion,
}

/// Whether clients must show a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// They are not asked (`SIMPLE`).
    None,
    /// They are asked, and one that is shown must be of these authorities (`OPTIONAL_MUTUAL`). PEM.
    Optional(Arc<[u8]>),
    /// They must show one of these authorities (`MUTUAL`). PEM.
    Required(Arc<[u8]>),
}

/// A version of TLS; older ones are not spoken (RFC 8996).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}

/// A certificate chain with its private key, as PEM. Its maker has seen that they belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Where it came from, for messages: `Secret shop/web-tls`.
    pub name: Arc<str>,
    /// The leaf, then its issuers.
    pub certificates: Arc<[u8]>,
    /// The key.
    pub private_key: Secret,
}

/// Bytes that no log, dump or message ever shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Around the bytes.
    pub fn new(bytes: Arc<[u8]>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the one who uses them.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_takes_in_what_begins_alike() {
        for (network, prefix, address, want) in [
            ("10.1.0.0", 16, "10.1.255.3", true),
            ("10.1.0.0", 16, "10.2.0.0", false),
            ("10.1.0.0", 16, "::ffff:10.1.2.3", true),
            ("0.0.0.0", 0, "192.0.2.1", true),
            ("0.0.0.0", 0, "::1", false),
            ("::", 0, "2001:db8::1", true),
            ("2001:db8::", 32, "2001:db9::", false),
            ("127.0.0.1", 32, "127.0.0.2", false),
        ] {
            let network = Network { address: network.parse().unwrap(), prefix };
            assert_eq!(network.contains(address.parse().unwrap()), want, "{network:?} {address}");
        }
    }

    #[test]
    fn a_secret_shows_itself_to_nobody() {
        let key = Secret::new(b"key".as_slice().into());
        let pair = KeyPair { name: "Secret a/b".into(), certificates: b"leaf".as_slice().into(), private_key: key };
        let shown = format!("{pair:?}");
        assert!(shown.contains("Secret a/b") && !shown.contains("107"), "{shown}");
    }
}
