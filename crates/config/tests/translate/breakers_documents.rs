//! What docs/circuit-breakers.md and its example show is loaded, and means what is said there.

use std::path::Path;

use crate::dump::{check, dump, service};

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of a document in YAML.
fn blocks(text: &str) -> Vec<String> {
    text.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block.into()).collect()
}

#[test]
fn the_documentation_is_free_of_findings() {
    let blocks = blocks(&read("docs/circuit-breakers.md"));
    assert_eq!(blocks.len(), 3);
    let yaml = service("shop", "cart", &[]) + &blocks.join("---\n");
    check(
        "",
        "routes clusters findings host=cart",
        &yaml,
        r#"cart.shop.svc.cluster.local:9080
         default -> outbound|9080||cart.shop.svc.cluster.local*1 limit=100/1s+20 of shop/cart[0] Service shop/cart request<=1048576 response<=10485760
         outbound|9080||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/cart/Service,volume=10,sleep=3s,fallback=200[content-type=application/json]"[]" [0]"#,
    );
    check(
        "",
        "clusters host=stock",
        &yaml,
        "outbound|80||stock.default.svc.cluster.local least breaker=Service default/stock outrigger.dev/hystrix/Service,volume=10,sleep=2s,timeout=Some(800ms) [0]",
    );
}

#[test]
fn the_example_is_free_of_findings() {
    let yaml = read("examples/circuit-breaker/app.yaml") + "---\n" + &read("examples/circuit-breaker/resilience.yaml");
    assert_eq!(dump("", "all-findings", &yaml), "");
    check(
        "",
        "clusters",
        &yaml,
        "outbound|7070||cart-cache.shop.svc.cluster.local least [0]
         outbound|7070||cart.shop.svc.cluster.local least breaker=CircuitBreaker shop/cart/Service,volume=10,sleep=3s,concurrent=Some(50),slow=Some(2s),fallback=outbound|7070||cart-cache.shop.svc.cluster.local [0]
         outbound|7080||stock.shop.svc.cluster.local least breaker=Service shop/stock outrigger.dev/hystrix/Service,volume=10,sleep=2s,timeout=Some(800ms) [0]
         outbound|7090||prices.shop.svc.cluster.local least breaker=Service shop/prices balancer.linkerd.io/failure-accrual/Endpoint,failures=5/1s..30s~0.5 [0]",
    );
}
