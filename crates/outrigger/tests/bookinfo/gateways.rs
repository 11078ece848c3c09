//! Bookinfo's way in, by Istio's Gateway and by Gateway API's; and its Gateway API routes between services.

use std::path::Path;

use crate::mesh::{Mesh, samples};

/// Requests of one question: weights are kept to the request.
const COUNT: u32 = 100;

/// What both kinds of gateway let through, and nothing else.
fn check_ways_in(bookinfo: &Path, file: &str, port: u16) {
    let mut mesh = Mesh::start(bookinfo, &["platform/kube/bookinfo.yaml", file]);
    assert_eq!(mesh.findings(), Vec::<String>::new(), "{file}");
    let gateway = mesh.gateway("bookinfo-gateway");
    for path in
        ["/productpage", "/productpage?u=normal", "/login", "/logout", "/static/jquery.js", "/api/v1/products/0"]
    {
        assert_eq!(mesh.shares(&format!("{gateway}:{port}{path}"), None, 10), "v1 10", "{file}: {path}");
    }
    for path in ["/", "/productpages", "/productpage/x", "/api/v1", "/reviews/0"] {
        assert_eq!(mesh.shares(&format!("{gateway}:{port}{path}"), None, 10), "404 10, NR 10", "{file}: {path}");
    }
    // Any host will do, and who answers is the service behind the route.
    assert_eq!(mesh.shares(&format!("{gateway}:{port}/productpage host: bookinfo.example.com"), None, 10), "v1 10");
    mesh.assert_well();
}

#[test]
fn istios_gateway_lets_the_product_page_through() {
    let Some(samples) = samples() else { return };
    check_ways_in(&samples.join("bookinfo"), "networking/bookinfo-gateway.yaml", 8080);
}

#[test]
fn gateway_apis_gateway_lets_the_product_page_through() {
    let Some(samples) = samples() else { return };
    check_ways_in(&samples.join("bookinfo"), "gateway-api/bookinfo-gateway.yaml", 80);
}

/// The solver that it sends to comes from cert-manager and is not among the samples: an error that says so.
#[test]
fn the_gateway_of_cert_manager_lacks_its_solver() {
    let Some(samples) = samples() else { return };
    let files = ["platform/kube/bookinfo.yaml", "networking/certmanager-gateway.yaml"];
    let mut mesh = Mesh::start(&samples.join("bookinfo"), &files);
    assert_eq!(mesh.findings(), ["IST0101 error VirtualService istio-system/cert-manager"]);
    let gateway = mesh.gateway("cert-manager-gateway");
    let ask = |path: &str| mesh.shares(&format!("{gateway}:80{path}"), None, 10);
    assert_eq!(ask("/.well-known/acme-challenge/token"), "503 10, NC 10");
    assert_eq!(ask("/productpage"), "404 10, NR 10");
    mesh.assert_well();
}

/// Gateway API splits between Services, one for each version: `bookinfo-versions.yaml` has them.
#[test]
fn routes_between_services_behave_as_documented() {
    let Some(samples) = samples() else { return };
    let bookinfo = samples.join("bookinfo");
    let all_v1 = [
        ("reviews:9080", "v1 100"),
        ("ratings:9080", "v1 100"),
        ("details:9080", "v1 100"),
        ("productpage:9080/productpage", "v1 100"),
    ];
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("route-all-v1.yaml", &all_v1),
        ("route-reviews-v1.yaml", &[("reviews:9080", "v1 100"), ("reviews-v2:9080", "v2 100")]),
        ("route-reviews-v3.yaml", &[("reviews:9080", "v3 100")]),
        ("route-reviews-90-10.yaml", &[("reviews:9080", "v1 90, v2 10")]),
        ("route-reviews-50-v3.yaml", &[("reviews:9080", "v1 50, v3 50")]),
    ];
    for (routes, shares) in cases {
        let routes = format!("gateway-api/{routes}");
        let files = ["platform/kube/bookinfo.yaml", "platform/kube/bookinfo-versions.yaml", &routes];
        let mut mesh = Mesh::start(&bookinfo, &files);
        assert_eq!(mesh.findings(), Vec::<String>::new(), "{routes}");
        for (ask, expected) in shares {
            for from in [None, Some("productpage-v1")] {
                assert_eq!(mesh.shares(ask, from, COUNT), *expected, "{routes}: {ask} from {from:?}");
            }
        }
        mesh.assert_well();
    }
}

/// A gateway and rules of the mesh at once: the gateway sends to the service, whose rules hold for the gateway too.
#[test]
fn rules_of_the_mesh_are_for_the_mesh() {
    let Some(samples) = samples() else { return };
    let files = [
        "platform/kube/bookinfo.yaml",
        "networking/bookinfo-gateway.yaml",
        "networking/destination-rule-reviews.yaml",
        "networking/virtual-service-reviews-test-v2.yaml",
    ];
    let mut mesh = Mesh::start(&samples.join("bookinfo"), &files);
    assert_eq!(mesh.findings(), Vec::<String>::new());
    let gateway = mesh.gateway("bookinfo-gateway");
    assert_eq!(mesh.shares(&format!("{gateway}:8080/productpage"), None, 10), "v1 10");
    assert_eq!(mesh.shares("reviews:9080 end-user: jason", Some("productpage-v1"), 10), "v2 10");
    assert_eq!(mesh.shares("reviews:9080", Some("productpage-v1"), 10), "v1 10");
    mesh.assert_well();
}
