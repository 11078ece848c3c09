//! From paths to resources: reads files, keeps what did not change, and keeps the last good version of what broke.
//!
//! A document is recognised by its fingerprint and decoded once; its objects keep their address for as long as its text
//! stays the same, wherever it moves within its file. An object that has become invalid, and the objects of a file that can
//! no longer be read or parsed, stay in force in their last good version until they are fixed; an object that is absent
//! from a file that parses is gone. No file text or tree outlives a load. Called by `outrigger run` and `check`.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use outrigger_model::{Diagnostic, Place};
use xxhash_rust::xxh3::xxh3_128;

use crate::codes;
use crate::document::{self, Decoded};
use crate::files::{self, Entry, Stamp};
use crate::pool::{DecodePool, Task};
use crate::resources::{KINDS, Object, ObjectKey, Resources};

/// Text of changed files that is held at once, so that a folder of many files is never in memory as a whole.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What is in force, and what was found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All objects in force.
    pub resources: Resources,
    /// All findings: first of paths, then of files in their order, then of names that stand twice.
    pub diagnostics: Vec<Diagnostic>,
    /// How many files were read.
    pub files: usize,
    /// How many objects are in force.
    pub objects: usize,
    /// Whether objects and findings are the same as after the load before.
    pub unchanged: bool,
}

/// Loads a set of paths, again and again.
#[derive(Debug)]
pub struct Loader {
    paths: Vec<PathBuf>,
    /// By path; not by `PathBuf`, which hashes component by component.
    files: HashMap<OsString, FileState, foldhash::fast::RandomState>,
    resources: Resources,
    diagnostics: Vec<Diagnostic>,
    /// Standard input cannot be read twice.
    stdin: Option<Arc<Vec<u8>>>,
}

/// What is known of a file.
#[derive(Debug, Default)]
struct FileState {
    stamp: Option<Stamp>,
    /// When reading it last began.
    read: Option<SystemTime>,
    documents: Vec<(u128, Arc<Decoded>)>,
    /// Last good objects that stand in for what is broken now.
    kept: Vec<Object>,
    /// Why it could not be read.
    unreadable: Option<String>,
}

impl FileState {
    fn objects(&self) -> impl Iterator<Item = &Object> {
        self.documents.iter().flat_map(|(_, document)| &document.objects).chain(&self.kept)
    }
}

/// A changed file on its way through the decoder.
struct Pending {
    path: PathBuf,
    /// Its documents: unchanged ones, and `None` where a task will bring the result.
    documents: Vec<(u128, Option<Arc<Decoded>>)>,
}

