//! Cross-origin resource sharing as Envoy's CORS filter and Gateway API's `CORS` do it (Fetch standard, "CORS protocol").
//!
//! The two agree but for what the policy itself says. Stars are answered with what was asked, never with a star: that is
//! right with credentials and without.
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
        (None, Some(_)) => {
            expose(&mut fields, cors);
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
    // No browser reads it here; Gateway API's conformance tests do.
    expose(fields, cors);
}

/// Says which fields of the answer a script may read. With credentials a star is the name of a field and no star (Fetch
/// standard, "Access-Control-Expose-Headers"), and Gateway API forbids it.
fn expose(fields: &mut Vec<(&'static str, Vec<u8>)>, cors: &Cors) {
    let names: Vec<&str> =
        cors.expose.iter().map(|name| name.as_str()).filter(|name| !(cors.credentials && *name == "*")).collect();
    if !names.is_empty() {
        fields.push(("access-control-expose-headers", join(names.into_iter())));
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
            "expose-headers: x-c,x-d",
        ];
        check(&policy(), "OPTIONS", Some("https://shop.example"), PREFLIGHT, &expected);
        let expected = ["preflight", "allow-origin: https://abc.dev"];
        let bare =
            Cors { methods: vec![], headers: vec![], expose: vec![], max_age: None, credentials: false, ..policy() };
        check(&bare, "OPTIONS", Some("https://abc.dev"), PREFLIGHT, &expected);
    }

    #[test]
    fn a_star_stands_for_what_was_asked() {
        let star = Cors {
            methods: vec!["*".into()],
            headers: vec![HeaderName::parse("*").unwrap()],
            origins: vec![string("=*")],
            expose: vec![],
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
    fn a_star_exposes_all_but_what_credentials_protect() {
        let star = |credentials| Cors { expose: vec![HeaderName::parse("*").unwrap()], credentials, ..policy() };
        let expected = ["actual", "allow-origin: https://shop.example", "expose-headers: *"];
        check(&star(false), "GET", Some("https://shop.example"), &[], &expected);
        let expected = ["actual", "allow-origin: https://shop.example", "allow-credentials: true"];
        check(&star(true), "GET", Some("https://shop.example"), &[], &expected);
    }

    /// What an HTTPRoute's CORS filter becomes, and what Gateway API's conformance tests ask of it.
    fn gateway(origins: &[&str], methods: &[&str], headers: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|text| string(text)).collect(),
            methods: methods.iter().map(|method| (*method).into()).collect(),
            headers: headers.iter().map(|name| HeaderName::parse(name).unwrap()).collect(),
            expose: vec![],
            max_age: Some(Duration::from_secs(5)),
            credentials,
            forward_unmatched_preflights: false,
        }
    }

    const GATEWAY_PREFLIGHT: &[(&str, &str)] =
        &[("access-control-request-method", "PUT"), ("access-control-request-headers", "x-header-1, x-header-2")];

    #[test]
    fn the_gateway_apis_origins() {
        // `https://www.foo.com`, `https://*.bar.com`, `http://*:8080`
        let origins = [
            "~(?i)https://www\\.foo\\.com(:443)?",
            "~(?i)https://[^/:]+\\.bar\\.com(:443)?",
            "~(?i)http://([^/:\\[]+|\\[[^/]+\\]):8080",
        ];
        let cors = gateway(&origins, &[], &[], false);
        for origin in [
            "https://www.foo.com",
            "https://www.foo.com:443",
            "https://WWW.foo.com",
            "https://www.bar.com",
            "https://xpto.www.bar.com",
            "http://any.where:8080",
            "http://[::1]:8080",
        ] {
            let echoed = format!("allow-origin: {origin}");
            check(&cors, "OPTIONS", Some(origin), GATEWAY_PREFLIGHT, &["preflight", &echoed, "max-age: 5"]);
            check(&cors, "GET", Some(origin), &[], &["actual", &echoed]);
        }
        for origin in [
            "https://foobar.com",
            "https://bar.com",
            "http://www.foo.com",
            "https://www.foo.com:8443",
            "https://www.foo.com.evil.example",
            "https://evil.example/.bar.com",
            "https://evil.example:1.bar.com",
            "http://any.where",
            "null",
        ] {
            check(&cors, "OPTIONS", Some(origin), GATEWAY_PREFLIGHT, &["preflight"]);
            check(&cors, "GET", Some(origin), &[], &["actual"]);
        }
    }

    #[test]
    fn the_gateway_apis_stars() {
        let all = gateway(&["=*"], &["*"], &["*"], true);
        let expected = [
            "preflight",
            "allow-origin: https://other.foo.com:12345",
            "allow-credentials: true",
            "allow-methods: PUT",
            "allow-headers: x-header-1, x-header-2",
            "max-age: 5",
        ];
        check(&all, "OPTIONS", Some("https://other.foo.com:12345"), GATEWAY_PREFLIGHT, &expected);
        let expected = [expected[0], expected[1], expected[2], expected[3], expected[5]];
        check(&all, "OPTIONS", Some("https://other.foo.com:12345"), &GATEWAY_PREFLIGHT[..1], &expected);
        let expected = ["actual", "allow-origin: https://other.foo.com", "allow-credentials: true"];
        check(&all, "GET", Some("https://other.foo.com"), &[], &expected);
        let open = gateway(&["=*"], &["PUT"], &[], false);
        let expected = ["preflight", "allow-origin: https://foobar.com", "allow-methods: PUT", "max-age: 5"];
        check(&open, "OPTIONS", Some("https://foobar.com"), GATEWAY_PREFLIGHT, &expected);
        check(&open, "PUT", Some("https://foobar.com"), &[], &["actual", "allow-origin: https://foobar.com"]);
    }

    #[test]
    fn the_gateway_apis_lists() {
        let mut cors = gateway(&["=https://www.foo.com"], &["GET", "OPTIONS"], &["x-header-1", "x-header-2"], true);
        cors.max_age = Some(Duration::from_secs(3600));
        cors.expose = ["x-header-3", "x-header-4"].map(|name| HeaderName::parse(name).unwrap()).into();
        let expected = [
            "preflight",
            "allow-origin: https://www.foo.com",
            "allow-credentials: true",
            "allow-methods: GET,OPTIONS",
            "allow-headers: x-header-1,x-header-2",
            "max-age: 3600",
            "expose-headers: x-header-3,x-header-4",
        ];
        check(&cors, "OPTIONS", Some("https://www.foo.com"), GATEWAY_PREFLIGHT, &expected);
    }

    #[test]
    fn a_request_without_origin_passes() {
        check(&policy(), "GET", None, &[], &["actual"]);
        check(&policy(), "OPTIONS", None, PREFLIGHT, &["actual"]);
        check(&policy(), "OPTIONS", Some(""), PREFLIGHT, &["actual"]);
    }
}
