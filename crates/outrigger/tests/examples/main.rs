//! The READMEs as tests: every command of a console block of the front page, of each example and of docs/simulation.md is
//! typed into bash, beside the real program, and its answer compared with what stands below it.
//!
//! What every example must be besides: free of findings, and with a README that types something. `OUTRIGGER_EXAMPLE` picks
//! one document by a part of its path.

mod console;
mod session;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use console::Step;
use session::Session;

/// Readers at work at once.
const READERS: usize = 3;

#[test]
fn every_readme_says_what_happens() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let examples = root.join("examples");
    let mut documents: Vec<PathBuf> = folders(&examples).into_iter().map(|folder| folder.join("README.md")).collect();
    assert!(documents.len() > 3, "there are examples");
    documents.extend([root.join("README.md"), root.join("docs/simulation.md")]);
    let only = std::env::var("OUTRIGGER_EXAMPLE").unwrap_or_default();
    documents.retain(|document| document.to_string_lossy().contains(&only));
    assert!(!documents.is_empty(), "no document is called {only}");
    thread::scope(|scope| {
        let reader = |share| {
            let (documents, examples) = (&documents, &examples);
            scope.spawn(move || {
                documents.iter().skip(share).step_by(READERS).for_each(|document| follow(document, examples));
            })
        };
        let readers: Vec<_> = (0..READERS).map(reader).collect();
        let failed = readers.into_iter().filter_map(|reader| reader.join().err()).count();
        assert_eq!(failed, 0, "what stands above does not happen");
    });
}

/// Types all of a document.
fn follow(document: &Path, examples: &Path) {
    let text = fs::read_to_string(document).unwrap_or_else(|error| panic!("{}: {error}", document.display()));
    let steps = Step::parse(&text);
    let first = steps.first().unwrap_or_else(|| panic!("{} has no console block", document.display()));
    assert!(first.command.starts_with("outrigger run examples/"), "{}:{first} runs no example", document.display());
    assert!(steps.len() > 1, "{} shows nothing but the start", document.display());
    let mut session = Session::new(document, examples);
    steps.iter().for_each(|step| session.enter(step));
    session.end();
}

fn folders(examples: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(examples).expect("examples/ is there").map(|entry| entry.expect("readable").path()).collect();
    folders.sort();
    folders
}
