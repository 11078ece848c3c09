//! Just enough Rust to measure it: blanks comments and literals, finds functions and test code.
//!
//! Not a parser: it trusts that the file compiles, which the build has already shown. A real one would cost more time to
//! build than all of this chore takes to run.

use std::ops::Range;

/// A Rust file with what the checks want to know of it.
pub(crate) struct Source {
    /// The text with comments and literals blanked; same length and lines as the original.
    code: String,
    /// Byte ranges of `#[cfg(test)]` modules.
    tests: Vec<Range<usize>>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Line of its `fn`, from 1.
    pub(crate) line: usize,
    /// Lines from its `fn` to its closing brace.
    pub(crate) lines: usize,
    /// Whether it is test code.
    pub(crate) in_tests: bool,
}

impl Source {
    /// Reads a file.
    pub(crate) fn new(text: &str) -> Self {
        let code = blank(text);
        let tests = test_modules(&code);
        Self { code, tests }
    }

    /// The text with comments and literals blanked.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// Whether a byte of the text belongs to a `#[cfg(test)]` module.
    pub(crate) fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// Lines outside test modules.
    pub(crate) fn production_lines(&self) -> usize {
        let of_tests: usize = self.tests.iter().map(|range| self.code[range.clone()].lines().count()).sum();
        self.code.lines().count() - of_tests
    }

    /// All functions with a body, nested ones too.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices("fn") {
            if !is_word(&self.code, at, 2) {
                continue;
            }
            let rest = self.code[at + 2..].trim_start();
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(end) = body_end(&self.code, at) else { continue };
            if !name.is_empty() {
                let lines = self.code[at..end].lines().count();
                found.push(Function { name, line: line_of(&self.code, at), lines, in_tests: self.is_test(at) });
            }
        }
        found
    }

    /// Names of modules that a `#[cfg(test)] mod name;` declares in files of their own.
    pub(crate) fn test_files(&self) -> Vec<String> {
        let after = |at: usize| self.code[at + CFG_TEST.len()..].trim_start();
        let declared = self.code.match_indices(CFG_TEST).filter_map(|(at, _)| {
            let rest = after(at).strip_prefix("mod ")?;
            let (name, rest) = rest.split_at(rest.find(|c: char| !c.is_alphanumeric() && c != '_')?);
            rest.trim_start().starts_with(';').then(|| name.to_owned())
        });
        declared.collect()
    }
}

const CFG_TEST: &str = "#[cfg(test)]";

/// The line of a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Whether the bytes from `at` are a word of their own.
fn is_word(code: &str, at: usize, len: usize) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    !is_part(code[..at].chars().next_back()) && !is_part(code[at + len..].chars().next())
}

/// Where the body of the item at `at` ends; none where it has no body.
fn body_end(code: &str, at: usize) -> Option<usize> {
    let mut brackets = 0_i32;
    let open = code[at..].char_indices().find_map(|(offset, c)| {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' | ';' if brackets == 0 => return Some((at + offset, c)),
            _ => {}
        }
        None
    });
    let (open, '{') = open? else { return None };
    let mut depth = 0_u32;
    for (offset, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Some(open + offset + 1);
        }
    }
    None
}

fn test_modules(code: &str) -> Vec<Range<usize>> {
    let starts = code.match_indices(CFG_TEST).map(|(at, _)| at);
    starts
        .filter(|at| code[at + CFG_TEST.len()..].trim_start().starts_with("mod "))
        .filter_map(|at| Some(at..body_end(code, at + CFG_TEST.len())?))
        .collect()
}

/// Replaces every byte of comments, strings and character literals by a space; line ends stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in out[at..end].iter_mut().filter(|b| **b != b'\n') {
            *byte = b' ';
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters were replaced, each by one-byte ones")
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let continues_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment_len(rest),
        [b'"', ..] => at + string_len(rest),
        [b'r', b'"' | b'#', ..] if !continues_word => at + raw_string_len(rest, 1).unwrap_or(0),
        [b'b', b'r', ..] if !continues_word => at + raw_string_len(rest, 2).unwrap_or(0),
        [b'\'', ..] => at + char_len(rest).unwrap_or(0),
        _ => at,
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r#"…"#` with any number of hashes after `prefix` letters; none for a raw identifier such as `r#type`.
fn raw_string_len(rest: &[u8], prefix: usize) -> Option<usize> {
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[open + 1..];
    let end = body.windows(closing.len()).position(|window| window == closing)?;
    Some(open + 1 + end + closing.len())
}

/// `'x'`, `'\n'`, `'\u{1f600}'`; none for a lifetime.
fn char_len(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|b| *b == b'\'')?;
        return Some(3 + end + 1);
    }
    // One character of up to four bytes, then the quote; a lifetime has its quote further away, or never.
    let text = std::str::from_utf8(&rest[1..rest.len().min(5)])
        .or_else(|error| std::str::from_utf8(&rest[1..=error.valid_up_to()]));
    let len = text.ok()?.chars().next()?.len_utf8();
    (rest.get(1 + len) == Some(&b'\'')).then_some(len + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked_and_lines_kept() {
        let check = |text: &str, left: &str| {
            let blanked = blank(text);
            assert_eq!(blanked.len(), text.len(), "{text}");
            assert_eq!(blanked.matches('\n').count(), text.matches('\n').count(), "{text}");
            assert_eq!(blanked.split_whitespace().collect::<Vec<_>>().join(" "), left, "{text}");
        };
        check("a // { \"\nb", "a b");
        check("a /* { /* } */ \n */ b", "a b");
        check(r#"x("{\"}", 'c')"#, "x( , )");
        check(r##"r#"{"}"# y r#type br"{" b"}""##, "y r#type b");
        check(r"'\'' '{' &'a str '\u{7d}' 'ö' <'a>", "&'a str <'a>");
        check("'\"' a", "a");
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text = "impl A {\n    fn one(&self, f: fn(u8) -> [u8; 2]) -> u8 {\n        if x { 1 } else { 2 }\n    }\n}\n\
                    trait T {\n    fn none(&self);\n}\nfn two() { \"}\"; }\n";
        let source = Source::new(text);
        let found: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("one".to_owned(), 2, 3), ("two".to_owned(), 9, 1)]);
    }

    #[test]
    fn test_modules_do_not_count() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(test)]\nmod laws;\n";
        let source = Source::new(text);
        assert_eq!(source.production_lines(), 3);
        assert_eq!(source.functions().iter().map(|f| f.in_tests).collect::<Vec<_>>(), [false, true]);
        assert_eq!(source.test_files(), ["laws"]);
    }
}
