//! Istio's own samples with Gateways, where they are beside the repository: what each proxy listens on.

use std::path::Path;

use outrigger_config::loader::load_text;
use outrigger_config::translate::{View, translate};
use outrigger_model::Level;

use crate::dump::check;
use crate::istio_gateways::INGRESS;
use crate::listeners::gateway_view;

/// The files of a sample, as one text; `None` where the folder of other projects' files is not there.
fn sample(files: &[&str]) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/istio-samples/samples");
    if !root.is_dir() {
        assert!(std::env::var_os("OUTRIGGER_CI").is_none(), "{} is missing", root.display());
        eprintln!("passed over: {} is not there", root.display());
        return None;
    }
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(root.join(file)).unwrap()).collect();
    Some(texts.join("\n---\n"))
}

#[test]
fn bookinfo_is_served_at_its_gateway() {
    let Some(yaml) = sample(&["bookinfo/platform/kube/bookinfo.yaml", "bookinfo/networking/bookinfo-gateway.yaml"])
    else {
        return;
    };
    let to = "outbound|9080||productpage.default.svc.cluster.local*1";
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        &format!(
            "gateway|8080
             [] http NotFound
             *:8080 = *:*
             default path=/productpage -> {to}
             default path=/static* -> {to}
             default path=/login -> {to}
             default path=/logout -> {to}
             default path=/api/v1/products* -> {to}"
        ),
    );
}

#[test]
fn two_samples_share_the_ingress_gateway() {
    let files = [
        "httpbin/httpbin.yaml",
        "httpbin/httpbin-gateway.yaml",
        "helloworld/helloworld.yaml",
        "helloworld/helloworld-gateway.yaml",
    ];
    let Some(yaml) = sample(&files) else { return };
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        "gateway|80
         [] http NotFound
         *:80 = *:*
         default path=/hello -> outbound|5000||helloworld.default.svc.cluster.local*1
         default -> outbound|8000||httpbin.default.svc.cluster.local*1",
    );
}

#[test]
fn connections_are_shared_out_by_weight() {
    let services = "tcp-echo/tcp-echo-services.yaml";
    let to = |version: &str| format!("outbound|9000|{version}|tcp-echo.default.svc.cluster.local");
    let Some(yaml) = sample(&[services, "tcp-echo/tcp-echo-all-v1.yaml"]) else { return };
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        &format!("gateway|31400\n[] default/tcp-echo tcp[0] -> {}*1", to("v1")),
    );
    let Some(shift) = sample(&["tcp-echo/tcp-echo-20-v2.yaml"]) else { return };
    // It takes the place of the VirtualService of the same name.
    let (first, _) = yaml.rsplit_once("---").expect("the VirtualService comes last");
    check(
        INGRESS,
        "listeners findings",
        &format!("{first}---\n{shift}"),
        &format!("gateway|31400\n[] default/tcp-echo tcp[0] -> {}*80 {}*20", to("v1"), to("v2")),
    );
}

/// Of all samples with Gateways only one needs what is not there: the solver of cert-manager, which cert-manager makes.
#[test]
fn only_the_solver_of_cert_manager_is_missing() {
    let Some(yaml) = sample(&["bookinfo/networking/certmanager-gateway.yaml"]) else { return };
    let (resources, loading) = load_text("f.yaml", &yaml);
    let (_, findings) = translate(&resources, &gateway_view(INGRESS).unwrap());
    let errors: Vec<String> = loading
        .iter()
        .chain(&findings)
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| format!("{} {}", finding.code.0, finding.message))
        .collect();
    assert_eq!(
        errors,
        [
            "IST0101 destination host \"cert-manager-resolver\" (cert-manager-resolver.istio-system.svc.cluster.local) is no known service"
        ]
    );
    let (_, findings) = translate(&resources, &View::default());
    assert!(findings.iter().all(|finding| finding.level != Level::Error), "{findings:#?}");
}
