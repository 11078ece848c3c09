//! Listener isolation: a request belongs to the most specific listener of its port, and to no other.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A listener for every host of `hosts` (`*` for none given), and for each a route with its own path and Service.
fn isolated(hosts: &[&str], hostnames: &str) -> String {
    let listeners: Vec<String> = hosts
        .iter()
        .enumerate()
        .map(|(at, host)| match *host {
            "*" => http(&format!("l{at}"), ""),
            host => http(&format!("l{at}"), &format!("hostname: '{host}'")),
        })
        .collect();
    let mut yaml = gateway("infra/web", &listeners.join(", "));
    for at in 0..hosts.len() {
        yaml += &route(
            &format!("infra/r{at}"),
            &format!("{{name: web, sectionName: l{at}}}"),
            hostnames,
            &format!("/p{at}"),
            &format!("s{at}"),
        );
        yaml += &service(&format!("infra/s{at}"));
    }
    yaml
}

#[test]
fn each_request_meets_the_most_specific_listener() {
    let listeners = ["*", "*.example.com", "*.foo.example.com", "abc.foo.example.com"];
    let owners = [("bar.com", 0), ("bar.example.com", 1), ("bar.foo.example.com", 2), ("abc.foo.example.com", 3)];
    // Whether host names stand in listeners only, or in routes as well.
    for hostnames in ["", "bar.com, '*.example.com', '*.foo.example.com', abc.foo.example.com"] {
        let gateway = Gateway::new("infra/web", &isolated(&listeners, hostnames));
        for (host, owner) in owners {
            for path in 0..listeners.len() {
                let expected = if path == owner { format!("s{owner}") } else { "404".to_owned() };
                assert_eq!(gateway.http(80, host, &format!("/p{path}")), expected, "{host} /p{path} {hostnames}");
            }
        }
    }
}

#[test]
fn a_listener_without_routes_shadows_wider_ones() {
    let listeners = format!("{}, {}", http("all", ""), http("one", "hostname: '*.example.com'"));
    let yaml = gateway("infra/web", &listeners)
        + &route("infra/r", "{name: web, sectionName: all}", "", "/", "a")
        + &service("infra/a");
    let gateway = Gateway::new("infra/web", &yaml);
    assert_eq!(["x.com", "a.example.com", "example.com"].map(|host| gateway.http(80, host, "/")), ["a", "404", "a"]);
}

#[test]
fn hosts_of_listeners_pick_the_route() {
    let hosts = ["bar.com", "foo.bar.com", "*.bar.com", "*.foo.com"];
    let gateway = Gateway::new("infra/web", &isolated(&hosts, ""));
    for (host, path, answer) in [
        ("bar.com", "/p0", "s0"),
        ("foo.bar.com", "/p1", "s1"),
        ("baz.bar.com", "/p2", "s2"),
        ("boo.bar.com", "/p2", "s2"),
        ("multiple.prefixes.bar.com", "/p2", "s2"),
        ("multiple.prefixes.foo.com", "/p3", "s3"),
        ("foo.com", "/p3", "404"),
        ("no.matching.host", "/p0", "404"),
    ] {
        assert_eq!(gateway.http(80, host, path), answer, "{host}");
    }
}

#[test]
fn routes_of_one_host_are_merged() {
    let yaml = gateway("infra/web", &http("http", ""))
        + &route("infra/r1", "{name: web}", "example.com, example.net", "/", "a")
        + &route("infra/r2", "{name: web}", "example.com", "/v2", "b")
        + &["infra/a", "infra/b"].map(service).concat();
    let gateway = Gateway::new("infra/web", &yaml);
    for (host, path, answer) in [
        ("example.com", "/", "a"),
        ("example.com", "/v2", "b"),
        ("example.com", "/v2/x", "b"),
        ("example.net", "/v2", "a"),
        ("example.org", "/", "404"),
    ] {
        assert_eq!(gateway.http(80, host, path), answer, "{host} {path}");
    }
}

