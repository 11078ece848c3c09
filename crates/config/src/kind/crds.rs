//! The schemas under `deploy/crds` against the code that reads the kinds: the same fields, bounds and choices.
//!
//! For every field of a schema a document is made that has it and what is required beside it. What the decoder asked for on
//! the way is noted by [`note`], which [`Fields::finish`](crate::decode::Fields) calls in tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::decode::Cx;
use crate::loader::load_text;
use crate::node::Node;
use crate::tree;

thread_local! {
    /// Path of a mapping, to the fields that were asked for.
    static ASKED: RefCell<BTreeMap<String, BTreeSet<&'static str>>> = RefCell::default();
}

/// Notes which fields of a mapping are known.
pub(crate) fn note(cx: &Cx, known: &[&'static str]) {
    let path: String = cx.path().split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect();
    ASKED.with_borrow_mut(|asked| asked.entry(path).or_default().extend(known));
}

/// What the decoder knows and no schema has: fields that have no effect, or are not enforced.
const NOT_IN_SCHEMAS: &[(&str, &str)] = &[
    ("", "status"),
    ("spec.execution.isolation.thread", "interruptOnTimeout"),
    ("spec.execution.isolation.thread", "interruptOnFutureCancel"),
    ("spec.metrics", "rollingPercentile"),
];

fn schemas() -> [(&'static str, String); 2] {
    let read = |file: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds").join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    [("CircuitBreaker", read("circuitbreakers.yaml")), ("RateLimit", read("ratelimits.yaml"))]
}

/// A field of a schema.
struct Field<'s, 't> {
    /// The names on the way to it; `[]` stands for the item of a list.
    path: Vec<String>,
    schema: &'s Node<'t>,
}

impl Field<'_, '_> {
    /// As [`note`] writes it.
    fn name(&self) -> String {
        self.path.iter().filter(|part| *part != "[]").cloned().collect::<Vec<_>>().join(".")
    }
}

/// Every field of a schema but for those of the metadata.
fn fields<'s, 't>(schema: &'s Node<'t>, path: &[String], out: &mut Vec<Field<'s, 't>>) {
    let below = |name: &str| [path, &[name.to_owned()]].concat();
    for (key, inner) in schema.get("properties").and_then(Node::entries).unwrap_or_default() {
        out.push(Field { path: below(&key.text), schema: inner });
        fields(inner, &below(&key.text), out);
    }
    if let Some(items) = schema.get("items") {
        fields(items, &below("[]"), out);
    }
}

fn text<'s>(schema: &'s Node<'_>, key: &str) -> Option<&'s str> {
    Some(&schema.get(key)?.scalar()?.text)
}

/// A value in JSON for a schema: on the way to a field what leads there, beside it what is required.
fn value(schema: &Node<'_>, path: &[String], given: &str) -> String {
    let Some((first, rest)) = path.split_first() else { return given.to_owned() };
    if first == "[]" {
        return format!("[{}]", value(schema.get("items").expect("a list has items"), rest, given));
    }
    let properties = schema.get("properties").expect("a mapping has properties");
    let required = schema.get("required").and_then(Node::items).unwrap_or_default();
    let mut parts = vec![format!("{first:?}: {}", value(properties.get(first).expect("it is there"), rest, given))];
    for name in required.iter().filter_map(Node::scalar).filter(|name| name.text != *first) {
        let other = example(properties.get(&name.text).expect("what is required is there"));
        parts.push(format!("{:?}: {other}", name.text));
    }
    format!("{{{}}}", parts.join(", "))
}

/// Any value that a schema takes.
fn example(schema: &Node<'_>) -> String {
    if let Some(first) = schema.get("enum").and_then(Node::items).and_then(<[_]>::first) {
        return format!("{:?}", first.scalar().expect("a choice is a text").text);
    }
    match text(schema, "type") {
        Some("integer") => text(schema, "minimum").expect("every number is bounded").to_owned(),
        Some("boolean") => "true".to_owned(),
        Some("array") => format!("[{}]", example(schema.get("items").expect("a list has items"))),
        Some("object") if schema.get("properties").is_none() => "{}".to_owned(),
        Some("object") => {
            let required = schema.get("required").and_then(Node::items).unwrap_or_default();
            let all = required.iter().filter_map(Node::scalar).map(|name| {
                let inner = schema.get("properties").and_then(|p| p.get(&name.text)).expect("it is there");
                format!("{:?}: {}", name.text, example(inner))
            });
            format!("{{{}}}", all.collect::<Vec<_>>().join(", "))
        }
        Some("string") if text(schema, "pattern").is_some() => "\"1s\"".to_owned(),
        Some("string") => "\"a\"".to_owned(),
        _ => "\"1Ki\"".to_owned(),
    }
}

/// The findings about a document of a kind with this `spec`.
fn load(kind: &str, spec: &str) -> Vec<String> {
    let yaml = format!("{{apiVersion: outrigger.dev/v1alpha1, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}");
    load_text("f.yaml", &yaml).1.iter().map(ToString::to_string).collect()
}

/// Runs `check` with a kind, the schema of its `spec`, and every field of it.
fn each(check: impl Fn(&str, &Node<'_>, &[Field<'_, '_>])) {
    for (kind, yaml) in schemas() {
        let parsed = tree::parse(&yaml).unwrap_or_else(|problem| panic!("{kind}: {problem:?}"));
        let versions = parsed.roots[0].get("spec").and_then(|spec| spec.get("versions")).expect("it has versions");
        let root = versions.items().expect("a list")[0].get("schema").and_then(|s| s.get("openAPIV3Schema"));
        let spec = root.and_then(|root| root.get("properties")).and_then(|p| p.get("spec")).expect("a spec");
        let mut all = Vec::new();
        fields(spec, &[], &mut all);
        assert!(all.len() > 10, "{kind} has fields");
        check(kind, spec, &all);
    }
}

#[test]
fn schemas_have_the_fields_that_are_read() {
    each(|kind, spec, all| {
        ASKED.take();
        for field in all {
            let found = load(kind, &value(spec, &field.path, &example(field.schema)));
            assert!(found.iter().all(|line| !line.contains("unknown field")), "{}: {found:?}", field.name());
        }
        let mut in_schema: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for field in all {
            let name = format!("spec.{}", field.name());
            let (parent, last) = name.rsplit_once('.').expect("it is below spec");
            in_schema.entry(parent.to_owned()).or_default().insert(last.to_owned());
        }
        for (path, asked) in ASKED.take().into_iter().filter(|(path, _)| path.starts_with("spec")) {
            let of_code: BTreeSet<String> = asked
                .into_iter()
                .filter(|name| !NOT_IN_SCHEMAS.contains(&(path.as_str(), *name)))
                .map(str::to_owned)
                .collect();
            let of_schema = in_schema.remove(&path).unwrap_or_default();
            assert!(
                of_code == of_schema || of_code.is_empty(),
                "{kind} {path}: {of_code:?}, in its schema {of_schema:?}"
            );
        }
        assert!(in_schema.is_empty(), "{kind}: nobody reads {in_schema:?}");
    });
}

#[test]
fn numbers_have_the_bounds_of_their_schemas() {
    each(|kind, spec, all| {
        for field in all.iter().filter(|field| text(field.schema, "type") == Some("integer")) {
            let bound = |key| text(field.schema, key).and_then(|text| text.parse::<i64>().ok()).expect("a bound");
            let (least, most) = (bound("minimum"), bound("maximum"));
            for (number, legal) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
                let found = load(kind, &value(spec, &field.path, &number.to_string()));
                let refused = found.iter().any(|line| line.contains("expected an integer"));
                assert_eq!(refused, !legal, "{kind} {} = {number}: {found:?}", field.name());
            }
        }
    });
}

#[test]
fn choices_are_those_of_their_schemas() {
    each(|kind, spec, all| {
        for field in all {
            let Some(choices) = field.schema.get("enum").and_then(Node::items) else { continue };
            let last = field.path.iter().rev().find(|part| *part != "[]").expect("it has a name");
            let refused = |given: &str| {
                let found = load(kind, &value(spec, &field.path, &format!("{given:?}")));
                let of_field = found.iter().filter(|line| line.contains(&format!("{last}: found")));
                of_field.into_iter().any(|line| line.contains("expected one of") || line.contains("expected `"))
            };
            // A group or kind is refused where it does not belong to the other.
            if !matches!(last.as_str(), "group" | "kind") {
                for choice in choices.iter().filter_map(Node::scalar) {
                    assert!(!refused(&choice.text), "{kind} {} = {}", field.name(), choice.text);
                }
                assert!(refused("Nonsense"), "{kind} {}", field.name());
            }
        }
    });
}
