//! Listeners of gateways as text: listener, chains, TLS, virtual hosts with their domains, routes.

use std::fmt::Write as _;

use outrigger_config::translate::View;
use outrigger_config::translate::gateways::{GatewayId, GatewayKind, list};
use outrigger_model::*;

use crate::dump::{destination, domain, route};

/// The view of a gateway: `istio:NAMESPACE/NAME` or `api:NAMESPACE/NAME`.
pub(crate) fn gateway_view(from: &str) -> Option<View> {
    let (kind, name) = from.split_once(':')?;
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    let kind = if kind == "istio" { GatewayKind::Istio } else { GatewayKind::Api };
    Some(View::of_gateway(GatewayId { kind, namespace: namespace.into(), name: name.into() }))
}

/// All listeners of a snapshot.
pub(crate) fn listeners(snapshot: &Snapshot, out: &mut String) {
    for listener in &snapshot.listeners {
        write!(out, "{}", listener.name).unwrap();
        if let Some(networks) = &listener.proxy_protocol {
            let networks = networks.iter().map(|network| format!("{}/{}", network.address, network.prefix));
            write!(out, " PROXY from {}", networks.collect::<Vec<_>>().join(" ")).unwrap();
        }
        writeln!(out).unwrap();
        for chain in &listener.chains {
            self::chain(chain, out);
        }
    }
}

/// `[NAMES] [TLS] -> what it serves`.
fn chain(chain: &Chain, out: &mut String) {
    let names: Vec<String> = chain
        .server_names
        .iter()
        .map(|host| domain(&Domain { host: host.clone(), port: DomainPort::Unstated }))
        .collect();
    write!(out, "  [{}]", names.join(" ")).unwrap();
    if let Some(tls) = &chain.tls {
        let pairs: Vec<&str> = tls.certificates.iter().map(|pair| &*pair.name).collect();
        let client = match &tls.client {
            ClientCertificate::None => "",
            ClientCertificate::Optional(_) => " client?",
            ClientCertificate::Required(_) => " client!",
        };
        write!(out, " tls({}){client}", pairs.join(", ")).unwrap();
        if (tls.version_min, tls.version_max) != (TlsVersion::V1_2, TlsVersion::V1_3) {
            write!(out, " {:?}-{:?}", tls.version_min, tls.version_max).unwrap();
        }
    }
    match &chain.serve {
        Serve::Http(table) | Serve::Detect { http: table, .. } => {
            writeln!(out, " http {:?}", table.unmatched).unwrap();
            for vhost in &table.virtual_hosts {
                let domains: Vec<String> = vhost.domains.iter().map(domain).collect();
                writeln!(out, "    {} = {}", vhost.name, domains.join(" ")).unwrap();
                vhost.routes.iter().for_each(|r| writeln!(out, "      {}", route(r)).unwrap());
            }
        }
        Serve::Tcp(way) => {
            let all: Vec<String> = way.destinations.iter().map(destination).collect();
            let rule = way.origin.as_ref().map_or(String::new(), |o| format!("{}/{} {}", o.namespace, o.name, o.rule));
            writeln!(out, " {rule} -> {}", all.join(" ")).unwrap();
        }
    }
}

/// The gateway proxies of an input: `KIND NAMESPACE/NAME`, then each object with its listeners.
pub(crate) fn gateways(resources: &outrigger_config::resources::Resources, out: &mut String) {
    for proxy in list(resources, &View::default()) {
        let labels: Vec<String> = proxy.workload.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let id = &proxy.id;
        writeln!(out, "{:?} {}/{} [{}] {}", id.kind, id.namespace, id.name, labels.join(" "), proxy.workload.principal)
            .unwrap();
        for object in &proxy.objects {
            writeln!(out, "  {} {}/{}", object.kind, object.namespace, object.name).unwrap();
            for l in &object.listeners {
                let by = l.listener.as_deref().unwrap_or("nothing");
                writeln!(out, "    {} {} {} {} by {by}", l.name, l.port, l.protocol, l.hostname).unwrap();
            }
        }
    }
}
