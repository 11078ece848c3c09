//! Which names answer, and who wins them.

use crate::dump::{check, service};

#[test]
fn a_service_answers_to_all_of_its_names() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews}\nspec: {clusterIP: 10.0.0.7, ports: [{name: http, port: 9080}]}";
    check(
        "",
        "domains",
        yaml,
        "reviews.default.svc.cluster.local:9080
         = reviews.default.svc.cluster.local:9080 reviews.default.svc.cluster.local reviews.default:9080 reviews.default reviews.default.svc:9080 reviews.default.svc reviews:9080 reviews 10.0.0.7:9080 10.0.0.7",
    );
}

#[test]
fn port_80_needs_no_unstated_names_and_several_ports_have_none() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: http, port: 80}]}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{name: http-a, port: 8080}, {name: http-b, port: 8081}]}";
    check(
        "",
        "domains",
        yaml,
        "a.default.svc.cluster.local:80
         = a.default.svc.cluster.local:80 a.default:80 a.default.svc:80 a:80
         b.default.svc.cluster.local:8080
         = b.default.svc.cluster.local:8080 b.default:8080 b.default.svc:8080 b:8080
         b.default.svc.cluster.local:8081
         = b.default.svc.cluster.local:8081 b.default:8081 b.default.svc:8081 b:8081",
    );
}

const TWO_NAMESPACES: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: test}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: test}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web}]}}
";

#[test]
fn a_bare_name_belongs_to_the_clients_namespace() {
    check(
        "test/web",
        "domains",
        TWO_NAMESPACES,
        "cart.test.svc.cluster.local:80
         = cart.test.svc.cluster.local:80 cart.test:80 cart.test.svc:80 cart:80
         cart.shop.svc.cluster.local:80
         = cart.shop.svc.cluster.local:80 cart.shop:80 cart.shop.svc:80
         pay.shop.svc.cluster.local:80
         = pay.shop.svc.cluster.local:80 pay.shop:80 pay.shop.svc:80",
    );
}

#[test]
fn an_anonymous_client_finds_unique_bare_names_everywhere() {
    check(
        "",
        "domains",
        TWO_NAMESPACES,
        "cart.shop.svc.cluster.local:80
         = cart.shop.svc.cluster.local:80 cart.shop:80 cart.shop.svc:80
         cart.test.svc.cluster.local:80
         = cart.test.svc.cluster.local:80 cart.test:80 cart.test.svc:80
         pay.shop.svc.cluster.local:80
         = pay.shop.svc.cluster.local:80 pay.shop:80 pay.shop.svc:80 pay:80",
    );
}

#[test]
fn protocols_decide_what_is_routed() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: web, port: 80}, {name: tcp-x, port: 81}, \
                {name: https, port: 443}, {name: db, port: 3306}, {name: dns, port: 53, protocol: UDP}, {name: x, port: 90, appProtocol: grpc}]}";
    check(
        "",
        "domains clusters services",
        yaml,
        "a.default.svc.cluster.local:80
         = a.default.svc.cluster.local:80 a.default:80 a.default.svc:80 a:80
         a.default.svc.cluster.local:90
         = a.default.svc.cluster.local:90 a.default:90 a.default.svc:90 a:90
         a.default.svc.cluster.local:81
         = a.default.svc.cluster.local:81 a.default:81 a.default.svc:81 a:81
         a.default.svc.cluster.local:443
         = a.default.svc.cluster.local:443 a.default:443 a.default.svc:443 a:443
         a.default.svc.cluster.local:3306
         = a.default.svc.cluster.local:3306 a.default:3306 a.default.svc:3306 a:3306
         outbound|3306||a.default.svc.cluster.local least [0]
         outbound|443||a.default.svc.cluster.local least [0]
         outbound|80||a.default.svc.cluster.local least as-client [0]
         outbound|81||a.default.svc.cluster.local least [0]
         outbound|90||a.default.svc.cluster.local least h2 [0]
         default/a [80, 81, 443, 3306, 90] 0",
    );
    check("", "codes", yaml, "OUT0203 4\nOUT0203 4\nOUT0203 4");
}

#[test]
fn a_short_host_belongs_to_the_rules_namespace_and_a_dotted_one_stays() {
    let rule = |host: &str| {
        format!(
            "{}{}apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: shop}}\nspec:\n  hosts: [x.example.com]\n  http:\n  - route:\n    - destination: {{host: {host}}}\n",
            service("shop", "cart", &[]),
            service("default", "cart", &[])
        )
    };
    let route = |host: &str, expected: &str| check("", "routes host=x.example", &rule(host), expected);
    route("cart", "x.example.com:80\ndefault -> outbound|9080||cart.shop.svc.cluster.local*1");
    route("cart.default", "x.example.com:80\ndefault -> outbound|80||cart.default*1!503");
    route(
        "cart.default.svc.cluster.local",
        "x.example.com:80\ndefault -> outbound|9080||cart.default.svc.cluster.local*1",
    );
}