#[test]
fn the_longer_host_name_comes_first_and_leaves_the_rest_to_the_shorter() {
    let yaml = gateway("infra/web", &http("http", ""))
        + &route("infra/any", "{name: web}", "", "/", "a")
        + &route("infra/wide", "{name: web}", "'*.example.com'", "/api/very/long", "b")
        + &route("infra/exact", "{name: web}", "www.example.com", "/api", "c")
        + &["infra/a", "infra/b", "infra/c"].map(service).concat();
    let gateway = Gateway::new("infra/web", &yaml);
    for (host, path, answer) in [
        ("www.example.com", "/api/very/long", "c"),
        ("www.example.com", "/other", "a"),
        ("x.example.com", "/api/very/long", "b"),
        ("x.example.com", "/api", "a"),
    ] {
        assert_eq!(gateway.http(80, host, path), answer, "{host} {path}");
    }
}

#[test]
fn virtual_hosts_have_names_of_their_own() {
    let hosts = ["*", "*.example.com", "www.example.com"];
    let snapshot = Gateway::new("infra/web", &isolated(&hosts, "")).0;
    let names: Vec<&str> =
        snapshot.listeners[0].route_tables().flat_map(|t| &t.virtual_hosts).map(|v| &*v.name).collect();
    assert_eq!(names, ["*:80", "*.example.com:80", "www.example.com:80"]);
}

/// Labels from a small alphabet, so that names meet often.
fn host(labels: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), labels).prop_map(|labels| labels.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("*".to_owned()),
        4 => host(1..=3).prop_map(|host| format!("*.{host}")),
        3 => host(1..=4),
    ]
}

/// The law, without any of the code under test: how well a pattern fits, more labels better, a whole name best.
fn fit(pattern: &str, host: &str) -> Option<usize> {
    match pattern.strip_prefix('*') {
        None => (pattern == host).then_some(usize::MAX),
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then(|| suffix.matches('.').count()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A request goes to the most specific listener for its host; there to a route that is for the host, the longest host
    /// name first; and nowhere else.
    #[test]
    fn requests_obey_the_law_of_isolation(
        listeners in prop::collection::btree_set(pattern(), 1..6),
        routes in prop::collection::vec((0_usize..6, prop::collection::btree_set(pattern(), 0..3)), 0..8),
        hosts in prop::collection::vec(host(1..=4), 12),
    ) {
        let listeners: Vec<&str> = listeners.iter().map(String::as_str).collect();
        let routes: BTreeMap<String, (usize, Vec<&str>)> = routes
            .iter()
            .enumerate()
            .map(|(at, (listener, names))| {
                let names = names.iter().map(String::as_str).filter(|name| *name != "*").collect();
                (format!("s{at}"), (listener % listeners.len(), names))
            })
            .collect();
        let of_listener = |(at, host): (usize, &&str)| match *host {
            "*" => http(&format!("l{at}"), ""),
            host => http(&format!("l{at}"), &format!("hostname: '{host}'")),
        };
        let mut yaml = gateway("infra/web", &listeners.iter().enumerate().map(of_listener).collect::<Vec<_>>().join(", "));
        for (name, (listener, names)) in &routes {
            let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
            let parent = format!("{{name: web, sectionName: l{listener}}}");
            yaml += &route(&format!("infra/{name}"), &parent, &names.join(", "), &format!("/{name}"), name);
            yaml += &service(&format!("infra/{name}"));
        }
        let running = Gateway::new("infra/web", &yaml);
        for host in &hosts {
            let owner = (0..listeners.len()).filter(|at| fit(listeners[*at], host).is_some());
            let owner = owner.max_by_key(|at| fit(listeners[*at], host));
            for (name, (listener, names)) in &routes {
                let is_for = names.is_empty() || names.iter().any(|pattern| fit(pattern, host).is_some());
                let expected = if owner == Some(*listener) && is_for { name.as_str() } else { "404" };
                let found = running.http(80, host, &format!("/{name}"));
                prop_assert_eq!(&found, expected, "{} /{} {}", host, name, yaml);
            }
        }
    }
}
