//! Endpoints that an operator takes out by hand, and gets back.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{CLUSTER, World, proxy_to, snapshot};
use outrigger_proxy::EndpointError;
use outrigger_testkit::eventually;

const HOUR: Duration = Duration::from_secs(3600);

fn endpoints() -> [SocketAddr; 2] {
    [([127, 0, 0, 1], 9).into(), ([127, 0, 0, 1], 10).into()]
}

/// Which endpoints may be picked.
fn available(world: &World) -> Vec<bool> {
    world.proxy.clusters()[0].endpoints.iter().map(|endpoint| endpoint.is_available).collect()
}

#[test]
fn a_drained_endpoint_gets_no_requests_until_it_is_restored() {
    let [first, second] = endpoints();
    let world = proxy_to(&[first, second]);
    world.proxy.drain_endpoint(CLUSTER, first, HOUR).unwrap();
    assert_eq!(available(&world), [false, true]);
    let reports = &world.proxy.clusters()[0].endpoints;
    assert!(reports[0].drained_until.is_some() && reports[1].drained_until.is_none());
    assert!(world.proxy.restore_endpoint(CLUSTER, first) && !world.proxy.restore_endpoint(CLUSTER, first));
    assert_eq!(available(&world), [true, true]);
}

#[test]
fn a_drain_outlives_snapshots_and_the_absence_of_its_endpoint() {
    let [first, second] = endpoints();
    let world = proxy_to(&[first, second]);
    world.proxy.drain_endpoint(CLUSTER, second, HOUR).unwrap();
    for (endpoints, expected) in [
        (&[second, first][..], &[false, true][..]),
        (&[first], &[true]),
        (&[], &[]),
        (&[first, second], &[true, false]),
    ] {
        world.proxy.apply(Arc::new(snapshot(endpoints, |_| {})));
        assert_eq!(available(&world), expected, "{endpoints:?}");
    }
    assert!(world.proxy.restore_endpoint(CLUSTER, second));
    assert_eq!(available(&world), [true, true]);
}

#[test]
fn a_drain_ends_by_itself() {
    let [first, second] = endpoints();
    let world = proxy_to(&[first, second]);
    world.proxy.drain_endpoint(CLUSTER, second, HOUR).unwrap();
    world.proxy.drain_endpoint(CLUSTER, first, HOUR).unwrap();
    // Another time replaces the one before, and it is the next thing that is due.
    world.proxy.drain_endpoint(CLUSTER, first, Duration::from_millis(50)).unwrap();
    eventually("the drain ends", || (available(&world) == [true, false]).then_some(()));
    assert!(world.proxy.clusters()[0].endpoints[0].drained_until.is_none());
}

#[test]
fn what_is_not_there_cannot_be_drained() {
    let [first, second] = endpoints();
    let world = proxy_to(&[first]);
    assert_eq!(world.proxy.drain_endpoint("outbound|1||nowhere", first, HOUR), Err(EndpointError::NoCluster));
    assert_eq!(world.proxy.drain_endpoint(CLUSTER, second, HOUR), Err(EndpointError::NoEndpoint));
    assert_eq!(world.proxy.reset_ejection(CLUSTER, second), Err(EndpointError::NoEndpoint));
    assert_eq!(world.proxy.reset_ejection(CLUSTER, first), Ok(false), "nobody looks for outliers");
}
