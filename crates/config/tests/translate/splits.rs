//! SMI: TrafficSplit of every version, HTTPRouteGroup, and who wins beside a VirtualService.

use crate::dump::{check, service};

fn split(version: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\nmetadata: {{name: canary}}\nspec: {spec}\n"
    )
}

fn base() -> String {
    service("default", "web", &[("v0", 9000)]) + &service("default", "web-v1", &[]) + &service("default", "web-v2", &[])
}

#[test]
fn weights_are_quantities_or_numbers_and_relative() {
    let of = |version: &str, one: &str, two: &str, expected: &str| {
        let spec = format!(
            "{{service: web, backends: [{{service: web-v1, weight: {one}}}, {{service: web-v2, weight: {two}}}]}}"
        );
        let expected = format!("web.default.svc.cluster.local:9080\ndefault -> {expected}");
        check("", "routes findings host=web.default", &(base() + &split(version, &spec)), &expected);
    };
    let weights = |a: u32, b: u32| {
        format!(
            "outbound|9080||web-v1.default.svc.cluster.local*{a} outbound|9080||web-v2.default.svc.cluster.local*{b}"
        )
    };
    of("v1alpha1", "1", "500m", &weights(2, 1));
    of("v1alpha1", "'900m'", "100m", &weights(9, 1));
    of("v1alpha2", "90", "10", &weights(9, 1));
    of("v1alpha3", "1", "2", &weights(1, 2));
    of("v1alpha4", "50", "0", "outbound|9080||web-v1.default.svc.cluster.local*1");
}

#[test]
fn a_backend_without_the_roots_port_is_left_out_and_a_missing_one_keeps_its_share() {
    let yaml = base()
        + "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {ports: [{name: http, port: 7}]}\n"
        + &split(
            "v1alpha4",
            "{service: web, backends: [{service: web, weight: 6}, {service: other, weight: 2}, {service: web-v3, weight: 2}]}",
        );
    check(
        "",
        "routes findings host=web.default",
        &yaml,
        r#"web.default.svc.cluster.local:9080
         default -> outbound|9080||web.default.svc.cluster.local*3 outbound|9080||web-v3.default.svc.cluster.local*1!503
         warning [OUT0208] TrafficSplit default/canary f.yaml:31:70: backend other.default.svc.cluster.local has no port 9080, which root web.default.svc.cluster.local has; it is left out there (its ports are 7 (http)) (give the backend every port of the root service)
         error [IST0101] TrafficSplit default/canary f.yaml:31:99: backend "web-v3" (web-v3.default.svc.cluster.local) is no known service (did you mean `web-v2`?)"#,
    );
}

#[test]
fn matches_divide_what_they_take_in_and_leave_the_rest_to_the_root() {
    let group = |version: &str, matches: &str| {
        format!(
            "---\napiVersion: specs.smi-spec.io/{version}\nkind: HTTPRouteGroup\nmetadata: {{name: firefox}}\n{matches}"
        )
    };
    let spec =
        "{service: web, matches: [{kind: HTTPRouteGroup, name: firefox}], backends: [{service: web-v1, weight: 1}]}";
    let expected = "web.default.svc.cluster.local:9080
         ff path~(?:/admin)(?s:.*) method~GET|POST header:user-agent~.*Firefox.* -> outbound|9080||web-v1.default.svc.cluster.local*1
         any -> outbound|9080||web-v1.default.svc.cluster.local*1
         default -> outbound|9080||web.default.svc.cluster.local*1";
    let expected_new = expected.replace("any ->", "any path~(?:/x)(?s:.*) ->");
    let new = group(
        "v1alpha4",
        "spec:\n  matches:\n  - {name: ff, pathRegex: /admin, methods: [GET, POST], headers: {user-agent: .*Firefox.*}}\n  - {name: any, pathRegex: /x, methods: ['*']}\n",
    );
    check("", "routes findings host=web.default", &(base() + &split("v1alpha4", spec) + &new), &expected_new);
    let old = group(
        "v1alpha2",
        "matches:\n- {name: ff, pathRegex: /admin, methods: [GET, POST], headers: [{user-agent: .*Firefox.*}]}\n- {name: any, pathRegex: /x}\n",
    );
    check("", "routes findings host=web.default", &(base() + &split("v1alpha3", spec) + &old), &expected_new);
}

#[test]
fn a_virtual_service_wins_and_the_split_is_named() {
    let yaml = base()
        + &split("v1alpha2", "{service: web, backends: [{service: web-v1, weight: 1}]}")
        + "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n  hosts: [web]\n  http:\n  - route: [{destination: {host: web-v2}}]\n";
    check(
        "",
        "routes findings host=web.default",
        &yaml,
        "web.default.svc.cluster.local:9080
         default -> outbound|9080||web-v2.default.svc.cluster.local*1
         warning [OUT0202] TrafficSplit default/canary f.yaml:27:17: has no effect for web.default.svc.cluster.local: VirtualService default/vs at f.yaml:33:11 routes it, and a VirtualService wins over a TrafficSplit (remove one of the two, or move the weights into the VirtualService)",
    );
}

#[test]
fn bad_splits_stay_out() {
    let of = |spec: &str, expected: &str| {
        let expected = format!(
            "web.default.svc.cluster.local:9080\ndefault -> outbound|9080||web.default.svc.cluster.local*1\n{expected}"
        );
        check("", "routes findings host=web.default", &(base() + &split("v1alpha4", spec)), &expected);
    };
    of(
        "{service: web, backends: [{service: web-v1, weight: 0}]}",
        "error [IST0106] TrafficSplit default/canary f.yaml:27:7: spec: backends: all weights are zero, so no backend gets a request (give at least one backend a weight above 0)",
    );
    of(
        "{service: web, backends: [{service: web-v1, weight: -1}]}",
        "error [IST0106] TrafficSplit default/canary f.yaml:27:59: spec.backends[0].weight: found the number -1, expected a weight of 0 or more, such as `90`, `500m` or `1`",
    );
    of(
        "{service: webb, backends: [{service: web-v1, weight: 1}]}",
        "error [IST0101] TrafficSplit default/canary f.yaml:27:17: root service \"webb\" (webb.default.svc.cluster.local) is no known service (did you mean `web`?)",
    );
}

#[test]
fn the_first_of_two_splits_for_one_root_counts() {
    let one = split("v1alpha4", "{service: web, backends: [{service: web-v1, weight: 1}]}");
    let two = split("v1alpha4", "{service: web.default.svc.cluster.local, backends: [{service: web-v2, weight: 1}]}");
    let yaml = base() + &one + &two.replace("name: canary", "name: second");
    check(
        "",
        "routes findings host=web.default",
        &yaml,
        "web.default.svc.cluster.local:9080
         default -> outbound|9080||web-v1.default.svc.cluster.local*1
         warning [OUT0201] TrafficSplit default/second f.yaml:32:17: has no effect for web.default.svc.cluster.local: TrafficSplit default/canary at f.yaml:27:17 already has it (objects of this kind are not merged for one host; put the rules into one object)",
    );
}

#[test]
fn a_root_that_is_an_external_name_is_the_service_it_stands_for() {
    let alias = "apiVersion: v1\nkind: Service\nmetadata: {name: front}\nspec: {type: ExternalName, externalName: web.default.svc.cluster.local}\n";
    let yaml = base() + alias + &split("v1alpha4", "{service: front, backends: [{service: web-v1, weight: 1}]}");
    check(
        "",
        "routes findings host=web.default",
        &yaml,
        "web.default.svc.cluster.local:9080
         default -> outbound|9080||web-v1.default.svc.cluster.local*1",
    );
}
