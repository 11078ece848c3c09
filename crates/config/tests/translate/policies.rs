//! DestinationRules: which one counts, what it says, how blocks merge; mesh settings; locality.

use crate::dump::{check, service};

fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn client(namespace: &str, name: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c}}]}}}}\n"
    )
}

const RANDOM: &str = "trafficPolicy: {loadBalancer: {simple: RANDOM}}";

#[test]
fn the_clients_namespace_is_asked_first_then_the_services_then_the_root() {
    let base = service("shop", "cart", &[]) + &client("web", "web") + &client("other", "other");
    let root = rule("istio-system", "root", &format!("{{host: '*.local', {RANDOM}}}"));
    let own = rule("shop", "own", &format!("{{host: cart, {RANDOM}}}"));
    // A wildcard of the client's namespace hides an exact rule of the service's.
    let wild = rule("web", "wild", &format!("{{host: '*.shop.svc.cluster.local', {RANDOM}}}"));
    let at = |from: &str, rules: &[&String], by: &str| {
        let yaml = rules.iter().fold(base.clone(), |yaml, rule| yaml + rule);
        check(from, "clusters", &yaml, &format!("outbound|9080||cart.shop.svc.cluster.local random by={by} [0]"));
    };
    at("web/web", &[&root, &own, &wild], "web/wild");
    at("other/other", &[&root, &own, &wild], "shop/own");
    at("other/other", &[&root, &wild], "istio-system/root");
    let hidden = rule("shop", "own", &format!("{{host: cart, exportTo: ['.'], {RANDOM}}}"));
    at("other/other", &[&root, &hidden], "istio-system/root");
}

#[test]
fn the_most_specific_host_wins_in_a_namespace() {
    let yaml = service("default", "a", &[])
        + &rule("default", "all", "{host: '*', trafficPolicy: {loadBalancer: {simple: RANDOM}}}")
        + &rule(
            "default",
            "wild",
            "{host: '*.default.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}",
        );
    check("", "clusters", &yaml, "outbound|9080||a.default.svc.cluster.local rr by=default/wild [0]");
}

#[test]
fn clients_of_the_root_namespace_ask_the_services_namespace_first() {
    let yaml = service("shop", "cart", &[])
        + &client("istio-system", "gateway")
        + &rule("istio-system", "root", "{host: '*.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}}")
        + &rule("shop", "own", "{host: cart, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}");
    check("istio-system/gateway", "clusters", &yaml, "outbound|9080||cart.shop.svc.cluster.local rr by=shop/own [0]");
    let private = yaml
        + &rule(
            "istio-system",
            "mine",
            "{host: '*.local', exportTo: ['.'], trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}",
        );
    check(
        "istio-system/gateway",
        "clusters",
        &private,
        "outbound|9080||cart.shop.svc.cluster.local passthrough original by=istio-system/mine [0]",
    );
}

#[test]
fn rules_for_one_host_merge_and_what_has_no_effect_is_said() {
    let yaml = service("default", "a", &[])
        + &rule(
            "default",
            "first",
            "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {version: v1}}]}",
        )
        + &rule(
            "default",
            "second",
            "{host: a.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, subsets: [{name: v1, labels: {version: x}}, {name: v2, labels: {version: v2}}]}",
        );
    check(
        "",
        "clusters findings",
        &yaml,
        r#"outbound|9080|v1|a.default.svc.cluster.local random by=default/first [0]
         outbound|9080|v2|a.default.svc.cluster.local random by=default/first [0]
         outbound|9080||a.default.svc.cluster.local random by=default/first [0]
         warning [OUT0212] DestinationRule default/second f.yaml:15:14: its trafficPolicy has no effect: DestinationRule default/first is older and has one for the same host (keep one trafficPolicy for a host; later rules may only add subsets)
         warning [OUT0212] DestinationRule default/second f.yaml:15:114: subset "v1" is already defined by the older DestinationRule default/first (rename or remove it)"#,
    );
}

#[test]
fn a_workload_selector_takes_in_clients_by_label() {
    let yaml = service("default", "a", &[])
        + &client("default", "web")
        + &client("default", "job")
        + &rule("default", "all", "{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}}")
        + &rule(
            "default",
            "some",
            "{host: a, workloadSelector: {matchLabels: {app: web}}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}",
        );
    check("default/web", "clusters", &yaml, "outbound|9080||a.default.svc.cluster.local rr by=default/some [0]");
    check("default/job", "clusters", &yaml, "outbound|9080||a.default.svc.cluster.local random by=default/all [0]");
    check("", "clusters", &yaml, "outbound|9080||a.default.svc.cluster.local random by=default/all [0]");
}

