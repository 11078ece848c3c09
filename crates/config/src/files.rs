//! Which files an input consists of, and how they are read.
//!
//! Paths are files, folders (read recursively: `*.yaml`, `*.yml`, `*.json`; names that begin with a dot are skipped, which
//! covers editors' swap files and the `..data` folders of a mounted ConfigMap, whose visible links are followed) or `-`.
//! Only regular files are read, each once, within bounds. Called by `loader`.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outrigger_model::{Diagnostic, Place};

use crate::codes::{self, CodeInfo};

/// Largest file: a file may hold many documents, each within its own limit.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most files of an input.
const FILES_MAX: usize = 200_000;
/// How often a file that changes under our hands is read before what was read is taken.
const READ_ATTEMPTS_MAX: u32 = 5;
/// Time for a writer to finish; files are written in one go.
const WRITER_PAUSE: Duration = Duration::from_millis(20);
/// The path that means standard input.
pub(crate) const STDIN: &str = "-";

/// A file of the input.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Path as the user named it.
    pub(crate) path: PathBuf,
    /// How it is shown, where that is not its path.
    pub(crate) label: Option<Arc<str>>,
    /// What tells whether it changed; `None` for standard input.
    pub(crate) stamp: Option<Stamp>,
}

impl Entry {
    /// How it is shown.
    pub(crate) fn name(&self) -> Arc<str> {
        self.label.clone().unwrap_or_else(|| self.path.to_string_lossy().into())
    }
}

/// What tells whether a file changed without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: SystemTime,
    /// Seconds and nanoseconds of the last change of content or metadata, which programs cannot set back.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether an equal stamp later proves that nothing changed since it was read at `read`: the file's clock must have
    /// moved on in between. Whole seconds hint at a file system that keeps no finer time.
    pub(crate) fn settled_at(&self, read: SystemTime) -> bool {
        let coarse = self.changed.1 == 0;
        let tick = if coarse { Duration::from_secs(2) } else { Duration::from_millis(50) };
        let changed =
            Duration::new(u64::try_from(self.changed.0).unwrap_or(0), u32::try_from(self.changed.1).unwrap_or(0));
        let changed = SystemTime::UNIX_EPOCH + changed;
        read.duration_since(self.modified.max(changed)).is_ok_and(|age| age > tick)
    }
}

/// The files of an input.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// In the order of the paths given, folders sorted by name.
    pub(crate) files: Vec<Entry>,
    /// What could not be read.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Paths that could not be read: what was known beneath them stays.
    pub(crate) unreadable: Vec<PathBuf>,
    seen: HashSet<(u64, u64)>,
}

/// Lists the files of an input.
pub(crate) fn list(paths: &[PathBuf]) -> Listing {
    let mut listing = Listing::default();
    for path in paths {
        if path.as_os_str() == STDIN {
            let label = Some("<stdin>".into());
            listing.files.push(Entry { path: path.clone(), label, stamp: None });
            continue;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => listing.folder(path, &metadata),
            Ok(metadata) => listing.file(path, &metadata),
            Err(error) => listing.unreadable(path, &error),
        }
    }
    if listing.files.len() > FILES_MAX {
        let message = format!("the input has {} files, the limit is {FILES_MAX}", listing.files.len());
        listing.diagnostics.push(codes::REFUSED_FILE.bare(message, "put several documents into one file"));
        listing.files.truncate(FILES_MAX);
    }
    listing
}

impl Listing {
    fn folder(&mut self, path: &Path, metadata: &fs::Metadata) {
        // A link to a folder above would never end.
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(path, &error),
        };
        entries.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        entries.sort_by_cached_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let is_manifest = is_manifest(&path);
            let plain_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            // Without a known extension only folders matter; telling them by their entry saves a call for each file.
            if plain_file && !is_manifest {
                continue;
            }
            // What is no link need not be resolved from the root again, which matters with 10,000 files.
            match if plain_file { entry.metadata() } else { fs::metadata(&path) } {
                Ok(metadata) if metadata.is_dir() => self.folder(&path, &metadata),
                Ok(metadata) if is_manifest => self.file(&path, &metadata),
                Ok(_) => {}
                // Gone since the folder was read.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {}
                Err(error) if is_manifest => self.unreadable(&path, &error),
                Err(_) => {}
            }
        }
    }

    fn file(&mut self, path: &Path, metadata: &fs::Metadata) {
        if !metadata.is_file() {
            return self.refuse(path, "it is no regular file", "give a file or a folder");
        }
        if metadata.len() > FILE_BYTES_MAX {
            let message =
                format!("it is {} MiB large, the limit is {} MiB", metadata.len() >> 20, FILE_BYTES_MAX >> 20);
            return self.refuse(path, &message, "");
        }
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        if is_kustomization(path) {
            let message = "kustomizations are passed over, the folder is read as plain manifests";
            return self.report(codes::FILE_PASSED_OVER, path, message, "render it with `kubectl kustomize` first");
        }
        self.files.push(Entry { path: path.to_owned(), label: None, stamp: Some(Stamp::of(metadata)) });
    }

    fn refuse(&mut self, path: &Path, message: &str, hint: &str) {
        self.unreadable.push(path.to_owned());
        self.report(codes::REFUSED_FILE, path, message, hint);
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        self.unreadable.push(path.to_owned());
        self.report(codes::UNREADABLE, path, &format!("cannot be read: {error}"), "");
    }

    fn report(&mut self, code: &CodeInfo, path: &Path, message: &str, hint: &str) {
        self.diagnostics.push(about_file(code, &path.to_string_lossy(), message, hint));
    }
}

/// A finding about a file as a whole.
pub(crate) fn about_file(code: &CodeInfo, name: &str, message: &str, hint: &str) -> Diagnostic {
    let place = Place { file: name.into(), line: 1, column: 1 };
    Diagnostic { place: Some(place), ..code.bare(message, hint) }
}

/// Whether a file of a folder is read, by its extension.
pub(crate) fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn is_kustomization(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        ["kustomization.yaml", "kustomization.yml", "Kustomization"].iter().any(|known| name == *known)
    })
}

/// Reads a file, never more than the limit. A file that changes while it is read is read again.
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path.as_os_str() == STDIN {
        return bounded(std::io::stdin().lock(), 0);
    }
    let mut attempt = 1;
    loop {
        let file = fs::File::open(path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        let bytes = bounded(&file, usize::try_from(before.len().min(FILE_BYTES_MAX)).unwrap_or(0))?;
        if Stamp::of(&file.metadata()?) == Stamp::of(&before) || attempt == READ_ATTEMPTS_MAX {
            return Ok(bytes);
        }
        attempt += 1;
        std::thread::sleep(WRITER_PAUSE);
    }
}

/// Reads again a file that was found empty: most writers cut a file to nothing before they fill it.
pub(crate) fn read_again(path: &Path) -> std::io::Result<Vec<u8>> {
    std::thread::sleep(WRITER_PAUSE);
    read(path)
}

fn bounded(reader: impl std::io::Read, capacity: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(capacity + 1);
    reader.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}
