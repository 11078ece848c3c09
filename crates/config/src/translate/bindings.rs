//! Which gateways a VirtualService is bound to: `gateways`, and `gateways` of its matches.
//!
//! The names are judged here for every view, so that one that is wrong is told even where no gateway is served.

use std::borrow::Cow;
use std::sync::Arc;

use outrigger_model::Diagnostic;

use crate::codes;
use crate::decode::{clip, nearest};
use crate::hosts;
use crate::kind::istio_gateway::{HostNamespace, IstioGateway, ServerHost};
use crate::kind::virtual_service::VirtualService;
use crate::node::{Pos, Spanned};
use crate::resources::Resources;

/// The gateway that stands for all sidecars.
pub(crate) const MESH: &str = "mesh";

/// The gateway that a name in an object of `namespace` means, as `namespace/name`; `mesh` stays as it is.
///
/// A name with dots is the oldest form, `name.namespace` and whatever follows.
pub(crate) fn full_name<'n>(written: &'n str, namespace: &str) -> Cow<'n, str> {
    if written == MESH {
        return Cow::Borrowed(written);
    }
    if let Some((of, name)) = written.split_once('/') {
        return if of == "." { Cow::Owned(format!("{namespace}/{name}")) } else { Cow::Borrowed(written) };
    }
    match written.split_once('.') {
        None => Cow::Owned(format!("{namespace}/{written}")),
        Some((name, rest)) => Cow::Owned(format!("{}/{name}", rest.split('.').next().unwrap_or_default())),
    }
}

/// The gateways that a VirtualService is bound to, by their full names.
pub(crate) fn gateways(object: &VirtualService) -> Vec<(Cow<'_, str>, Pos)> {
    let spec = &object.spec;
    if spec.gateways.is_empty() {
        return vec![(Cow::Borrowed(MESH), object.meta.pos)];
    }
    spec.gateways.iter().map(|gateway| (full_name(gateway, &object.meta.namespace), gateway.pos)).collect()
}

/// Whether sidecars obey it.
pub(crate) fn is_for_mesh(object: &VirtualService) -> bool {
    gateways(object).iter().any(|(name, _)| name == MESH)
}

/// The hosts that a server has for VirtualServices of a namespace.
pub(crate) fn server_hosts<'s>(
    hosts: &'s [Spanned<ServerHost>],
    gateway_namespace: &'s str,
    namespace: &'s str,
) -> impl Iterator<Item = &'s Arc<str>> {
    let may = move |host: &&Spanned<ServerHost>| match &host.namespace {
        HostNamespace::Any => true,
        HostNamespace::Own => gateway_namespace == namespace,
        HostNamespace::Named(name) => **name == *namespace,
    };
    hosts.iter().filter(may).map(|host| &host.host)
}

/// Reports gateways that do not exist, or have none of the hosts, and matches for gateways that the rules are not bound to.
pub(crate) fn review(object: &VirtualService, resources: &Resources, domain: &str, diagnostics: &mut Vec<Diagnostic>) {
    let bound = gateways(object);
    for (name, pos) in bound.iter().filter(|(name, _)| name != MESH) {
        let (namespace, short) = name.split_once('/').unwrap_or_default();
        match resources.istio_gateways.get(namespace, short) {
            Some(gateway) => diagnostics.extend(without_hosts(object, gateway, *pos, domain)),
            None => diagnostics.push(missing(object, (namespace, short), *pos, resources)),
        }
    }
    let unbound = |names: &[Arc<str>]| {
        let names = names.iter().map(|name| full_name(name, &object.meta.namespace));
        names.filter(|name| !bound.iter().any(|(known, _)| known == name)).map(Cow::into_owned).next()
    };
    for (pos, names) in match_gateways(object) {
        if let Some(name) = unbound(names) {
            let message = format!("this match is for gateway {:?}, to which the rules are not bound", clip(&name));
            diagnostics.push(codes::NO_EFFECT.about(&object.meta, pos, message, "add it to `spec.gateways`"));
        }
    }
}

/// The `gateways` of all matches, with the places of these.
fn match_gateways(object: &VirtualService) -> impl Iterator<Item = (Pos, &[Arc<str>])> {
    let spec = &object.spec;
    let http = spec.http.iter().flat_map(|rule| rule.matches.iter().map(|block| (block.pos, &*block.gateways)));
    let tls = spec.tls.iter().flat_map(|rule| rule.matches.iter().map(|block| (block.pos, &*block.gateways)));
    let tcp = spec.tcp.iter().flat_map(|rule| rule.matches.iter().map(|block| (block.pos, &*block.gateways)));
    http.chain(tls).chain(tcp)
}

fn missing(object: &VirtualService, (namespace, name): (&str, &str), pos: Pos, resources: &Resources) -> Diagnostic {
    let shown = format!("{}/{}", clip(namespace), clip(name));
    let fail = |message: String, hint: String| codes::REFERENCE_NOT_FOUND.about(&object.meta, pos, message, hint);
    if resources.gateways.get(namespace, name).is_some() {
        return fail(
            format!(
                "gateway {shown} is one of gateway.networking.k8s.io; VirtualServices bind to those of networking.istio.io"
            ),
            "attach an HTTPRoute to it instead".to_owned(),
        );
    }
    let elsewhere = resources.istio_gateways.iter().find(|gateway| *gateway.meta.name == *name);
    let all = resources.istio_gateways.in_namespace(namespace);
    let names: Vec<&str> = all.iter().map(|gateway| &*gateway.meta.name).collect();
    let hint = match (elsewhere, nearest(name, &names)) {
        (Some(gateway), _) => format!("did you mean `{}/{name}`?", gateway.meta.namespace),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => "define the Gateway, or correct the name".to_owned(),
    };
    fail(format!("gateway {shown} does not exist"), hint)
}

/// A finding where no server of a gateway has any of the hosts.
fn without_hosts(object: &VirtualService, gateway: &IstioGateway, pos: Pos, domain: &str) -> Option<Diagnostic> {
    let namespace = &object.meta.namespace;
    let own: Vec<Arc<str>> =
        object.spec.hosts.iter().map(|host| hosts::expand(&host.value.0, namespace, domain)).collect();
    let servers = &gateway.spec.servers;
    let shared = servers.iter().any(|server| {
        let mut of_server = server_hosts(&server.hosts, &gateway.meta.namespace, namespace);
        of_server.any(|host| own.iter().any(|known| hosts::overlap(known, host)))
    });
    if shared {
        return None;
    }
    let own: Vec<&str> = own.iter().map(|host| &**host).collect();
    let theirs: Vec<String> = servers.iter().flat_map(|server| &server.hosts).map(|host| host.text()).collect();
    Some(codes::NOT_IN_GATEWAY.about(
        &object.meta,
        pos,
        format!(
            "none of its hosts ({}) is among those of {} for namespace {namespace} ({})",
            clip(&own.join(", ")),
            gateway.meta.object_ref(),
            clip(&theirs.join(", "))
        ),
        "add a host to a server of the Gateway, or correct `hosts`",
    ))
}

#[cfg(test)]
mod tests {
    use super::full_name;

    #[test]
    fn names_of_gateways_are_completed_by_the_rules_namespace() {
        let full = |written: &str| full_name(written, "shop").into_owned();
        assert_eq!(full("mesh"), "mesh");
        assert_eq!(full("web"), "shop/web");
        assert_eq!(full("edge/web"), "edge/web");
        assert_eq!(full("./web"), "shop/web");
        assert_eq!(full("web.edge"), "edge/web");
        assert_eq!(full("web.edge.svc.cluster.local"), "edge/web");
    }
}
