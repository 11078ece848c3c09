//! From the text of a document to its tree: YAML events folded into nodes, within bounds.
//!
//! Knows nothing of Kubernetes. Anchors, aliases and merge keys are resolved here, with a bound on what they may add;
//! depth is bounded; a key that stands twice is reported and its second value dropped. The first syntax error ends the
//! text: what stood before it is not used, because it may be cut short. Called by `document`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use crate::codes;
use crate::decode::{Problem, clip};
use crate::node::{Key, Node, Pos, Scalar, Style, Value};

/// Deepest nesting. The API server's own limit is higher, but no API is deeper than some 20 levels.
pub(crate) const DEPTH_MAX: usize = 128;
/// Most nodes that aliases may add to a document: far more than hand-written manifests share, far less than a bomb.
pub(crate) const ALIAS_NODES_MAX: usize = 100_000;
/// From this size on, a set finds duplicate keys; below, comparing all pairs is faster.
const PAIRWISE_ENTRIES_MAX: usize = 16;

/// The trees of a text, and what was wrong on the way.
#[derive(Debug, Default)]
pub(crate) struct Parsed<'t> {
    /// One for each document that is not empty.
    pub(crate) roots: Vec<Node<'t>>,
    /// Problems that leave the trees usable, such as duplicate keys.
    pub(crate) problems: Vec<Problem>,
}

/// Parses a text. `Err`: it is no valid YAML, or exceeds a limit.
pub(crate) fn parse(text: &str) -> Result<Parsed<'_>, Problem> {
    let options = granit_parser::options! {
        emit_comments: false,
        // One more than ours, so that ours speaks first.
        flow_nesting_limit: DEPTH_MAX + 1,
        block_nesting_limit: DEPTH_MAX + 1,
        // The specification's 1,024 characters are too few for the keys of minified JSON.
        simple_key_max_lookahead: 64 * 1024,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::new();
    while let Some(event) = next_event(&mut parser) {
        let (event, span) = event.map_err(|error| syntax_problem(&error))?;
        builder.take(event, span.start)?;
    }
    Ok(builder.parsed)
}

/// Wraps the parser's iterator, so that the loop above reads as one.
fn next_event<'t>(
    parser: &mut Parser<'t, StrInput<'t>>,
) -> Option<Result<(Event<'t>, granit_parser::Span), ScanError>> {
    parser.next_event()
}

fn syntax_problem(error: &ScanError) -> Problem {
    use granit_parser::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => "indent with spaces; YAML forbids tabs there",
        ErrorKind::UnknownAnchor => "an alias must follow the anchor it names, in the same document",
        ErrorKind::MappingValueNotAllowed | ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "check the indentation of this line and the one above, and quote text that holds `: `"
        }
        ErrorKind::RecursionLimitExceeded => "the document is nested too deep",
        _ => "",
    };
    let code = match error.kind() {
        ErrorKind::RecursionLimitExceeded => codes::DOCUMENT_LIMIT,
        _ => codes::SYNTAX,
    };
    Problem {
        code,
        pos: pos(*error.marker()),
        message: format!("not valid YAML: {}", error.info()),
        hint: hint.to_owned(),
    }
}

/// A collection that is not closed yet.
#[derive(Debug)]
enum Frame<'t> {
    List { items: Vec<Node<'t>>, pos: Pos, anchor: usize },
    Map { entries: Vec<(Key<'t>, Node<'t>)>, key: Option<Key<'t>>, merged: Vec<Node<'t>>, pos: Pos, anchor: usize },
}

struct Builder<'t> {
    stack: Vec<Frame<'t>>,
    /// Anchored nodes with their number of nodes.
    anchors: HashMap<usize, (Node<'t>, usize)>,
    alias_nodes: usize,
    parsed: Parsed<'t>,
}

impl<'t> Builder<'t> {
    fn new() -> Self {
        Self { stack: Vec::with_capacity(16), anchors: HashMap::new(), alias_nodes: 0, parsed: Parsed::default() }
    }

