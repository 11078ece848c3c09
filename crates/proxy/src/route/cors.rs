//! Cross-origin resource sharing as Envoy's CORS filter does it (Fetch standard, "CORS protocol").
//!
//! Envoy judges only requests that are forwarded; redirects and answers from configuration pass without. Unlike Envoy,
//! every response of a route with a policy varies by origin: a cache would otherwise hand the answer that one origin
//! got to another.

use outrigger_model::Cors;

use crate::request::RequestView;

/// What the policy asks for: response fields, each a lower-case name and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A preflight that the proxy answers itself: 200 without body, with these fields.
    Preflight(Vec<(&'static str, Vec<u8>)>),
    /// The request goes on. Its response gets these fields in place of those of the same name, but `vary`, which is
    /// appended.
    Actual(Vec<(&'static str, Vec<u8>)>),
}

/// Judges a request.
pub(crate) fn decide(cors: &Cors, request: &RequestView<'_>) -> Decision {
    let origin = request.header("origin").filter(|origin| !origin.is_empty());
    let allowed = origin.filter(|origin| is_allowed(cors, origin));
    let mut fields = vec![("vary", b"Origin".to_vec())];
    if let Some(origin) = allowed {
        fields.push(("access-control-allow-origin", origin.to_vec()));
        if cors.credentials {
            fields.push(("access-control-allow-credentials", b"true".to_vec()));
        }
    }
    let wanted_method = request.header("access-control-request-method").filter(|method| !method.is_empty());
    let preflight = wanted_method.filter(|_| request.method == b"OPTIONS" && origin.is_some());
    match (preflight, allowed) {
        (Some(method), Some(_)) => {
            permit(&mut fields, cors, request, method);
            Decision::Preflight(fields)
        }
        (Some(_), None) if !cors.forward_unmatched_preflights => Decision::Preflight(fields),
        (None, Some(_)) if !cors.expose.is_empty() => {
            fields.push(("access-control-expose-headers", join(cors.expose.iter().map(|name| name.as_str()))));
            Decision::Actual(fields)
        }
        _ => Decision::Actual(fields),
    }
}

/// Says what a preflight's origin may do. A lone star stands for what was asked.
fn permit(fields: &mut Vec<(&'static str, Vec<u8>)>, cors: &Cors, request: &RequestView<'_>, method: &[u8]) {
    match cors.methods.as_slice() {
        [] => {}
        [star] if &**star == "*" => fields.push(("access-control-allow-methods", method.to_vec())),
        methods => fields.push(("access-control-allow-methods", join(methods.iter().map(|method| &**method)))),
    }
    match cors.headers.as_slice() {
        [] => {}
        [star] if star.as_str() == "*" => {
            if let Some(wanted) = request.header("access-control-request-headers") {
                fields.push(("access-control-allow-headers", wanted.to_vec()));
            }
        }
        headers => fields.push(("access-control-allow-headers", join(headers.iter().map(|name| name.as_str())))),
    }
    if let Some(age) = cors.max_age {
        fields.push(("access-control-max-age", age.as_secs().to_string().into_bytes()));
    }
}

/// A condition that takes `*` itself takes every origin, so that `exact: "*"` means what it seems to.
fn is_allowed(cors: &Cors, origin: &[u8]) -> bool {
    cors.origins.iter().any(|want| want.matches(b"*") || want.matches(origin))
}

fn join<'a>(items: impl Iterator<Item = &'a str>) -> Vec<u8> {
    items.collect::<Vec<_>>().join(",").into_bytes()
}
