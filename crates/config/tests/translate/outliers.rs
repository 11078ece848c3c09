//! `outlierDetection`: Istio's fields with their traps, Envoy's from the annotation, the mesh's block, and the percentage
//! with which nobody is ever ejected.

use std::fmt::Write as _;

use crate::dump::{check, service};

const A: &str = "outbound|9080||a.default.svc.cluster.local";

/// A DestinationRule for `a`, perhaps with annotations.
fn rule(annotation: Option<&str>, spec: &str) -> String {
    let annotation = annotation
        .map_or_else(String::new, |text| format!(", annotations: {{outrigger.dev/outlier-detection: '{text}'}}"));
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d{annotation}}}\nspec: {spec}\n"
    )
}

/// What an `outlierDetection` becomes.
#[track_caller]
fn of(block: &str, expected: &str) {
    let yaml = service("default", "a", &[])
        + &rule(None, &format!("{{host: a, trafficPolicy: {{outlierDetection: {block}}}}}"));
    check("", "clusters findings", &yaml, &format!("{A} least outlier={expected}"));
}

#[test]
fn all_of_istios_fields_are_taken() {
    of("{}", "5/10% by=default/d [0]");
    of(
        "{consecutive5xxErrors: 7, consecutiveGatewayErrors: 3, interval: 5m, baseEjectionTime: 15m, maxEjectionPercent: 100, minHealthPercent: 30}",
        "7/100%,gateway=3,every=300,base=900,max=900,health=30 by=default/d [0]",
    );
    of("{splitExternalLocalOriginErrors: true}", "5/10%,local=5 by=default/d [0]");
    of(
        "{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, consecutive5xxErrors: 0, consecutiveGatewayErrors: 9}",
        "0/10%,gateway=9,local=2 by=default/d [0]",
    );
    of("{outlierDetectionHttpErrorCodes: [503, 429, 502, 503]}", "5/10%,codes=429+502-503 by=default/d [0]");
}

#[test]
fn what_istio_reads_as_not_given_or_not_at_all_is_named() {
    let idle = |block: &str, expected: &str, finding: &str| {
        of(
            block,
            &format!(
                "{expected} by=default/d [0]\nwarning [OUT0102] DestinationRule default/d f.yaml:10:51: spec.trafficPolicy.outlierDetection: {finding}"
            ),
        );
    };
    idle(
        "{maxEjectionPercent: 0}",
        "5/10%",
        "`maxEjectionPercent: 0` counts as not given, which is 10 (to eject nobody, remove `outlierDetection`)",
    );
    idle(
        "{consecutiveErrors: 2}",
        "5/10%",
        "`consecutiveErrors` has no effect: Istio no longer reads it (use `consecutive5xxErrors`, or `consecutiveGatewayErrors` for 502, 503 and 504 alone)",
    );
    idle(
        "{consecutiveGatewayErrors: 5}",
        "5/10%,gateway=5",
        "`consecutiveGatewayErrors` (5) has no effect: `consecutive5xxErrors` (5) counts the same answers and is reached first (make it less than `consecutive5xxErrors`, or set that to 0)",
    );
    idle(
        "{consecutiveLocalOriginFailures: 3}",
        "5/10%",
        "`consecutiveLocalOriginFailures` has no effect without `splitExternalLocalOriginErrors: true` (without it failures to connect count as 5xx)",
    );
    idle(
        "{splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 0}",
        "5/10%,local=5",
        "`consecutiveLocalOriginFailures: 0` counts as not given, which is 5 (it cannot be turned off; set a high number)",
    );
}

/// The annotation on a rule with a block at each level.
#[track_caller]
fn annotated(text: &str, expected: &str, findings: &str) {
    let yaml = service("default", "a", &[])
        + &rule(Some(text), "{host: a, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 2}}}");
    check("", "clusters findings", &yaml, &format!("{A} least outlier={expected} by=default/d [0]\n{findings}"));
}

#[test]
fn envoys_fields_complete_the_block() {
    annotated("{}", "2/10%", "");
    annotated("always_eject_one_host: true", "2/10%,one-always", "");
    annotated(
        "{\"alwaysEjectOneHost\": true, \"maxEjectionTime\": \"60s\", \"maxEjectionTimeJitter\": \"2s\"}",
        "2/10%,max=60,jitter=2,one-always",
        "",
    );
    annotated("{max_ejection_time: 600s, max_ejection_time_jitter: 500ms}", "2/10%,max=600,jitter=0.5", "");
    annotated("enforcing_success_rate: 100", "2/10%,rate=100/5/100/1900", "");
    annotated(
        "{enforcing_success_rate: 50, success_rate_minimum_hosts: 3, success_rate_request_volume: 20, success_rate_stdev_factor: 1300}",
        "2/10%,rate=50/3/20/1300",
        "",
    );
    annotated("enforcingFailurePercentage: 100", "2/10%,failures=100/85/5/50", "");
    annotated(
        "{enforcing_failure_percentage: 100, failure_percentage_threshold: 40, failure_percentage_minimum_hosts: 2, failure_percentage_request_volume: 9}",
        "2/10%,failures=100/40/2/9",
        "",
    );
    annotated("{enforcing_success_rate: 0, enforcing_failure_percentage: 0}", "2/10%", "");
}

