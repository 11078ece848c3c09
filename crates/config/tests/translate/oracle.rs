//! The CRDs of Istio and of the Gateway API as oracle: every field they have is known here, and a field they do not have is not.

use std::fmt::Write as _;
use std::path::Path;

use outrigger_config::decode::{Cx, Decode};
use outrigger_config::document::decode_nested;
use outrigger_config::loader::load_text;
use outrigger_config::node::{Node, Pos, Value};

/// A part of a schema, with its own copy of everything.
#[derive(Clone, Debug)]
enum Tree {
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Decode for Tree {
    fn decode(node: &Node<'_>, _: &mut Cx) -> Option<Self> {
        Some(Self::of(node))
    }
}

impl Tree {
    fn of(node: &Node<'_>) -> Self {
        match &node.value {
            Value::Null => Self::Text(String::new()),
            Value::Scalar(scalar) => Self::Text(scalar.text.to_string()),
            Value::List(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Map(entries) => Self::Map(entries.iter().map(|(k, v)| (k.text.to_string(), Self::of(v))).collect()),
        }
    }

    fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(k, _)| k == key).map(|(_, tree)| tree)
    }

    fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Self::Text(text)) => text,
            _ => "",
        }
    }
}

/// An example of a schema in flow style that has every property.
fn example(schema: &Tree, out: &mut String) {
    match schema.text("type") {
        "object" => {
            out.push('{');
            if let Some(Tree::Map(properties)) = schema.get("properties") {
                for (name, property) in properties {
                    write!(out, "{name}: ").unwrap();
                    example(property, out);
                    out.push_str(", ");
                }
            }
            if let Some(values) = schema.get("additionalProperties") {
                out.push_str("key: ");
                example(values, out);
            }
            out.push('}');
        }
        "array" => {
            out.push('[');
            example(schema.get("items").expect("an array has items"), out);
            out.push(']');
        }
        "boolean" => out.push_str("true"),
        "integer" | "number" => out.push('1'),
        _ => match schema.get("enum") {
            Some(Tree::List(choices)) => match &choices[0] {
                Tree::Text(text) => out.push_str(text),
                other => panic!("{other:?}"),
            },
            _ => out.push_str("1s"),
        },
    }
}

/// The text of a file of other projects' CRDs, where there is one.
fn crds(file: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/crds").join(file);
    let text = std::fs::read_to_string(&path);
    if text.is_err() {
        eprintln!("passed over: {} is not there", path.display());
    }
    text.ok()
}

/// Loads an example of every version of a CRD, and one with a field that nobody has.
fn check_kind(document: &str, group: &str, kind: &str) {
    let crd: Tree = decode_nested(document, Pos { line: 1, column: 1 }, &mut Cx::default()).unwrap();
    let Some(Tree::List(versions)) = crd.get("spec").and_then(|spec| spec.get("versions")) else { panic!("{kind}") };
    for version in versions {
        let spec = version.get("schema").and_then(|s| s.get("openAPIV3Schema")).and_then(|s| s.get("properties"));
        let mut yaml =
            format!("apiVersion: {group}/{}\nkind: {kind}\nmetadata: {{name: x}}\nspec: ", version.text("name"));
        example(spec.and_then(|s| s.get("spec")).expect("a spec"), &mut yaml);
        let (_, findings) = load_text("f.yaml", &yaml);
        let unknown: Vec<String> = findings
            .iter()
            .filter(|f| matches!(f.code.0, "OUT0101" | "OUT0104" | "OUT0010"))
            .map(ToString::to_string)
            .collect();
        assert_eq!(unknown, Vec::<String>::new(), "{kind} {}", version.text("name"));
        let (_, findings) = load_text("f.yaml", &yaml.replacen("spec: {", "spec: {notAField: 1, ", 1));
        assert!(findings.iter().any(|f| f.message.contains("`notAField`")), "{kind}");
    }
}

#[test]
fn every_field_of_istios_schemas_is_known() {
    const KINDS: [&str; 6] =
        ["DestinationRule", "VirtualService", "ServiceEntry", "WorkloadEntry", "WorkloadGroup", "Sidecar"];
    let Some(text) = crds("istio.yaml") else { return };
    let mut seen = Vec::new();
    for document in text.split("\n---\n") {
        let Some(kind) = KINDS.iter().find(|kind| document.contains(&format!("\n    kind: {kind}\n"))) else {
            continue;
        };
        check_kind(document, "networking.istio.io", kind);
        seen.push(*kind);
    }
    seen.sort_unstable();
    assert_eq!(seen.len(), KINDS.len(), "{seen:?}");
}

#[test]
fn every_field_of_the_gateway_apis_schemas_is_known() {
    const GROUP: &str = "gateway.networking.k8s.io";
    for channel in ["standard", "experimental"] {
        for (kind, plural) in [
            ("GatewayClass", "gatewayclasses"),
            ("Gateway", "gateways"),
            ("ListenerSet", "listenersets"),
            ("HTTPRoute", "httproutes"),
            ("GRPCRoute", "grpcroutes"),
            ("TLSRoute", "tlsroutes"),
            ("TCPRoute", "tcproutes"),
            ("ReferenceGrant", "referencegrants"),
        ] {
            let Some(text) = crds(&format!("gateway-api-{channel}/{GROUP}_{plural}.yaml")) else { return };
            check_kind(&text, GROUP, kind);
        }
    }
}
