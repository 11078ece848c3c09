//! Examples: each has a README whose commands the tests type, and the front page names it.

use super::{Finding, TextFile};

/// Checks every folder under `examples/`.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut names: Vec<&str> =
        files.iter().filter_map(|f| f.path.strip_prefix("examples/")?.split_once('/')).map(|(name, _)| name).collect();
    names.dedup();
    let text_of = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let front = text_of("README.md").unwrap_or_default();
    let mut findings = Vec::new();
    for name in names {
        let folder = format!("examples/{name}");
        let readme = format!("{folder}/README.md");
        if !front.contains(&folder) {
            findings.push(Finding::new("README.md", 0, format!("{folder} is not named")));
        }
        match text_of(&readme) {
            None => findings.push(Finding::new(&readme, 0, "is missing")),
            Some(text) if !text.contains("```console\n$ ") => {
                findings.push(Finding::new(&readme, 0, "has no ```console block with a command for the tests to type"));
            }
            Some(_) => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_told_of_and_typed() {
        let said = |files: &[(&str, &str)]| {
            let files: Vec<TextFile> = files.iter().map(|(path, text)| TextFile::new(path, text)).collect();
            check(&files).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let good = ("examples/a/README.md", "# A\n\n```console\n$ curl x\ny\n```\n");
        assert!(said(&[("README.md", "see examples/a"), good]).is_empty());
        assert_eq!(said(&[("README.md", ""), good]), ["README.md: examples/a is not named"]);
        assert_eq!(
            said(&[("README.md", "examples/a"), ("examples/a/x.yaml", "")]),
            ["examples/a/README.md: is missing"]
        );
        assert_eq!(said(&[("README.md", "examples/a"), ("examples/a/README.md", "# A\n")]).len(), 1);
    }
}