#[test]
fn it_completes_every_block_of_the_rule() {
    let spec = "
  host: a
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 1}
    portLevelSettings: [{port: {number: 1}, outlierDetection: {consecutive5xxErrors: 2}}]
  subsets: [{name: s, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}]";
    let two = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: http-a, port: 1}, {name: http-b, port: 2}]}\n";
    check(
        "",
        "clusters findings",
        &(two.to_owned() + &rule(Some("always_eject_one_host: true"), spec)),
        "outbound|1|s|a.default.svc.cluster.local least outlier=3/10%,one-always by=default/d [0]
         outbound|1||a.default.svc.cluster.local least outlier=2/10%,one-always by=default/d [0]
         outbound|2|s|a.default.svc.cluster.local least outlier=3/10%,one-always by=default/d [0]
         outbound|2||a.default.svc.cluster.local least outlier=1/10%,one-always by=default/d [0]",
    );
}

#[test]
fn fields_of_the_annotation_are_judged() {
    const AT: &str = "DestinationRule default/d f.yaml:9:68: metadata.annotations[outrigger.dev/outlier-detection]";
    let warned = |text: &str, expected: &str, finding: &str| {
        let code = if finding.starts_with("unknown") { "OUT0101" } else { "OUT0102" };
        annotated(text, expected, &format!("warning [{code}] {AT}: {finding}"));
    };
    warned(
        "{always_eject_one: true}",
        "2/10%",
        "unknown field `always_eject_one` (did you mean `always_eject_one_host`?)",
    );
    warned(
        "{max_ejection_percent: 50}",
        "2/10%",
        "`max_ejection_percent` has no effect here (set `maxEjectionPercent` in `outlierDetection`)",
    );
    warned(
        "{success_rate_minimum_hosts: 3}",
        "2/10%",
        "the fields beside `enforcing_success_rate` have no effect while it is 0 or absent (set `enforcing_success_rate: 100`)",
    );
    // An error keeps the rule out.
    let refused = |text: &str, finding: &str| {
        let yaml = service("default", "a", &[]) + &rule(Some(text), "{host: a, trafficPolicy: {outlierDetection: {}}}");
        check("", "clusters findings", &yaml, &format!("{A} least [0]\nerror [IST0106] {AT}: {finding}"));
    };
    refused("{max_ejection_time: 10s}", "max_ejection_time: found 10s, expected at least `baseEjectionTime` (30s)");
    refused(
        "{enforcing_success_rate: 101}",
        "enforcing_success_rate: found the number 101, expected an integer from 0 to 100",
    );
    refused(
        "{max_ejection_time_jitter: 5}",
        "max_ejection_time_jitter: found the number 5, expected a duration such as `10s`, `1m30s` or `250ms` (add the unit: `5s`)",
    );
    refused("always", "found the string \"always\", expected a mapping");
    refused(
        "{always_eject_one_host: true, alwaysEjectOneHost: false}",
        "`alwaysEjectOneHost` and `always_eject_one_host` are both given, expected only one of `always_eject_one_host`, `alwaysEjectOneHost`",
    );
    let alone = service("default", "a", &[]) + &rule(Some("always_eject_one_host: true"), "{host: a}");
    check(
        "",
        "findings",
        &alone,
        &format!(
            "warning [OUT0102] {AT}: it has no effect, because this rule has no `outlierDetection` (add `outlierDetection: {{}}`)"
        ),
    );
}

/// A Service with ports 80 and 81 and endpoints by version.
fn world(name: &str, endpoints: &[(&str, u8)]) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http-a, port: 80}}, {{name: http-b, port: 81}}]}}\n"
    );
    for (index, (version, count)) in endpoints.iter().enumerate() {
        write!(
            yaml,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{version}, labels: {{kubernetes.io/service-name: {name}, version: {version}}}}}\n\
             addressType: IPv4\nports: [{{name: http-a, port: 8080}}, {{name: http-b, port: 8081}}]\nendpoints:\n"
        )
        .unwrap();
        for n in 1..=*count {
            writeln!(yaml, "- addresses: [10.0.{index}.{n}]").unwrap();
        }
    }
    yaml + "---\n"
}

