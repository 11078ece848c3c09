//! Bounds against documents that are made to hurt.

use std::fmt::Write as _;

use crate::{check, service, services};

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let refs = vec![format!("*a{}", level - 1); 9].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{refs}]");
    }
    check(
        &bomb,
        "error [OUT0005] f.yaml:6:10: a5[0]: aliases expand to more than 100000 values (write the values out)",
    );
}

#[test]
fn deep_documents_are_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep = format!("a: {}{}\n", open.repeat(100_000), close.repeat(100_000));
        let (_, diagnostics) = outrigger_config::loader::load_text("f.yaml", &deep);
        assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
        assert_eq!(diagnostics[0].code.0, "OUT0005");
    }
    let deep: String = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let (_, diagnostics) = outrigger_config::loader::load_text("f.yaml", &deep[..2_000_000]);
    assert_eq!(diagnostics[0].code.0, "OUT0005", "{diagnostics:?}");
}

#[test]
fn large_documents_are_refused_and_others_survive() {
    let large = format!("a: {}\n", "x".repeat(4 * 1024 * 1024));
    let yaml = format!("{}---\n{large}---\n{}", service("a"), service("b"));
    assert_eq!(services(&yaml), ["default/a", "default/b"]);
    check(
        &yaml,
        "error [OUT0005] f.yaml:5:1: the document is 5 MiB large, the limit is 4 MiB (cut it into several documents with \
         `---` lines)",
    );
}

#[test]
fn many_documents_are_read() {
    let yaml: String = (0..20_000).map(|n| format!("---\n{}", service(&format!("s{n}")))).collect();
    assert_eq!(services(&yaml).len(), 20_000);
    let empty = "---\n".repeat(1_000_000);
    assert_eq!(services(&format!("{empty}{}", service("a"))), ["default/a"]);
}

#[test]
fn long_names_are_cut_in_messages() {
    let yaml = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\n\"{}\": 1\n", "k".repeat(1_000));
    let (_, diagnostics) = outrigger_config::loader::load_text("f.yaml", &yaml);
    assert!(diagnostics.iter().all(|diagnostic| diagnostic.to_string().len() < 300), "{diagnostics:?}");
}

#[test]
fn many_keys_and_many_duplicates_are_quick() {
    let keys: String = (0..50_000).map(|n| format!("k{n}: 1\n")).collect();
    let (_, diagnostics) = outrigger_config::loader::load_text("f.yaml", &format!("{keys}{keys}"));
    assert!(!diagnostics.is_empty());
}
