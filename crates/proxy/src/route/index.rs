//! Finds the configured paths that a request's path equals or begins with.
//!
//! The path is hashed byte by byte, once; at every length that a configured prefix has, the hash so far is looked up,
//! and at the end the whole. A prefix of whole segments is looked up alike and counts only where a segment ends. The cost depends on the length of the path and on how many different lengths the prefixes
//! have, not on how many paths are configured. A hit is verified byte by byte, so a collision costs a comparison and is
//! never wrong; since the texts come from configuration, a client cannot make collisions pile up.

use std::collections::HashMap;

/// Exact and prefix paths, each with the routes that name it.
#[derive(Debug)]
pub(super) struct PathIndex {
    /// Whether ASCII case is ignored.
    fold: bool,
    entries: HashMap<u64, Vec<Entry>, foldhash::fast::RandomState>,
    /// The distinct lengths of prefixes, ascending.
    prefix_lengths: Vec<usize>,
    exact_bytes_max: usize,
}

/// One configured text.
#[derive(Debug, Default)]
struct Entry {
    text: Box<[u8]>,
    /// Routes that want the path to be the text, ascending.
    exact: Vec<u32>,
    /// Routes that want the path to begin with the text, ascending.
    prefix: Vec<u32>,
    /// Routes that want the path to be the text or to go on with a slash behind it, ascending.
    segments: Vec<u32>,
}

impl PathIndex {
    pub(super) fn new(fold: bool) -> Self {
        Self { fold, entries: HashMap::default(), prefix_lengths: Vec::new(), exact_bytes_max: 0 }
    }

    /// Adds a route; routes come in ascending order.
    pub(super) fn insert_exact(&mut self, text: &[u8], route: u32) {
        self.exact_bytes_max = self.exact_bytes_max.max(text.len());
        self.entry(text).exact.push(route);
    }

    /// Adds a route; routes come in ascending order.
    pub(super) fn insert_prefix(&mut self, text: &[u8], route: u32) {
        self.prefix_lengths.push(text.len());
        self.entry(text).prefix.push(route);
    }

    /// Adds a route; routes come in ascending order. The text has no slash at its end; every path is below the empty one.
    pub(super) fn insert_segments(&mut self, text: &[u8], route: u32) {
        if text.is_empty() {
            return self.insert_prefix(text, route);
        }
        self.prefix_lengths.push(text.len());
        self.entry(text).segments.push(route);
    }

    /// To be called once, after the last insertion.
    pub(super) fn seal(&mut self) {
        self.prefix_lengths.sort_unstable();
        self.prefix_lengths.dedup();
    }

    /// Calls `found` with the routes of every text that fits `path`.
    pub(super) fn visit(&self, path: &[u8], mut found: impl FnMut(&[u32])) {
        let mut hash = SEED;
        let mut hashed = 0;
        for &length in self.prefix_lengths.iter().take_while(|length| **length <= path.len()) {
            hash = self.hash(hash, &path[hashed..length]);
            hashed = length;
            let Some(entry) = self.find(hash, &path[..length]) else { continue };
            if !entry.prefix.is_empty() {
                found(&entry.prefix);
            }
            if !entry.segments.is_empty() && path.get(length).is_none_or(|next| *next == b'/') {
                found(&entry.segments);
            }
        }
        if path.len() <= self.exact_bytes_max {
            hash = self.hash(hash, &path[hashed..]);
            if let Some(entry) = self.find(hash, path).filter(|entry| !entry.exact.is_empty()) {
                found(&entry.exact);
            }
        }
    }

    fn entry(&mut self, text: &[u8]) -> &mut Entry {
        let hash = self.hash(SEED, text);
        let fold = self.fold;
        let bucket = self.entries.entry(hash).or_default();
        let at = bucket.iter().position(|entry| same(fold, &entry.text, text)).unwrap_or_else(|| {
            bucket.push(Entry { text: text.into(), ..Entry::default() });
            bucket.len() - 1
        });
        &mut bucket[at]
    }

    fn find(&self, hash: u64, text: &[u8]) -> Option<&Entry> {
        self.entries.get(&hash)?.iter().find(|entry| same(self.fold, &entry.text, text))
    }

    /// FNV-1a, because it can be read off after every byte.
    fn hash(&self, start: u64, bytes: &[u8]) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        if self.fold {
            bytes.iter().fold(start, |hash, byte| step(hash, byte.to_ascii_lowercase()))
        } else {
            bytes.iter().fold(start, |hash, byte| step(hash, *byte))
        }
    }
}

fn same(fold: bool, a: &[u8], b: &[u8]) -> bool {
    if fold { a.eq_ignore_ascii_case(b) } else { a == b }
}

/// FNV-1a's offset basis.
const SEED: u64 = 0xcbf2_9ce4_8422_2325;
