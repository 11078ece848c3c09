//! What the input layer makes of documents: diagnostics as text, objects in force, reloads.

mod connection_routes;
mod documents;
mod fuzz;
mod incremental;
mod istio_gateways;
mod kinds;
mod l4_routes;
mod limits;
mod reloads;
mod samples;
mod secrets;

use outrigger_config::loader::load_text;
use outrigger_model::Diagnostic;

/// Loads a text as `f.yaml` and compares every diagnostic, one a line.
#[track_caller]
fn check(yaml: &str, expected: &str) {
    let (_, diagnostics) = load_text("f.yaml", yaml);
    assert_lines(&diagnostics, expected);
}

#[track_caller]
fn assert_lines(diagnostics: &[Diagnostic], expected: &str) {
    let found: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(found == expected, "found:\n{}\nexpected:\n{}\n", found.join("\n"), expected.join("\n"));
}

/// `NAMESPACE/NAME` of the services in force.
#[track_caller]
fn services(yaml: &str) -> Vec<String> {
    let (resources, _) = load_text("f.yaml", yaml);
    resources.services.iter().map(|service| format!("{}/{}", service.meta.namespace, service.meta.name)).collect()
}

/// A valid service.
fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n")
}