/// What is found about a rule without places, for endpoints of two versions.
#[track_caller]
fn found(endpoints: &[(&str, u8)], rule: &str, expected: &[&str]) {
    let text = crate::dump::dump("", "findings", &(world("a", endpoints) + rule));
    let found: Vec<&str> =
        text.lines().map(|line| line.split_once(": ").map_or(line, |(_, message)| message)).collect();
    assert_eq!(found, expected, "{endpoints:?} {rule}");
}

fn never(cluster: &str, endpoints: u8, share: u8, percent: u8, least: u8) -> String {
    format!(
        "outlier detection of cluster outbound|80|{cluster}|a.default.svc.cluster.local can never eject: each of its {endpoints} endpoints is {share} % of them, and maxEjectionPercent is {percent} (set `maxEjectionPercent` to {least} or more, or annotate the DestinationRule with `outrigger.dev/outlier-detection: \"always_eject_one_host: true\"`)"
    )
}

#[test]
fn a_percentage_with_which_nobody_is_ejected_is_named_once() {
    let with = |block: &str| rule(None, &format!("{{host: a, trafficPolicy: {{outlierDetection: {block}}}}}"));
    let default = with("{}");
    found(&[], &default, &[]);
    // The only endpoint is not a case: without it there is nobody.
    found(&[("v1", 1)], &default, &[]);
    found(&[("v1", 2)], &default, &[&never("", 2, 50, 10, 50)]);
    found(&[("v1", 3)], &default, &[&never("", 3, 33, 10, 34)]);
    found(&[("v1", 9)], &default, &[&never("", 9, 11, 10, 12)]);
    found(&[("v1", 10)], &default, &[]);
    found(&[("v1", 3)], &with("{maxEjectionPercent: 33}"), &[&never("", 3, 33, 33, 34)]);
    found(&[("v1", 3)], &with("{maxEjectionPercent: 34}"), &[]);
    found(&[("v1", 2)], &with("{maxEjectionPercent: 100}"), &[]);
    let one = rule(Some("always_eject_one_host: true"), "{host: a, trafficPolicy: {outlierDetection: {}}}");
    found(&[("v1", 3)], &one, &[]);
}

/// Of the clusters of one block the one is named that needs most; blocks of their own are named by themselves.
#[test]
fn subsets_are_told_by_their_block() {
    let subsets = |of_rule: &str, of_v2: &str| {
        rule(
            None,
            &format!(
                "{{host: a, trafficPolicy: {{outlierDetection: {of_rule}}}, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}, trafficPolicy: {{{of_v2}}}}}]}}"
            ),
        )
    };
    found(&[("v1", 4), ("v2", 7)], &subsets("{}", ""), &[&never("v1", 4, 25, 10, 25)]);
    found(
        &[("v1", 4), ("v2", 2)],
        &subsets("{}", "outlierDetection: {maxEjectionPercent: 20}"),
        &[&never("v1", 4, 25, 10, 25), &never("v2", 2, 50, 20, 50)],
    );
    found(
        &[("v1", 4), ("v2", 2)],
        &subsets("{maxEjectionPercent: 50}", "outlierDetection: {maxEjectionPercent: 50}"),
        &[],
    );
}

#[test]
fn the_block_of_the_mesh_is_told_once_for_all_services() {
    let mesh = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: 'defaultTrafficPolicy: {outlierDetection: {}, connectionPool: {http: {http2MaxRequests: 3}}}'\n";
    let own = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: c}\nspec: {host: c, trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}}\n";
    let yaml = world("a", &[("v1", 5)])
        + &world("b", &[("v1", 3)])
        + &world("c", &[("v1", 2)])
        + &world("d", &[("v1", 12)])
        + mesh
        + own;
    check(
        "",
        "clusters findings host=|80|",
        &yaml,
        "outbound|80||a.default.svc.cluster.local least pool,requests=3 outlier=5/10% [5]
         outbound|80||b.default.svc.cluster.local least pool,requests=3 outlier=5/10% [3]
         outbound|80||c.default.svc.cluster.local least pool,requests=3 outlier=5/100% by=default/c [2]
         outbound|80||d.default.svc.cluster.local least pool,requests=3 outlier=5/10% [12]
         warning [OUT0231] ConfigMap istio-system/istio f.yaml:74:18: defaultTrafficPolicy: outlier detection of cluster outbound|80||b.default.svc.cluster.local can never eject: each of its 3 endpoints is 33 % of them, and maxEjectionPercent is 10; so it is with 2 service(s) (set `maxEjectionPercent` to 34 or more)",
    );
}
