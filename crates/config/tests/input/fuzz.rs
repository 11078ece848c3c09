//! Any bytes give objects and diagnostics, never a panic, and every place lies within the text.

use outrigger_config::loader::load_text;
use proptest::prelude::*;

/// A document that uses most of the syntax.
const SEED: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: &n a\n  labels: {app: *n, \"v\": '1', <<: {x: y}}\nspec:\n  \
                    ports:\n  - {port: 80, targetPort: http, name: x}\n  - port: 0x51\n    name: |\n      y\n    appProtocol: >-\n      \
                    z\n---\n# comment\n{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"kind\": \"ConfigMap\", \"apiVersion\": \"v1\", \
                    \"metadata\": {\"name\": \"\\u00e9\"}, \"data\": {\"a\": \"1\"}}]}\n...\n%YAML 1.2\n---\n? k\n: [a, !!str b, ~]\n";

fn load(text: &str) {
    let (_, diagnostics) = load_text("f.yaml", text);
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    for diagnostic in diagnostics {
        if let Some(place) = &diagnostic.place {
            assert!(place.line >= 1 && place.column >= 1 && place.line <= lines + 1, "{diagnostic}");
        }
        assert!(!diagnostic.message.is_empty());
    }
}

proptest! {
    #[test]
    fn edited_documents(edits in prop::collection::vec((any::<prop::sample::Index>(), "[ \\t\\n:\\-{}\\[\\],&*!|>'\"%@`#?<~a0.]{0,3}", 0_usize..4), 1..8)) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, insert, remove) in edits {
            let at = at.index(text.len());
            let end = text.len().min(at + remove);
            text.splice(at..end, insert.chars());
        }
        load(&text.into_iter().collect::<String>());
    }

    #[test]
    fn texts_of_indicators(text in "[ \\n:\\-{}\\[\\],&*!|>'\"%@`#?<~a0\\\\]{0,60}") {
        load(&text);
    }

    #[test]
    fn values_in_every_field(value in "\\PC{0,12}") {
        for field in ["type", "ports", "selector", "externalName", "publishNotReadyAddresses", "clusterIPs"] {
            load(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec:\n  {field}: {value}\n"));
        }
    }
}
