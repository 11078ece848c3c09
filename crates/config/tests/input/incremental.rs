//! The law of reloading: whatever happened to the files before, the result is that of a fresh start.

use std::fs;
use std::path::Path;

use outrigger_config::loader::{Loaded, Loader};
use proptest::prelude::*;

/// What happens to one of a few files.
#[derive(Clone, Debug)]
enum Edit {
    /// It holds these services, each a name and a port.
    Write(usize, Vec<(u8, u16)>),
    Remove(usize),
    /// It takes the place of another.
    Rename(usize, usize),
    /// A comment of some lines moves everything down.
    Prepend(usize, usize),
}

const FILES: usize = 3;

fn edit() -> impl Strategy<Value = Edit> {
    let services = prop::collection::vec((0_u8..6, 80_u16..83), 0..5);
    prop_oneof![
        4 => (0..FILES, services).prop_map(|(file, services)| Edit::Write(file, services)),
        1 => (0..FILES).prop_map(Edit::Remove),
        1 => (0..FILES, 0..FILES).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => (0..FILES, 1_usize..4).prop_map(|(file, lines)| Edit::Prepend(file, lines)),
    ]
}

fn apply(folder: &Path, edit: &Edit) {
    let path = |file: &usize| folder.join(format!("{file}.yaml"));
    // Removing or moving a file that is not there changes nothing.
    match edit {
        Edit::Write(file, services) => {
            let document = |(name, port): &(u8, u16)| {
                format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
                )
            };
            let text: Vec<String> = services.iter().map(document).collect();
            fs::write(path(file), text.join("---\n")).expect("the file can be written");
        }
        Edit::Remove(file) => drop(fs::remove_file(path(file))),
        Edit::Rename(from, to) => drop(fs::rename(path(from), path(to))),
        Edit::Prepend(file, lines) => {
            if let Ok(text) = fs::read_to_string(path(file)) {
                let text = format!("{}---\n{text}", "# moved\n".repeat(*lines));
                fs::write(path(file), text).expect("the file can be written");
            }
        }
    }
}

/// Everything that can be seen of a result: objects with their places, and findings.
fn view(loaded: &Loaded) -> (Vec<String>, Vec<String>) {
    let object = |service: &std::sync::Arc<outrigger_config::kind::service::Service>| {
        format!("{} {} {}", service.meta.name, service.spec.ports[0].port, service.meta.source.place(service.meta.pos))
    };
    let objects = loaded.resources.services.iter().map(object).collect();
    (objects, loaded.diagnostics.iter().map(ToString::to_string).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn reloading_equals_a_fresh_start(edits in prop::collection::vec(edit(), 1..8)) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut loader = Loader::new(vec![folder.path().to_owned()]);
        for edit in &edits {
            let before = loader.load();
            apply(folder.path(), edit);
            let after = loader.load();
            let fresh = Loader::new(vec![folder.path().to_owned()]).load();
            prop_assert_eq!(view(&after), view(&fresh), "after {:?}", edit);
            prop_assert_eq!(after.unchanged, view(&before) == view(&after));
        }
    }
}
