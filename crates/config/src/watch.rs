//! Says when the files of an input may have changed.
//!
//! Folders are watched, not files: an editor replaces a file by renaming another over it, and a mounted ConfigMap swaps a
//! link in its folder; a watch on the file itself would die with it. Events are gathered until they pause, and a check
//! follows at least every [`Timing::poll`] in any case, because events can be lost, links can point outside of what is
//! watched, and network file systems have none. The watcher reads nothing: whoever is told asks `loader` for the truth.
//! Called by `outrigger run`.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::files::{STDIN, is_manifest};

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A change is told once no event came for this long.
    pub quiet: Duration,
    /// A change is told after this long at the latest, however many events follow, and even while a file is still being
    /// written.
    pub patience: Duration,
    /// Files are checked at least this often.
    pub poll: Duration,
}

impl Default for Timing {
    /// 10 ms of quiet after files are closed, so that one edit is in force within 100 ms; 500 ms at most, so that a storm of
    /// edits shows; a check every 10 s.
    fn default() -> Self {
        Self { quiet: Duration::from_millis(10), patience: Duration::from_millis(500), poll: Duration::from_secs(10) }
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    signals: Sender<Signal>,
}

enum Signal {
    /// Something relevant happened.
    Change,
    /// A file is being written and not closed yet: what it holds may be half of what is meant.
    Writing(PathBuf),
    /// A file that was open for writing was closed.
    Written(PathBuf),
    /// Events were lost, or a watched folder is gone: watches must be made anew.
    Lost,
    Stop,
}

impl Watcher {
    /// Starts a thread that calls `on_change` whenever the files of `paths` may have changed, and at every poll. The
    /// callback may take its time; what happens meanwhile is told afterwards, once.
    ///
    /// Fails only when the thread cannot be started; where the system has no file events, polling remains.
    pub fn start(paths: &[PathBuf], timing: Timing, on_change: impl FnMut() + Send + 'static) -> std::io::Result<Self> {
        let (signals, received) = mpsc::channel();
        let watched = paths.iter().filter(|path| path.as_os_str() != STDIN);
        // Events name files by their absolute paths, however a watch was asked for.
        let watched = watched.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect();
        let mut watches = Watches::new(watched, signals.clone());
        // Before the thread starts, so that no change after this call is missed.
        watches.renew();
        std::thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || run(watches, &received, timing, on_change))?;
        Ok(Self { signals })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The thread may have ended by itself; then there is nobody to stop.
        let _ = self.signals.send(Signal::Stop);
    }
}

