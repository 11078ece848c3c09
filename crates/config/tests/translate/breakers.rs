//! CircuitBreakers: what they say, which clusters they count for, who wins, and fallbacks.

use std::fmt::Write as _;

use outrigger_config::loader::load_text;
use outrigger_config::translate::{Translator, View};
use outrigger_model::*;

use crate::dump::{check, dump, service};

/// A breaker as text: origin and scope, then what differs from the defaults.
pub(crate) fn text(breaker: &Breaker) -> String {
    let mut out = format!("breaker={}/{:?}", breaker.origin, breaker.scope);
    match &breaker.rule {
        BreakerRule::Hystrix(rule) => hystrix(rule, &mut out),
        BreakerRule::Consecutive(rule) => consecutive(rule, &mut out),
        BreakerRule::Unified(rule, window) => {
            consecutive(rule, &mut out);
            write!(out, ",success={}/{:?}/{}", window.threshold, window.window, window.requests_min).unwrap();
        }
    }
    match &breaker.fallback {
        None => {}
        Some(Fallback::Static { status, headers, body }) => {
            let headers: Vec<String> = headers.iter().map(|(n, v)| format!("{}={}", n.as_str(), v.as_str())).collect();
            write!(out, ",fallback={status}[{}]{:?}", headers.join(","), String::from_utf8_lossy(body)).unwrap();
        }
        Some(Fallback::Cluster(name)) => write!(out, ",fallback={name}").unwrap(),
        Some(Fallback::LastHeaders { status, names, age_max }) => {
            let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
            write!(out, ",fallback={status}[{}]{age_max:?}", names.join(",")).unwrap();
        }
    }
    if breaker.fallbacks_max != 10 {
        write!(out, ",fallbacks={}", breaker.fallbacks_max).unwrap();
    }
    out
}

fn hystrix(rule: &HystrixRule, out: &mut String) {
    let default = HystrixRule::default();
    let mut say = |name: &str, value: String, default: String| {
        if value != default {
            write!(out, ",{name}={value}").unwrap();
        }
    };
    say("enabled", rule.enabled.to_string(), default.enabled.to_string());
    say("volume", rule.volume_threshold.to_string(), default.volume_threshold.to_string());
    say("percent", rule.error_threshold_percent.to_string(), default.error_threshold_percent.to_string());
    say("sleep", format!("{:?}", rule.sleep_window), format!("{:?}", default.sleep_window));
    say("force-open", rule.force_open.to_string(), default.force_open.to_string());
    say("force-closed", rule.force_closed.to_string(), default.force_closed.to_string());
    say("window", format!("{:?}", rule.window), format!("{:?}", default.window));
    say("buckets", rule.buckets.to_string(), default.buckets.to_string());
    say("health", format!("{:?}", rule.health_interval), format!("{:?}", default.health_interval));
    say("concurrent", format!("{:?}", rule.concurrent_max), "None".to_owned());
    say("timeout", format!("{:?}", rule.timeout), "None".to_owned());
    say("slow", format!("{:?}", rule.slow_call), "None".to_owned());
    let answers = |rule: &HystrixRule| {
        let http: Vec<u16> = (0..1000).filter(|status| rule.failures.has_http(*status)).collect();
        let grpc: Vec<u8> = (0..100).filter(|status| rule.failures.has_grpc(*status)).collect();
        let http = if http.len() < 10 { format!("{http:?}") } else { format!("{}..{}", http[0], http[http.len() - 1]) };
        format!("{http}/{grpc:?}")
    };
    say("answers", answers(rule), answers(&default));
}

fn consecutive(rule: &ConsecutiveRule, out: &mut String) {
    let ConsecutiveRule { failures_max, penalty_min, penalty_max, jitter_ratio } = rule;
    write!(out, ",failures={failures_max}/{penalty_min:?}..{penalty_max:?}~{jitter_ratio}").unwrap();
}

/// A CircuitBreaker in namespace `shop`.
fn breaker(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: CircuitBreaker\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

/// For Service `cart`, with more of the spec.
fn of_cart(name: &str, more: &str) -> String {
    breaker(name, &format!("{{targetRefs: [{{group: '', kind: Service, name: cart}}]{more}}}"))
}

const SUBSETS: &str = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: cart, namespace: shop}\nspec: {host: cart, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}\n";

