//! Host names: short names, wildcards, visibility, and the names a service answers to.
//!
//! Hosts are lower case and without trailing dot everywhere in here (`address` sees to it). Used by the translation.

use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::HostPattern;

use crate::kind::istio::ExportTo;

/// The full name of a host that stands in an object of `namespace`.
///
/// Only a name without dot is short: `reviews` becomes `reviews.NAMESPACE.svc.DOMAIN`; `reviews.prod`, `*` and addresses
/// stay as they are. The namespace is that of the rule, never that of the client.
pub fn expand(host: &Arc<str>, namespace: &str, domain: &str) -> Arc<str> {
    if host.contains(['.', ':']) || &**host == "*" {
        return host.clone();
    }
    service_host(host, namespace, domain)
}

/// The full name of a Kubernetes service.
pub fn service_host(name: &str, namespace: &str, domain: &str) -> Arc<str> {
    format!("{name}.{namespace}.svc.{domain}").into()
}

/// The name and namespace in the full name of a Kubernetes service.
pub fn split_service_host<'h>(host: &'h str, domain: &str) -> Option<(&'h str, &'h str)> {
    let rest = host.strip_suffix(domain)?.strip_suffix(".svc.")?;
    rest.split_once('.').filter(|(name, namespace)| !name.is_empty() && !namespace.contains('.'))
}

/// Whether a host is a wildcard: `*`, `*.example.com`.
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether `pattern` takes in all of `host`; both may be wildcards. `*.example.com` does not take in `example.com`.
pub fn covers(pattern: &str, host: &str) -> bool {
    match (pattern.strip_prefix('*'), host.strip_prefix('*')) {
        (None, None) => pattern == host,
        (None, Some(_)) => false,
        (Some(suffix), None) => host.len() > suffix.len() && host.ends_with(suffix) || suffix.is_empty(),
        (Some(suffix), Some(inner)) => inner.ends_with(suffix),
    }
}

/// Whether some host is in both, either of which may be a wildcard.
pub fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// A host of a rule as a pattern of the model.
pub fn pattern(host: &str) -> HostPattern {
    match host.strip_prefix('*') {
        None => HostPattern::Exact(host.into()),
        Some("") => HostPattern::Any,
        Some(suffix) => HostPattern::Suffix(suffix.into()),
    }
}

/// The wildcard for all names below a host: `*.db.shop.svc.cluster.local`.
pub fn any_below(host: &str) -> Arc<str> {
    format!("*.{host}").into()
}

/// The names of a Kubernetes service beside its full name: `name.ns`, `name.ns.svc`. The bare name is not among them: it
/// depends on the client.
pub fn alternatives(name: &str, namespace: &str) -> [Arc<str>; 2] {
    [format!("{name}.{namespace}").into(), format!("{name}.{namespace}.svc").into()]
}

/// An address as it stands in a Host header.
pub fn address(ip: IpAddr) -> Arc<str> {
    match ip {
        IpAddr::V4(v4) => v4.to_string().into(),
        IpAddr::V6(v6) => format!("[{v6}]").into(),
    }
}

/// Whether an object of namespace `own` that is exported to `export` is seen from namespace `client`.
pub fn is_visible(export: &[ExportTo], own: &str, client: &str) -> bool {
    export.iter().any(|to| match to {
        ExportTo::All => true,
        ExportTo::Own => own == client,
        ExportTo::Nobody => false,
        ExportTo::Namespace(name) => **name == *client,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_without_dot_is_short() {
        let expand = |host: &str| expand(&host.into(), "shop", "cluster.local").to_string();
        assert_eq!(expand("reviews"), "reviews.shop.svc.cluster.local");
        for stays in ["reviews.prod", "*", "*.example.com", "10.0.0.1", "fd00::1", "reviews.prod.svc.cluster.local"] {
            assert_eq!(expand(stays), stays);
        }
    }

    #[test]
    fn a_wildcard_covers_what_ends_like_it_and_not_its_parent() {
        assert!(covers("*.foo.com", "a.foo.com") && covers("*.foo.com", "a.b.foo.com"));
        assert!(!covers("*.foo.com", "foo.com") && !covers("a.foo.com", "*.foo.com"));
        assert!(covers("*", "foo.com") && covers("*", "*.foo.com") && covers("*.com", "*.foo.com"));
        assert!(!covers("*.foo.com", "*.com") && overlap("*.foo.com", "*.com"));
        assert!(covers("foo.com", "foo.com") && !overlap("a.com", "b.com"));
    }

    #[test]
    fn a_service_host_is_taken_apart() {
        assert_eq!(split_service_host("a.b.svc.cluster.local", "cluster.local"), Some(("a", "b")));
        assert_eq!(split_service_host("x.a.b.svc.cluster.local", "cluster.local"), None);
        assert_eq!(split_service_host("a.b.com", "cluster.local"), None);
    }

    #[test]
    fn visibility_follows_export_to() {
        assert!(is_visible(&[ExportTo::All], "a", "b"));
        assert!(is_visible(&[ExportTo::Own], "a", "a") && !is_visible(&[ExportTo::Own], "a", "b"));
        assert!(is_visible(&[ExportTo::Own, ExportTo::Namespace("b".into())], "a", "b"));
        assert!(!is_visible(&[ExportTo::Nobody], "a", "a") && !is_visible(&[], "a", "a"));
    }
}