impl Loader {
    /// A loader of files, folders and `-`. Reads nothing yet.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, files: HashMap::default(), resources: Resources::default(), diagnostics: Vec::new(), stdin: None }
    }

    /// Reads what changed since the last call.
    pub fn load(&mut self) -> Loaded {
        let mut listing = files::list(&self.paths);
        let retained = self.forget(&listing);
        self.refresh(&listing.files);
        let mut order = std::mem::take(&mut listing.files);
        order.extend(retained);
        if order.is_empty() && listing.diagnostics.is_empty() {
            let hint = "manifests are files that end in .yaml, .yml or .json";
            listing.diagnostics.push(codes::NOTHING_TO_READ.bare("there is nothing to read in the input", hint));
        }
        let (objects, mut diagnostics) = self.assemble(&order);
        listing.diagnostics.append(&mut diagnostics);
        let (resources, mut duplicates) = Resources::build(objects, &self.resources);
        listing.diagnostics.append(&mut duplicates);
        let diagnostics = listing.diagnostics;
        let unchanged = resources.same_as(&self.resources) && diagnostics == self.diagnostics;
        self.resources = resources.clone();
        self.diagnostics.clone_from(&diagnostics);
        Loaded { objects: resources.len(), resources, diagnostics, files: order.len(), unchanged }
    }

    /// Drops files that are gone, but not those under a path that cannot be read at the moment; returns these.
    fn forget(&mut self, listing: &files::Listing) -> Vec<Entry> {
        let present: HashSet<&OsStr, foldhash::fast::RandomState> =
            listing.files.iter().map(|entry| entry.path.as_os_str()).collect();
        let mut retained = Vec::new();
        self.files.retain(|path, _| {
            if present.contains(path.as_os_str()) {
                return true;
            }
            let hidden = listing.unreadable.iter().any(|unreadable| Path::new(path).starts_with(unreadable));
            if hidden {
                retained.push(Entry { path: path.into(), label: None, stamp: None });
            }
            hidden
        });
        retained.sort_by(|a, b| a.path.cmp(&b.path));
        retained
    }

    /// Reads and decodes files that changed, a batch at a time.
    fn refresh(&mut self, entries: &[Entry]) {
        let mut pool = DecodePool::new();
        let (mut batch, mut tasks, mut bytes) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            if self.is_current(entry) {
                continue;
            }
            let start = SystemTime::now();
            let text = match self.read(entry) {
                Ok(text) => text,
                Err(error) => {
                    let state = self.files.entry(entry.path.clone().into_os_string()).or_default();
                    state.unreadable = Some(error.to_string());
                    state.stamp = None;
                    continue;
                }
            };
            bytes += text.len();
            batch.push(self.cut(entry, start, text, &mut tasks));
            if bytes >= BATCH_BYTES {
                self.finish(&mut pool, std::mem::take(&mut batch), std::mem::take(&mut tasks));
                bytes = 0;
            }
        }
        self.finish(&mut pool, batch, tasks);
    }

    fn is_current(&self, entry: &Entry) -> bool {
        let Some(state) = self.files.get(entry.path.as_os_str()) else { return false };
        let Some(read) = state.read else { return false };
        match entry.stamp {
            Some(stamp) => state.stamp == Some(stamp) && stamp.settled_at(read),
            None => true,
        }
    }

    fn read(&mut self, entry: &Entry) -> std::io::Result<Arc<Vec<u8>>> {
        if entry.path.as_os_str() != files::STDIN {
            let text = files::read(&entry.path)?;
            let had_objects =
                self.files.get(entry.path.as_os_str()).is_some_and(|state| state.objects().next().is_some());
            let text = if text.is_empty() && had_objects { files::read_again(&entry.path)? } else { text };
            return Ok(Arc::new(text));
        }
        if let Some(text) = &self.stdin {
            return Ok(text.clone());
        }
        let text = Arc::new(files::read(&entry.path)?);
        self.stdin = Some(text.clone());
        Ok(text)
    }

    /// Cuts a file into documents, takes over those that are known, and makes tasks of the others.
    fn cut(&mut self, entry: &Entry, read: SystemTime, text: Arc<Vec<u8>>, tasks: &mut Vec<Task>) -> Pending {
        let state = self.files.entry(entry.path.clone().into_os_string()).or_default();
        state.stamp = entry.stamp;
        state.read = Some(read);
        state.unreadable = None;
        // Equal documents of a file are rare, but each needs its own place.
        let mut known: HashMap<u128, Vec<Arc<Decoded>>, foldhash::fast::RandomState> = HashMap::default();
        for (fingerprint, document) in &state.documents {
            known.entry(*fingerprint).or_default().push(document.clone());
        }
        let file = entry.name();
        let mut documents = Vec::new();
        for chunk in document::split(&text) {
            let fingerprint = xxh3_128(&text[chunk.range.clone()]);
            let same = known.get_mut(&fingerprint).and_then(Vec::pop).filter(|d| d.stays_at(chunk.first_line));
            match &same {
                Some(document) => document.source.move_to(chunk.first_line),
                None => tasks.push(Task {
                    text: text.clone(),
                    range: chunk.range,
                    file: file.clone(),
                    first_line: chunk.first_line,
                }),
            }
            documents.push((fingerprint, same));
        }
        Pending { path: entry.path.clone(), documents }
    }

    /// Decodes the tasks of a batch and files the results.
    fn finish(&mut self, pool: &mut DecodePool, batch: Vec<Pending>, tasks: Vec<Task>) {
        let mut decoded = pool.run(tasks).into_iter();
        for pending in batch {
            let documents: Vec<(u128, Arc<Decoded>)> = pending
                .documents
                .into_iter()
                // One result for each task, in order.
                .filter_map(|(fingerprint, same)| Some((fingerprint, same.or_else(|| decoded.next().map(Arc::new))?)))
                .collect();
            let Some(state) = self.files.get_mut(pending.path.as_os_str()) else { continue };
            let kept = last_good(state, &documents, &self.resources);
            state.kept = kept;
            state.documents = documents;
        }
    }

    /// Objects in force and findings, in the order of files.
    fn assemble(&self, order: &[Entry]) -> (Vec<Object>, Vec<Diagnostic>) {
        let states: Vec<(&Entry, &FileState)> =
            order.iter().filter_map(|entry| Some((entry, self.files.get(entry.path.as_os_str())?))).collect();
        let present = if states.iter().any(|(_, state)| !state.kept.is_empty()) {
            let documents = states.iter().flat_map(|(_, state)| &state.documents);
            documents.flat_map(|(_, document)| &document.objects).map(Object::key).collect()
        } else {
            HashSet::new()
        };
        let mut objects = Vec::with_capacity(self.resources.len());
        let mut diagnostics = Vec::new();
        let mut passed_over: HashMap<&str, usize> = HashMap::new();
        for (entry, state) in states {
            if let Some(error) = &state.unreadable {
                let message = format!("cannot be read: {error}");
                diagnostics.push(files::about_file(codes::UNREADABLE, &entry.name(), &message, ""));
            }
            for (_, document) in &state.documents {
                objects.extend(document.objects.iter().cloned());
                diagnostics.extend(document.findings.iter().map(|finding| finding.diagnostic(&document.source)));
                for kind in &document.passed_over {
                    *passed_over.entry(kind).or_default() += 1;
                }
            }
            for object in &state.kept {
                let key = object.key();
                if !present.contains(&key) {
                    diagnostics.push(kept_notice(state, key));
                    objects.push(object.clone());
                }
            }
        }
        // At the end, because they are about the input as a whole.
        diagnostics.extend(passed_over_notices(passed_over));
        (objects, diagnostics)
    }
}

