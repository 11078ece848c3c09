//! Files cut into documents, and documents decoded into objects.
//!
//! A file is cut at its `---` lines before anything is parsed, so that a broken document cannot harm its neighbours and an
//! unchanged one is recognised by its fingerprint alone. Everything found in a document is relative to it. Called by
//! `loader`, which knows files, earlier versions and the order of things.

use std::ops::Range;
use std::sync::Arc;

use outrigger_model::{Diagnostic, Level, ObjectRef};

use crate::codes;
use crate::decode::{Cx, Fields, Problem, clip};
use crate::node::{Node, Pos, Value};
use crate::object::{Metadata, Source, metadata};
use crate::resources::{Found, Kind, Object, ObjectKey, find_kind};
use crate::tree;

/// Largest document. A larger one is most often a mistake; a long `List` can be cut into several documents.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A document of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Its bytes in the file, beginning with its `---` line where it has one.
    pub(crate) range: Range<usize>,
    /// The line of the file it begins on, from 1.
    pub(crate) first_line: u32,
}

/// Cuts a file at the lines that begin with `---` and white space.
pub(crate) fn split(bytes: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    for at in memchr::memmem::find_iter(bytes, b"\n---") {
        if !matches!(bytes.get(at + 4), None | Some(b' ' | b'\t' | b'\r' | b'\n')) {
            continue;
        }
        chunks.push(Chunk { range: start..at + 1, first_line });
        let lines = memchr::memchr_iter(b'\n', &bytes[start..=at]).count();
        first_line += u32::try_from(lines).unwrap_or(0);
        start = at + 1;
    }
    chunks.push(Chunk { range: start..bytes.len(), first_line });
    chunks.retain(|chunk| !is_blank(&bytes[chunk.range.clone()]));
    chunks
}

/// Whether a chunk holds nothing but white space, comments, directives and its own separator.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.split(|b| *b == b'\n').all(|line| {
        let line = line.trim_ascii();
        line.is_empty() || matches!(line, b"---" | b"...") || line.starts_with(b"#") || line.starts_with(b"%YAML")
    })
}

/// What a document holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Where it stands; its line moves when the file around it changes.
    pub(crate) source: Arc<Source>,
    /// Its objects that are free of errors.
    pub(crate) objects: Vec<Object>,
    /// What was found.
    pub(crate) findings: Vec<Finding>,
    /// Objects that stay out because of errors.
    pub(crate) refused: Vec<ObjectKey>,
    /// Kinds without meaning here, one entry for each object.
    pub(crate) passed_over: Vec<Box<str>>,
    /// Whether objects may be missing that could not even be named.
    pub(crate) broken: bool,
}

impl Decoded {
    /// Whether it can stay as decoded when it stands `first_line` from now on.
    ///
    /// Objects that become routes and policies take their places with them into the snapshot and into findings that are
    /// kept; they are read anew when they move, so that nobody is sent to a wrong line. Endpoints and what they belong to
    /// come by the ten thousand and are named by no such place: they only move.
    pub(crate) fn stays_at(&self, first_line: u32) -> bool {
        let only_moves = |object: &Object| {
            matches!(
                object,
                Object::Service(_)
                    | Object::EndpointSlice(_)
                    | Object::Endpoints(_)
                    | Object::Pod(_)
                    | Object::Node(_)
                    | Object::ServiceAccount(_)
            )
        };
        self.source.first_line() == first_line || self.objects.iter().all(only_moves)
    }

    fn empty(source: Source) -> Self {
        Self {
            source: Arc::new(source),
            objects: Vec::new(),
            findings: Vec::new(),
            refused: Vec::new(),
            passed_over: Vec::new(),
            broken: false,
        }
    }
}

/// A problem with the object it belongs to.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) object: Option<ObjectKey>,
    pub(crate) problem: Problem,
}

impl Finding {
    /// The diagnostic, with its place in the file.
    pub(crate) fn diagnostic(&self, source: &Source) -> Diagnostic {
        Diagnostic {
            code: self.problem.code.code,
            level: self.problem.code.level,
            object: self.object.as_ref().map(|key| key.object.clone()),
            place: Some(source.place(self.problem.pos)),
            message: self.problem.message.clone(),
            hint: self.problem.hint.clone(),
        }
    }
}

