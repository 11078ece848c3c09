//! Opening connections to endpoints.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::choose::Choice;
use crate::failure::Reason;
use crate::h1::stream::Stream;
use crate::keepalive;
use crate::pool::Upstream;
use crate::proxy_protocol::{self, Ends};
use crate::record::HeldGauge;
use crate::worker::{Worker, WorkerCluster};

/// Small writes leave at once; a peer that vanished is noticed. A socket that refuses an option still works.
///
/// The limit on unacknowledged bytes counts for questions that get no answer as well, however many are allowed.
fn set_options(socket: &TcpStream, cluster: Option<&WorkerCluster>) {
    let _ = socket.set_nodelay(true);
    let options = socket2::SockRef::from(socket);
    let asked = cluster.and_then(|cluster| cluster.live.model.pool.keepalive);
    let _ = options.set_tcp_keepalive(&keepalive::options(asked));
    let _ = options.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

/// Longest time that sent bytes may stay without acknowledgement; Linkerd's value.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a connection, from a local address of ours where the upstream is to know us by it.
async fn dial(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(source) = source.filter(|source| reaches(*source, address.ip())) else {
        return TcpStream::connect(address).await;
    };
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(address).await
}

/// Whether a connection from one address to another can be: from loopback there is no way out of the machine.
fn reaches(source: IpAddr, to: IpAddr) -> bool {
    source.is_ipv4() == to.is_ipv4() && (to.is_loopback() || !source.is_loopback())
}

/// Opens a connection to a chosen endpoint; `ends` are those of the client it is for.
pub(crate) async fn connect(
    worker: &Worker,
    choice: &Choice<'_>,
    cluster: Option<&WorkerCluster>,
    ends: Option<&Rc<Ends>>,
) -> Result<Upstream, Reason> {
    let address = choice.state.next_address();
    if worker.shared.is_own_address(address) {
        return Err(Reason::Loop);
    }
    let stats = cluster.map(|c| &c.stats);
    let socket = match tokio::time::timeout(choice.connect_timeout, dial(address, worker.shared.source)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(_)) => {
            if let Some(stats) = stats {
                stats.connect_failures.inc();
            }
            return Err(Reason::ConnectFailure);
        }
        Err(_) => {
            if let Some(stats) = stats {
                stats.connect_timeouts.inc();
                stats.connect_failures.inc();
            }
            return Err(Reason::ConnectTimeout);
        }
    };
    if let Some(stats) = stats {
        stats.connections_total.inc();
    }
    set_options(&socket, cluster);
    let counted = stats.map(|s| HeldGauge::new(&s.connections_active));
    let mut stream = Stream::new(socket, &worker.clock);
    let is_private = proxy_protocol::announce(worker, &mut stream, cluster, ends).await?;
    Ok(Upstream { stream, served: 0, is_private, _counted: counted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_source_is_for_loopback_alone() {
        for (source, to, want) in [
            ("127.0.1.7", "127.0.1.8", true),
            ("127.0.1.7", "192.0.2.1", false),
            ("10.0.0.1", "192.0.2.1", true),
            ("10.0.0.1", "127.0.0.1", true),
            ("127.0.1.7", "::1", false),
        ] {
            assert_eq!(reaches(source.parse().unwrap(), to.parse().unwrap()), want, "{source} to {to}");
        }
    }
}
