//! Listeners that relay connections to one service each: which service, by which rules, and what is said of it.

use std::sync::Arc;

use outrigger_config::loader::load_text;
use outrigger_config::translate::{Forward, Translator, View};

use crate::dump::{check, dump};

/// Services `redis` in `shop` (with an address) and in `other`, `db` with TCP, TLS and HTTP ports, two workloads.
pub(crate) const BASE: &str = "
apiVersion: v1
kind: Service
metadata: {name: redis, namespace: shop}
spec: {clusterIP: 10.0.0.7, ports: [{name: tcp-redis, port: 6379}]}
---
apiVersion: v1
kind: Service
metadata: {name: redis, namespace: other}
spec: {ports: [{name: tcp-redis, port: 6379}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {ports: [{name: tcp, port: 5432}, {name: tls, port: 5433}, {name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: redis, namespace: shop}
spec: {host: redis, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template: {metadata: {labels: {app: cart}}, spec: {containers: [{name: c, image: any}]}}
";

/// [`BASE`] with a VirtualService of namespace `shop`.
fn with(name: &str, hosts: &str, rules: &str) -> String {
    format!(
        "{BASE}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  hosts: [{hosts}]\n{rules}"
    )
}

/// Checks the listeners behind the outbound one.
#[track_caller]
pub(crate) fn forwards(from: &str, yaml: &str, expected: &str) {
    let all = dump(from, "listeners", yaml);
    let at = all.find("forward|").unwrap_or(all.len());
    assert_eq!(all[at..].trim_end(), expected, "of {all}");
}

#[test]
fn a_service_is_found_by_every_name_it_answers_to() {
    for (from, host) in [
        ("shop/cart", "redis"),
        ("shop/cart", "redis.shop"),
        ("shop/cart", "10.0.0.7"),
        ("", "redis.shop"),
        ("", "redis.shop.svc"),
        ("", "redis.shop.svc.cluster.local"),
        ("", "10.0.0.7"),
    ] {
        let cluster = "outbound|6379||redis.shop.svc.cluster.local*1";
        forwards(
            &format!("{from} > {host}:6379"),
            BASE,
            &format!("forward|127.0.0.1:1\n  [] shop/redis default -> {cluster}"),
        );
    }
    // A name that only one service has is enough for a client without namespace.
    forwards("> db:80", BASE, "forward|127.0.0.1:1\n  [] shop/db default -> outbound|80||db.shop.svc.cluster.local*1");
}

#[test]
fn what_is_not_found_is_told_and_its_connections_have_nowhere_to_go() {
    check(
        "> redis:6379 redi.shop.svc.cluster.local:6379 db.shop:1 db:5432",
        "findings",
        BASE,
        "error [IST0101]: forward 127.0.0.1:1=redis:6379: host \"redis\" is no known service; its connections are closed (redis \
         is in namespace shop, not default: write redis.shop.svc.cluster.local)
         error [IST0101]: forward 127.0.0.1:2=redi.shop.svc.cluster.local:6379: host \"redi.shop.svc.cluster.local\" is no known \
         service; its connections are closed (did you mean `redis`?)
         error [IST0101]: forward 127.0.0.1:3=db.shop:1: db.shop.svc.cluster.local has no port 1; its ports are 5432 (tcp), 5433 \
         (tls), 80 (http); its connections are closed (forward to one of its ports)",
    );
    forwards(
        "> db.shop:1 db:5432",
        BASE,
        "forward|127.0.0.1:1\n  []  -> outbound|1||db.shop*1!503\nforward|127.0.0.1:2\n  [] shop/db default -> \
         outbound|5432||db.shop.svc.cluster.local*1",
    );
}

#[test]
fn tcp_rules_share_connections_out() {
    let rules = "  tcp:
  - match: [{port: 1}, {sourceNamespace: other}, {gateways: [web]}]
    route: [{destination: {host: db, port: {number: 80}}}]
  - match: [{port: 6379, sourceLabels: {app: cart}}]
    route: [{destination: {host: redis, subset: v1}, weight: 9}, {destination: {host: redis, subset: v2}, weight: 1}]
  - route: [{destination: {host: redis, subset: v2}}]
";
    let yaml = with("r", "redis", rules);
    forwards(
        "shop/cart > redis:6379",
        &yaml,
        "forward|127.0.0.1:1\n  [] shop/r tcp[1] -> outbound|6379|v1|redis.shop.svc.cluster.local*9 \
         outbound|6379|v2|redis.shop.svc.cluster.local*1",
    );
    // Nobody in particular has no labels.
    forwards(
        "> redis.shop:6379",
        &yaml,
        "forward|127.0.0.1:1\n  [] shop/r tcp[2] -> outbound|6379|v2|redis.shop.svc.cluster.local*1",
    );
}

#[test]
fn subnets_are_those_of_the_services_addresses() {
    let rules = "  tcp:
  - match: [{destinationSubnets: [10.1.0.0/16]}]
    route: [{destination: {host: redis, subset: v1}}]
  - match: [{destinationSubnets: [10.0.0.0/24], sourceSubnet: 10.9.0.0/16}]
    route: [{destination: {host: redis, subset: v2}}]
";
    let yaml = with("r", "redis, db", rules);
    forwards(
        "> redis.shop:6379 db:5432",
        &yaml,
        "forward|127.0.0.1:1\n  [] shop/r tcp[1] -> outbound|6379|v2|redis.shop.svc.cluster.local*1\n\
         forward|127.0.0.1:2\n  [] shop/db default -> outbound|5432||db.shop.svc.cluster.local*1",
    );
    let none = |place: &str| {
        format!(
            "warning [OUT0102] VirtualService shop/r f.yaml:{place}: match.destinationSubnets: db.shop.svc.cluster.local has no \
             address in the input, so the match never holds (give the Service a `clusterIP`, or the ServiceEntry `addresses`)\n"
        )
    };
    let source = "warning [OUT0102] VirtualService shop/r f.yaml:37:63: match.sourceSubnet: it is not looked at, as in Istio \
                  (use `sourceLabels` or `sourceNamespace`)";
    check("> redis.shop:6379 db:5432", "findings", &yaml, &(none("35:35") + &none("37:35") + source));
}

#[test]
fn tls_goes_by_server_name_and_the_rest_by_port() {
    let rules = "  tls:
  - match: [{sniHosts: [db], port: 5432}, {sniHosts: ['*.db', a.db], sourceLabels: {app: cart}}]
    route: [{destination: {host: redis, subset: v1}}]
  - match: [{sniHosts: [a.db]}]
    route: [{destination: {host: redis, subset: v2}}]
  tcp:
  - route: [{destination: {host: redis}}]
";
    let yaml = with("r", "db, '*.db', a.db", rules);
    let of = |subset: &str| format!("outbound|6379|{subset}|redis.shop.svc.cluster.local*1");
    let last = format!("  [] shop/r tcp[0] -> {}", of(""));
    forwards(
        "shop/cart > db:5433",
        &yaml,
        &format!("forward|127.0.0.1:1\n  [*.db a.db] shop/r tls[0] -> {}\n{last}", of("v1")),
    );
    forwards("> db:5433", &yaml, &format!("forward|127.0.0.1:1\n  [a.db] shop/r tls[1] -> {}\n{last}", of("v2")));
    // A port that does not speak TLS is not asked for server names.
    forwards("> db:5432", &yaml, &format!("forward|127.0.0.1:1\n{last}"));
}

#[test]
fn who_names_the_host_comes_first_and_the_others_are_told() {
    let second = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: NAME, namespace: shop}\n\
                  spec: {hosts: [HOSTS], tcp: [{route: [{destination: {host: redis, subset: v2}}]}]}\n";
    let second = |name: &str, hosts: &str| second.replace("NAME", name).replace("HOSTS", hosts);
    let first = "  tcp: [{route: [{destination: {host: redis, subset: v1}}]}]\n";
    let yaml = with("a", "'*.shop.svc.cluster.local'", first) + &second("b", "redis");
    forwards(
        "> redis.shop:6379",
        &yaml,
        "forward|127.0.0.1:1\n  [] shop/b tcp[0] -> outbound|6379|v2|redis.shop.svc.cluster.local*1",
    );
    check(
        "> redis.shop:6379",
        "findings",
        &yaml,
        "warning [OUT0201] VirtualService shop/a f.yaml:33:11: has no effect for redis.shop.svc.cluster.local: VirtualService \
         shop/b at f.yaml:39:16 already has it (objects of this kind are not merged for one host; put the rules into one object)",
    );
    // Server names are given away one by one.
    let tls = |subset: &str| {
        format!(
            "  tls: [{{match: [{{sniHosts: [a.db]}}], route: [{{destination: {{host: redis, subset: {subset}}}}}]}}]\n"
        )
    };
    let (one, two) = (with("a", "db, a.db", &tls("v1")), with("b", "db, a.db", &tls("v2")));
    let both = one + "---" + two.rsplit("---").next().expect("the last document");
    check(
        "> db:5433",
        "findings",
        &both,
        "warning [OUT0201] VirtualService shop/b f.yaml:41:18: has no effect for server name a.db: VirtualService shop/a at \
         f.yaml:34:18 already has it (a connection goes one way; name the host in one of the two)",
    );
}

#[test]
fn a_destination_beyond_the_sidecars_scope_has_a_cluster_and_a_forward_there_has_not() {
    let sidecar = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: shop}\n\
                   spec: {egress: [{hosts: [./db.shop.svc.cluster.local]}]}\n";
    let rules = "  tcp: [{route: [{destination: {host: redis}}]}]\n";
    let yaml = with("r", "db", rules) + sidecar;
    let cluster = "outbound|6379||redis.shop.svc.cluster.local";
    assert!(dump("shop/cart > db:5432", "clusters host=redis", &yaml).contains(cluster));
    assert!(!dump("shop/cart", "clusters host=redis", &yaml).contains(cluster));
    check(
        "shop/cart > redis:6379",
        "findings host=IST0101",
        &(BASE.to_owned() + sidecar),
        "error [IST0101]: forward 127.0.0.1:1=redis:6379: namespace shop does not see host \"redis\" of Service shop/redis; its \
         connections are closed (look at its `exportTo`, and at the Sidecar of the client)",
    );
}

#[test]
fn a_port_that_the_sidecar_leaves_out_is_told() {
    let sidecar = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: shop}\n\
                   spec: {egress: [{port: {number: 80, protocol: HTTP, name: http}, hosts: [./db.shop.svc.cluster.local]}]}\n";
    check(
        "shop/cart > db:5432",
        "findings",
        &(BASE.to_owned() + sidecar),
        "error [IST0101]: forward 127.0.0.1:1=db:5432: port 5432 of db.shop.svc.cluster.local is not among the `egress` of the \
         client's Sidecar; its connections are closed (add it there)",
    );
}

#[test]
fn rules_for_http_do_not_count_and_do_not_hide_others() {
    let yaml = with("r", "db", "  http: [{route: [{destination: {host: redis}}]}]\n");
    forwards("> db:80", &yaml, "forward|127.0.0.1:1\n  [] shop/db default -> outbound|80||db.shop.svc.cluster.local*1");
    // Nor do rules for connections hide those for HTTP in another object.
    let tcp = with("a", "db", "  tcp: [{route: [{destination: {host: redis}}]}]\n");
    let http = yaml.rsplit("---").next().expect("the last document");
    let routes = dump("", "routes host=db", &(tcp + "---" + http));
    assert!(routes.contains("redis.shop.svc.cluster.local"), "{routes}");
}

#[test]
fn an_entry_without_endpoints_of_its_own_is_told() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}
";
    check(
        "> api.example:443",
        "findings",
        yaml,
        "warning [OUT0102] ServiceEntry default/api f.yaml:4:18: forward 127.0.0.1:1=api.example:443: ServiceEntry default/api \
         leaves it to each connection which address it goes to, and a forward has none (give the ServiceEntry `resolution: \
         STATIC` and endpoints)",
    );
}

