//! Which crate may depend on which: the table of ARCHITECTURE.md, held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Finding;
use crate::shell;

/// Where the table stands.
const DOCUMENT: &str = "ARCHITECTURE.md";

/// Heading of its last column.
const HEADING: &str = "may depend on";

/// Crate that only tests use.
const FOR_TESTS: &str = "testkit";

/// What each crate may depend on, by short name.
type Allowed = BTreeMap<String, BTreeSet<String>>;

/// One dependency on a crate of ours.
#[derive(Debug, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    for_tests: bool,
}

/// Compares the table with the manifests.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let document = fs::read_to_string(root.join(DOCUMENT)).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let allowed = parse_table(&document);
    ensure!(!allowed.is_empty(), "{DOCUMENT} has no table whose last column is `{HEADING}`");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: Value = serde_json::from_str(&shell::output(&mut command)?)?;
    Ok(compare(&allowed, &packages(&metadata), &edges(&metadata)))
}

/// `outrigger-model` is `model` in the table.
fn short(package: &str) -> String {
    package.strip_prefix("outrigger-").unwrap_or(package).to_owned()
}

/// Reads the rows `| `crate` | holds | `a`, `b` |`; `all` means every other row.
fn parse_table(document: &str) -> Allowed {
    let rows: Vec<Vec<&str>> = document
        .lines()
        .skip_while(|line| !line.contains(HEADING))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let all: BTreeSet<String> = rows.iter().flat_map(|row| names(row[0])).filter(|name| name != FOR_TESTS).collect();
    let mut allowed = Allowed::new();
    for row in &rows {
        let last = row.last().copied().unwrap_or_default();
        let may = if last == "all" { all.clone() } else { names(last) };
        allowed.extend(names(row[0]).into_iter().map(|name| (name, may.clone())));
    }
    allowed
}

fn packages(metadata: &Value) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.filter_map(|package| package["name"].as_str()).map(short).collect()
}

fn edges(metadata: &Value) -> Vec<Edge> {
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Only crates of ours have a path.
            if dependency["path"].is_null() {
                continue;
            }
            edges.push(Edge {
                from: short(package["name"].as_str().unwrap_or_default()),
                to: short(dependency["name"].as_str().unwrap_or_default()),
                for_tests: dependency["kind"] == "dev",
            });
        }
    }
    edges
}

fn compare(allowed: &Allowed, packages: &BTreeSet<String>, edges: &[Edge]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| !allowed.contains_key(*package)) {
        findings.push(Finding::new(DOCUMENT, 0, format!("crate `{package}` is missing from the table")));
    }
    for name in allowed.keys().filter(|name| !packages.contains(*name)) {
        findings.push(Finding::new(DOCUMENT, 0, format!("the table names crate `{name}`, which is not there")));
    }
    for Edge { from, to, for_tests } in edges {
        let may = allowed.get(from).is_some_and(|may| may.contains(to)) || (*for_tests && to == FOR_TESTS);
        if !may {
            let kind = if *for_tests { "for its tests " } else { "" };
            let message = format!("`{from}` depends {kind}on `{to}`, which the table of {DOCUMENT} does not allow");
            findings.push(Finding::new(&format!("crates/{from}/Cargo.toml"), 0, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "text\n| crate | holds | may depend on |\n|---|---|---|\n| `model` | words | – |\n\
                         | `proxy` | plane | `model` |\n| `outrigger` | the `CLI` | all |\n\
                         | `testkit`, `xtask` | chores | – |\n\nmore\n";

    fn said(edges: &[(&str, &str, bool)]) -> Vec<String> {
        let allowed = parse_table(TABLE);
        let edge = |&(from, to, for_tests): &(&str, &str, bool)| Edge { from: from.into(), to: to.into(), for_tests };
        let edges: Vec<Edge> = edges.iter().map(edge).collect();
        compare(&allowed, &allowed.keys().cloned().collect(), &edges).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_table_decides() {
        assert!(
            said(&[("proxy", "model", false), ("outrigger", "proxy", false), ("proxy", "testkit", true)]).is_empty()
        );
        let found = said(&[("model", "proxy", false)]);
        assert!(found.len() == 1 && found[0].contains("`model` depends on `proxy`"), "{found:?}");
        assert_eq!(said(&[("proxy", "testkit", false)]).len(), 1, "the test crate is for tests");
        assert_eq!(said(&[("proxy", "outrigger", true)]).len(), 1, "tests obey the table too");
    }

    #[test]
    fn the_table_is_complete() {
        let packages = ["model", "proxy", "outrigger", "testkit", "xtask", "new"].map(str::to_owned).into();
        let found = compare(&parse_table(TABLE), &packages, &[]);
        assert!(found.len() == 1 && found[0].message.contains("`new` is missing"), "{found:?}");
    }
}