    fn take(&mut self, event: Event<'t>, start: Marker) -> Result<(), Problem> {
        let at = pos(start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(text, style, tag.as_deref(), start)?;
                self.complete(node, anchor)
            }
            Event::Alias(id) => {
                let node = self.expand(id, at)?;
                self.complete(node, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(at, tag.as_deref(), "seq", Frame::List { items: Vec::new(), pos: at, anchor })
            }
            Event::MappingStart(_, anchor, tag) => {
                let frame = Frame::Map { entries: Vec::new(), key: None, merged: Vec::new(), pos: at, anchor };
                self.open(at, tag.as_deref(), "map", frame)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            // Comments are not asked for, and unresolved aliases are syntax errors.
            _ => Ok(()),
        }
    }

    fn open(&mut self, at: Pos, tag: Option<&Tag>, shape: &str, frame: Frame<'t>) -> Result<(), Problem> {
        if let Some(tag) = tag
            && !tag.is_yaml_core_schema_tag(shape)
        {
            return Err(self.tag_problem(tag, at));
        }
        if let Some(Frame::Map { key: None, .. }) = self.stack.last() {
            return Err(self.problem(codes::SYNTAX, at, "a list or mapping cannot be a key", "keys are text"));
        }
        if self.stack.len() >= DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(self.problem(codes::DOCUMENT_LIMIT, at, &message, ""));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        match self.stack.pop() {
            Some(Frame::List { items, pos, anchor }) => self.complete(Node { value: Value::List(items), pos }, anchor),
            Some(Frame::Map { mut entries, merged, pos, anchor, .. }) => {
                self.report_duplicates(&mut entries);
                merge(&mut entries, merged);
                self.complete(Node { value: Value::Map(entries), pos }, anchor)
            }
            // The parser balances its events.
            None => Ok(()),
        }
    }

    /// Puts a finished node where it belongs.
    fn complete(&mut self, node: Node<'t>, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            let nodes = count(&node);
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
        match self.stack.last_mut() {
            None => {
                if !node.is_null() {
                    self.parsed.roots.push(node);
                }
                Ok(())
            }
            Some(Frame::List { items, .. }) => {
                items.push(node);
                Ok(())
            }
            Some(Frame::Map { key, .. }) => match key.take() {
                None => self.key(node),
                Some(key) => self.entry(key, node),
            },
        }
    }

    fn key(&mut self, node: Node<'t>) -> Result<(), Problem> {
        let text = match node.value {
            Value::Scalar(scalar) => scalar.text,
            Value::Null => Cow::Borrowed("null"),
            Value::List(_) | Value::Map(_) => {
                return Err(self.problem(
                    codes::SYNTAX,
                    node.pos,
                    "a list or mapping cannot be a key",
                    "keys are text",
                ));
            }
        };
        if let Some(Frame::Map { key, .. }) = self.stack.last_mut() {
            *key = Some(Key { text, pos: node.pos });
        }
        Ok(())
    }

    fn entry(&mut self, key: Key<'t>, node: Node<'t>) -> Result<(), Problem> {
        let Some(Frame::Map { entries, merged, .. }) = self.stack.last_mut() else { return Ok(()) };
        if key.text == "<<" {
            return match merge_sources(node) {
                Ok(sources) => {
                    merged.extend(sources);
                    Ok(())
                }
                Err(pos) => Err(self.problem(
                    codes::YAML_FEATURE,
                    pos,
                    "a merge key `<<` takes a mapping or a list of mappings",
                    "write the fields out",
                )),
            };
        }
        entries.push((key, node));
        Ok(())
    }

    /// Reports keys that stand twice, and keeps the first of each.
    fn report_duplicates(&mut self, entries: &mut Vec<(Key<'t>, Node<'t>)>) {
        let duplicates = duplicates(entries);
        for &(first, second) in &duplicates {
            let (first, second) = (&entries[first].0, &entries[second].0);
            let first = match second.pos.line.saturating_sub(first.pos.line) {
                0 => format!("first in column {}", first.pos.column),
                1 => "first on the line above".to_owned(),
                lines => format!("first {lines} lines above"),
            };
            let message = format!("key `{}` stands twice, {first}", clip(&second.text));
            let problem = self.problem(codes::DUPLICATE_KEY, second.pos, &message, "remove one of them");
            self.parsed.problems.push(problem);
        }
        for &(_, second) in duplicates.iter().rev() {
            entries.remove(second);
        }
    }

    fn scalar(
        &self,
        text: Cow<'t, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        start: Marker,
    ) -> Result<Node<'t>, Problem> {
        let pos = pos(start);
        let mut style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Block(block_start(&text, pos)),
        };
        match tag.map(|tag| (tag, tag.core_suffix())) {
            None => {}
            Some((_, Some("str"))) => style = if style == Style::Plain { Style::Quoted } else { style },
            Some((_, Some("int" | "float" | "bool" | "null"))) => style = Style::Plain,
            Some((tag, _)) => return Err(self.tag_problem(tag, pos)),
        }
        let null = style == Style::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
        let value = if null { Value::Null } else { Value::Scalar(Scalar { text, style }) };
        Ok(Node { value, pos })
    }

    fn expand(&mut self, id: usize, at: Pos) -> Result<Node<'t>, Problem> {
        let Some((node, nodes)) = self.anchors.get(&id) else {
            return Err(self.problem(codes::SYNTAX, at, "an alias cannot stand inside of what it names", ""));
        };
        self.alias_nodes += nodes;
        if self.alias_nodes > ALIAS_NODES_MAX {
            let message = format!("aliases expand to more than {ALIAS_NODES_MAX} values");
            return Err(self.problem(codes::DOCUMENT_LIMIT, at, &message, "write the values out"));
        }
        Ok(node.clone())
    }

    fn tag_problem(&self, tag: &Tag, at: Pos) -> Problem {
        let message = format!("the tag `{}` is not supported in manifests", clip(&tag.original()));
        self.problem(codes::YAML_FEATURE, at, &message, "remove the tag")
    }

    /// A problem at the current path.
    fn problem(&self, code: &'static codes::CodeInfo, pos: Pos, message: &str, hint: &str) -> Problem {
        let mut path = String::new();
        for frame in &self.stack {
            // Writing to a String cannot fail.
            let _ = match frame {
                Frame::List { items, .. } => write!(path, "[{}]", items.len()),
                Frame::Map { key: Some(key), .. } if path.is_empty() => write!(path, "{}", clip(&key.text)),
                Frame::Map { key: Some(key), .. } => write!(path, ".{}", clip(&key.text)),
                Frame::Map { key: None, .. } => Ok(()),
            };
            if path.len() > 400 {
                break;
            }
        }
        let message = if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") };
        Problem { code, pos, message, hint: hint.to_owned() }
    }
}

