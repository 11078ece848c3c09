//! The loopback addresses of simulated pods and of gateways: a block for this process alone, and sockets on them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use outrigger_config::codes;
use outrigger_model::{Cluster, Diagnostic, ObjectRef, Snapshot};

/// A block of the loopback range, `127.N.0.0/16`, taken while this lives.
#[derive(Debug)]
pub(super) struct Block {
    /// N.
    pub(super) number: u8,
    _lock: UdpSocket,
}

impl Block {
    /// Takes the first block that no other process has.
    ///
    /// The lock is a socket, because sockets go with their process however it ends; one of UDP, because a TCP listener on
    /// all addresses would be in its way.
    pub(super) fn take() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for number in 0..=254 {
            match UdpSocket::bind((Ipv4Addr::new(127, number, 255, 254), LOCK_PORT)) {
                Ok(lock) => return Ok(Self { number, _lock: lock }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The port of the lock, that of the admin interface: nobody else looks for something there.
const LOCK_PORT: u16 = 15000;

/// A socket, and why it is not where it should be.
pub(super) struct Bound {
    /// Accepts already: connections wait until somebody takes them.
    pub(super) socket: TcpListener,
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Why the port that was asked for could not be had.
    pub(super) moved: Option<io::Error>,
}

/// Listens at an address, on a free port where that one cannot be had.
pub(super) fn bind(ip: Ipv4Addr, port: u16) -> io::Result<Bound> {
    let (socket, moved) = match TcpListener::bind((ip, port)) {
        Ok(socket) => (socket, None),
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse) => {
            (TcpListener::bind((ip, 0))?, Some(error))
        }
        Err(error) => return Err(error),
    };
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok(Bound { socket, address, moved })
}

/// Says that a port is not where it should be.
pub(super) fn moved(object: ObjectRef, wanted: SocketAddr, now: SocketAddr, why: &io::Error) -> Diagnostic {
    let (reason, hint) = match why.kind() {
        io::ErrorKind::PermissionDenied => (
            "this user may not bind privileged ports",
            "`sudo sysctl net.ipv4.ip_unprivileged_port_start=0` allows it for everybody on this machine",
        ),
        _ => (
            "another program listens there, perhaps on all addresses",
            "`ss -ltnp` shows which program; stop it, or use the free port",
        ),
    };
    let message = format!("{wanted} cannot be had: {reason}; {now} stands in for it");
    Diagnostic { object: Some(object), ..codes::PORT_MOVED.bare(message, hint) }
}

/// Where endpoints are that could not be had where the configuration says: the other place, or none.
pub(super) type Moved = HashMap<SocketAddr, Option<SocketAddr>>;

/// The snapshot with its endpoints where they are.
pub(super) fn relocate(snapshot: Snapshot, moved: &Moved) -> Snapshot {
    if moved.is_empty() {
        return snapshot;
    }
    let is_touched = |cluster: &Cluster| cluster.endpoints.iter().any(|e| moved.contains_key(&e.address));
    let mut snapshot = snapshot;
    for cluster in snapshot.clusters.values_mut().filter(|cluster| is_touched(cluster)) {
        let mut copy = Cluster::clone(cluster);
        copy.endpoints.retain_mut(|endpoint| match moved.get(&endpoint.address) {
            Some(Some(address)) => {
                Arc::make_mut(endpoint).address = *address;
                true
            }
            Some(None) => false,
            None => true,
        });
        *cluster = Arc::new(copy);
    }
    snapshot
}

/// A pod as findings name it.
pub(super) fn object(kind: &str, namespace: &Arc<str>, name: &Arc<str>) -> ObjectRef {
    ObjectRef { kind: kind.into(), namespace: namespace.clone(), name: name.clone() }
}

/// A finding that a pod or gateway could not be started.
pub(super) fn not_started(object: ObjectRef, ip: Ipv4Addr, why: &io::Error) -> Diagnostic {
    let hint = match why.raw_os_error() {
        // EMFILE and ENFILE.
        Some(23 | 24) => "there are no file descriptors left: raise the limit (`ulimit -n`), or simulate fewer pods",
        _ => "",
    };
    Diagnostic { object: Some(object), ..codes::NOT_STARTED.bare(format!("cannot listen on {ip}: {why}"), hint) }
}

/// The address with another port.
pub(super) fn at(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(ip), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_are_never_the_same() {
        let (one, two) = (Block::take().expect("free"), Block::take().expect("free"));
        assert_ne!(one.number, two.number);
    }

    #[test]
    fn a_port_that_is_taken_becomes_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("free").local_addr().expect("bound");
        let everywhere = TcpListener::bind(("0.0.0.0", taken.port()));
        let everywhere = everywhere.expect("free again");
        let port = everywhere.local_addr().expect("bound").port();
        let ip = Ipv4Addr::new(127, 0, 0, 77);
        let bound = bind(ip, port).expect("another is free");
        let why = bound.moved.expect("it is taken");
        assert!(bound.address.ip() == ip && bound.address.port() != port);
        let said = moved(object("Pod", &"shop".into(), &"cart-0".into()), at(ip, port), bound.address, &why);
        assert!(said.message.contains("another program listens there"), "{said}");
    }
}