fn run(mut watches: Watches, signals: &Receiver<Signal>, timing: Timing, mut on_change: impl FnMut()) {
    loop {
        let first = match signals.recv_timeout(timing.poll) {
            Ok(signal) => signal,
            // What polling finds, watching has missed.
            Err(RecvTimeoutError::Timeout) => Signal::Lost,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match settle(first, signals, timing) {
            Settled::Stop => return,
            Settled::Lost => watches.renew(),
            Settled::Changed => {}
        }
        on_change();
    }
}

enum Settled {
    Changed,
    /// Watches must be made anew.
    Lost,
    Stop,
}

/// Waits until events pause and every file that is being written is closed, but not for longer than patience lasts.
fn settle(first: Signal, signals: &Receiver<Signal>, timing: Timing) -> Settled {
    let start = Instant::now();
    let mut settled = Settled::Changed;
    let mut writing = HashSet::new();
    let mut signal = first;
    loop {
        match signal {
            Signal::Change => {}
            Signal::Writing(path) => drop(writing.insert(path)),
            Signal::Written(path) => drop(writing.remove(&path)),
            Signal::Lost => settled = Settled::Lost,
            Signal::Stop => return Settled::Stop,
        }
        let left = timing.patience.saturating_sub(start.elapsed());
        if left.is_zero() {
            return settled;
        }
        let wait = if writing.is_empty() { timing.quiet.min(left) } else { left };
        signal = match signals.recv_timeout(wait) {
            Ok(signal) => signal,
            Err(RecvTimeoutError::Timeout) => return settled,
            Err(RecvTimeoutError::Disconnected) => return Settled::Stop,
        };
    }
}

/// The file events of the system for a set of absolute paths.
struct Watches {
    paths: Vec<PathBuf>,
    signals: Sender<Signal>,
    system: Option<RecommendedWatcher>,
    /// Each watched folder with its identity: a folder that was replaced needs a new watch.
    folders: HashMap<PathBuf, (u64, u64)>,
    warned: bool,
}

impl Watches {
    fn new(paths: Vec<PathBuf>, signals: Sender<Signal>) -> Self {
        Self { paths, signals, system: None, folders: HashMap::new(), warned: false }
    }

    /// Makes watches for what is not watched yet, or was replaced.
    fn renew(&mut self) {
        if self.system.is_none() {
            self.system = self.connect();
        }
        let Some(system) = self.system.as_mut() else { return };
        for path in &self.paths {
            for (folder, mode) in folders_of(path) {
                let identity = std::fs::metadata(&folder).ok().map(|metadata| (metadata.dev(), metadata.ino()));
                if identity == self.folders.get(&folder).copied() {
                    continue;
                }
                if self.folders.remove(&folder).is_some() {
                    // Fails when the system has already dropped it together with the folder.
                    let _ = system.unwatch(&folder);
                }
                let Some(identity) = identity else { continue };
                match system.watch(&folder, mode) {
                    Ok(()) => {
                        self.folders.insert(folder, identity);
                    }
                    Err(error) if !self.warned => {
                        self.warned = true;
                        let folder = folder.display();
                        tracing::warn!(%folder, %error, "no file events for a folder, its files are polled instead");
                    }
                    Err(_) => {}
                }
            }
        }
    }

    fn connect(&mut self) -> Option<RecommendedWatcher> {
        let filter = Filter { paths: self.paths.clone() };
        let signals = self.signals.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            if let Some(signal) = filter.judge(&event) {
                // The receiver is gone only when the watcher is about to be.
                let _ = signals.send(signal);
            }
        };
        match notify::recommended_watcher(handler) {
            Ok(system) => Some(system),
            Err(error) => {
                if !self.warned {
                    self.warned = true;
                    tracing::warn!(%error, "no file events on this system, files are polled instead");
                }
                None
            }
        }
    }
}

/// The folders to watch for a path: a folder itself, and the one around it, where it would be replaced; for a file only the
/// one around it.
fn folders_of(path: &Path) -> Vec<(PathBuf, RecursiveMode)> {
    let Some(around) = path.parent() else { return vec![(path.to_owned(), RecursiveMode::Recursive)] };
    let around = around.to_owned();
    if path.is_dir() {
        vec![(path.to_owned(), RecursiveMode::Recursive), (around, RecursiveMode::NonRecursive)]
    } else {
        vec![(around, RecursiveMode::NonRecursive)]
    }
}

/// Tells relevant events from others, so that a log file in the same folder causes no work.
struct Filter {
    paths: Vec<PathBuf>,
}

impl Filter {
    fn judge(&self, event: &notify::Result<notify::Event>) -> Option<Signal> {
        let Ok(event) = event else { return Some(Signal::Lost) };
        if event.need_rescan() {
            return Some(Signal::Lost);
        }
        match event.kind {
            // Reading is no change; our own reading least of all.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return None,
            EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {}
        }
        if !event.paths.iter().any(|path| self.is_relevant(path)) {
            return None;
        }
        // A folder that went away takes its watch with it.
        let replaced = event.kind.is_remove() || event.kind.is_create() || is_rename(event.kind);
        if replaced && event.paths.iter().any(|path| self.is_root(path)) {
            return Some(Signal::Lost);
        }
        Some(match (event.kind, event.paths.first()) {
            (EventKind::Modify(ModifyKind::Data(_)), Some(path)) => Signal::Writing(path.clone()),
            (EventKind::Access(_), Some(path)) => Signal::Written(path.clone()),
            _ => Signal::Change,
        })
    }

    fn is_root(&self, path: &Path) -> bool {
        self.paths.iter().any(|root| root == path)
    }

    fn is_relevant(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        // `..data` of a mounted ConfigMap, whose swap changes every file at once.
        let config_map = name.starts_with(b"..");
        let beneath = || self.paths.iter().any(|root| path.starts_with(root));
        let folder_or_manifest = || !name.starts_with(b".") && (is_manifest(path) || path.extension().is_none());
        self.is_root(path) || config_map || (beneath() && folder_or_manifest()) || self.is_folder_beneath(path)
    }

    /// A folder may have a dot in its name.
    fn is_folder_beneath(&self, path: &Path) -> bool {
        self.paths.iter().any(|root| path.starts_with(root)) && path.is_dir()
    }
}