/// Where the content of a block scalar begins. The parser tells where its first text is; the text says how many empty
/// lines come before that.
fn block_start(text: &str, first_text: Pos) -> Pos {
    let empty_lines = text.bytes().take_while(|b| *b == b'\n').count();
    let empty_lines = u32::try_from(empty_lines).unwrap_or(u32::MAX);
    Pos { line: first_text.line.saturating_sub(empty_lines).max(1), column: first_text.column }
}

fn pos(marker: Marker) -> Pos {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Pos { line: number(marker.line().max(1)), column: number(marker.col() + 1) }
}

/// How many nodes a tree has.
fn count(node: &Node<'_>) -> usize {
    match &node.value {
        Value::Null | Value::Scalar(_) => 1,
        Value::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
    }
}

/// Pairs of indexes of equal keys, the first of its kind and a later one, in order of the later.
fn duplicates(entries: &[(Key<'_>, Node<'_>)]) -> Vec<(usize, usize)> {
    if entries.len() <= PAIRWISE_ENTRIES_MAX {
        let first = |at: usize| entries[..at].iter().position(|(key, _)| key.text == entries[at].0.text);
        return (1..entries.len()).filter_map(|at| first(at).map(|first| (first, at))).collect();
    }
    let mut seen = HashMap::with_capacity(entries.len());
    let mut pairs = Vec::new();
    for (at, (key, _)) in entries.iter().enumerate() {
        match seen.entry(&*key.text) {
            std::collections::hash_map::Entry::Occupied(first) => pairs.push((*first.get(), at)),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(at);
            }
        }
    }
    pairs
}

/// The mappings a merge key names.
fn merge_sources(node: Node<'_>) -> Result<Vec<Node<'_>>, Pos> {
    match node.value {
        Value::Map(_) => Ok(vec![node]),
        Value::List(items) => match items.iter().find(|item| item.entries().is_none()) {
            Some(other) => Err(other.pos),
            None => Ok(items),
        },
        Value::Null | Value::Scalar(_) => Err(node.pos),
    }
}

/// Adds the entries of merged mappings that the mapping lacks; the first mapping that has a key wins.
fn merge<'t>(entries: &mut Vec<(Key<'t>, Node<'t>)>, merged: Vec<Node<'t>>) {
    if merged.is_empty() {
        return;
    }
    let mut seen: HashSet<Cow<'t, str>> = entries.iter().map(|(key, _)| key.text.clone()).collect();
    for source in merged {
        let Value::Map(more) = source.value else { continue };
        entries.extend(more.into_iter().filter(|(key, _)| seen.insert(key.text.clone())));
    }
}
