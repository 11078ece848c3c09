//! The sockets of a workload's sidecar for connections that the system redirects to it.
//!
//! `iptables -j REDIRECT` sends what leaves the pod to the port of the outbound listener on loopback, of the version of IP that
//! the connection has; what arrives, to the inbound port at the address where it came in. Neither is served unless it was
//! redirected, but for the outbound listener, which is a forward proxy as well.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use anyhow::Context;
use outrigger_model::Listener;

use crate::cli::any_address;
use crate::commands::run::RunArgs;

/// Istio's port for redirected connections that come in.
const INBOUND: u16 = 15006;

/// Whether connections may be redirected to this process: it is a workload's sidecar, and the workload is not simulated.
pub(super) fn is_wanted(args: &RunArgs) -> bool {
    args.workload.is_some() && !args.simulate
}

/// Binds them, each with the name of its listener. `outbound` is where the outbound listener is.
pub(super) fn bind(args: &RunArgs, outbound: SocketAddr) -> anyhow::Result<Vec<(&'static str, TcpListener)>> {
    if !is_wanted(args) {
        return Ok(Vec::new());
    }
    let mut sockets = Vec::new();
    if outbound.is_ipv4() && outbound.ip().is_loopback() {
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, outbound.port()));
        match TcpListener::bind(address) {
            Ok(socket) => sockets.push((Listener::OUTBOUND, socket)),
            Err(error) => {
                tracing::info!(%address, %error, "connections over IPv6 cannot be redirected to the outbound port");
            }
        }
    }
    match args.inbound {
        Some(address) => {
            let socket = TcpListener::bind(address).with_context(|| {
                format!("cannot listen on {address}; choose another address with --inbound (port 0 picks a free one)")
            })?;
            sockets.push((Listener::INBOUND, socket));
        }
        // Whoever only wants to see the mesh as a workload does need not have it.
        None => match TcpListener::bind(any_address(INBOUND)) {
            Ok(socket) => sockets.push((Listener::INBOUND, socket)),
            Err(error) => tracing::warn!(
                port = INBOUND,
                %error,
                "what the system redirects on its way in is not served; choose another port with --inbound"
            ),
        },
    }
    Ok(sockets)
}