#[test]
fn defaults_are_hystrixs_but_for_limits_that_nobody_stated() {
    let yaml = service("shop", "cart", &[]) + &of_cart("b", "");
    check(
        "",
        "clusters findings",
        &yaml,
        "outbound|9080||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/b/Service [0]",
    );
    let all = breaker(
        "b",
        "
  targetRefs: [{group: '', kind: Service, name: cart}]
  scope: Endpoint
  circuitBreaker: {enabled: false, requestVolumeThreshold: 5, sleepWindowInMilliseconds: 2000, errorThresholdPercentage: 30, forceOpen: true}
  execution:
    isolation: {strategy: SEMAPHORE, semaphore: {maxConcurrentRequests: 7}, thread: {timeoutInMilliseconds: 800}}
    timeout: {enabled: true}
  metrics: {rollingStats: {timeInMilliseconds: 20000, numBuckets: 20}, healthSnapshot: {intervalInMilliseconds: 1000}}
  slowCallDurationThreshold: 300ms
  fallback:
    isolation: {semaphore: {maxConcurrentRequests: 3}}
    response: {statusCode: 203, headers: {content-type: application/json}, body: '[]'}",
    );
    check(
        "",
        "clusters findings",
        &(service("shop", "cart", &[]) + &all),
        "outbound|9080||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/b/Endpoint,enabled=false,volume=5,percent=30,sleep=2s,force-open=true,window=20s,buckets=20,health=1s,concurrent=Some(7),timeout=Some(800ms),slow=Some(300ms),fallback=203[content-type=application/json]\"[]\",fallbacks=3 [0]",
    );
}

#[test]
fn time_and_number_are_limited_where_that_is_stated() {
    for (given, limits) in [
        ("execution: {isolation: {strategy: SEMAPHORE}}", ",concurrent=Some(10)"),
        ("execution: {isolation: {semaphore: {maxConcurrentRequests: 4}}}", ",concurrent=Some(4)"),
        ("execution: {isolation: {strategy: THREAD}}", ""),
        ("execution: {timeout: {enabled: true}}", ",timeout=Some(1s)"),
        ("execution: {timeout: {enabled: false}}", ""),
        ("execution: {timeoutInMilliseconds: 20, maxConcurrentRequests: 3}", ",concurrent=Some(3),timeout=Some(20ms)"),
        ("failures: {slowCallMilliseconds: 800}, scope: service", ",slow=Some(800ms)"),
        ("failures: {statusCodes: [5xx, 429], grpcStatuses: [UNAVAILABLE, 13]}", ",answers=429..599/[13, 14]"),
        ("failures: {statusCodes: [502-503, 599]}", ",answers=[502, 503, 599]/[2, 4, 13, 14, 15]"),
        ("failures: {grpcStatuses: []}", ",answers=500..599/[]"),
        ("fallback: {service: {name: cart, port: 9080}, enabled: false}", ""),
    ] {
        let yaml = service("shop", "cart", &[]) + &of_cart("b", &format!(", {given}"));
        let expected = format!(
            "outbound|9080||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/b/Service{limits} [0]"
        );
        check("", "clusters", &yaml, &expected);
    }
}

#[test]
fn the_more_specific_wins_and_a_subset_has_a_circuit_of_its_own() {
    let two_ports = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{name: http, port: 80}, {name: http-admin, port: 81}]}\n";
    let part = |name: &str, part: &str, volume: u32| {
        let target = format!("{{group: '', kind: Service, name: cart{part}}}");
        breaker(name, &format!("{{targetRefs: [{target}], circuitBreaker: {{requestVolumeThreshold: {volume}}}}}"))
    };
    let yaml = two_ports.to_owned()
        + SUBSETS
        + &part("all", "", 1)
        + &part("admin", ", sectionName: http-admin", 2)
        + &part("v2", ", subset: v2", 3)
        + &part("v2-admin", ", subset: v2, sectionName: http-admin", 4);
    check(
        "",
        "clusters findings",
        &yaml,
        "outbound|80|v1|cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/all/Service,volume=1 by=shop/cart [0]
         outbound|80|v2|cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/v2/Subset,volume=3 by=shop/cart [0]
         outbound|80||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/all/Service,volume=1 by=shop/cart [0]
         outbound|81|v1|cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/admin/Service,volume=2 by=shop/cart [0]
         outbound|81|v2|cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/v2-admin/Subset,volume=4 by=shop/cart [0]
         outbound|81||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/admin/Service,volume=2 by=shop/cart [0]",
    );
}

