//! Istio's own samples for the Gateway API, where they are beside the repository.

use super::*;

#[test]
fn the_gateway_of_bookinfo_is_served() {
    let Some(samples) = crate::samples::samples() else { return };
    let read = |file: &str| std::fs::read_to_string(samples.join("bookinfo").join(file)).expect("the sample is there");
    let yaml = format!("{}\n---\n{}", read("platform/kube/bookinfo.yaml"), read("gateway-api/bookinfo-gateway.yaml"));
    check(
        &yaml,
        "Gateway default/bookinfo-gateway: Accepted Programmed ResolvedRefs
         Gateway default/bookinfo-gateway/http: Accepted ResolvedRefs Programmed routes=1
         HTTPRoute default/bookinfo -> Gateway default/bookinfo-gateway: Accepted ResolvedRefs",
    );
    let gateway = Gateway::new("default/bookinfo-gateway", &yaml);
    for (path, answer) in [
        ("/productpage", "productpage"),
        ("/static/bootstrap/css/bootstrap.min.css", "productpage"),
        ("/api/v1/products/0", "productpage"),
        ("/productpage/x", "404"),
        ("/", "404"),
    ] {
        assert_eq!(gateway.http(80, "bookinfo.example.com", path), answer, "{path}");
    }
}

#[test]
fn routes_of_bookinfo_for_services_are_accepted() {
    let Some(samples) = crate::samples::samples() else { return };
    let read = |file: &str| std::fs::read_to_string(samples.join("bookinfo").join(file)).expect("the sample is there");
    let platform = read("platform/kube/bookinfo.yaml") + "\n---\n" + &read("platform/kube/bookinfo-versions.yaml");
    for file in ["route-all-v1", "route-reviews-50-v3", "route-reviews-90-10", "route-reviews-v1", "route-reviews-v3"] {
        let found = status(&format!("{platform}\n---\n{}", read(&format!("gateway-api/{file}.yaml"))));
        assert!(found.starts_with("HTTPRoute") && !found.contains("False"), "{file}: {found}");
    }
}
