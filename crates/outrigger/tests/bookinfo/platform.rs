//! Bookinfo's other manifests, and Istio's other samples: all of them run.

use crate::mesh::{Mesh, samples, yaml_files};

/// What is found in a manifest of `platform/kube`. In all others nothing is.
const FINDINGS: &[(&str, &[&str])] = &[
    ("bookinfo-certificate.yaml", &["OUT0010 info -"]),
    ("bookinfo-db.yaml", &["OUT0203 info Service default/mongodb"]),
    ("bookinfo-ingress.yaml", &["OUT0010 info -"]),
    ("bookinfo-mysql.yaml", &["OUT0203 info Service default/mysqldb"]),
    // Services alone, whose pods stand in other files.
    ("bookinfo-ratings-discovery-dualstack.yaml", &["OUT0308 warning Service default/ratings"]),
    ("bookinfo-ratings-discovery.yaml", &["OUT0308 warning Service default/ratings"]),
    ("productpage-nodeport.yaml", &["OUT0308 warning Service default/productpage"]),
];

/// Manifests that say again what `bookinfo.yaml` says, so they run without it.
const ALONE: &[&str] = &[
    "bookinfo.yaml",
    "bookinfo-details-dualstack.yaml",
    "bookinfo-details.yaml",
    "bookinfo-dualstack.yaml",
    "bookinfo-psa.yaml",
    "bookinfo-ratings-discovery-dualstack.yaml",
    "bookinfo-ratings-discovery.yaml",
    "bookinfo-ratings-dualstack.yaml",
    "bookinfo-ratings.yaml",
    "bookinfo-reviews-v2.yaml",
    "productpage-nodeport.yaml",
];

#[test]
fn every_manifest_runs() {
    let Some(samples) = samples() else { return };
    let bookinfo = samples.join("bookinfo/platform/kube");
    let manifests = yaml_files(&bookinfo);
    assert!(manifests.len() >= 20, "{manifests:?}");
    for file in manifests {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let files: &[&str] = if ALONE.contains(&name.as_str()) { &[&name] } else { &["bookinfo.yaml", &name] };
        let mut mesh = Mesh::start(&bookinfo, files);
        let findings = FINDINGS.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, findings)| findings);
        assert_eq!(mesh.findings(), findings, "{name}");
        every_service_answers(&mesh, &name);
        mesh.assert_well();
    }
}

/// Every service with pods answers on its HTTP port, and one without says what is missing.
fn every_service_answers(mesh: &Mesh, what: &str) {
    for service in mesh.ready()["services"].as_array().expect("a list") {
        let name = service["name"].as_str().expect("a name");
        let Some(port) = service["ports"].as_array().and_then(|ports| ports.first()?.as_u64()) else { continue };
        // Databases: opaque TCP.
        if matches!(port, 3306 | 27017) {
            continue;
        }
        let answer = mesh.shares(&format!("{name}:{port}"), None, 6);
        let is_served = service["endpoints"] != 0;
        assert_eq!(answer == "503 6, UH 6", !is_served, "{what}: {name}: {answer}");
        assert_eq!(answer.starts_with('v'), is_served, "{what}: {name}: {answer}");
    }
}