#[test]
fn the_older_of_two_for_one_target_wins() {
    let yaml = service("shop", "cart", &[])
        + &of_cart("late", "")
            .replace("namespace: shop}", "namespace: shop, creationTimestamp: '2024-02-01T00:00:00Z'}")
        + &of_cart("early", "")
            .replace("namespace: shop}", "namespace: shop, creationTimestamp: '2024-01-01T00:00:00Z'}");
    check(
        "",
        "clusters findings",
        &yaml,
        "outbound|9080||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/early/Service [0]
         warning [OUT0212] CircuitBreaker shop/late f.yaml:10:54: has no effect for cart.shop.svc.cluster.local: CircuitBreaker shop/early at f.yaml:15:54 is older and is for the same (keep one CircuitBreaker for a target)",
    );
}

#[test]
fn a_service_entry_has_one_breaker_for_all_of_its_hosts_and_every_client_obeys() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: api, namespace: shop}\nspec: {hosts: [a.example.com, b.example.com], ports: [{number: 80, name: http, protocol: HTTP}, {number: 5432, name: db, protocol: TCP}], resolution: DNS}\n";
    let client = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: web}\nspec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c}]}}}\n";
    let target = |section: &str| {
        breaker(
            "b",
            &format!("{{targetRefs: [{{group: networking.istio.io, kind: ServiceEntry, name: api{section}}}]}}"),
        )
    };
    check(
        "web/web",
        "clusters findings",
        &(entry.to_owned() + client + &target("")),
        "outbound|5432||a.example.com least dns [1]
         outbound|5432||b.example.com least dns [1]
         outbound|80||a.example.com least dns breaker=CircuitBreaker shop/b/Service [1]
         outbound|80||b.example.com least dns breaker=CircuitBreaker shop/b/Service [1]",
    );
    check(
        "web/web",
        "findings",
        &(entry.to_owned() + client + &target(", sectionName: db")),
        "warning [OUT0102] CircuitBreaker shop/b f.yaml:15:94: has no effect: port 5432 of a.example.com speaks no HTTP (circuits are of requests)",
    );
}

#[test]
fn targets_that_are_not_there_are_named() {
    for (target, finding) in [
        (
            "kind: Service, name: carts",
            "error [IST0101] CircuitBreaker shop/b f.yaml:20:54: target Service shop/carts does not exist (did you mean `cart`?)",
        ),
        (
            "kind: Service, name: stock",
            "error [IST0101] CircuitBreaker shop/b f.yaml:20:54: target Service shop/stock does not exist (stock is in namespace depot: a target stands in the namespace of its policy)",
        ),
        (
            "kind: Service, name: cart, sectionName: htp",
            "error [IST0101] CircuitBreaker shop/b f.yaml:20:73: cart.shop.svc.cluster.local has no port named \"htp\"; its ports are 9080 (http) (did you mean `http`?)",
        ),
        (
            "kind: Service, name: cart, subset: v3",
            "error [IST0101] CircuitBreaker shop/b f.yaml:20:68: subset \"v3\" of cart.shop.svc.cluster.local is not defined; its DestinationRules define: v1, v2 (define it in a DestinationRule)",
        ),
        (
            "kind: DestinationRule, name: cart",
            "error [IST0106] CircuitBreaker shop/b f.yaml:20:39: spec.targetRefs[0]: found kind \"DestinationRule\" of group \"\", expected one of Service (group \"\"), ServiceEntry (group \"networking.istio.io\") (name the Service, and give `subset` for one of its subsets)",
        ),
        (
            "kind: Service, name: cart, namespace: depot",
            "warning [OUT0101] CircuitBreaker shop/b f.yaml:20:60: spec.targetRefs[0]: unknown field `namespace` (did you mean `name`?)",
        ),
    ] {
        let yaml = service("shop", "cart", &[])
            + &service("depot", "stock", &[])
            + SUBSETS
            + &breaker("b", &format!("{{targetRefs: [{{group: '', {target}}}]}}"));
        check("", "findings", &yaml, finding);
    }
}

