//! Decodes many documents on a few threads.
//!
//! Each thread shares texts among the documents it decodes; the order of results is that of the tasks. Called by `loader`.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::decode::Cx;
use crate::document::{self, Decoded};
use crate::object::Source;

/// Below this, starting threads takes longer than it saves.
const PARALLEL_BYTES_MIN: usize = 256 * 1024;
/// More threads than this gain little: reading and assembling stay serial.
const THREADS_MAX: usize = 4;
/// Documents a thread takes at a time.
const SHARE: usize = 64;

/// A document to decode.
pub(crate) struct Task {
    /// The text of its file.
    pub(crate) text: Arc<Vec<u8>>,
    /// Its bytes in there.
    pub(crate) range: Range<usize>,
    /// Its file.
    pub(crate) file: Arc<str>,
    /// The line of the file it begins on.
    pub(crate) first_line: u32,
}

/// The threads' states, kept over the batches of a load.
pub(crate) struct DecodePool {
    contexts: Vec<Cx>,
}

impl DecodePool {
    /// One state for each thread that the machine can run, up to a few.
    pub(crate) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS_MAX);
        Self { contexts: std::iter::repeat_with(Cx::default).take(threads).collect() }
    }

    /// Decodes every task.
    pub(crate) fn run(&mut self, tasks: Vec<Task>) -> Vec<Decoded> {
        let bytes: usize = tasks.iter().map(|task| task.range.len()).sum();
        if bytes < PARALLEL_BYTES_MIN || self.contexts.len() < 2 {
            let cx = &mut self.contexts[0];
            return tasks.into_iter().map(|task| decode(&task, cx)).collect();
        }
        let next = AtomicUsize::new(0);
        let (tasks, next) = (&tasks, &next);
        let work = |cx: &mut Cx| {
            let mut results = Vec::new();
            loop {
                let start = next.fetch_add(SHARE, Ordering::Relaxed);
                let Some(share) = tasks.get(start..tasks.len().min(start + SHARE)).filter(|s| !s.is_empty()) else {
                    return results;
                };
                let decoded: Vec<Decoded> = share.iter().map(|task| decode(task, cx)).collect();
                results.push((start, decoded));
            }
        };
        let mut shares: Vec<(usize, Vec<Decoded>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = self.contexts.iter_mut().map(|cx| scope.spawn(move || work(cx))).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("`decode` catches panics")).collect()
        });
        shares.sort_by_key(|(start, _)| *start);
        shares.into_iter().flat_map(|(_, decoded)| decoded).collect()
    }
}

/// Decodes one document. A panic would be a defect of ours; it costs this document, not the process.
fn decode(task: &Task, cx: &mut Cx) -> Decoded {
    let read = |cx: &mut Cx| {
        let source = Source::new(task.file.clone(), task.first_line);
        document::decode(&task.text[task.range.clone()], source, cx)
    };
    match std::panic::catch_unwind(AssertUnwindSafe(|| read(cx))) {
        Ok(decoded) => decoded,
        Err(_) => {
            // What the panic left behind is not worth knowing.
            *cx = Cx::default();
            document::defect(Source::new(task.file.clone(), task.first_line))
        }
    }
}
