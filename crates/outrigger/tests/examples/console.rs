//! Reading ```` ```console ```` blocks, and comparing what was printed with what stands there.
//!
//! A block holds `$ command` lines, each followed by the lines it prints. `…` stands for any text within a line, and a line
//! that is nothing but `…` for any lines. Runs of blanks are alike. A command continues on the next line after a backslash.
//! A line of a ```` ```sh ```` block that begins with `cargo run --release -- ` is typed too: it is how a reader without
//! the binary begins.

use std::fmt;

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Line of the document.
    pub(crate) line: usize,
    /// What is typed.
    pub(crate) command: String,
    /// What is printed, line by line.
    pub(crate) expected: Vec<String>,
}

/// How a reader runs the program from the sources.
const CARGO_RUN: &str = "cargo run --release -- ";

/// Stands for any text.
const ANYTHING: &str = "…";

impl Step {
    /// The steps of all blocks of a document.
    pub(crate) fn parse(document: &str) -> Vec<Self> {
        let mut steps: Vec<Self> = Vec::new();
        let (mut block, mut continues) = ("", false);
        for (at, line) in document.lines().enumerate() {
            if let Some(language) = line.strip_prefix("```") {
                block = if block.is_empty() { language } else { "" };
                continue;
            }
            let step = |command: String| Self { line: at + 1, command, expected: Vec::new() };
            match block {
                "sh" => steps.extend(line.strip_prefix(CARGO_RUN).map(|rest| step(format!("outrigger {rest}")))),
                "console" => match (line.strip_prefix("$ "), steps.last_mut()) {
                    (Some(command), _) => {
                        steps.push(step(command.to_owned()));
                        continues = command.ends_with('\\');
                    }
                    (None, Some(step)) if continues => {
                        step.command.push('\n');
                        step.command.push_str(line);
                        continues = line.ends_with('\\');
                    }
                    (None, Some(step)) => step.expected.push(line.to_owned()),
                    (None, None) => panic!("line {}: an answer without a command", at + 1),
                },
                _ => {}
            }
        }
        steps
    }

    /// Whether this is what the document says.
    pub(crate) fn is_answered(&self, said: &str) -> bool {
        let said: Vec<&str> = said.lines().collect();
        let expected: Vec<&str> = self.expected.iter().map(String::as_str).collect();
        lines_match(&expected, &said)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`", self.line, self.command)
    }
}

fn lines_match(expected: &[&str], said: &[&str]) -> bool {
    match expected {
        [] => said.is_empty(),
        [first, rest @ ..] if first.trim() == ANYTHING => {
            (0..=said.len()).any(|skipped| lines_match(rest, &said[skipped..]))
        }
        [first, rest @ ..] => {
            said.split_first().is_some_and(|(line, more)| line_matches(first, line) && lines_match(rest, more))
        }
    }
}

/// Blanks count once, and not at the ends.
fn line_matches(pattern: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (squeeze(pattern), squeeze(line));
    let parts: Vec<&str> = pattern.split(ANYTHING).collect();
    let [first, middle @ .., last] = &parts[..] else { return pattern == line };
    let Some(mut rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn steps_are_read_with_their_answers() {
    let text =
        "text\n```sh\ncargo run --release -- run a\nnot this\n```\n```console\n$ a | \\\n  b\none\ntwo\n$ c\n```\n";
    let step = |line, command: &str, expected: &[&str]| Step {
        line,
        command: command.to_owned(),
        expected: expected.iter().map(|s| (*s).to_owned()).collect(),
    };
    assert_eq!(
        Step::parse(text),
        [step(3, "outrigger run a", &[]), step(7, "a | \\\n  b", &["one", "two"]), step(11, "c", &[])]
    );
}

#[test]
fn answers_match_with_wildcards_but_not_loosely() {
    let check = |pattern: &str, said: &str| {
        let expected = pattern.lines().map(str::to_owned).collect();
        Step { line: 1, command: String::new(), expected }.is_answered(said)
    };
    assert!(check("     90 v1\n     10 v2", " 90 v1\n 10 v2\n"));
    assert!(check("{\"a\":…,\"b\":…}", "{\"a\":1,\"b\":2}\n"));
    assert!(!check("{\"a\":…,\"b\":…}", "{\"a\":1}\n"));
    assert!(!check("a…a", "a"), "one letter cannot be both ends");
    assert!(!check("90 v1", "90 v1\n10 v2\n") && !check("90 v1", ""));
    assert!(check("a\n…\nz", "a\nb\nc\nz\n") && check("a\n…\nz", "a\nz\n") && check("…", ""));
    assert!(!check("a\n…\nz", "a\nb\n") && !check("a\n…", "b\na\n"));
}