#[test]
fn values_that_are_not_legal_are_named_with_a_remedy() {
    for (given, finding) in [
        (
            "circuitBreaker: {errorThresholdPercentage: 0}",
            "spec.circuitBreaker.errorThresholdPercentage: found the number 0, expected an integer from 1 to 100",
        ),
        (
            "circuitBreaker: {requestVolumeThreshhold: 3}",
            "spec.circuitBreaker: unknown field `requestVolumeThreshhold` (did you mean `requestVolumeThreshold`?)",
        ),
        (
            "metrics: {rollingStats: {numBuckets: 7}}",
            "spec: found metrics.rollingStats.numBuckets 7, expected a number that divides metrics.rollingStats.timeInMilliseconds, which is 10000 (write 5, or another window)",
        ),
        (
            "metrics: {rollingStats: {timeInMilliseconds: 1000}, healthSnapshot: {intervalInMilliseconds: 2000}}",
            "spec: found metrics.healthSnapshot.intervalInMilliseconds 2000, expected at most metrics.rollingStats.timeInMilliseconds, which is 1000: no part of the window would ever be complete (Hystrix's default is 500 of 10000)",
        ),
        (
            "metrics: {healthSnapshot: {intervalInMilliseconds: 10}}",
            "spec: found metrics.healthSnapshot.intervalInMilliseconds 10, which cuts metrics.rollingStats.timeInMilliseconds, 10000, into 1000 parts, expected at most 600 (write at least 17)",
        ),
        (
            "execution: {isolation: {strategy: POOL}}",
            "spec.execution.isolation.strategy: found the string \"POOL\", expected one of `THREAD`, `SEMAPHORE`",
        ),
        (
            "execution: {maxConcurrentRequests: 3, isolation: {semaphore: {maxConcurrentRequests: 4}}}",
            "spec.execution.maxConcurrentRequests: maxConcurrentRequests is short for execution.isolation.semaphore.maxConcurrentRequests, which is given too (remove one of the two)",
        ),
        (
            "metrics: {rollingPercentile: {enabled: true}}",
            "spec.metrics.rollingPercentile.enabled: has no effect: latencies are histograms of the metrics, which need no window (remove it)",
        ),
        (
            "circuitBreaker: {forceOpen: true, forceClosed: true}",
            "spec: circuitBreaker.forceClosed has no effect: circuitBreaker.forceOpen wins (remove one of the two)",
        ),
        (
            "execution: {isolation: {thread: {timeoutInMilliseconds: 5}}, timeout: {enabled: false}}",
            "spec: execution.isolation.thread.timeoutInMilliseconds has no effect: execution.timeout.enabled is false (remove one of the two)",
        ),
        (
            "slowCallDurationThreshold: 2s, execution: {timeoutInMilliseconds: 1000}",
            "spec: slowCallDurationThreshold has no effect: 2s is not below the time limit, 1s, which ends the call (make it shorter than the time limit)",
        ),
        (
            "failures: {statusCodes: [6xx]}",
            "spec.failures.statusCodes[0]: found the string \"6xx\", expected a status code, a range such as `502-504`, `5xx` or `gateway-error`",
        ),
        (
            "failures: {grpcStatuses: [OK]}",
            "spec.failures.grpcStatuses[0]: a call that ends with OK is no failure (remove it)",
        ),
        ("scope: Cluster", "spec.scope: found the string \"Cluster\", expected one of `Service`, `Subset`, `Endpoint`"),
        (
            "fallback: {response: {statusCode: 99}}",
            "spec.fallback.response.statusCode: found the number 99, expected an integer from 200 to 599",
        ),
        (
            "fallback: {response: {headers: {content-length: '3'}}}",
            "spec.fallback.response.headers: found \"content-length\", expected a header name: ",
        ),
        (
            "fallback: {response: {}, lastHeaders: {names: [etag], maxAge: 1m}}",
            "spec.fallback: `lastHeaders` and `response` are both given, expected only one of `response`, `backendRef`, `service`, `lastHeaders`",
        ),
        (
            "fallback: {lastHeaders: {names: [], maxAge: 1m}}",
            "spec.fallback.lastHeaders.names: found a list of 0 items, expected 1 to 32 (name the fields that are kept)",
        ),
        ("fallback: {lastHeaders: {names: [etag]}}", "spec.fallback.lastHeaders: required field `maxAge` is missing"),
        (
            "fallback: {response: {statusCode: 204, body: x}}",
            "spec.fallback.response.body: found a body with status 204, which has none (write another status, or remove the body)",
        ),
    ] {
        let yaml = service("shop", "cart", &[]) + &of_cart("b", &format!(", {given}"));
        let found = dump("", "findings", &yaml);
        let lines: Vec<&str> = found.lines().collect();
        assert!(lines.len() == 1 && lines[0].contains(finding), "{given}\nfound:\n{found}\nexpected:\n{finding}");
        assert!(lines[0].contains("CircuitBreaker shop/b f.yaml:10:"), "{found}");
    }
}

