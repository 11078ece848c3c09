//! TLSRoutes and TCPRoutes: what is read, and what the API server would refuse.

use outrigger_config::loader::load_text;

use crate::check;

/// An object of a kind and version; its `spec` begins on line 4, column 7.
fn object(kind: &str, version: &str, spec: &str) -> String {
    format!("apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: r}}\nspec: {{{spec}}}\n")
}

#[test]
fn all_versions_are_read() {
    let rules = "rules: [{name: main, backendRefs: [{name: a, port: 1}, {name: b, namespace: x, port: 2, weight: 0}]}]";
    let parents = "parentRefs: [{name: web, sectionName: tls}, {kind: Service, group: '', name: a, port: 5}], useDefaultGateways: None";
    for version in ["v1", "v1alpha3", "v1alpha2"] {
        let yaml = object("TLSRoute", version, &format!("{parents}, hostnames: [a.com, '*.b.com'], {rules}"));
        let (resources, findings) = load_text("f.yaml", &yaml);
        assert!(findings.is_empty(), "{findings:#?}");
        let spec = &resources.tls_routes.get("default", "r").expect("it is valid").spec;
        let hosts: Vec<&str> = spec.hostnames.iter().map(|host| &*host.value.0).collect();
        let weights: Vec<u32> = spec.rules[0].backends.iter().map(|backend| backend.weight).collect();
        assert_eq!((hosts, weights, spec.parents.len()), (vec!["a.com", "*.b.com"], vec![1, 0], 2));
    }
    for version in ["v1", "v1alpha2"] {
        let (resources, findings) = load_text("f.yaml", &object("TCPRoute", version, &format!("{parents}, {rules}")));
        assert!(findings.is_empty(), "{findings:#?}");
        assert_eq!(resources.tcp_routes.get("default", "r").expect("it is valid").spec.rules.len(), 1);
    }
    check(
        &object("TCPRoute", "v1alpha3", rules),
        "error [OUT0104] TCPRoute default/r f.yaml:1:13: apiVersion: found \"gateway.networking.k8s.io/v1alpha3\", expected one of `gateway.networking.k8s.io/v1`, `gateway.networking.k8s.io/v1alpha2`",
    );
}

#[test]
fn rules_are_bounded() {
    let one = "{backendRefs: [{name: a, port: 1}]}";
    check(
        &object("TCPRoute", "v1", &format!("rules: [{one}, {one}]")),
        "error [IST0106] TCPRoute default/r f.yaml:4:53: spec.rules[1]: a second rule, expected exactly one in gateway.networking.k8s.io/v1 (put all backends into the first rule, with weights)",
    );
    check(
        &object(
            "TLSRoute",
            "v1alpha2",
            "rules: [{name: a, backendRefs: [{name: a, port: 1}]}, {name: a, backendRefs: [{name: a, port: 1}]}]",
        ),
        "error [IST0106] TLSRoute default/r f.yaml:4:62: spec.rules[1]: the name \"a\" is that of an earlier rule (give each rule a name of its own)",
    );
    check(
        &object("TCPRoute", "v1", "rules: []"),
        "error [IST0106] TCPRoute default/r f.yaml:4:15: spec.rules: the list is empty, expected at least one item",
    );
    check(
        &object("TCPRoute", "v1", "parentRefs: [{name: a}]"),
        "error [IST0106] TCPRoute default/r f.yaml:4:7: spec: required field `rules` is missing",
    );
    check(
        &object("TCPRoute", "v1", "rules: [{backendRefs: [{name: a}, {name: b, port: 1, weight: 1000001}, {name: c, port: 1, filters: []}]}]"),
        "error [IST0106] TCPRoute default/r f.yaml:4:31: spec.rules[0].backendRefs[0]: required field `port` is missing (a reference to a Service names its port)
         error [IST0106] TCPRoute default/r f.yaml:4:69: spec.rules[0].backendRefs[1].weight: found the number 1000001, expected an integer from 0 to 1000000
         warning [OUT0101] TCPRoute default/r f.yaml:4:98: spec.rules[0].backendRefs[2]: unknown field `filters` (it is ignored; remove it, or move it to where it belongs)",
    );
    let many = [one; 17].join(", ");
    check(
        &object("TCPRoute", "v1alpha2", &format!("rules: [{many}]")),
        "error [IST0106] TCPRoute default/r f.yaml:4:15: spec.rules: found a list of 17 items, expected at most 16",
    );
}

#[test]
fn server_names_are_names() {
    let rules = "rules: [{backendRefs: [{name: a, port: 1}]}]";
    check(
        &object("TLSRoute", "v1", rules),
        "error [IST0106] TLSRoute default/r f.yaml:1:1: spec.hostnames: found none, expected at least one in gateway.networking.k8s.io/v1 (name the server names that the route is for)",
    );
    check(
        &object("TLSRoute", "v1alpha3", &format!("hostnames: [a.com, 10.0.0.1], {rules}")),
        "error [IST0106] TLSRoute default/r f.yaml:4:27: spec.hostnames[1]: found the address \"10.0.0.1\", expected a host name (clients name hosts in their hello, never addresses (RFC 6066))",
    );
    check(
        &object("TLSRoute", "v1", &format!("hostnames: ['*', A.com, 'a.*.com'], {rules}")),
        "error [IST0106] TLSRoute default/r f.yaml:4:20: spec.hostnames[0]: found the string \"*\", expected a host name in lower case such as `www.example.com`, or a wildcard such as `*.example.com`
         error [IST0106] TLSRoute default/r f.yaml:4:25: spec.hostnames[1]: found the string \"A.com\", expected a host name in lower case such as `www.example.com`, or a wildcard such as `*.example.com`
         error [IST0106] TLSRoute default/r f.yaml:4:32: spec.hostnames[2]: found the string \"a.*.com\", expected a host name in lower case such as `www.example.com`, or a wildcard such as `*.example.com`",
    );
    // The oldest version asks for none.
    check(&object("TLSRoute", "v1alpha2", rules), "");
}

#[test]
fn parents_are_named_once() {
    check(
        &object("TCPRoute", "v1", "parentRefs: [{name: a}, {name: a}], rules: [{backendRefs: [{name: a, port: 1}]}]"),
        "error [IST0106] TCPRoute default/r f.yaml:4:32: spec.parentRefs[1]: the same parent is named twice (give each reference to one parent a `sectionName` or `port` of its own)",
    );
}