#[test]
fn subset_over_rule_block_by_block_and_port_level_replaces_all() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: http-a, port: 80}, {name: http-b, port: 81}]}\n".to_owned()
        + &rule(
            "default",
            "r",
            "
  host: a
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    connectionPool: {tcp: {maxConnections: 7, connectTimeout: 3s}, http: {http1MaxPendingRequests: 5, maxRequestsPerConnection: 9}}
    outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 0}
    tls: {mode: SIMPLE}
    portLevelSettings:
    - port: {number: 81}
      loadBalancer: {simple: ROUND_ROBIN}
  subsets:
  - name: s
    trafficPolicy: {outlierDetection: {consecutive5xxErrors: 9}}
  - name: p
    trafficPolicy: {portLevelSettings: [{port: {number: 80}, connectionPool: {http: {http2MaxRequests: 1}}}]}",
        );
    check(
        "",
        "clusters",
        &yaml,
        "outbound|80|p|a.default.svc.cluster.local least pool,requests=1 by=default/r [0]
         outbound|80|s|a.default.svc.cluster.local random connect=3s pool,connections=7,pending=5,per-connection=9 outlier=9/10% tls=Simple by=default/r [0]
         outbound|80||a.default.svc.cluster.local random connect=3s pool,connections=7,pending=5,per-connection=9 outlier=3/10% tls=Simple by=default/r [0]
         outbound|81|p|a.default.svc.cluster.local rr by=default/r [0]
         outbound|81|s|a.default.svc.cluster.local rr outlier=9/10% by=default/r [0]
         outbound|81||a.default.svc.cluster.local rr by=default/r [0]",
    );
    check("", "codes", &yaml, "OUT0102 14\nOUT0103 15");
}

#[test]
fn every_balancer_is_read() {
    let of = |balancer: &str, expected: &str| {
        let yaml = service("default", "a", &[])
            + &rule("default", "r", &format!("{{host: a, trafficPolicy: {{loadBalancer: {balancer}}}}}"));
        check(
            "",
            "clusters",
            &yaml,
            &format!("outbound|9080||a.default.svc.cluster.local {expected} by=default/r [0]"),
        );
    };
    of("{}", "least");
    of("{simple: UNSPECIFIED}", "least");
    of("{simple: LEAST_CONN}", "least");
    of("{simple: LEAST_REQUEST, warmup: {duration: 30s, minimumPercent: 5, aggression: 2}}", "least warmup=30s/0.05/2");
    of("{simple: ROUND_ROBIN, warmupDurationSecs: 10s}", "rr warmup=10s/0.1/1");
    of("{consistentHash: {httpHeaderName: X-User}}", "ring(1024,Header(HeaderName(\"x-user\")))");
    of("{consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 64}}}", "ring(64,SourceIp)");
    of("{consistentHash: {httpQueryParameterName: q, maglev: {}}}", "maglev(65537,Query(\"q\"))");
    of(
        "{consistentHash: {httpCookie: {name: user, path: /, ttl: 0s, attributes: [{name: SameSite, value: Strict}]}, minimumRingSize: 2048}}",
        "ring(2048,Cookie(CookieKey { name: \"user\", path: \"/\", ttl: Some(0ns), attributes: [(\"SameSite\", \"Strict\")] }))",
    );
}

#[test]
fn bad_policies_keep_the_rule_out_and_say_why() {
    let of = |policy: &str, expected: &str| {
        let yaml =
            service("default", "a", &[]) + &rule("default", "r", &format!("{{host: a, trafficPolicy: {policy}}}"));
        let expected = format!("outbound|9080||a.default.svc.cluster.local least [0]\n{expected}");
        check("", "clusters findings", &yaml, &expected);
    };
    of(
        "{loadBalancer: {simple: ROUND_ROBBIN}}",
        "error [IST0106] DestinationRule default/r f.yaml:10:56: spec.trafficPolicy.loadBalancer.simple: found the string \"ROUND_ROBBIN\", expected one of `UNSPECIFIED`, `LEAST_CONN`, `RANDOM`, `PASSTHROUGH`, `ROUND_ROBIN`, `LEAST_REQUEST` (did you mean `ROUND_ROBIN`?)",
    );
    of(
        "{loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 100}}}}",
        "error [IST0106] DestinationRule default/r f.yaml:10:104: spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: found the number 100, expected a prime number (65537 is the default; Maglev's permutations need one)",
    );
    of(
        "{loadBalancer: {localityLbSetting: {distribute: [{from: r1, to: {r1: 50}}]}}}",
        "error [IST0106] DestinationRule default/r f.yaml:10:67: spec.trafficPolicy.loadBalancer.localityLbSetting: distribute[0].to: the shares add up to 50, expected 100",
    );
}

