//! `cargo xtask tidy`: what the compiler does not check. No network; reads files and `cargo metadata` only, but for the
//! generated documents, which a test of the product renders.
//!
//! Each check takes the files and returns findings; none changes anything. The rules themselves are explained in
//! CONTRIBUTING.md.

mod examples;
mod layers;
mod manifest;
mod sizes;
mod source;
mod words;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::shell;
use source::Source;

/// `cargo xtask tidy`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Write the size ratchet anew where something has become smaller
    #[arg(long)]
    update: bool,
    /// Leave out the generated documents, whose check needs a build of the product
    #[arg(long)]
    no_docs: bool,
}

/// Something to mend.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Path from the root.
    pub(crate) path: String,
    /// Line from 1, or 0 for the whole file.
    pub(crate) line: usize,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

/// A text file of the repository.
pub(crate) struct TextFile {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Content.
    pub(crate) text: String,
    /// What a Rust file holds; none for other files.
    pub(crate) rust: Option<Source>,
    /// Whether all of a Rust file is test code: an integration test, or a module declared with `#[cfg(test)]`.
    pub(crate) is_test: bool,
}

/// Runs all checks; fails when one finds something.
pub(crate) fn run(options: &Options) -> Result<()> {
    let files = read_all(shell::root())?;
    let baseline = sizes::Baseline::read(shell::root())?;
    if options.update {
        baseline.shrunk(&files).write(shell::root())?;
        return Ok(());
    }
    let mut findings = Vec::new();
    findings.extend(layers::check(shell::root())?);
    findings.extend(sizes::check(&files, &baseline));
    findings.extend(words::check(&files));
    findings.extend(manifest::check(&files));
    findings.extend(examples::check(&files));
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} to mend", findings.len());
    }
    if !options.no_docs {
        crate::docs::verify()?;
    }
    Ok(())
}

impl Finding {
    /// About one line of a file; line 0 means the whole file.
    pub(crate) fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.path, self.message)
        } else {
            write!(f, "{}:{}: {}", self.path, self.line, self.message)
        }
    }
}

impl TextFile {
    /// A file of this content.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let rust = path.ends_with(".rs").then(|| Source::new(text));
        let is_test = path.contains("/tests/") || path.contains("/benches/");
        Self { path: path.to_owned(), text: text.to_owned(), rust, is_test }
    }
}

/// Every text file of the repository, sorted by path.
fn read_all(root: &Path) -> Result<Vec<TextFile>> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    mark_tests(&mut files);
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<TextFile>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if kind.is_dir() && name != ".git" && !name.starts_with("target") {
            collect(root, &path, files)?;
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let relative = path.strip_prefix(root).expect("it lies below the root");
            files.push(TextFile::new(&relative.to_string_lossy(), &text));
        }
    }
    Ok(())
}

/// Marks the files that a `#[cfg(test)] mod name;` names, and the modules below them.
fn mark_tests(files: &mut [TextFile]) {
    let declared: Vec<String> = files
        .iter()
        .filter_map(|file| Some((file, file.rust.as_ref()?)))
        .flat_map(|(file, rust)| {
            let folder = module_folder(&file.path);
            rust.test_files().into_iter().map(move |name| format!("{folder}/{name}"))
        })
        .collect();
    for file in files {
        let matches = |stem: &String| file.path == format!("{stem}.rs") || file.path.starts_with(&format!("{stem}/"));
        file.is_test |= declared.iter().any(matches);
    }
}

/// The folder where modules declared in a file lie.
fn module_folder(path: &str) -> &str {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder,
        _ => path.trim_end_matches(".rs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_test_modules_are_tests() {
        let mut files = vec![
            TextFile::new("crates/a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod laws;\n"),
            TextFile::new("crates/a/src/b.rs", "#[cfg(test)]\nmod cases;\n"),
            TextFile::new("crates/a/src/b/cases.rs", ""),
            TextFile::new("crates/a/src/laws/one.rs", ""),
            TextFile::new("crates/a/tests/whole.rs", ""),
        ];
        mark_tests(&mut files);
        let tests: Vec<bool> = files.iter().map(|f| f.is_test).collect();
        assert_eq!(tests, [false, false, true, true, true]);
    }

    #[test]
    fn the_repository_is_read_without_build_output() {
        let files = read_all(shell::root()).expect("readable");
        assert!(files.iter().any(|f| f.path == "Cargo.toml"));
        assert!(files.iter().all(|f| !f.path.starts_with("target") && !f.path.starts_with(".git/")));
    }
}
