//! CONNECT through the forward proxy (RFC 9110 §9.3.6): where a tunnel leads, and how it is opened.
//!
//! A tunnel leads to a service's port itself: what will be said in it is unknown, so no route of HTTP can apply. Its
//! cluster's balancer, DestinationRule and connect timeout do. A host that no configuration has is reached or refused as
//! for any other request. Only the outbound listener is a forward proxy.

use outrigger_model::{ClusterName, Direction, Discovery, Unmatched};

use crate::choose::Choice;
use crate::connect::connect_relayed;
use crate::downstream::Downstream;
use crate::failure::Reason;
use crate::forward::{Answered, Broken, Destination, Forwarding, broken};
use crate::h1::body::Framing;
use crate::h1::head::{RequestHead, split_port};
use crate::h2;
use crate::headers::write_field;
use crate::plan::{Client, Exchange, Plan, Refused, refuse};
use crate::progress::Lost;
use crate::target::{host_of, pod_of};
use crate::tcp;
use crate::upgrade::{Upgraded, UpstreamEnd};
use crate::worker::Worker;

/// Decides where a tunnel leads.
pub(crate) fn plan(worker: &Worker, exchange: &Exchange, head: &RequestHead<'_>, client: &Client) -> Plan {
    let listener = &exchange.site().listener;
    let Some(routes) = exchange.routes().filter(|_| listener.direction == Direction::Outbound) else {
        return refuse(worker, Reason::ConnectMethod);
    };
    // What a body would mean is not defined; its bytes could be taken for the tunnel's.
    if head.framing != Framing::None {
        return refuse(worker, Reason::BadRequest("connect_body"));
    }
    let (_, port) = split_port(head.target.authority).unwrap_or_default();
    let Some(port) = port.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0) else {
        return refuse(worker, Reason::BadRequest("connect_port"));
    };
    let host = host_of(head.target.authority).to_ascii_lowercase();
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let name = bracketed.strip_suffix('.').unwrap_or(&bracketed);
    let Some(virtual_host) = routes.host(name.as_bytes(), Some(port), listener.port) else {
        return match routes.unmatched() {
            Unmatched::Passthrough => forwarding(Destination::Passthrough { host, port }),
            Unmatched::BlackHole => Plan::Fail(Refused {
                reason: Reason::BlackHole,
                cause: String::new(),
                destination: worker.recorder.black_hole(),
            }),
            Unmatched::NotFound => refuse(worker, Reason::NoHost),
        };
    };
    // Named `host:port`, as its cluster is but for the form.
    let service = virtual_host.vhost.name.rsplit_once(':').map_or(&*virtual_host.vhost.name, |(service, _)| service);
    let cluster_name = ClusterName::outbound(port, "", service);
    let Some(cluster) = worker.cluster(&exchange.current, &cluster_name) else {
        let (cause, destination) = (cluster_name.to_string(), worker.recorder.missing(&cluster_name).into());
        return Plan::Fail(Refused { reason: Reason::NoCluster, cause, destination });
    };
    let key = tcp::key(&cluster, client);
    match cluster.live.model.discovery {
        Discovery::Static | Discovery::Dns | Discovery::DnsRoundRobin => {
            keyed(forwarding(Destination::Cluster(cluster)), key)
        }
        Discovery::PodName => forwarding(Destination::Pod { cluster, pod: pod_of(&host) }),
        Discovery::OriginalDestination => forwarding(Destination::Original { cluster, host, port }),
    }
}

/// There is no head to send: the first byte is the client's.
fn forwarding(destination: Destination) -> Plan {
    Plan::Forward(Box::new(Forwarding {
        destination,
        target: None,
        head: Vec::new(),
        attempt_at: None,
        held_body: Default::default(),
        mirrored: Default::default(),
        key: None,
        set_cookie: None,
        cors: Vec::new(),
    }))
}

fn keyed(mut plan: Plan, key: Option<u64>) -> Plan {
    if let Plan::Forward(forwarding) = &mut plan {
        forwarding.key = key;
    }
    plan
}

/// Opens the connection to the chosen endpoint, and tells the client.
pub(crate) async fn open(
    worker: &Worker,
    client: &mut Downstream<'_>,
    exchange: &Exchange,
    forwarding: &Forwarding,
    choice: &Choice<'_>,
) -> Result<Answered, Broken> {
    let fail = |reason| broken(Lost::unsent(reason), forwarding, choice);
    let cluster = forwarding.cluster().map(|cluster| &**cluster);
    let upstream = connect_relayed(worker, choice, cluster, Some(&exchange.ends)).await.map_err(fail)?;
    choice.sends(worker, cluster, 1);
    let mut head = b"HTTP/1.1 200 Connection Established\r\n".to_vec();
    write_field("date", worker.date().as_bytes(), &mut head);
    write_field("server", b"outrigger", &mut head);
    head.extend_from_slice(b"\r\n");
    let told = match client {
        Downstream::Http1(client) => {
            client.writer().write(&head, &[], worker.settings.write_stall_timeout).await.is_ok()
        }
        Downstream::Http2(call) => h2::head::response(&head).is_ok_and(|answer| call.answer(answer, false).is_ok()),
    };
    if !told {
        return Err(fail(Reason::ClientGone));
    }
    exchange.bytes_sent.set(head.len() as u64);
    let upgraded = Some(Upgraded { upstream: UpstreamEnd::Http1(upstream), state: choice.state.shared() });
    Ok(Answered { status: 200, grpc_status: None, upgraded })
}
