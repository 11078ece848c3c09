//! `tls` and `tcp` rules of VirtualServices: what is read, and what Istio's validation refuses.

use outrigger_config::loader::load_text;

use crate::check;

/// A VirtualService for `*.example.com` with these rules; they begin on line 5.
fn rules(rules: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec: {{hosts: ['*.example.com'], gateways: [web],\n{rules}}}\n"
    )
}

#[test]
fn rules_for_connections_are_read() {
    let yaml = rules(
        "tls: [{match: [{sniHosts: [A.example.com., '*.b.example.com'], port: 443, destinationSubnets: [10.0.0.0/8], sourceLabels: {a: b}, gateways: [web], sourceNamespace: x}], route: [{destination: {host: b}, weight: 7}]}],
         tcp: [{match: [{port: 9, sourceSubnet: 10.0.0.1, destinationSubnets: ['fd00::/8']}], route: [{destination: {host: b, port: {number: 9}}}]}, {route: [{destination: {host: c}}]}]",
    );
    let (resources, findings) = load_text("f.yaml", &yaml);
    assert!(findings.is_empty(), "{findings:#?}");
    let spec = &resources.virtual_services.get("default", "a").expect("it is valid").spec;
    let block = &spec.tls[0].matches[0];
    let names: Vec<&str> = block.sni_hosts.iter().map(|host| &*host.value.0).collect();
    assert_eq!((names, block.port), (vec!["a.example.com", "*.b.example.com"], Some(443)));
    assert_eq!((spec.tls[0].route[0].weight, spec.tcp.len(), spec.tcp[1].matches.len()), (7, 2, 0));
    let subnets = (&spec.tcp[0].matches[0].source_subnet, &spec.tcp[0].matches[0].destination_subnets);
    assert_eq!(subnets.0.as_ref().map(|s| s.to_string()).as_deref(), Some("10.0.0.1/32"));
    assert_eq!(subnets.1[0].to_string(), "fd00::/8");
}

#[test]
fn rules_for_connections_have_names_and_destinations() {
    check(
        &rules("tls: [{match: [], route: []}, {match: [{sniHosts: []}], route: [{destination: {host: b}}, {destination: {host: c}}]}]"),
        "error [IST0106] VirtualService default/a f.yaml:5:7: spec.tls[0]: match: the list is empty, expected at least one block with `sniHosts`
         error [IST0106] VirtualService default/a f.yaml:5:7: spec.tls[0]: `route` is missing or empty, expected at least one destination
         error [IST0106] VirtualService default/a f.yaml:5:31: spec.tls[1]: all weights are zero or absent, so no destination gets a request (give at least one destination a weight of 1 or more)
         error [IST0106] VirtualService default/a f.yaml:5:40: spec.tls[1]: match[0].sniHosts: the list is empty, expected at least one host",
    );
    check(
        &rules(
            "tls: [{match: [{sniHosts: [a.com, example.com, '*.com']}], route: [{destination: {host: b}}]}], tcp: [{match: [{sourceSubnet: x}]}]",
        ),
        "error [IST0106] VirtualService default/a f.yaml:5:127: spec.tcp[0].match[0].sourceSubnet: found the string \"x\", expected an IP address or a CIDR block such as `10.0.0.0/8`",
    );
    check(
        &rules("tls: [{match: [{sniHosts: [a.com, example.com, '*.com']}], route: [{destination: {host: b}}]}]"),
        "error [IST0106] VirtualService default/a f.yaml:5:28: spec: tls[0]: sniHosts: \"a.com\" is within none of `hosts` (*.example.com) (add it to `hosts`, or correct it)
         error [IST0106] VirtualService default/a f.yaml:5:35: spec: tls[0]: sniHosts: \"example.com\" is within none of `hosts` (*.example.com) (add it to `hosts`, or correct it)
         error [IST0106] VirtualService default/a f.yaml:5:48: spec: tls[0]: sniHosts: \"*.com\" is within none of `hosts` (*.example.com) (add it to `hosts`, or correct it)",
    );
}

#[test]
fn a_delegate_has_only_http() {
    check(
        &rules("http: [{directResponse: {status: 200}}], tcp: [{route: [{destination: {host: c}}]}]")
            .replace("hosts: ['*.example.com'], ", ""),
        "error [IST0106] VirtualService default/a f.yaml:4:19: spec: gateways: a delegate (a VirtualService without hosts) has only `http` (move it to the VirtualService that delegates, or add `hosts`)
         error [IST0106] VirtualService default/a f.yaml:5:48: spec: tcp: a delegate (a VirtualService without hosts) has only `http` (move it to the VirtualService that delegates, or add `hosts`)",
    );
}
