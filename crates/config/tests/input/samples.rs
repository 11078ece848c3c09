//! Istio's own samples, where a checkout lies beside the repository or `OUTRIGGER_SHARED` names one.

use std::path::{Path, PathBuf};

use outrigger_config::loader::Loader;
use outrigger_model::Level;

#[test]
fn istio_samples_have_no_errors() {
    let shared = std::env::var_os("OUTRIGGER_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let samples = shared.join("data/istio-samples");
    if !samples.is_dir() {
        println!("skipped: no samples at {}", samples.display());
        return;
    }
    let files = manifests(&samples);
    assert!(!files.is_empty(), "no manifests under {}", samples.display());
    let mut errors = Vec::new();
    let mut objects = 0;
    // One by one: many samples are variants of the same object.
    for file in files {
        let loaded = Loader::new(vec![file]).load();
        objects += loaded.objects;
        errors.extend(loaded.diagnostics.into_iter().filter(|diagnostic| diagnostic.level == Level::Error));
    }
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(objects > 0);
}

fn manifests(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            found.extend(manifests(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found
}
