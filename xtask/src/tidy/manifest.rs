//! Manifests: every dependency of the workspace has its reason beside it, and crates take versions from the workspace.

use super::{Finding, TextFile};

/// Checks the root manifest and those of the crates.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        if file.path == "Cargo.toml" {
            findings.extend(reasons(file));
        } else if file.path.ends_with("/Cargo.toml") {
            findings.extend(inherited(file));
        }
    }
    findings
}

/// A comment stands above every dependency, or above the group of lines it belongs to.
fn reasons(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut has_reason = false;
    for (at, line) in section(&file.text, |name| name == "workspace.dependencies") {
        if line.trim().is_empty() {
            has_reason = false;
        } else if line.starts_with('#') {
            has_reason = true;
        } else if !has_reason {
            let name = line.split(['=', '.', ' ']).next().unwrap_or(line);
            findings.push(Finding::new(
                &file.path,
                at,
                format!("`{name}` has no sentence above it that says why it is there"),
            ));
        }
    }
    findings
}

/// A crate names no versions of its own.
fn inherited(file: &TextFile) -> Vec<Finding> {
    let dependencies = section(&file.text, |name| name.ends_with("dependencies"));
    dependencies
        .filter(|(_, line)| line.contains('=') && !line.starts_with('#') && !line.contains("workspace = true"))
        .map(|(at, line)| {
            Finding::new(
                &file.path,
                at,
                format!("`{line}`: write `workspace = true`; versions stand in the root manifest"),
            )
        })
        .collect()
}

/// The lines of the sections whose name is wanted, with their numbers.
fn section(text: &str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = wanted(name);
            return None;
        }
        inside.then_some((at + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&[TextFile::new(path, text)]).iter().map(|f| f.line).collect()
    }

    #[test]
    fn every_dependency_has_a_reason() {
        let good =
            "[workspace.dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n\n# Why.\nc = \"1\"\n[profile.dev]\nx = 1\n";
        assert!(lines("Cargo.toml", good).is_empty());
        assert_eq!(
            lines("Cargo.toml", "[workspace.dependencies]\na = \"1\"\n# Why.\nb = \"1\"\n\nc = \"1\"\n"),
            [2, 6]
        );
    }

    #[test]
    fn crates_take_versions_from_the_workspace() {
        let good = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"c\"] }\n";
        assert!(lines("crates/x/Cargo.toml", good).is_empty());
        assert_eq!(lines("crates/x/Cargo.toml", "[dev-dependencies]\na = \"1\"\n"), [2]);
    }
}
