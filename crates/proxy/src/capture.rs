//! Connections that were to go somewhere else, and that the system has redirected to the proxy.
//!
//! The system knows where such a connection was to go (`SO_ORIGINAL_DST`). The snapshot says by it which listener serves the
//! connection in place of that of the socket. What is served without a cluster that knows better goes on to where it was to
//! go. A connection that was to go to the socket itself is not redirected: its client knows the proxy.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use outrigger_model::{Capture, Network};
use socket2::{SockAddr, SockRef};
use tokio::net::TcpStream;

use crate::plan::Client;
use crate::worker::Worker;

/// The captures of a snapshot, to be asked for each connection.
#[derive(Debug, Default)]
pub(crate) struct Captures {
    all: Arc<[Capture]>,
    /// The listeners of sockets that take redirected connections.
    sockets: Vec<Arc<str>>,
    /// The first capture of one address and port.
    exact: HashMap<(IpAddr, u16), u32, foldhash::fast::RandomState>,
    /// Those of many addresses or ports, in order.
    wide: Vec<u32>,
}

impl Captures {
    /// Of a snapshot; shared with the one before when they are the same.
    pub(crate) fn compile(all: &Arc<[Capture]>, before: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(before) = before
            && Arc::ptr_eq(&before.all, all)
        {
            return before.clone();
        }
        let mut captures = Self { all: all.clone(), ..Self::default() };
        let mut exact = HashMap::default();
        for (at, capture) in all.iter().enumerate() {
            let at = at as u32;
            if !captures.sockets.contains(&capture.socket) {
                captures.sockets.push(capture.socket.clone());
            }
            // Those of other sockets than the first are few.
            let is_exact = capture.port != 0 && !capture.addresses.is_empty() && capture.addresses.iter().all(is_one);
            if is_exact && capture.socket == captures.sockets[0] {
                for network in &capture.addresses {
                    exact.entry((network.address.to_canonical(), capture.port)).or_insert(at);
                }
            } else {
                captures.wide.push(at);
            }
        }
        captures.exact = exact;
        Arc::new(captures)
    }

    /// Whether a socket takes redirected connections.
    fn is_of(&self, socket: &Arc<str>) -> bool {
        self.sockets.contains(socket)
    }

    /// The listener for a connection that came to a socket and was to go elsewhere.
    fn listener(&self, socket: &Arc<str>, to: SocketAddr) -> Option<&Arc<str>> {
        let is_of_socket = |at: &u32| self.all[*at as usize].socket == *socket;
        let exact = self.exact.get(&(to.ip().to_canonical(), to.port())).copied().filter(is_of_socket);
        let fits = |at: &u32| {
            let Capture { socket: of, addresses, port, .. } = &self.all[*at as usize];
            let is_there = addresses.is_empty() || addresses.iter().any(|network| network.contains(to.ip()));
            *of == *socket && (*port == 0 || *port == to.port()) && is_there
        };
        let wide = self.wide.iter().copied().find(fits);
        let first = exact.into_iter().chain(wide).min()?;
        Some(&self.all[first as usize].listener)
    }
}

/// Whether a network is one address.
fn is_one(network: &Network) -> bool {
    network.prefix == if network.address.is_ipv4() { 32 } else { 128 }
}

/// The listener that serves a connection, and where the connection was to go if that was not the socket. What nobody is to
/// serve stays with the listener of the socket.
pub(crate) fn place(worker: &Worker, socket: &TcpStream, listener: Arc<str>) -> (Arc<str>, Option<SocketAddr>) {
    let current = worker.current();
    let captures = &current.policy.captures;
    if !captures.is_of(&listener) {
        return (listener, None);
    }
    let Some(to) = original(socket) else { return (listener, None) };
    match captures.listener(&listener, to) {
        Some(serving) => (serving.clone(), Some(to)),
        None => (listener, Some(to)),
    }
}

impl Client {
    /// Where its connection was to go, if the system has redirected it to us.
    pub(crate) fn original(&self) -> Option<SocketAddr> {
        self.is_redirected.then_some(self.ends.destination)
    }
}

/// Where a connection was to go, if that was not the socket it came to.
fn original(socket: &TcpStream) -> Option<SocketAddr> {
    let local = canonical(socket.local_addr().ok()?);
    let options = SockRef::from(socket);
    // Without a rule that redirects there may be nobody in the kernel who knows: that is no redirect either.
    let found = if local.is_ipv4() { options.original_dst_v4() } else { options.original_dst_v6() };
    let found = canonical(found.ok().as_ref().and_then(SockAddr::as_socket)?);
    (found != local).then_some(found)
}

/// An address as IPv4 where a socket for both versions shows it as IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SOCKET ADDRESSES PORT LISTENER`, one a line.
    fn captures(text: &str) -> Arc<Captures> {
        let network = |text: &str| {
            let (address, prefix) = text.split_once('/').unwrap();
            Network { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
        };
        let capture = |line: &str| {
            let [socket, addresses, port, listener] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let addresses = addresses.split(',').filter(|text| *text != "any").map(network).collect();
            Capture { socket: socket.into(), addresses, port: port.parse().unwrap(), listener: listener.into() }
        };
        Captures::compile(&text.lines().map(capture).collect(), None)
    }

    #[test]
    fn the_first_capture_that_fits_counts() {
        let captures = captures(
            "outbound 10.0.0.1/32,fd00::1/128 3306 db\n\
             outbound 10.0.0.1/32 3306 late\n\
             outbound 10.0.0.0/8 3306 wide\n\
             outbound any 443 tls\n\
             outbound 10.0.0.9/32 443 later\n\
             outbound any 0 unknown\n\
             inbound any 8080 inbound|8080\n\
             inbound any 0 inbound|unknown",
        );
        for (socket, to, want) in [
            ("outbound", "10.0.0.1:3306", Some("db")),
            ("outbound", "[::ffff:10.0.0.1]:3306", Some("db")),
            ("outbound", "[fd00::1]:3306", Some("db")),
            ("outbound", "10.0.0.2:3306", Some("wide")),
            ("outbound", "10.0.0.9:443", Some("tls")),
            ("outbound", "[fd00::1]:80", Some("unknown")),
            ("inbound", "10.0.0.1:8080", Some("inbound|8080")),
            ("inbound", "10.0.0.1:3306", Some("inbound|unknown")),
            ("forward", "10.0.0.1:3306", None),
        ] {
            let found = captures.listener(&socket.into(), to.parse().unwrap());
            assert_eq!(found.map(|listener| &**listener), want, "{socket} {to}");
        }
        assert!(captures.is_of(&"inbound".into()) && !captures.is_of(&"forward".into()));
    }
}
