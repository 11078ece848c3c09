//! Manifests in, requests out.

use outrigger_config::loader::Loader;
use outrigger_config::translate::{self, translate};
use outrigger_testkit::{Endpoint, World, service_yaml, virtual_service_yaml};

use super::*;

/// The requests for the service `app`, one a line, and why other routes of it get none.
fn planned(http: &str, more: &str) -> (Vec<String>, Vec<String>) {
    let world = World::new();
    let address = "127.0.9.1:8080".parse().expect("an address");
    let endpoint = Endpoint { address, pod: "app-0".to_owned(), version: "v1".to_owned() };
    world.write("app.yaml", &service_yaml("default", "app", 80, &[endpoint]));
    world.write("more.yaml", more);
    if !http.is_empty() {
        world.write("routes.yaml", &virtual_service_yaml("default", "app", "app", http));
    }
    let loaded = Loader::new(vec![world.path().to_owned()]).load();
    assert!(loaded.diagnostics.iter().all(|d| d.level != outrigger_model::Level::Error), "{:?}", loaded.diagnostics);
    let (snapshot, _) = translate(&loaded.resources, &translate::View::default());
    let ways = vec!["127.0.0.1:15001".parse().expect("an address")];
    let (aims, left_out) = aims(&[View { snapshot: Arc::new(snapshot), listener: Listener::OUTBOUND.into(), ways }]);
    let text = |aim: &Aim| {
        let head = String::from_utf8(aim.request.bytes.clone()).expect("text");
        head.trim_end().split("\r\n").filter(|line| !line.starts_with("user-agent")).collect::<Vec<_>>().join(" | ")
    };
    (aims.iter().map(text).collect(), left_out)
}

const HOST: &str = "host: app.default.svc.cluster.local:80";

#[test]
fn every_route_gets_a_request_that_it_takes() {
    let http = "
  - match: [{uri: {exact: /a}, method: {regex: 'POST|PUT'}, queryParams: {q: {exact: 'x y'}}}]
    route: [{destination: {host: app}}]
  - match: [{uri: {regex: '/v[0-9]+/.*'}, headers: {end-user: {exact: jason}, x-any: {}}}]
    route: [{destination: {host: app}}]
  - match: [{uri: {prefix: /b}, withoutHeaders: {end-user: {}}}]
    redirect: {uri: /c}
  - route: [{destination: {host: app}}]
";
    let (requests, left_out) = planned(http.trim_start_matches('\n'), "");
    let expected = [
        format!("POST /a?q=x%20y HTTP/1.1 | {HOST} | content-length: 0"),
        format!("GET /v0/ HTTP/1.1 | {HOST} | end-user: jason | x-any: x"),
        format!("GET /b HTTP/1.1 | {HOST}"),
        format!("GET / HTTP/1.1 | {HOST}"),
    ];
    assert_eq!((requests, left_out), (expected.to_vec(), Vec::new()));
}

#[test]
fn what_gets_none_says_why() {
    let http = "
  - match: [{uri: {prefix: /a}}]
    route: [{destination: {host: app}}]
  - match: [{uri: {exact: /a/b}}]
    route: [{destination: {host: app}}]
  - match: [{uri: {exact: /c}, headers: {expect: {exact: x}}}]
    route: [{destination: {host: app}}]
";
    let (requests, left_out) = planned(http.trim_start_matches('\n'), "");
    assert_eq!(requests, [format!("GET /a HTTP/1.1 | {HOST}")]);
    let ends = ["before it takes its requests", "its conditions fit no HTTP/1.1"];
    assert_eq!(left_out.len(), ends.len(), "{left_out:?}");
    for (why, end) in left_out.iter().zip(ends) {
        assert!(why.starts_with("VirtualService default/app rule ") && why.ends_with(end), "{why}");
    }
}

#[test]
fn nothing_is_sent_out_of_the_machine() {
    let outside = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: default}
spec:
  hosts: [outside.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
";
    let (requests, left_out) = planned("", outside);
    assert_eq!(requests, [format!("GET / HTTP/1.1 | {HOST}")]);
    assert!(
        left_out.len() == 1 && left_out[0].ends_with("outside.example.com:80: it leads out of this machine"),
        "{left_out:?}"
    );
    let mirrored =
        "  - route: [{destination: {host: app}}]\n    mirrors: [{destination: {host: outside.example.com}}]\n";
    let (requests, _) = planned(mirrored, outside);
    assert!(requests.is_empty(), "{requests:?}");
}
