//! What may not stand in the repository: paths of one machine, unfinished code, tests that sleep or are switched off,
//! modules that do not say what they are.

use super::source::{Source, line_of};
use super::{Finding, TextFile};

/// This file names the words, so it is not searched for them.
const THIS_FILE: &str = "xtask/src/tidy/words.rs";

/// Nowhere, with the reason.
const ANYWHERE: [(&str, &str); 4] = [
    ("/work/", "a path of one machine"),
    ("/root/", "a path of one machine"),
    ("/home/", "a path of one machine"),
    ("/tmp/", "a path of one machine; tests use `tempfile`, chores the target folder"),
];

/// Not in Rust code outside comments and literals.
const IN_CODE: [(&str, &str); 6] = [
    ("#[ignore", "a test that cannot run must say so and fail in CI"),
    ("todo!", "unfinished"),
    ("unimplemented!", "unfinished"),
    ("dbg!", "left from a search"),
    (DEAD_CODE, "remove what nobody calls"),
    ("allow(unused", "remove what nobody uses"),
];

/// Allowed in what integration tests share.
const DEAD_CODE: &str = "allow(dead_code";

/// Not in comments of Rust code.
const IN_COMMENTS: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Not in tests: they wait for a condition, not for time.
const SLEEPS: [&str; 2] = ["thread::sleep(", "time::sleep("];

/// Tests that may sleep, with the reason.
const MAY_SLEEP: [(&str, &str); 2] = [
    ("crates/config/src/watch.rs", "a file is written in two parts, and the pause between them is what is tested"),
    ("crates/telemetry/src/http/stall.rs", "time is paused there: a sleep moves the test's clock and takes no time"),
];

/// Searches all files.
pub(crate) fn check(files: &[TextFile]) -> Vec<Finding> {
    let searched = files.iter().filter(|file| file.path != THIS_FILE);
    searched.flat_map(|file| [anywhere(file), rust(file)]).flatten().collect()
}

fn anywhere(file: &TextFile) -> Vec<Finding> {
    find_all(file, &file.text, &ANYWHERE, |_| true)
}

fn rust(file: &TextFile) -> Vec<Finding> {
    let Some(source) = &file.rust else { return Vec::new() };
    // What integration tests share is built into each of them, and not each calls all of it.
    let shared = file.path.ends_with("/tests/common/mod.rs");
    let rules: Vec<(&str, &str)> =
        IN_CODE.iter().filter(|(word, _)| !(shared && *word == DEAD_CODE)).copied().collect();
    let mut findings = find_all(file, source.code(), &rules, |_| true);
    findings.extend(comments(file, source));
    findings.extend(sleeps(file, source));
    if !file.text.trim_start().starts_with("//!") {
        findings.push(Finding::new(
            &file.path,
            1,
            "a file opens with `//!`: what it is, what it is not, its invariants, who calls it",
        ));
    }
    findings
}

fn comments(file: &TextFile, source: &Source) -> Vec<Finding> {
    let blanked = |at: usize, len: usize| source.code()[at..at + len].trim().is_empty();
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let is_word = |at: usize, len: usize| {
        !is_letter(file.text[..at].chars().next_back()) && !is_letter(file.text[at + len..].chars().next())
    };
    let found = IN_COMMENTS.iter().flat_map(|word| file.text.match_indices(word));
    let found = found.filter(|(at, word)| is_word(*at, word.len()) && blanked(*at, word.len()));
    found
        .map(|(at, word)| {
            Finding::new(
                &file.path,
                line_of(&file.text, at),
                format!("{word}: finish it, or say in words what is missing"),
            )
        })
        .collect()
}

fn sleeps(file: &TextFile, source: &Source) -> Vec<Finding> {
    if MAY_SLEEP.iter().any(|(path, _)| *path == file.path) {
        return Vec::new();
    }
    let rules = SLEEPS.map(|word| (word, "a test waits for a condition, not for time"));
    find_all(file, source.code(), &rules, |at| file.is_test || source.is_test(at))
}

fn find_all(file: &TextFile, text: &str, rules: &[(&str, &str)], wanted: impl Fn(usize) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (word, reason) in rules {
        for (at, _) in text.match_indices(word).filter(|(at, _)| wanted(*at)) {
            findings.push(Finding::new(&file.path, line_of(text, at), format!("`{word}`: {reason}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&[TextFile::new(path, text)]).iter().map(|f| f.line).collect()
    }

    #[test]
    fn machine_paths_are_found_in_every_file() {
        assert_eq!(lines("README.md", "fine\nsee /work/x and /home/me/y\n"), [2, 2]);
        assert!(lines("README.md", "a framework/and a homepage\n").is_empty());
    }

    #[test]
    fn unfinished_code_is_found_but_not_in_literals() {
        assert_eq!(lines("a.rs", "//! Doc.\nfn f() { todo!() }\n"), [2]);
        assert_eq!(lines("a.rs", "//! Doc.\n#[ignore = \"slow\"]\nfn f() {}\n"), [2]);
        assert_eq!(lines("a.rs", "//! Doc.\n// TODO: more\n"), [2]);
        let dead = "//! Doc.\n#![allow(dead_code)]\n";
        assert_eq!(lines("crates/a/src/b.rs", dead), [2]);
        assert!(lines("crates/a/tests/common/mod.rs", dead).is_empty());
        assert!(lines("a.rs", "//! Doc.\n// A key of XXXX is 4 bytes.\n").is_empty());
        assert!(lines("a.rs", "//! Doc.\nconst A: &str = \"todo!()\"; const TODO_MAX: u8 = 1;\n").is_empty());
    }

    #[test]
    fn tests_may_not_sleep_but_code_may() {
        let text = "//! Doc.\nfn f() { std::thread::sleep(D) }\n#[cfg(test)]\nmod tests {\n    fn g() { tokio::time::sleep(D) }\n}\n";
        assert_eq!(lines("a.rs", text), [5]);
        assert_eq!(lines("crates/a/tests/b.rs", "//! Doc.\nfn f() { thread::sleep(D) }\n"), [2]);
    }

    #[test]
    fn a_module_says_what_it_is() {
        assert_eq!(lines("a.rs", "use std::fs;\n"), [1]);
        assert!(lines("a.rs", "//! What it is.\n").is_empty());
    }
}
