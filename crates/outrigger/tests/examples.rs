//! Every folder under `examples/` loads and translates without a finding, and all it promises is there.
//!
//! What the READMEs type and what is answered is checked beside real programs, by `cargo xtask peers`.

use std::fs;
use std::path::{Path, PathBuf};

use outrigger_config::loader::Loader;
use outrigger_config::translate::{View, translate};
use outrigger_model::{Action, Listener};

#[test]
fn all_examples_are_free_of_findings() {
    let folders = folders();
    assert!(!folders.is_empty(), "there are examples");
    for folder in folders {
        check(&folder);
    }
}

fn folders() -> Vec<PathBuf> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(examples).expect("examples/ is there").map(|entry| entry.expect("readable").path()).collect();
    folders.sort();
    folders
}

fn check(folder: &Path) {
    let name = folder.display();
    let loaded = Loader::new(vec![folder.to_owned()]).load();
    assert_eq!(loaded.diagnostics, [], "{name}");
    let (snapshot, findings) = translate(&loaded.resources, &View::default());
    assert_eq!(findings, [], "{name}");
    assert!(!snapshot.services.is_empty(), "{name} has a service");
    for service in &snapshot.services {
        assert!(service.endpoints > 0, "{name}: {service:?}");
    }
    let outbound = snapshot.listener(Listener::OUTBOUND).expect("outbound");
    let hosts = outbound.route_tables().flat_map(|table| &table.virtual_hosts);
    let routes = hosts.flat_map(|host| &host.routes);
    let mut destinations = 0;
    for route in routes {
        let Action::Forward(forward) = &route.action else { continue };
        for destination in &forward.destinations {
            let cluster = snapshot.clusters.get(&destination.cluster);
            let cluster = cluster.unwrap_or_else(|| panic!("{name}: {} is no cluster", destination.cluster));
            assert!(!cluster.endpoints.is_empty(), "{name}: {} has no endpoint", cluster.name);
            for endpoint in &cluster.endpoints {
                assert!(endpoint.address.ip().is_loopback(), "{name}: {} needs more than --echo", endpoint.address);
            }
            destinations += 1;
        }
    }
    assert!(destinations > 0, "{name} sends nowhere");
}