#[test]
fn a_view_that_forwards_refutes_what_the_others_miss() {
    let yaml = with("r", "redis", "  tcp: [{route: [{destination: {host: redis}}]}]\n");
    let (resources, _) = load_text("f.yaml", &yaml);
    let to = |forwards: Arc<[Forward]>| Translator::new(View { forwards, ..View::default() });
    let forward = Forward { address: ([127, 0, 0, 1], 1).into(), host: "redis.shop".into(), port: 6379 };
    let (mut with, mut without) = (to([forward].into()), to([].into()));
    let (_, told) = with.translate(&resources);
    let (_, missed) = without.translate(&resources);
    let text = |findings: &[outrigger_model::Diagnostic]| {
        findings.iter().map(|f| (f.code.0, f.object.as_ref().map(ToString::to_string))).collect::<Vec<_>>()
    };
    let of = |code, object: &str| (code, Some(object.to_owned()));
    assert_eq!(text(with.refuted()), [of("OUT0103", "VirtualService shop/r"), of("OUT0203", "Service shop/redis")]);
    assert!(without.refuted().is_empty());
    let kept: Vec<_> = missed.into_iter().filter(|finding| !with.refuted().contains(finding)).collect();
    assert_eq!(text(&kept), text(&told));
    assert!(text(&told).contains(&of("OUT0203", "Service other/redis")));
}