#[test]
fn an_unknown_host_gets_port_80_and_a_wildcard_stands_for_itself() {
    let yaml = service("default", "a", &[])
        + "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: ['*.example.com', ghost]
  http:
  - route:
    - destination: {host: a}
";
    check(
        "",
        "domains host=:80",
        &yaml,
        "*.example.com:80
         = *.example.com:80
         ghost.default.svc.cluster.local:80
         = ghost.default.svc.cluster.local:80 ghost.default:80 ghost.default.svc:80 ghost:80",
    );
}

#[test]
fn an_exact_host_beats_a_wildcard_and_the_longest_wildcard_the_others() {
    let rule = |name: &str, host: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: ['{host}']\n  http:\n  - name: {name}\n    directResponse: {{status: 200}}\n"
        )
    };
    let yaml = service("default", "a", &[])
        + &service("default", "b", &[])
        + &service("shop", "c", &[])
        + &rule("any", "*.local")
        + &rule("local", "*.cluster.local")
        + &rule("default", "*.default.svc.cluster.local")
        + &rule("exact", "a");
    check(
        "",
        "routes findings",
        &yaml,
        r#"a.default.svc.cluster.local:9080
         exact -> 200 ""
         b.default.svc.cluster.local:9080
         default -> 200 ""
         c.shop.svc.cluster.local:9080
         local -> 200 """#,
    );
}

#[test]
fn the_oldest_virtual_service_has_the_host_and_the_other_is_named() {
    let rule = |name: &str, created: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}{created}}}\nspec:\n  hosts: [a]\n  http:\n  - name: {name}\n    directResponse: {{status: 200}}\n"
        )
    };
    let young = ", creationTimestamp: '2024-02-01T00:00:00Z'";
    let old = ", creationTimestamp: '2024-01-01T00:00:00Z'";
    let yaml = service("default", "a", &[]) + &rule("second", young) + &rule("first", old);
    check(
        "",
        "routes findings",
        &yaml,
        r#"a.default.svc.cluster.local:9080
         first -> 200 ""
         warning [OUT0201] VirtualService default/second f.yaml:11:11: has no effect for a.default.svc.cluster.local: VirtualService default/first at f.yaml:20:11 already has it (objects of this kind are not merged for one host; put the rules into one object)"#,
    );
    let unstamped = service("default", "a", &[]) + &rule("x", "") + &rule("a", "");
    check("", "routes", &unstamped, "a.default.svc.cluster.local:9080\nx -> 200 \"\"");
}

#[test]
fn an_external_name_stands_for_its_target() {
    let yaml = service("shop", "cart", &[])
        + "apiVersion: v1
kind: Service
metadata: {name: basket}
spec: {type: ExternalName, externalName: cart.shop.svc.cluster.local, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: fixed}
spec: {type: ExternalName, externalName: 10.1.2.3, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec: {type: ExternalName, externalName: example.com, ports: [{name: http, port: 80}]}
";
    check(
        "",
        "domains host=cart",
        &yaml,
        "cart.shop.svc.cluster.local:9080
         = cart.shop.svc.cluster.local:9080 cart.shop.svc.cluster.local cart.shop:9080 cart.shop cart.shop.svc:9080 cart.shop.svc cart:9080 cart basket.default.svc.cluster.local:9080 basket.default.svc.cluster.local basket.default:9080 basket.default basket.default.svc:9080 basket.default.svc basket:9080 basket",
    );
    check(
        "",
        "endpoints host=default findings",
        &yaml,
        "outbound|80||far.default.svc.cluster.local least dns [1]
         example.com:80 default/unknown app=unknown version=unknown
         outbound|80||fixed.default.svc.cluster.local least [1]
           10.1.2.3:80 default/unknown app=unknown version=unknown",
    );
}

#[test]
fn a_service_entry_has_its_own_hosts_and_addresses() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: shop}
spec:
  hosts: [api.example.com, '*.wild.example.com']
  addresses: [10.9.0.1, 10.8.0.0/16]
  ports: [{number: 8080, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1, ports: {http: 9090}, weight: 3, locality: r/z, labels: {app: api, version: v1}, serviceAccount: sa}]
";
    check(
        "",
        "domains endpoints",
        yaml,
        "api.example.com:8080
         = api.example.com:8080 api.example.com 10.9.0.1:8080 10.9.0.1
         *.wild.example.com:8080
         = *.wild.example.com:8080 *.wild.example.com
         api.example.com:443
         = api.example.com:443 10.9.0.1:443
         *.wild.example.com:443
         = *.wild.example.com:443
         outbound|443||*.wild.example.com least [1]
         10.0.0.1:443 shop/unknown app=api version=v1 spiffe://cluster.local/ns/shop/sa/sa weight=3 at=r/z
         outbound|443||api.example.com least [1]
         10.0.0.1:443 shop/unknown app=api version=v1 spiffe://cluster.local/ns/shop/sa/sa weight=3 at=r/z
         outbound|8080||*.wild.example.com least [1]
         10.0.0.1:9090 shop/unknown app=api version=v1 spiffe://cluster.local/ns/shop/sa/sa weight=3 at=r/z
         outbound|8080||api.example.com least [1]
         10.0.0.1:9090 shop/unknown app=api version=v1 spiffe://cluster.local/ns/shop/sa/sa weight=3 at=r/z",
    );
}

#[test]
fn resolutions_of_service_entries() {
    let entry = |resolution: &str, more: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e}}\nspec:\n  hosts: [x.example.com]\n  ports: [{{number: 80, name: http, targetPort: 81}}]\n  resolution: {resolution}\n{more}"
        )
    };
    check("", "endpoints findings", &entry("NONE", ""), "outbound|80||x.example.com least original [0]");
    let own_name = "x.example.com:81 default/unknown app=unknown version=unknown";
    for (resolution, shown) in [("DNS", "dns"), ("DNS_ROUND_ROBIN", "dns-in-turns")] {
        let expected = format!("outbound|80||x.example.com least {shown} [1]\n{own_name}");
        check("", "endpoints findings", &entry(resolution, ""), &expected);
    }
    check(
        "",
        "endpoints findings",
        &entry(
            "DNS",
            "  endpoints: [{address: 10.0.0.1}, {address: Y.example.com., ports: {http: 82}, weight: 3, locality: r/z}]",
        ),
        "outbound|80||x.example.com least dns [2]
         10.0.0.1:81 default/unknown app=unknown version=unknown
         y.example.com:82 default/unknown app=unknown version=unknown weight=3 at=r/z",
    );
    check(
        "",
        "endpoints findings",
        &entry("DNS", "  endpoints: [{address: 'unix:///run/x'}]"),
        "outbound|80||x.example.com least dns [0]
         warning [OUT0103] ServiceEntry default/e f.yaml:8:25: address \"unix:///run/x\" is a Unix socket, which is not connected to yet (give an IP address; there is no endpoint for it)",
    );
}

#[test]
fn one_host_of_two_entries_goes_to_the_clients_namespace() {
    let entry = |namespace: &str, ip: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: {namespace}}}\nspec:\n  hosts: [x.example.com]\n  ports: [{{number: 80, name: http}}]\n  resolution: STATIC\n  endpoints: [{{address: {ip}}}]\n"
        )
    };
    check(
        "",
        "endpoints findings",
        &(entry("shop", "10.0.0.1") + &entry("default", "10.0.0.2")),
        "outbound|80||x.example.com least [1]
         10.0.0.2:80 default/unknown app=unknown version=unknown
         warning [OUT0201] ServiceEntry shop/e f.yaml:4:18: has no effect for x.example.com:80: ServiceEntry default/e at f.yaml:13:18 already has it (objects of this kind are not merged for one host; put the rules into one object)",
    );
}

#[test]
fn a_headless_service_has_names_for_its_pods() {
    let yaml = "apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}, {name: tcp, port: 81}]}
";
    let expected = "
        *.db.shop.svc.cluster.local:80
        = *.db.shop.svc.cluster.local:80 *.db.shop:80 *.db.shop.svc:80 *.db:80
        db.shop.svc.cluster.local:80
        = db.shop.svc.cluster.local:80 db.shop:80 db.shop.svc:80 db:80
        db.shop.svc.cluster.local:81
        = db.shop.svc.cluster.local:81 db.shop:81 db.shop.svc:81 db:81
        outbound|80||*.db.shop.svc.cluster.local least [0]
        outbound|80||db.shop.svc.cluster.local least [0]
        outbound|81||db.shop.svc.cluster.local least [0]";
    check("shop/x", "domains clusters host=db", yaml, expected);
}