/// Decodes a document.
pub(crate) fn decode(bytes: &[u8], source: Source, cx: &mut Cx) -> Decoded {
    let mut decoded = Decoded::empty(source);
    let parsed = check_text(bytes).and_then(tree::parse);
    let mut parsed = match parsed {
        Ok(parsed) => parsed,
        Err(problem) => {
            decoded.findings.push(Finding { object: None, problem });
            decoded.broken = true;
            return decoded;
        }
    };
    // In order of place, so that each object can take those before its end.
    parsed.problems.sort_by_key(|problem| std::cmp::Reverse(problem.pos));
    let mut pending = parsed.problems;
    let roots = parsed.roots;
    for (index, root) in roots.iter().enumerate() {
        let end = roots.get(index + 1).map(|next| next.pos);
        Reader { decoded: &mut decoded, pending: &mut pending, cx }.document(root, end);
    }
    decoded
}

/// Stands in for a document that a defect of ours kept from being read.
pub(crate) fn defect(source: Source) -> Decoded {
    let message = "this document cannot be read because of a defect in outrigger".to_owned();
    let pos = Pos { line: 1, column: 1 };
    let problem =
        Problem { code: codes::INTERNAL, pos, message, hint: "please report it with the document".to_owned() };
    let findings = vec![Finding { object: None, problem }];
    Decoded { findings, broken: true, ..Decoded::empty(source) }
}

/// Checks size, encoding and control characters.
fn check_text(bytes: &[u8]) -> Result<&str, Problem> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let mib = bytes.len().div_ceil(1024 * 1024);
        return Err(Problem {
            code: codes::DOCUMENT_LIMIT,
            pos: Pos { line: 1, column: 1 },
            message: format!("the document is {mib} MiB large, the limit is {} MiB", DOCUMENT_BYTES_MAX >> 20),
            hint: "cut it into several documents with `---` lines".to_owned(),
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or(0);
        encoding_problem(bytes, at, format!("the byte 0x{byte:02x} is not UTF-8"))
    })?;
    // A fold and not a search: it runs over many bytes at once.
    let is_control = |b: u8| (b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r')) || b == 0x7f;
    if bytes.iter().fold(false, |any, b| any | is_control(*b))
        && let Some(at) = bytes.iter().position(|b| is_control(*b))
    {
        let message = format!("the control character 0x{:02x} is not allowed in YAML", bytes[at]);
        return Err(encoding_problem(bytes, at, message));
    }
    Ok(text)
}

fn encoding_problem(bytes: &[u8], at: usize, message: String) -> Problem {
    let before = String::from_utf8_lossy(&bytes[..at]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let hint = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the file looks like UTF-16; save it as UTF-8",
        _ => "save the file as UTF-8 text",
    };
    Problem {
        code: codes::ENCODING,
        pos: Pos { line: number(line), column: number(column) },
        message,
        hint: hint.to_owned(),
    }
}

/// Reads the objects of one document.
struct Reader<'d> {
    decoded: &'d mut Decoded,
    /// Problems of the tree that no object has taken yet, the first in the document last.
    pending: &'d mut Vec<Problem>,
    cx: &'d mut Cx,
}

