//! From paths to resources: reads files, keeps what did not change, and keeps the last good version of what broke.

use std::sync::Arc;

use outrigger_model::Diagnostic;

use crate::decode::Cx;
use crate::document::{self, Decoded};
use crate::object::Source;
use crate::resources::Resources;

/// Loads one text, as if it were a file of this name; for tests, standard input and single documents.
pub fn load_text(file: &str, text: &str) -> (Resources, Vec<Diagnostic>) {
    let file: Arc<str> = file.into();
    let mut cx = Cx::default();
    let bytes = text.as_bytes();
    let decoded: Vec<Decoded> = document::split(bytes)
        .into_iter()
        .map(|chunk| document::decode(&bytes[chunk.range], Source::new(file.clone(), chunk.first_line), &mut cx))
        .collect();
    let mut diagnostics: Vec<Diagnostic> =
        decoded.iter().flat_map(|d| d.findings.iter().map(|finding| finding.diagnostic(&d.source))).collect();
    let objects = decoded.into_iter().flat_map(|d| d.objects).collect();
    let (resources, duplicates) = Resources::build(objects, &Resources::default());
    diagnostics.extend(duplicates);
    (resources, diagnostics)
}

#[cfg(test)]
mod tests {
    use super::load_text;

    #[track_caller]
    fn check(yaml: &str, expected: &str) {
        let (_, diagnostics) = load_text("f.yaml", yaml);
        let found: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_service() {
        check(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  ports:\n  - port: 010\n    prot: TCP\n    name: 8080\n",
            r#"error [IST0106] Service default/a f.yaml:7:11: spec.ports[0].port: found the octal number 010 (decimal 8), expected an integer from 1 to 65535 (YAML reads a leading zero as octal: write 10, or 8 if octal is meant)
               warning [OUT0101] Service default/a f.yaml:8:5: spec.ports[0]: unknown field `prot` (did you mean `port`?)
               error [IST0106] Service default/a f.yaml:9:11: spec.ports[0].name: found the number 8080, expected a string (put it in quotes: "8080")"#,
        );
    }
}
