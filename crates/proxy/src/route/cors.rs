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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{string, with_request};
    use super::*;
    use outrigger_model::HeaderName;

    fn policy() -> Cors {
        Cors {
            origins: vec![string("=https://shop.example"), string("~https://[a-z]+\\.dev")],
            methods: vec!["GET".into(), "POST".into()],
            headers: vec![HeaderName::parse("X-A").unwrap(), HeaderName::parse("x-b").unwrap()],
            expose: vec![HeaderName::parse("x-c").unwrap(), HeaderName::parse("x-d").unwrap()],
            max_age: Some(Duration::from_secs(86_400)),
            credentials: true,
            forward_unmatched_preflights: true,
        }
    }

    const PREFLIGHT: &[(&str, &str)] =
        &[("Access-Control-Request-Method", "PUT"), ("access-control-request-headers", "x-z")];

    /// `expected` is `preflight` or `actual` and the fields but `vary`, which must come with all.
    #[track_caller]
    fn check(cors: &Cors, method: &str, origin: Option<&str>, others: &[(&str, &str)], expected: &[&str]) {
        let fields: Vec<(&str, &str)> =
            origin.map(|o| ("Origin", o)).into_iter().chain(others.iter().copied()).collect();
        let decision = with_request(&format!("{method} http://a/"), &fields, |request| decide(cors, request));
        let (kind, fields) = match decision {
            Decision::Preflight(fields) => ("preflight", fields),
            Decision::Actual(fields) => ("actual", fields),
        };
        assert_eq!(fields[0], ("vary", b"Origin".to_vec()));
        let text = |(name, value): &(&str, Vec<u8>)| {
            format!("{}: {}", name.trim_start_matches("access-control-"), String::from_utf8_lossy(value))
        };
        let found: Vec<String> = [kind.to_owned()].into_iter().chain(fields[1..].iter().map(text)).collect();
        assert_eq!(found, expected, "{method} of {origin:?}");
    }

    #[test]
    fn a_preflight_of_a_known_origin_is_answered() {
        let expected = [
            "preflight",
            "allow-origin: https://shop.example",
            "allow-credentials: true",
            "allow-methods: GET,POST",
            "allow-headers: x-a,x-b",
            "max-age: 86400",
        ];
        check(&policy(), "OPTIONS", Some("https://shop.example"), PREFLIGHT, &expected);
        let expected = ["preflight", "allow-origin: https://abc.dev"];
        let bare = Cors { methods: vec![], headers: vec![], max_age: None, credentials: false, ..policy() };
        check(&bare, "OPTIONS", Some("https://abc.dev"), PREFLIGHT, &expected);
    }

    #[test]
    fn a_star_stands_for_what_was_asked() {
        let star = Cors {
            methods: vec!["*".into()],
            headers: vec![HeaderName::parse("*").unwrap()],
            origins: vec![string("=*")],
            credentials: false,
            max_age: Some(Duration::ZERO),
            ..policy()
        };
        let expected = ["preflight", "allow-origin: null", "allow-methods: PUT", "allow-headers: x-z", "max-age: 0"];
        check(&star, "OPTIONS", Some("null"), PREFLIGHT, &expected);
        let expected = ["preflight", "allow-origin: x", "allow-methods: PUT", "max-age: 0"];
        check(&star, "OPTIONS", Some("x"), &PREFLIGHT[..1], &expected);
    }

    #[test]
    fn a_preflight_of_a_foreign_origin_is_forwarded_or_answered_without_permission() {
        check(&policy(), "OPTIONS", Some("https://evil.example"), PREFLIGHT, &["actual"]);
        let ignore = Cors { forward_unmatched_preflights: false, ..policy() };
        check(&ignore, "OPTIONS", Some("https://evil.example"), PREFLIGHT, &["preflight"]);
    }

    #[test]
    fn an_actual_request_gets_its_fields() {
        let expected =
            ["actual", "allow-origin: https://shop.example", "allow-credentials: true", "expose-headers: x-c,x-d"];
        check(&policy(), "GET", Some("https://shop.example"), &[], &expected);
        check(&policy(), "OPTIONS", Some("https://shop.example"), &[], &expected);
        check(&policy(), "GET", Some("https://shop.example"), PREFLIGHT, &expected);
        check(&policy(), "GET", Some("https://shop.example.evil"), &[], &["actual"]);
        check(&policy(), "GET", Some("https://abc.devil"), &[], &["actual"]);
    }

    #[test]
    fn a_request_without_origin_passes() {
        check(&policy(), "GET", None, &[], &["actual"]);
        check(&policy(), "OPTIONS", None, PREFLIGHT, &["actual"]);
        check(&policy(), "OPTIONS", Some(""), PREFLIGHT, &["actual"]);
    }
}