impl Reader<'_> {
    /// Reads a document, which is an object or a list of objects; `end` is where the next one begins.
    fn document(&mut self, root: &Node<'_>, end: Option<Pos>) {
        match list_of(root) {
            Some((kind, items)) => self.list(root, kind, items, end),
            None => self.object(root, end, None),
        }
    }

    /// Unfolds `v1 List` and the typed lists of the API server, whose items need not name their kind.
    fn list(&mut self, root: &Node<'_>, kind: &str, items: &[Node<'_>], end: Option<Pos>) {
        let item_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        let inherited = item_kind.zip(text_of(root, "apiVersion"));
        for (index, item) in items.iter().enumerate() {
            let item_end = items.get(index + 1).map_or(end, |next| Some(next.pos));
            match list_of(item) {
                // The depth of documents bounds this.
                Some((kind, items)) => self.list(item, kind, items, item_end),
                None if item.is_null() => {}
                None => self.object(item, item_end, inherited),
            }
        }
    }

    fn object(&mut self, node: &Node<'_>, end: Option<Pos>, inherited: Option<(&str, &str)>) {
        let mut problems = Vec::new();
        while self.pending.last().is_some_and(|problem| end.is_none_or(|end| problem.pos < end)) {
            problems.extend(self.pending.pop());
        }
        let kind = text_of(node, "kind").or(inherited.map(|i| i.0));
        let api_version = text_of(node, "apiVersion").or(inherited.map(|i| i.1));
        let (Some(kind), Some(api_version)) = (kind, api_version) else {
            self.no_object(node);
            self.keep(None, problems);
            return;
        };
        match find_kind(api_version, kind) {
            Found::Kind(known, version) => self.known(node, known, version, problems),
            Found::OtherVersion(known) => {
                self.other_version(node, known, api_version);
                self.keep(None, problems);
            }
            Found::ToCome(kind) => self.announce(node, kind, problems),
            Found::Unknown => {
                self.decoded.passed_over.push(clip(kind).into());
                self.keep(None, problems);
            }
        }
    }

    fn known(&mut self, node: &Node<'_>, kind: &'static Kind, version: &'static str, mut problems: Vec<Problem>) {
        let source = self.decoded.source.clone();
        let object = decode_object(node, kind, version, &source, self.cx);
        problems.append(&mut self.cx.take_problems());
        let key = match object.as_ref() {
            Ok(object) => Some(object.key()),
            Err(reference) => reference.clone().map(|reference| kind.key(reference)),
        };
        problems.sort_by_key(|problem| problem.pos);
        let refused = problems.iter().any(|problem| problem.code.level == Level::Error);
        match (object, &key) {
            (Ok(object), _) if !refused => self.decoded.objects.push(object),
            (_, Some(key)) => self.decoded.refused.push(key.clone()),
            (_, None) => self.decoded.broken = true,
        }
        self.keep(key, problems);
    }

    /// An object that would change what the proxy does, and does not yet.
    fn announce(&mut self, node: &Node<'_>, kind: &'static str, mut problems: Vec<Problem>) {
        let meta = |key| node.get("metadata").and_then(|meta| text_of(meta, key));
        let key = meta("name").map(|name| ObjectKey::to_come(kind, meta("namespace").unwrap_or("default"), name));
        let message = format!("kind {kind} is not enforced yet: this object has no effect");
        let pos = node.get("kind").map_or(node.pos, |kind| kind.pos);
        problems.push(Problem { code: codes::NOT_ENFORCED, pos, message, hint: String::new() });
        self.keep(key, problems);
    }

    fn keep(&mut self, object: Option<ObjectKey>, problems: Vec<Problem>) {
        let findings = problems.into_iter().map(|problem| Finding { object: object.clone(), problem });
        self.decoded.findings.extend(findings);
    }

    fn no_object(&mut self, node: &Node<'_>) {
        let missing: Vec<&str> =
            ["apiVersion", "kind"].into_iter().filter(|key| text_of(node, key).is_none()).collect();
        let found = match &node.value {
            Value::Map(_) => format!("{} missing", crate::decode::list(&missing)),
            _ => format!("found {}", crate::decode::describe(node)),
        };
        let message = format!("{found}; a manifest is a mapping with `apiVersion`, `kind` and `metadata`");
        let problem = Problem { code: codes::NO_OBJECT, pos: node.pos, message, hint: String::new() };
        self.decoded.findings.push(Finding { object: None, problem });
        self.decoded.broken = true;
    }

    fn other_version(&mut self, node: &Node<'_>, kind: &Kind, found: &str) {
        let pos = node.get("apiVersion").map_or(node.pos, |version| version.pos);
        let message =
            format!("apiVersion: found {:?}, expected one of {}", clip(found), crate::decode::list(kind.api_versions));
        let object = node.get("metadata").and_then(|meta| text_of(meta, "name")).map(|name| {
            let namespace = node.get("metadata").and_then(|meta| text_of(meta, "namespace")).unwrap_or("default");
            let namespace = if kind.namespaced { namespace } else { "" };
            kind.key(ObjectRef { kind: kind.name.into(), namespace: namespace.into(), name: name.into() })
        });
        if let Some(object) = &object {
            self.decoded.refused.push(object.clone());
        }
        let problem = Problem { code: codes::API_VERSION, pos, message, hint: String::new() };
        self.decoded.findings.push(Finding { object, problem });
    }
}

