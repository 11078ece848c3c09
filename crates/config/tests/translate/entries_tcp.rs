//! ServiceEntries with ports of TCP and TLS: forwards, gateways and CONNECT lead there, rules for connections count.

use crate::dump::{check, dump};
use crate::istio_gateways::{INGRESS, gateway, rules};

/// A database with an address, and a service of TLS behind host names.
const ENTRIES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec:
  hosts: [db.example.com]
  addresses: [10.9.0.1]
  ports: [{number: 3306, name: mysql, protocol: MYSQL, targetPort: 3307}, {number: 27017, name: mongo, protocol: MONGO}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2, weight: 3}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.example.com, '*.wild.example.com']
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 8443, name: https, protocol: HTTPS}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.3}]
";

#[test]
fn forwards_lead_to_their_ports_by_host_and_by_address() {
    check(
        "> db.example.com:3306 10.9.0.1:27017 api.example.com:443 10.9.0.2:3306",
        "listeners clusters host=db.example findings",
        ENTRIES,
        "outbound
         [] http Passthrough
         db.example.com:3306 = db.example.com:3306 10.9.0.1:3306
         db.example.com:27017 = db.example.com:27017 10.9.0.1:27017
         api.example.com:443 = api.example.com:443
         api.example.com:8443 = api.example.com:8443
         *.wild.example.com:443 = *.wild.example.com:443
         *.wild.example.com:8443 = *.wild.example.com:8443
         forward|127.0.0.1:1
         [] shop/db default -> outbound|3306||db.example.com*1
         forward|127.0.0.1:2
         [] shop/db default -> outbound|27017||db.example.com*1
         forward|127.0.0.1:3
         [] shop/api default -> outbound|443||api.example.com*1
         forward|127.0.0.1:4
         []  -> outbound|3306||10.9.0.2*1!503
         outbound|27017||db.example.com least [2]
         outbound|3306||db.example.com least [2]
         error [IST0101]: forward 127.0.0.1:4=10.9.0.2:3306: host \"10.9.0.2\" is no known service; its connections are closed (define the Service or ServiceEntry, or correct the host)",
    );
    let endpoints = dump("> db.example.com:3306", "endpoints host=3306", ENTRIES);
    assert!(endpoints.contains("10.0.0.1:3307") && endpoints.contains("10.0.0.2:3307"), "{endpoints}");
}

#[test]
fn connect_leads_there_where_nothing_else_may_be_reached() {
    let strict = format!(
        "{ENTRIES}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
         data: {{mesh: \"outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}\"}}\n"
    );
    check(
        "",
        "unmatched domains host=:443 clusters",
        &strict,
        "BlackHole
         api.example.com:443
         = api.example.com:443
         *.wild.example.com:443
         = *.wild.example.com:443",
    );
    let clusters = dump("", "clusters host=|443|", &strict);
    assert!(clusters.contains("outbound|443||api.example.com least [1]"), "{clusters}");
}

#[test]
fn rules_for_connections_count_for_their_hosts() {
    let rules = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r, namespace: shop}
spec:
  hosts: [db.example.com, api.example.com]
  tcp:
  - match: [{port: 3306, destinationSubnets: [10.9.0.0/16]}]
    route: [{destination: {host: db.example.com, port: {number: 27017}}, weight: 9}, {destination: {host: api.example.com, port: {number: 443}}, weight: 1}]
  tls:
  - match: [{port: 443, sniHosts: [api.example.com]}]
    route: [{destination: {host: db.example.com, port: {number: 3306}}}]
";
    let found = dump("> db.example.com:3306 api.example.com:443", "listeners findings", &(ENTRIES.to_owned() + rules));
    let at = found.find("forward|").expect("forwards");
    assert_eq!(
        found[at..].trim_end(),
        "forward|127.0.0.1:1\n  [] shop/r tcp[0] -> outbound|27017||db.example.com*9 outbound|443||api.example.com*1\n\
         forward|127.0.0.1:2\n  [api.example.com] shop/r tls[0] -> outbound|3306||db.example.com*1\n  [] shop/api default -> outbound|443||api.example.com*1",
    );
}

#[test]
fn gateways_lead_out_to_them() {
    let servers = "{port: {number: 3306, name: mysql, protocol: MYSQL}, hosts: ['*']}, \
                   {port: {number: 6379, name: redis, protocol: Redis}, hosts: ['*']}, \
                   {port: {number: 443, name: tls, protocol: TLS}, hosts: [api.example.com], tls: {mode: PASSTHROUGH}}";
    let yaml = ENTRIES.to_owned()
        + "---\n"
        + &gateway("shop/egress", servers)
        + &rules(
            "shop/out",
            "'*', api.example.com",
            "egress",
            "  tcp:
  - {match: [{port: 3306}], route: [{destination: {host: db.example.com, port: {number: 3306}}}]}
  - {match: [{port: 6379}], route: [{destination: {host: db.example.com, port: {number: 27017}}}]}
  tls: [{match: [{port: 443, sniHosts: [api.example.com]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]",
        );
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        "gateway|443
         [api.example.com] shop/out tls[0] -> outbound|443||api.example.com*1
         gateway|3306
         [] shop/out tcp[0] -> outbound|3306||db.example.com*1
         gateway|6379
         [] shop/out tcp[1] -> outbound|27017||db.example.com*1",
    );
}

#[test]
fn an_entry_that_leaves_the_address_to_the_client_takes_no_forward_but_a_tunnel() {
    let yaml = ENTRIES.replace("  resolution: STATIC\n  endpoints: [{address: 10.0.0.3}]\n", "  resolution: NONE\n");
    let found = dump("> api.example.com:443", "findings clusters host=443||api", &yaml);
    assert!(found.contains("outbound|443||api.example.com least original [0]"), "{found}");
    assert!(found.contains("leaves it to each connection which address it goes to, and a forward has none"), "{found}");
    assert!(dump("", "domains", &yaml).contains("api.example.com:443"));
}
