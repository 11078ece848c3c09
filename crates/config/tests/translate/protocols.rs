//! Which version of HTTP the endpoints of a port get, and what else of `connectionPool` concerns connections.

use crate::dump::check;

/// A Service `a` with these ports, a rule for it with this `trafficPolicy`, and this text of the mesh's settings.
fn input(ports: &str, policy: &str, mesh: &str) -> String {
    let mut yaml = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{ports: [{ports}]}}\n");
    if !policy.is_empty() {
        yaml += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: a, {policy}}}\n"
        );
    }
    if !mesh.is_empty() {
        yaml += &format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |-\n    {mesh}\n"
        );
    }
    yaml
}

/// The clusters of Service `a` for an anonymous client, without what is the same in all lines.
#[track_caller]
fn of(ports: &str, policy: &str, mesh: &str, expected: &str) {
    let by = if policy.is_empty() { "" } else { " by=default/r" };
    let line = |line: &str| {
        let (port, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = if rest.is_empty() { String::new() } else { format!(" {rest}") };
        format!("outbound|{port}||a.default.svc.cluster.local least{rest}{by} [0]\n")
    };
    let expected: String = expected.lines().map(str::trim).filter(|l| !l.is_empty()).map(line).collect();
    check("", "clusters findings", &input(ports, policy, mesh), &expected);
}

#[test]
fn a_port_says_what_its_instances_get() {
    of(
        "{name: http, port: 1}, {name: http-web, port: 2}, {name: http2, port: 3}, {name: grpc-a, port: 4}, \
         {name: grpc-web-b, port: 5}, {name: metrics, port: 6}, {name: x, port: 7, appProtocol: kubernetes.io/h2c}, \
         {name: grpc, port: 8, appProtocol: kubernetes.io/ws}, {name: z, port: 9, appProtocol: GRPC}",
        "",
        "",
        "1\n2\n3 h2\n4 h2\n5 h2\n6 as-client\n7 h2\n8\n9 h2",
    );
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [e.org], resolution: NONE, \
                 ports: [{name: a, number: 1, protocol: GRPC}, {name: http, number: 2}, {name: a3, number: 3, protocol: GRPC-Web}, {name: a4, number: 4}]}\n";
    check(
        "",
        "clusters findings",
        entry,
        "outbound|1||e.org least original h2 [0]
         outbound|2||e.org least original [0]
         outbound|3||e.org least original h2 [0]
         outbound|4||e.org least original as-client [0]",
    );
}

const PORTS: &str = "{name: http, port: 1}, {name: grpc, port: 2}, {name: metrics, port: 3}";

#[test]
fn a_rule_upgrades_and_wins_over_the_mesh() {
    let pool = |http: &str| format!("trafficPolicy: {{connectionPool: {{http: {{{http}}}}}}}");
    of(PORTS, &pool("h2UpgradePolicy: UPGRADE"), "", "1 h2\n2 h2\n3 h2");
    of(PORTS, &pool("h2UpgradePolicy: DO_NOT_UPGRADE"), "h2UpgradePolicy: UPGRADE", "1\n2 h2\n3 as-client");
    of(PORTS, &pool("h2UpgradePolicy: DEFAULT"), "h2UpgradePolicy: UPGRADE", "1 h2\n2 h2\n3 as-client");
    of(PORTS, "", "h2UpgradePolicy: UPGRADE", "1 h2\n2 h2\n3 as-client");
    of(PORTS, "", "h2UpgradePolicy: DO_NOT_UPGRADE", "1\n2 h2\n3 as-client");
    let all = "1 as-client\n2 as-client\n3 as-client";
    of(PORTS, &pool("useClientProtocol: true"), "h2UpgradePolicy: UPGRADE", all);
    of(PORTS, &pool("useClientProtocol: false"), "", "1\n2 h2\n3 as-client");
    let one =
        "trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}, portLevelSettings: [{port: {number: 1}}]}";
    of(PORTS, one, "", "1\n2 h2\n3 h2");
}

/// A browser may choose HTTP/2 where a gateway offers it; the instances behind a port of which nobody says anything may well
/// not speak it. Whoever wants it says so.
#[test]
fn gateways_send_http_1_where_nobody_says_more() {
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: web}\n\
                   spec: {gatewayClassName: outrigger, listeners: [{name: http, port: 80, protocol: HTTP}]}\n";
    check(
        "api:default/web",
        "clusters",
        &(input(PORTS, "", "") + gateway),
        "outbound|1||a.default.svc.cluster.local least [0]
         outbound|2||a.default.svc.cluster.local least h2 [0]
         outbound|3||a.default.svc.cluster.local least [0]",
    );
    let as_client = "trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}";
    check(
        "api:default/web",
        "clusters",
        &(input("{name: metrics, port: 3}", as_client, "") + gateway),
        "outbound|3||a.default.svc.cluster.local least as-client by=default/r [0]",
    );
}

#[test]
fn limits_of_connections_reach_the_model() {
    let http = "{name: http, port: 1}";
    let of = |pool: &str, mesh: &str, expected: &str| {
        of(http, &format!("trafficPolicy: {{connectionPool: {{{pool}}}}}"), mesh, &format!("1{expected}"));
    };
    of(
        "http: {maxConcurrentStreams: 7, http2KeepAlive: {interval: 30s, timeout: 5s}}",
        "",
        " pool,streams=7,ping=30s/5s",
    );
    of("http: {maxConcurrentStreams: 0}", "", "");
    of("tcp: {idleTimeout: 90s}", "", " pool,idle=90s,tcp-idle=90s");
    of("tcp: {idleTimeout: 90s}, http: {idleTimeout: 5s}", "", " pool,idle=5s,tcp-idle=90s");
    of("tcp: {tcpKeepalive: {probes: 3, time: 60s, interval: 9s}}", "", " pool,tcp-alive=3/60/9");
    let mesh = "tcpKeepalive: {probes: 5, time: 100s}";
    of("tcp: {tcpKeepalive: {probes: 0, interval: 9s, time: 60s}}", mesh, " pool,tcp-alive=5/60/9");
    of("tcp: {connectTimeout: 10s}", mesh, " pool,tcp-alive=5/100/-1");
}

#[test]
fn without_a_rule_the_mesh_says_how_connections_are_kept_alive() {
    of("{name: http, port: 1}", "", "tcpKeepalive: {interval: 75s}", "1 pool,tcp-alive=-1/-1/75");
}

#[test]
fn the_proxy_protocol_is_the_rules_or_the_subsets() {
    let ports = "{name: http, port: 1}, {name: tcp, port: 2}";
    let policy = "trafficPolicy: {proxyProtocol: {}, portLevelSettings: [{port: {number: 2}}]}, \
                  subsets: [{name: s, trafficPolicy: {proxyProtocol: {version: V2}}}, \
                  {name: t, trafficPolicy: {portLevelSettings: [{port: {number: 1}}]}}]";
    check(
        "",
        "clusters findings",
        &input(ports, policy, ""),
        "outbound|1|s|a.default.svc.cluster.local least proxy=V2 by=default/r [0]
         outbound|1|t|a.default.svc.cluster.local least proxy=V1 by=default/r [0]
         outbound|1||a.default.svc.cluster.local least proxy=V1 by=default/r [0]
         outbound|2|s|a.default.svc.cluster.local least proxy=V2 by=default/r [0]
         outbound|2|t|a.default.svc.cluster.local least by=default/r [0]
         outbound|2||a.default.svc.cluster.local least by=default/r [0]",
    );
}
