//! Circuit breakers by annotation: the properties of Hystrix, and Linkerd's failure accrual.

use crate::dump::check;

/// A Service with these annotations, each on a line of its own from line 6 on.
fn annotated(annotations: &str) -> String {
    let lines: String = annotations.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: cart\n  annotations:\n{lines}spec: {{ports: [{{name: http, port: 80}}]}}\n"
    )
}

const BREAKER: &str = "---\napiVersion: outrigger.dev/v1alpha1\nkind: CircuitBreaker\nmetadata: {name: b}\nspec: {targetRefs: [{group: '', kind: Service, name: cart}]}\n";

#[test]
fn properties_of_hystrix_make_a_breaker_for_the_service() {
    let yaml = annotated(
        "outrigger.dev/hystrix: |
  hystrix.command.default.circuitBreaker.sleepWindowInMilliseconds=4000
  hystrix.command.cart.circuitBreaker.sleepWindowInMilliseconds=3000
  circuitBreaker.requestVolumeThreshold=4
  execution.isolation.thread.timeoutInMilliseconds=250",
    );
    check(
        "",
        "clusters findings",
        &yaml,
        "outbound|80||cart.default.svc.cluster.local least breaker=Service default/cart outrigger.dev/hystrix/Service,volume=4,sleep=3s,timeout=Some(250ms) [0]",
    );
}

#[test]
fn lines_without_effect_are_named_and_the_rest_is_in_force() {
    let yaml = annotated(
        "outrigger.dev/hystrix: |
  circuitBreaker.errorThresholdPercentage=20
  circuitBreaker.requestVolumeTreshold=4
  hystrix.command.stock.circuitBreaker.forceOpen=true
  hystrix.threadpool.default.coreSize=10
  hystrix.collapser.default.maxRequestsInBatch=10
  requestCache.enabled=true
  fallback.enabled=true",
    );
    check(
        "",
        "clusters findings",
        &yaml,
        r#"outbound|80||cart.default.svc.cluster.local least breaker=Service default/cart outrigger.dev/hystrix/Service,percent=20 [0]
         warning [OUT0101] Service default/cart f.yaml:8:7: outrigger.dev/hystrix: line 2: unknown property "circuitBreaker.requestVolumeTreshold" (did you mean `circuitBreaker.requestVolumeThreshold`?)
         warning [OUT0102] Service default/cart f.yaml:9:7: outrigger.dev/hystrix: line 3: hystrix.command.stock.circuitBreaker.forceOpen has no effect: it is for command "stock" (the command of this service is `cart`; or write `default`)
         warning [OUT0102] Service default/cart f.yaml:10:7: outrigger.dev/hystrix: line 4: hystrix.threadpool.default.coreSize has no effect: a proxy has no thread pools (remove the line)
         warning [OUT0102] Service default/cart f.yaml:11:7: outrigger.dev/hystrix: line 5: hystrix.collapser.default.maxRequestsInBatch has no effect: a proxy has no collapsers (remove the line)
         warning [OUT0102] Service default/cart f.yaml:12:7: outrigger.dev/hystrix: line 6: requestCache.enabled has no effect: it is about caches and logs inside the application (remove the line)
         warning [OUT0102] Service default/cart f.yaml:13:7: outrigger.dev/hystrix: line 7: fallback.enabled has no effect: an annotation has no fallback; a CircuitBreaker can have one (remove the line)"#,
    );
}

#[test]
fn one_value_that_is_not_legal_takes_the_annotation_out_of_force_and_not_the_service() {
    let without = "outbound|80||cart.default.svc.cluster.local least [0]\n";
    for (line, finding) in [
        (
            "circuitBreaker.errorThresholdPercentage=101",
            r#"outrigger.dev/hystrix: circuitBreaker.errorThresholdPercentage: found "101", expected an integer from 1 to 100"#,
        ),
        (
            "circuitBreaker.enabled",
            r#"outrigger.dev/hystrix: found "circuitBreaker.enabled", expected NAME=VALUE (such as circuitBreaker.requestVolumeThreshold=20)"#,
        ),
        (
            "metrics.rollingStats.numBuckets=3",
            "outrigger.dev/hystrix: found metrics.rollingStats.numBuckets 3, expected a number that divides metrics.rollingStats.timeInMilliseconds, which is 10000 (write 2, or another window)",
        ),
    ] {
        let yaml = annotated(&format!("outrigger.dev/hystrix: {line}"));
        let finding = format!("{without}error [IST0106] Service default/cart f.yaml:6:28: {finding}");
        check("", "clusters findings", &yaml, &finding);
    }
}

#[test]
fn linkerds_annotations_make_a_breaker_for_each_endpoint() {
    let consecutive = annotated(
        "balancer.linkerd.io/failure-accrual: consecutive
balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3'
balancer.linkerd.io/failure-accrual-consecutive-min-penalty: 2s
balancer.linkerd.io/failure-accrual-consecutive-max-penalty: 5m
balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio: '1.5'",
    );
    check(
        "",
        "clusters findings",
        &consecutive,
        "outbound|80||cart.default.svc.cluster.local least breaker=Service default/cart balancer.linkerd.io/failure-accrual/Endpoint,failures=3/2s..300s~1.5 [0]",
    );
    let unified = annotated(
        "balancer.linkerd.io/failure-accrual: unified
balancer.linkerd.io/failure-accrual-consecutive-max-failures: '0'
balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold: '0.9'
balancer.alpha.linkerd.io/failure-accrual-success-rate-window: 30s
balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests: '100'",
    );
    check(
        "",
        "clusters findings",
        &unified,
        "outbound|80||cart.default.svc.cluster.local least breaker=Service default/cart balancer.linkerd.io/failure-accrual/Endpoint,failures=0/1s..60s~0.5,success=0.9/30s/100 [0]",
    );
}