fn is_rename(kind: EventKind) -> bool {
    matches!(kind, EventKind::Modify(ModifyKind::Name(_)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::{Timing, Watcher};

    /// Long enough for a loaded machine; only a failing test waits for it.
    const LONG: Duration = Duration::from_secs(20);

    fn watch(paths: &[PathBuf], poll: Duration) -> (Watcher, Receiver<()>) {
        let (sender, receiver) = channel();
        let timing = Timing { poll, ..Timing::default() };
        let watcher = Watcher::start(paths, timing, move || {
            // The test may be over.
            let _ = sender.send(());
        })
        .expect("a thread starts");
        (watcher, receiver)
    }

    #[track_caller]
    fn told(receiver: &Receiver<()>) {
        receiver.recv_timeout(LONG).expect("a change is told");
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).expect("the file can be written");
    }

    #[test]
    fn writes_renames_and_new_folders_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.yaml");
        write(&file, "a: 1");
        let (_watcher, changes) = watch(&[folder.path().to_owned()], LONG);
        write(&file, "a: 2");
        told(&changes);
        let swap = folder.path().join(".a.yaml.swp");
        write(&swap, "a: 3");
        fs::rename(&swap, &file).expect("rename");
        told(&changes);
        fs::create_dir(folder.path().join("sub.d")).expect("a folder");
        told(&changes);
        write(&folder.path().join("sub.d/b.yaml"), "b: 1");
        told(&changes);
    }

    #[test]
    fn a_relative_path_is_told_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let here = std::env::current_dir().expect("tests run in a folder");
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let relative = up.join(folder.path().strip_prefix("/").expect("it is absolute"));
        let file = folder.path().join("a.yaml");
        write(&file, "a: 1");
        for path in [relative.clone(), Path::new(".").join(&relative), relative.join("a.yaml")] {
            let (_watcher, changes) = watch(&[path], LONG);
            write(&file, "a: 2");
            told(&changes);
        }
    }

    #[test]
    fn a_file_is_told_when_it_is_closed() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.yaml");
        write(&path, "a: 1");
        let (sender, changes) = channel();
        let seen = path.clone();
        // Patience that outlasts the test, so that only closing can end the wait.
        let timing = Timing { patience: LONG, poll: LONG, ..Timing::default() };
        let tell = move || drop(sender.send(fs::read_to_string(&seen).unwrap_or_default()));
        let _watcher = Watcher::start(&[folder.path().to_owned()], timing, tell).expect("a thread starts");
        let mut file = fs::File::create(&path).expect("the file can be written");
        for part in ["a: 2\n", "b: 3\n"] {
            file.write_all(part.as_bytes()).expect("the file can be written");
            std::thread::sleep(2 * timing.quiet);
        }
        drop(file);
        assert_eq!(changes.recv_timeout(LONG).as_deref(), Ok("a: 2\nb: 3\n"));
    }

    #[test]
    fn the_swap_of_a_mounted_config_map_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("..1")).expect("a folder");
        fs::create_dir(at("..2")).expect("a folder");
        write(&at("..1/a.yaml"), "a: 1");
        write(&at("..2/a.yaml"), "a: 2");
        symlink("..1", at("..data")).expect("a link");
        symlink("..data/a.yaml", at("a.yaml")).expect("a link");
        let (_watcher, changes) = watch(&[at("a.yaml")], LONG);
        symlink("..2", at("..data_tmp")).expect("a link");
        fs::rename(at("..data_tmp"), at("..data")).expect("rename");
        told(&changes);
    }

    #[test]
    fn a_folder_that_was_replaced_is_watched_again() {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("config");
        fs::create_dir(&folder).expect("a folder");
        let (_watcher, changes) = watch(std::slice::from_ref(&folder), LONG);
        fs::rename(&folder, outer.path().join("old")).expect("rename");
        told(&changes);
        fs::create_dir(&folder).expect("a folder");
        told(&changes);
        // Perhaps in the same pause of events as the folder itself, so the first write may be told with it.
        write(&folder.join("a.yaml"), "a: 1");
        told(&changes);
    }

    #[test]
    fn without_events_files_are_polled() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_watcher, changes) = watch(&[folder.path().join("not-there/yet.yaml")], Duration::from_millis(5));
        told(&changes);
        told(&changes);
    }
}
