//! One input after the other: what stays, stays at its address and in memory.

use std::net::Ipv4Addr;
use std::sync::Arc;

use outrigger_config::loader::load_text;
use outrigger_config::simulate::{Simulation, Stage};
use outrigger_config::translate::gateways::{GatewayId, GatewayKind};

use crate::{app, line};

fn stage(simulation: &mut Simulation, yaml: &str) -> Stage {
    simulation.stage(&load_text("f.yaml", yaml).0)
}

fn pods(stage: &Stage) -> Vec<String> {
    stage.pods.iter().map(|pod| line(pod)).collect()
}

#[test]
fn pods_that_stay_keep_their_address_and_are_the_same_in_memory() {
    let mut simulation = Simulation::new(7);
    let first = stage(&mut simulation, &(app("a", 2) + &app("b", 1)));
    assert_eq!(
        pods(&first),
        ["default/a-0 127.7.1.1 of a", "default/a-1 127.7.1.2 of a", "default/b-0 127.7.1.3 of b"]
    );
    // More lines in front move everything within the file.
    let more = stage(&mut simulation, &("# moved\n\n".to_owned() + &app("new", 1) + &app("a", 3) + &app("b", 1)));
    assert_eq!(
        pods(&more),
        [
            "default/a-0 127.7.1.1 of a",
            "default/a-1 127.7.1.2 of a",
            "default/a-2 127.7.1.5 of a",
            "default/b-0 127.7.1.3 of b",
            "default/new-0 127.7.1.4 of new"
        ]
    );
    for pod in &first.pods {
        assert!(more.pods.iter().any(|now| Arc::ptr_eq(now, pod)), "{}", pod.name);
        let object = |stage: &Stage| stage.resources.pods.get(&pod.namespace, &pod.name).unwrap().clone();
        assert!(Arc::ptr_eq(&object(&first), &object(&more)), "{}", pod.name);
    }
    let same = stage(&mut simulation, &("# moved\n\n".to_owned() + &app("new", 1) + &app("a", 3) + &app("b", 1)));
    assert!(Arc::ptr_eq(&more.resources.pods, &same.resources.pods), "the whole table is lent");
}

#[test]
fn scaling_down_takes_the_highest_and_a_pod_that_comes_back_early_is_a_new_one() {
    let mut simulation = Simulation::new(0);
    stage(&mut simulation, &app("a", 3));
    assert_eq!(pods(&stage(&mut simulation, &app("a", 1))), ["default/a-0 127.0.1.1 of a"]);
    assert_eq!(
        pods(&stage(&mut simulation, &app("a", 2))),
        ["default/a-0 127.0.1.1 of a", "default/a-1 127.0.1.4 of a"]
    );
}

#[test]
fn an_address_is_used_again_only_when_it_is_released_and_no_fresh_one_is_left() {
    let mut simulation = Simulation::new(0);
    let address = |stage: &Stage| stage.pods.last().unwrap().address;
    let first = stage(&mut simulation, &app("a", 1));
    // Those of pods that exist stay.
    simulation.release(address(&first));
    let other = stage(&mut simulation, &(app("a", 1) + &app("b", 1)));
    assert_eq!(pods(&other), ["default/a-0 127.0.1.1 of a", "default/b-0 127.0.1.2 of b"]);
    let mut seen = vec![Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 1, 2)];
    for round in 0..300 {
        let stage = stage(&mut simulation, &app(if round % 2 == 0 { "c" } else { "d" }, 1));
        let address = address(&stage);
        assert!(!seen.contains(&address), "{address} was used before");
        seen.push(address);
        simulation.release(seen[seen.len() - 2]);
    }
    assert_eq!(seen[254], Ipv4Addr::new(127, 0, 16, 1));
}

#[test]
fn a_changed_template_changes_the_pod_at_its_address() {
    let mut simulation = Simulation::new(0);
    let first = stage(&mut simulation, &app("a", 1));
    let second = stage(&mut simulation, &app("a", 1).replace("version: v1", "version: v2"));
    assert_eq!((&*second.pods[0].facts.version, second.pods[0].address), ("v2", first.pods[0].address));
    assert!(!Arc::ptr_eq(&first.resources.pods, &second.resources.pods));
    let ports = stage(&mut simulation, &app("a", 1).replace("8080", "9090"));
    assert_eq!((ports.pods[0].ports[0].port, ports.pods[0].address), (9090, first.pods[0].address));
}

#[test]
fn the_trust_domain_of_the_mesh_is_in_identities() {
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'trustDomain: corp.example'}\n---\n";
    let mut simulation = Simulation::new(0);
    stage(&mut simulation, &app("a", 1));
    let stage = stage(&mut simulation, &(mesh.to_owned() + &app("a", 1)));
    assert_eq!(&*stage.pods[0].facts.principal, "spiffe://corp.example/ns/default/sa/default");
}

#[test]
fn gateways_have_addresses_of_their_own() {
    let mut simulation = Simulation::new(9);
    let id = |name: &str| GatewayId { kind: GatewayKind::Api, namespace: "default".into(), name: name.into() };
    assert_eq!(simulation.gateway_address(&id("a")), Some(Ipv4Addr::new(127, 9, 2, 1)));
    assert_eq!(simulation.gateway_address(&id("b")), Some(Ipv4Addr::new(127, 9, 2, 2)));
    assert_eq!(simulation.gateway_address(&id("a")), Some(Ipv4Addr::new(127, 9, 2, 1)));
    simulation.release_gateway(&id("a"));
    assert_eq!(simulation.gateway_address(&id("a")), Some(Ipv4Addr::new(127, 9, 2, 3)));
}