#[test]
fn what_of_linkerds_annotations_does_not_count_is_named() {
    let without = "outbound|80||cart.default.svc.cluster.local least [0]\n";
    for (annotations, findings) in [
        (
            "balancer.linkerd.io/failure-accrual: consecutiv",
            "error [IST0106] Service default/cart f.yaml:6:42: balancer.linkerd.io/failure-accrual: found \"consecutiv\", expected one of `consecutive`, `unified` (did you mean `consecutive`?)",
        ),
        (
            "balancer.linkerd.io/failure-accrual-consecutive-max-failures: '3'",
            "warning [OUT0102] Service default/cart f.yaml:6:67: balancer.linkerd.io/failure-accrual-consecutive-max-failures: has no effect: balancer.linkerd.io/failure-accrual is not there",
        ),
        (
            "balancer.linkerd.io/failure-accrual: consecutive\nbalancer.linkerd.io/failure-accrual-consecutive-min-penalty: 2m",
            "error [IST0106] Service default/cart f.yaml:7:66: balancer.linkerd.io/failure-accrual-consecutive-min-penalty: found a least penalty of 120s above the longest, 60s (the longest is 60s when absent)",
        ),
        (
            "balancer.linkerd.io/failure-accrual: unified\nbalancer.linkerd.io/failure-accrual-consecutive-max-failures: '0'\nbalancer.alpha.linkerd.io/failure-accrual-success-rate-threshold: '0'",
            "warning [OUT0102] Service default/cart f.yaml:6:42: balancer.linkerd.io/failure-accrual: both halves of it are off, so nothing ever opens (remove the annotations)",
        ),
        (
            "balancer.alpha.linkerd.io/penalize-failures: 'true'\nbalancer.alpha.linkerd.io/failure-accrual-honor-retry-after: 'false'",
            "warning [OUT0103] Service default/cart f.yaml:6:50: balancer.alpha.linkerd.io/penalize-failures: understood, but not supported: endpoints get requests as if it were absent (remove it)",
        ),
        (
            "balancer.linkerd.io/failure-acrual: consecutive",
            "warning [OUT0101] Service default/cart f.yaml:6:41: balancer.linkerd.io/failure-acrual: unknown annotation of Linkerd (did you mean `balancer.linkerd.io/failure-accrual`?)",
        ),
    ] {
        check("", "clusters findings", &annotated(annotations), &format!("{without}{findings}"));
    }
}

#[test]
fn a_circuit_breaker_wins_over_hystrix_and_that_over_linkerd() {
    let annotations = "outrigger.dev/hystrix: circuitBreaker.requestVolumeThreshold=4\nbalancer.linkerd.io/failure-accrual: consecutive";
    check(
        "",
        "clusters findings",
        &annotated(annotations),
        "outbound|80||cart.default.svc.cluster.local least breaker=Service default/cart outrigger.dev/hystrix/Service,volume=4 [0]
         warning [OUT0202] Service default/cart f.yaml:7:42: balancer.linkerd.io/failure-accrual has no effect: outrigger.dev/hystrix wins over it (remove one of the two)",
    );
    check(
        "",
        "clusters findings",
        &(annotated(annotations) + BREAKER),
        "outbound|80||cart.default.svc.cluster.local least breaker=CircuitBreaker default/b/Service [0]
         warning [OUT0202] Service default/cart f.yaml:6:28: outrigger.dev/hystrix has no effect: CircuitBreaker default/b at f.yaml:13:54 is for the same service, and a CircuitBreaker wins over it (remove one of the two)
         warning [OUT0202] Service default/cart f.yaml:7:42: balancer.linkerd.io/failure-accrual has no effect: CircuitBreaker default/b at f.yaml:13:54 is for the same service, and a CircuitBreaker wins over it (remove one of the two)",
    );
}

#[test]
fn service_entries_have_annotations_and_destination_rules_do_not() {
    let yaml = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: api, annotations: {outrigger.dev/hystrix: circuitBreaker.forceOpen=true}}\nspec: {hosts: [a.example.com, b.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: api, annotations: {outrigger.dev/hystrix: circuitBreaker.forceOpen=true}}\nspec: {host: a.example.com}\n";
    check(
        "",
        "clusters findings",
        yaml,
        "outbound|80||a.example.com least dns breaker=ServiceEntry default/api outrigger.dev/hystrix/Service,force-open=true by=default/api [1]
         outbound|80||b.example.com least dns breaker=ServiceEntry default/api outrigger.dev/hystrix/Service,force-open=true [1]
         warning [OUT0102] DestinationRule default/api f.yaml:8:60: outrigger.dev/hystrix has no effect on a DestinationRule (put it on the Service, or write a CircuitBreaker with `subset`)",
    );
}