#[test]
fn locality_failover_needs_outlier_detection() {
    let slice = |place: &str, port: u16| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a{port}, labels: {{kubernetes.io/service-name: a, istio-locality: {place}}}}}\naddressType: IPv4\nports: [{{name: http, port: {port}}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n"
        )
    };
    let web = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: web}\nspec: {address: 10.0.0.1, locality: r1/z1}\n";
    let base = service("default", "a", &[]) + &slice("r1.z1", 1) + &slice("r1.z2", 2) + &slice("r2.z1", 3) + web;
    let outlier = base.clone() + &rule("default", "r", "{host: a, trafficPolicy: {outlierDetection: {}}}");
    check(
        "default/web",
        "endpoints",
        &outlier,
        "outbound|9080||a.default.svc.cluster.local least outlier=5/10% by=default/r [3]
         127.0.0.1:1 default/a app=a version=unknown at=r1/z1
         127.0.0.1:2 default/a app=a version=unknown priority=1 at=r1/z2
         127.0.0.1:3 default/a app=a version=unknown priority=2 at=r2/z1",
    );
    let without = base.clone()
        + &rule(
            "default",
            "r",
            "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failover: [{from: r1, to: r2}]}}}}",
        );
    check(
        "default/web",
        "endpoints findings",
        &without,
        "outbound|9080||a.default.svc.cluster.local least by=default/r [3]
         127.0.0.1:1 default/a app=a version=unknown at=r1/z1
         127.0.0.1:2 default/a app=a version=unknown at=r1/z2
         127.0.0.1:3 default/a app=a version=unknown at=r2/z1
         warning [OUT0210] DestinationRule default/r f.yaml:36:47: localityLbSetting asks for failover, but there is no outlierDetection beside it (add `outlierDetection: {}`; without it endpoints elsewhere are used alike)",
    );
    let shares = base
        + &rule(
            "default",
            "r",
            "{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {r1/z1/*: 80, r2/*: 20}}]}}}}",
        );
    check(
        "default/web",
        "endpoints findings",
        &shares,
        "outbound|9080||a.default.svc.cluster.local least weighted by=default/r [2]
         127.0.0.1:1 default/a app=a version=unknown locality-weight=80 at=r1/z1
         127.0.0.1:3 default/a app=a version=unknown locality-weight=20 at=r2/z1",
    );
}

fn mesh(text: &str) -> String {
    let text = text.replace('\n', "\n    ");
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n    {text}\n"
    )
}

#[test]
fn mesh_settings_count() {
    let yaml = service("default", "a", &[("v1", 9001)])
        + &mesh(
            "trustDomain: corp.example\nconnectTimeout: 2s\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\ndefaultTrafficPolicy:\n  outlierDetection: {consecutive5xxErrors: 2}",
        );
    check(
        "",
        "clusters unmatched",
        &yaml,
        "outbound|9080||a.default.svc.cluster.local least connect=2s outlier=2/10% [1]\nBlackHole",
    );
}

#[test]
fn a_broken_mesh_text_is_placed_in_its_config_map() {
    let yaml = service("default", "a", &[]) + &mesh("trustDomain: corp.example\nconnectTimeout: 2\nrootNamespac: x");
    check(
        "",
        "clusters findings",
        &yaml,
        "outbound|9080||a.default.svc.cluster.local least [0]
         error [IST0106] ConfigMap istio-system/istio f.yaml:13:21: data.mesh.connectTimeout: found the number 2, expected a duration such as `10s`, `1m30s` or `250ms` (add the unit: `2s`)
         warning [OUT0101] ConfigMap istio-system/istio f.yaml:14:5: data.mesh: unknown field `rootNamespac` (did you mean `rootNamespace`?)",
    );
}

#[test]
fn an_unknown_host_is_named_with_the_namespace_it_is_in() {
    let yaml =
        service("shop", "cart", &[]) + &rule("default", "r", "{host: cart}") + &rule("default", "s", "{host: nowhere}");
    check(
        "",
        "findings",
        &yaml,
        r#"warning [IST0174] DestinationRule default/r f.yaml:10:14: host "cart" (cart.default.svc.cluster.local) matches no Service and no ServiceEntry (cart is in namespace shop, not default: write cart.shop.svc.cluster.local)
         warning [IST0174] DestinationRule default/s f.yaml:15:14: host "nowhere" (nowhere.default.svc.cluster.local) matches no Service and no ServiceEntry (define the Service or ServiceEntry, or correct the host)"#,
    );
}