/// The earlier objects that stand in for what is broken in a file's new documents.
fn last_good(before: &FileState, documents: &[(u128, Arc<Decoded>)], in_force: &Resources) -> Vec<Object> {
    let refused = documents.iter().flat_map(|(_, document)| &document.refused);
    let broken = documents.iter().any(|(_, document)| document.broken);
    let mut kept: Vec<Object> = refused.filter_map(|key| in_force.find(key)).collect();
    if broken {
        for object in before.objects() {
            let known = kept.iter().any(|k| k.ptr_eq(object));
            if !known {
                kept.push(object.clone());
            }
        }
    }
    kept
}

/// Says that an earlier version is in force, at the place of what is wrong with the present one.
fn kept_notice(state: &FileState, key: ObjectKey) -> Diagnostic {
    let findings = || {
        let documents = state.documents.iter().map(|(_, document)| document);
        documents.flat_map(|d| d.findings.iter().map(move |finding| (finding, &d.source)))
    };
    let place: Option<Place> = findings()
        .find(|(finding, _)| finding.object.as_ref() == Some(&key))
        .or_else(|| findings().find(|(finding, _)| finding.object.is_none()))
        .map(|(finding, source)| source.place(finding.problem.pos));
    let notice = codes::LAST_GOOD.bare("its last good version stays in force until the errors here are fixed", "");
    Diagnostic { object: Some(key.object), place, ..notice }
}

fn passed_over_notices(counts: HashMap<&str, usize>) -> Vec<Diagnostic> {
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_unstable();
    let notice = |(kind, count): (&str, usize)| {
        let objects = if count == 1 { "object" } else { "objects" };
        let message = format!("{count} {objects} of kind {kind} passed over");
        match known_kind_like(kind) {
            Some(known) => codes::KIND_MISSPELT.bare(message, format!("did you mean `{known}`?")),
            None => codes::KIND_PASSED_OVER.bare(message, ""),
        }
    };
    counts.into_iter().map(notice).collect()
}

/// A known kind that `kind` resembles without being it. The same word in another API group is no misspelling.
fn known_kind_like(kind: &str) -> Option<&'static str> {
    let likeness =
        |known: &str| strsim::normalized_damerau_levenshtein(&known.to_ascii_lowercase(), &kind.to_ascii_lowercase());
    let known = KINDS.iter().map(|k| k.name).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (known != kind && likeness(known) >= KIND_LIKENESS_MIN).then_some(known)
}

/// From here on a kind is taken for a misspelling: one or two letters in a word of ten.
const KIND_LIKENESS_MIN: f64 = 0.85;

/// Loads one text, as if it were a file of this name; for single documents and tests.
pub fn load_text(file: &str, text: &str) -> (Resources, Vec<Diagnostic>) {
    let mut loader = Loader::new(vec![PathBuf::from(files::STDIN)]);
    loader.stdin = Some(Arc::new(text.as_bytes().to_vec()));
    let entry = Entry { path: PathBuf::from(files::STDIN), label: Some(file.into()), stamp: None };
    loader.refresh(std::slice::from_ref(&entry));
    let (objects, mut diagnostics) = loader.assemble(&[entry]);
    let (resources, duplicates) = Resources::build(objects, &Resources::default());
    diagnostics.extend(duplicates);
    (resources, diagnostics)
}