#[test]
fn a_fallback_that_is_a_service_has_a_cluster_though_no_route_leads_there() {
    let hidden = service("depot", "cache", &[]).replace(
        "{name: cache, namespace: depot}",
        "{name: cache, namespace: depot, annotations: {networking.istio.io/exportTo: .}}",
    );
    let base = service("shop", "cart", &[]) + &hidden;
    let to = |backend: &str| base.clone() + &of_cart("b", &format!(", fallback: {{backendRef: {backend}}}"));
    check("", "clusters", &base, "outbound|9080||cart.shop.svc.cluster.local least [0]");
    check(
        "",
        "clusters findings",
        &to("{name: cache, namespace: depot, port: 9080}"),
        "outbound|9080||cache.depot.svc.cluster.local least [0]
         outbound|9080||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/b/Service,fallback=outbound|9080||cache.depot.svc.cluster.local [0]",
    );
    let without = "outbound|9080||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/b/Service [0]\n";
    for (backend, finding) in [
        (
            "{name: cachee, namespace: depot, port: 9080}",
            "error [IST0101] CircuitBreaker shop/b f.yaml:15:92: fallback: Service depot/cachee does not exist; there is no fallback (did you mean `cache`?)",
        ),
        (
            "{name: cache, namespace: depot, port: 81}",
            "error [IST0101] CircuitBreaker shop/b f.yaml:15:92: fallback: cache.depot.svc.cluster.local has no port 81; its ports are 9080 (http); there is no fallback (use one of its ports)",
        ),
        (
            "{name: cart, port: 9080}",
            "error [OUT0219] CircuitBreaker shop/b f.yaml:15:85: fallback: it leads back to cart.shop.svc.cluster.local, which it stands in for; there is no fallback (name another Service, or another port of it and `sectionName` in the target)",
        ),
    ] {
        check("", "clusters findings", &to(backend), &format!("{without}{finding}"));
    }
}

#[test]
fn fallbacks_of_fallbacks_have_clusters_too() {
    let hidden = |name: &str| {
        service("shop", name, &[]).replace(
            &format!("{{name: {name}, namespace: shop}}"),
            &format!("{{name: {name}, namespace: shop, annotations: {{networking.istio.io/exportTo: .}}}}"),
        )
    };
    let to = |from: &str, to: &str| {
        let target = format!("targetRefs: [{{group: '', kind: Service, name: {from}}}]");
        breaker(from, &format!("{{{target}, fallback: {{backendRef: {{name: {to}, port: 9080}}}}}}"))
    };
    let yaml = service("shop", "a", &[]) + &hidden("b") + &hidden("c") + &to("a", "b") + &to("b", "c") + &to("c", "b");
    check(
        "",
        "clusters findings",
        &yaml,
        "outbound|9080||a.shop.svc.cluster.local least breaker=CircuitBreaker shop/a/Service,fallback=outbound|9080||b.shop.svc.cluster.local [0]
         outbound|9080||b.shop.svc.cluster.local least breaker=CircuitBreaker shop/b/Service,fallback=outbound|9080||c.shop.svc.cluster.local [0]
         outbound|9080||c.shop.svc.cluster.local least breaker=CircuitBreaker shop/c/Service,fallback=outbound|9080||b.shop.svc.cluster.local [0]",
    );
}

#[test]
fn names_of_pods_have_a_circuit_each() {
    let headless = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {clusterIP: None, ports: [{name: http, port: 80}]}\n";
    check(
        "",
        "clusters findings",
        &(headless.to_owned() + &of_cart("b", "")),
        "outbound|80||*.cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/b/Endpoint [0]
         outbound|80||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/b/Service [0]",
    );
}

#[test]
fn an_edit_of_a_breaker_changes_its_cluster_alone() {
    let yaml = |volume: u32| {
        let more = format!(", circuitBreaker: {{requestVolumeThreshold: {volume}}}");
        service("shop", "cart", &[]) + &service("shop", "stock", &[]) + &of_cart("b", &more)
    };
    let load = |volume| load_text("f.yaml", &yaml(volume)).0;
    let mut translator = Translator::new(View::default());
    let (first, _) = translator.translate(&load(5));
    let (second, _) = translator.translate(&load(6));
    assert_ne!(first.version, second.version);
    let changed = |host: &str| {
        let name = ClusterName::outbound(9080, "", host);
        !std::sync::Arc::ptr_eq(&first.clusters[&name], &second.clusters[&name])
    };
    assert!(changed("cart.shop.svc.cluster.local"));
    assert!(!changed("stock.shop.svc.cluster.local"));
    let (third, _) = translator.translate(&load(6));
    assert_eq!(second.version, third.version);
}
