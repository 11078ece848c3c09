//! Sizes of files and functions, as a ratchet: what was over the limit when it was written down may only shrink.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Finding, TextFile};

/// Lines of a file outside its tests.
const FILE_LINES_MAX: usize = 500;
/// Lines that no file may have, written down or not.
const FILE_LINES_HARD: usize = 800;
/// Lines of a function outside tests.
const FUNCTION_LINES_MAX: usize = 70;

/// Where the ratchet stands.
const BASELINE: &str = "xtask/tidy.baseline";

/// Files without a limit, each with the reason. Test code has none anywhere: a table of cases is long by nature.
const EXEMPT: [(&str, &str); 0] = [];

const HEADER: &str =
    "# Sizes over the limits, in lines; they may only shrink. `cargo xtask tidy --update` writes what has shrunk.
# A line is `PATH LINES` for a file, `PATH::FUNCTION LINES` for a function.
";

/// Sizes over the limit that are known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Baseline(BTreeMap<String, usize>);

impl Baseline {
    /// Reads the file; a missing one is empty.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let file = root.join(BASELINE);
        if file.exists() { Self::parse(&fs::read_to_string(file)?) } else { Ok(Self::default()) }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut sizes = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let Some((name, lines)) = line.rsplit_once(' ') else { bail!("{BASELINE}: `{line}` is no `NAME LINES`") };
            sizes.insert(name.to_owned(), lines.parse().with_context(|| format!("{BASELINE}: `{line}`"))?);
        }
        Ok(Self(sizes))
    }

    fn render(&self) -> String {
        let lines = self.0.iter().map(|(name, lines)| format!("{name} {lines}\n"));
        std::iter::once(HEADER.to_owned()).chain(lines).collect()
    }

    /// Writes the file; an empty ratchet needs none.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        fs::write(root.join(BASELINE), self.render()).with_context(|| format!("cannot write {BASELINE}"))
    }

    /// What is left of it: entries that shrank are smaller, those within the limit are gone, none is added or grows.
    pub(crate) fn shrunk(&self, files: &[TextFile]) -> Self {
        let over: BTreeMap<String, usize> =
            all_sizes(files).filter(|s| s.lines > s.limit).map(|s| (s.name, s.lines)).collect();
        let keep = |(name, &known): (&String, &usize)| Some((name.clone(), known.min(*over.get(name)?)));
        Self(self.0.iter().filter_map(keep).collect())
    }
}

/// The size of one thing.
struct Size {
    name: String,
    path: String,
    line: usize,
    what: &'static str,
    lines: usize,
    limit: usize,
}

/// Compares all sizes with the limits and the ratchet.
pub(crate) fn check(files: &[TextFile], baseline: &Baseline) -> Vec<Finding> {
    let mut findings = Vec::new();
    for size in all_sizes(files) {
        let Size { name, path, line, what, lines, limit } = size;
        let known = baseline.0.get(&name).copied();
        let allowed = known.unwrap_or(limit).max(limit);
        if lines > allowed {
            let grown = known.map_or(String::new(), |known| format!(", up from {known}"));
            findings.push(Finding::new(
                &path,
                line,
                format!("{what} has {lines} lines of at most {limit}{grown}; look for the seam"),
            ));
        } else if what == "the file" && lines > FILE_LINES_HARD {
            findings.push(Finding::new(
                &path,
                line,
                format!("the file has {lines} lines; none may have more than {FILE_LINES_HARD}"),
            ));
        }
    }
    if baseline.shrunk(files) != *baseline {
        findings.push(Finding::new(BASELINE, 0, "something has shrunk: run `cargo xtask tidy --update`"));
    }
    findings
}

/// Sizes of files and functions outside tests and exempt files.
fn all_sizes(files: &[TextFile]) -> impl Iterator<Item = Size> {
    files.iter().filter(|file| !file.is_test && EXEMPT.iter().all(|(path, _)| file.path != *path)).flat_map(sizes_of)
}

fn sizes_of(file: &TextFile) -> Vec<Size> {
    let Some(rust) = &file.rust else { return Vec::new() };
    let path = file.path.clone();
    let lines = rust.production_lines();
    let whole =
        Size { name: path.clone(), path: path.clone(), line: 0, what: "the file", lines, limit: FILE_LINES_MAX };
    let functions = rust.functions().into_iter().filter(|f| !f.in_tests).map(|f| Size {
        name: format!("{path}::{}", f.name),
        path: path.clone(),
        line: f.line,
        what: "the function",
        lines: f.lines,
        limit: FUNCTION_LINES_MAX,
    });
    std::iter::once(whole).chain(functions).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of `lines` lines with one function of `function` lines.
    fn file(path: &str, lines: usize, function: usize) -> TextFile {
        let body = "x;\n".repeat(function - 2);
        TextFile::new(path, &format!("fn f() {{\n{body}}}\n{}", "// more\n".repeat(lines - function)))
    }

    fn messages(files: &[TextFile], baseline: &str) -> Vec<String> {
        let baseline = Baseline::parse(baseline).expect("a good baseline");
        check(files, &baseline).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn limits_hold_for_files_and_functions() {
        assert!(messages(&[file("a.rs", 500, 70)], "").is_empty());
        let said = messages(&[file("a.rs", 501, 71)], "");
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("the file has 501 lines of at most 500"), "{said:?}");
        assert!(said[1].contains("a.rs:1: the function has 71 lines"), "{said:?}");
    }

    #[test]
    fn what_is_written_down_may_stay_but_not_grow() {
        assert!(messages(&[file("a.rs", 600, 90)], "a.rs 600\na.rs::f 90\n").is_empty());
        let said = messages(&[file("a.rs", 601, 90)], "a.rs 600\na.rs::f 90\n");
        assert!(said.len() == 1 && said[0].contains("up from 600"), "{said:?}");
        let said = messages(&[file("a.rs", 801, 10)], "a.rs 801\n");
        assert!(said.len() == 1 && said[0].contains("none may have more than 800"), "{said:?}");
    }

    #[test]
    fn shrinking_must_be_written_down_and_update_never_adds() {
        let files = [file("a.rs", 550, 20), file("b.rs", 700, 20)];
        let baseline = Baseline::parse("a.rs 600\ngone.rs 900\n").expect("good");
        assert_eq!(baseline.shrunk(&files), Baseline::parse("a.rs 550\n").expect("good"));
        let said = messages(&[file("a.rs", 550, 20)], "a.rs 600\n");
        assert!(said.len() == 1 && said[0].contains("--update"), "{said:?}");
        assert!(messages(&[file("b.rs", 700, 20)], "").len() == 1);
    }

    #[test]
    fn tests_have_no_limit() {
        let mut long = file("crates/a/tests/cases.rs", 900, 200);
        assert!(messages(std::slice::from_ref(&long), "").is_empty());
        long.is_test = false;
        assert_eq!(messages(&[long], "").len(), 2);
    }

    #[test]
    fn the_file_survives_a_round_trip() {
        let baseline = Baseline::parse("# note\n\na.rs 600\na.rs::f 90\n").expect("good");
        assert_eq!(Baseline::parse(&baseline.render()).expect("good"), baseline);
        assert!(Baseline::parse("a.rs").is_err() && Baseline::parse("a.rs x").is_err());
    }
}