/// Decodes an object of a known kind. `Err`: not possible; with what could be made out of its name.
fn decode_object(
    node: &Node<'_>,
    kind: &'static Kind,
    version: &'static str,
    source: &Arc<Source>,
    cx: &mut Cx,
) -> Result<Object, Option<ObjectRef>> {
    let mut fields = Fields::of(node, cx).ok_or(None)?;
    fields.ignore(&["apiVersion", "kind"]);
    let meta: Option<Metadata> =
        fields.required_with("metadata", cx, |node, cx| metadata(node, cx, kind, version, source));
    let meta = meta.ok_or(None)?;
    let reference = meta.object_ref();
    let object = (kind.decode)(meta, &mut fields, cx);
    fields.finish(cx);
    object.ok_or(Some(reference))
}

/// The kind and the items of a list of objects.
fn list_of<'n, 't>(node: &'n Node<'t>) -> Option<(&'n str, &'n [Node<'t>])> {
    let kind = text_of(node, "kind").filter(|kind| kind.ends_with("List"))?;
    Some((kind, node.get("items")?.items()?))
}

/// The text of a field, if it is a scalar.
fn text_of<'n>(node: &'n Node<'_>, key: &str) -> Option<&'n str> {
    node.get(key)?.scalar().map(|scalar| &*scalar.text).filter(|text| !text.is_empty())
}

/// Decodes YAML that stands inside a string of another document, such as `mesh` in Istio's ConfigMap.
///
/// `origin` is where its first line stands in the outer document, so that places in it are right for a block scalar.
/// Returns `None` after a reported problem, or when the text is empty.
pub fn decode_nested<T: crate::decode::Decode>(text: &str, origin: Pos, cx: &mut Cx) -> Option<T> {
    let outer = |pos: Pos| Pos {
        line: origin.line + pos.line.saturating_sub(1),
        column: origin.column + pos.column.saturating_sub(1),
    };
    let parsed = match check_text(text.as_bytes()).and_then(tree::parse) {
        Ok(parsed) => parsed,
        Err(problem) => {
            cx.report(problem.code, outer(problem.pos), problem.message, problem.hint);
            return None;
        }
    };
    let mut roots = parsed.roots;
    for problem in parsed.problems {
        cx.report(problem.code, outer(problem.pos), problem.message, problem.hint);
    }
    let root = roots.first_mut()?;
    move_tree(root, &outer);
    T::decode(root, cx)
}

fn move_tree(node: &mut Node<'_>, outer: &impl Fn(Pos) -> Pos) {
    node.pos = outer(node.pos);
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => {
            if let crate::node::Style::Block(pos) = &mut scalar.style {
                *pos = outer(*pos);
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| move_tree(item, outer)),
        Value::Map(entries) => {
            for (key, value) in entries {
                key.pos = outer(key.pos);
                move_tree(value, outer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunk, decode_nested, split};
    use crate::decode::Cx;
    use crate::node::Pos;
    use crate::object::Labels;

    #[test]
    fn a_file_is_cut_at_separators_only() {
        let cut = |text: &str| -> Vec<(String, u32)> {
            let chunks = split(text.as_bytes()).into_iter();
            chunks.map(|Chunk { range, first_line }| (text[range].to_owned(), first_line)).collect()
        };
        let own =
            |pairs: &[(&str, u32)]| pairs.iter().map(|(text, line)| ((*text).to_owned(), *line)).collect::<Vec<_>>();
        assert_eq!(cut("a\n---\nb\n"), own(&[("a\n", 1), ("---\nb\n", 2)]));
        assert_eq!(cut("--- a\n--- b"), own(&[("--- a\n", 1), ("--- b", 2)]));
        assert_eq!(cut("a\n----\n---x\n ---\n"), own(&[("a\n----\n---x\n ---\n", 1)]));
        assert_eq!(cut("\n\n---\n\n---\n\na"), own(&[("---\n\na", 5)]));
        assert_eq!(cut("---"), own(&[]));
    }

    #[test]
    fn nested_documents_name_places_of_the_outer_one() {
        let mut cx = Cx::default();
        let origin = Pos { line: 10, column: 5 };
        assert!(decode_nested::<Labels>("a: b\nc: 3\n", origin, &mut cx).is_some());
        assert!(decode_nested::<Labels>("\n\n  a: [", origin, &mut cx).is_none());
        assert!(decode_nested::<Labels>("", origin, &mut cx).is_none());
        let places: Vec<(u32, u32)> = cx.take_problems().iter().map(|p| (p.pos.line, p.pos.column)).collect();
        assert_eq!(places[0], (11, 8));
        assert_eq!(places.len(), 2);
        assert!(places[1].0 >= 12, "{places:?}");
    }
}
