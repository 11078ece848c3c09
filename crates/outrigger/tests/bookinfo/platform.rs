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
        assert_eq!(answer.contains("503"), !is_served, "{what}: {name}: {answer}");
    }
}

/// Istio's other samples: what runs, the gateway with its port, and what it lets through and what not.
type Other = (&'static [&'static str], Option<(&'static str, u16)>, &'static [&'static str], &'static [&'static str]);

const OTHERS: &[Other] = &[
    (
        &["helloworld/helloworld.yaml", "helloworld/helloworld-gateway.yaml"],
        Some(("helloworld-gateway", 80)),
        &["/hello"],
        &["/", "/hello/x"],
    ),
    (
        &["helloworld/helloworld-dual-stack.yaml", "helloworld/gateway-api/helloworld-gateway.yaml"],
        Some(("helloworld-gateway", 80)),
        &["/hello"],
        &["/", "/hello/x"],
    ),
    (
        &["httpbin/httpbin.yaml", "httpbin/httpbin-gateway.yaml"],
        Some(("httpbin-gateway", 80)),
        &["/", "/status/200"],
        &[],
    ),
    (
        &["httpbin/httpbin-nodeport.yaml", "httpbin/gateway-api/httpbin-gateway.yaml"],
        Some(("httpbin-gateway", 80)),
        &["/", "/status/200"],
        &[],
    ),
    (&["httpbin/httpbin.yaml", "httpbin/sample-client/fortio-deploy.yaml"], None, &[], &[]),
    (&["sleep/sleep.yaml", "curl/curl.yaml"], None, &[], &[]),
];

#[test]
fn istios_other_samples_run() {
    let Some(samples) = samples() else { return };
    for (files, gateway, open, closed) in OTHERS {
        let mut mesh = Mesh::start(&samples, files);
        let findings = mesh.findings();
        // Services whose port no container declares: told, and simulated all the same.
        assert!(findings.iter().all(|finding| finding.starts_with("OUT0302 info")), "{files:?}: {findings:?}");
        every_service_answers(&mesh, files[0]);
        let Some((name, port)) = gateway else { continue };
        let ask = |path: &&str| mesh.shares(&format!("{}:{port}{path}", mesh.gateway(name)), None, 6);
        for path in *open {
            assert!(!ask(path).contains("404") && !ask(path).contains("503"), "{files:?}: {path}: {}", ask(path));
        }
        for path in *closed {
            assert_eq!(ask(path), "404 6, NR 6", "{files:?}: {path}");
        }
        mesh.assert_well();
    }
}

/// Connections through Istio's gateway to TCP rules: what is sent comes back.
#[test]
fn tcp_echo_answers_through_its_gateway() {
    use std::io::{Read as _, Write as _};
    let Some(samples) = samples() else { return };
    let mut mesh = Mesh::start(&samples.join("tcp-echo"), &["tcp-echo-services.yaml", "tcp-echo-all-v1.yaml"]);
    let errors: Vec<String> = mesh.findings().into_iter().filter(|finding| !finding.contains(" info ")).collect();
    assert_eq!(errors, Vec::<String>::new());
    let gateway: std::net::IpAddr = mesh.gateway("tcp-echo-gateway").parse().expect("an address");
    for round in 0..10 {
        let mut stream = std::net::TcpStream::connect((gateway, 31400)).expect("it listens");
        stream.set_read_timeout(Some(outrigger_testkit::PATIENCE)).expect("a socket");
        let text = format!("round {round}\n");
        stream.write_all(text.as_bytes()).expect("sent");
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, text.as_bytes());
    }
    mesh.assert_well();
}
