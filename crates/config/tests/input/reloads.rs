//! Loading folders again and again: what is kept, what goes, what is told.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outrigger_config::loader::{Loaded, Loader};

use crate::{assert_lines, service};

struct World {
    folder: tempfile::TempDir,
    loader: Loader,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let loader = Loader::new(vec![folder.path().to_owned()]);
        let world = Self { folder, loader };
        for (name, text) in files {
            world.write(name, text);
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, text).expect("the file can be written");
    }

    fn load(&mut self) -> Loaded {
        self.loader.load()
    }

    /// Names of the services in force, and every diagnostic with the folder cut off.
    #[track_caller]
    fn check(&mut self, services: &[&str], expected: &str) -> Loaded {
        let loaded = self.load();
        let names: Vec<String> = loaded.resources.services.iter().map(|s| s.meta.name.to_string()).collect();
        assert_eq!(names, services);
        let root = format!("{}/", self.folder.path().display());
        let mut diagnostics = loaded.diagnostics.clone();
        for diagnostic in &mut diagnostics {
            if let Some(place) = &mut diagnostic.place {
                place.file = place.file.strip_prefix(&root).unwrap_or(&place.file).into();
            }
            diagnostic.message = diagnostic.message.replace(&root, "");
        }
        assert_lines(&diagnostics, expected);
        loaded
    }
}

fn broken(name: &str) -> String {
    service(name).replace("port: 80", "port: none")
}

#[test]
fn folders_are_read_in_order_and_hidden_files_are_not() {
    let mut world = World::new(&[
        ("b.yml", &service("b")),
        ("a.yaml", &service("a")),
        (
            "sub.d/c.json",
            r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {"ports": [{"port": 80}]}}"#,
        ),
        (".hidden.yaml", "nonsense: ["),
        (".git/x.yaml", "nonsense: ["),
        ("a.yaml~", "nonsense: ["),
        ("notes.txt", "nonsense: ["),
        ("sub.d/kustomization.yaml", "resources: [c.json]"),
    ]);
    let loaded = world.check(
        &["a", "b", "c"],
        "info [OUT0012] sub.d/kustomization.yaml:1:1: kustomizations are passed over, the folder is read as plain manifests \
         (render it with `kubectl kustomize` first)",
    );
    assert_eq!((loaded.files, loaded.objects, loaded.unchanged), (3, 3, false));
    assert!(world.load().unchanged);
}

#[test]
fn unchanged_objects_and_tables_are_the_same_in_memory() {
    let both = |a: &str, b: &str| format!("{a}---\n{b}");
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x}\n";
    let mut world = World::new(&[("a.yaml", &both(&service("a"), &service("b"))), ("x.yaml", account)]);
    let first = world.load();
    world.write("a.yaml", &both(&service("a").replace("80", "81"), &service("b")));
    let second = world.load();
    assert!(!second.unchanged);
    let get = |loaded: &Loaded, name: &str| loaded.resources.services.get("default", name).cloned().expect("in force");
    assert!(Arc::ptr_eq(&get(&first, "b"), &get(&second, "b")));
    assert!(!Arc::ptr_eq(&get(&first, "a"), &get(&second, "a")));
    assert!(Arc::ptr_eq(&first.resources.service_accounts, &second.resources.service_accounts));
    // A document that moves stays the same object, and knows its new place.
    world.write("a.yaml", &both(&format!("# one more line\n{}", service("a").replace("80", "81")), &service("b")));
    let third = world.load();
    let b = get(&third, "b");
    assert!(Arc::ptr_eq(&get(&second, "b"), &b));
    assert_eq!(b.meta.source.place(b.meta.pos).line, 9);
    // One that routes is read anew: its places are in the snapshot.
    let routing = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}\n";
    let place = |world: &mut World| {
        let object = world.load().resources.virtual_services.get("default", "v").cloned().expect("in force");
        (object.meta.source.place(object.meta.pos).line, object)
    };
    world.write("v.yaml", &both(&service("c"), routing));
    let (before, old) = place(&mut world);
    world.write("v.yaml", &both(&format!("# one more line\n{}", service("c")), routing));
    let (after, new) = place(&mut world);
    assert!(after == before + 1 && !Arc::ptr_eq(&old, &new));
    // Text that differs in nothing that counts.
    world.write("a.yaml", &both(&service("a").replace("80", "81 # comment"), &service("b")));
    assert_eq!(get(&world.load(), "a").spec.ports[0].port, 81);
}

#[test]
fn what_is_passed_over_by_mistake_is_told() {
    let mut world = World::new(&[]);
    world.check(&[], "warning [OUT0015]: there is nothing to read in the input (manifests are files that end in .yaml, .yml or .json)");
    world.write("a.yaml", "apiVersion: networking.istio.io/v1\nkind: Virtualservice\nmetadata: {name: x}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: x}\n");
    world.check(
        &[],
        "info [OUT0010]: 1 object of kind Service passed over
         warning [OUT0014]: 1 object of kind Virtualservice passed over (did you mean `VirtualService`?)",
    );
}

#[test]
fn the_last_good_version_of_an_object_stays() {
    let mut world = World::new(&[("a.yaml", &format!("{}---\n{}", service("a"), service("b")))]);
    let first = world.check(&["a", "b"], "");
    world.write("a.yaml", &format!("{}---\n{}", broken("a"), service("b")));
    let expected = "error [IST0106] Service default/a a.yaml:4:23: spec.ports[0].port: found the string \"none\", expected an integer from 1 to 65535
         warning [OUT0011] Service default/a a.yaml:4:23: its last good version stays in force until the errors here are fixed";
    let second = world.check(&["b", "a"], expected);
    assert!(Arc::ptr_eq(
        first.resources.services.get("default", "a").expect("good"),
        second.resources.services.get("default", "a").expect("kept"),
    ));
    assert!(world.check(&["b", "a"], expected).unchanged);
    // Another error: still the version before.
    world.write("a.yaml", &format!("{}---\n{}", broken("a").replace("none", "-1"), service("b")));
    assert_eq!(world.load().objects, 2);
    world.write("a.yaml", &service("b"));
    world.check(&["b"], "");
    world.write("a.yaml", &broken("a"));
    world.check(&[], "error [IST0106] Service default/a a.yaml:4:23: spec.ports[0].port: found the string \"none\", expected an integer from 1 to 65535");
}

#[test]
fn a_file_that_breaks_keeps_its_objects() {
    let mut world =
        World::new(&[("a.yaml", &format!("{}---\n{}", service("a"), service("b"))), ("c.yaml", &service("c"))]);
    world.check(&["a", "b", "c"], "");
    // A write that was cut short in the middle of the second document.
    let cut = format!("{}---\napiVersion: v1\nkind: \"Serv", service("a"));
    world.write("a.yaml", &cut);
    let loaded = world.load();
    let names: Vec<&str> = loaded.resources.services.iter().map(|s| &*s.meta.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let codes: Vec<&str> = loaded.diagnostics.iter().map(|d| d.code.0).collect();
    assert_eq!(codes, ["OUT0003", "OUT0011"]);
    // The object has moved to another file meanwhile.
    world.write("d.yaml", &service("b"));
    let loaded = world.load();
    let codes: Vec<&str> = loaded.diagnostics.iter().map(|d| d.code.0).collect();
    assert_eq!((loaded.objects, codes), (3, vec!["OUT0003"]));
    world.write("a.yaml", &service("a"));
    world.check(&["a", "c", "b"], "");
    world.write("a.yaml", "");
    world.check(&["c", "b"], "");
}

#[test]
fn what_cannot_be_read_keeps_its_objects() {
    let mut world = World::new(&[("sub/a.yaml", &service("a")), ("b.yaml", &service("b"))]);
    world.loader = Loader::new(vec![world.path("sub"), world.path("b.yaml")]);
    world.check(&["a", "b"], "");
    fs::rename(world.path("sub"), world.path("gone")).expect("rename");
    world.check(&["b", "a"], "error [OUT0001] sub:1:1: cannot be read: No such file or directory (os error 2)");
    fs::rename(world.path("gone"), world.path("sub")).expect("rename");
    world.check(&["a", "b"], "");
    fs::remove_file(world.path("b.yaml")).expect("remove");
    fs::create_dir(world.path("b.yaml")).expect("a folder");
    world.check(&["a"], "");
    fs::remove_file(world.path("sub/a.yaml")).expect("remove");
    world.check(&[], "warning [OUT0015]: there is nothing to read in the input (manifests are files that end in .yaml, .yml or .json)");
}

#[test]
fn a_mounted_config_map_is_read_once_and_followed() {
    let mut world = World::new(&[("..1/a.yaml", &service("a")), ("..2/a.yaml", &service("b"))]);
    symlink("..1", world.path("..data")).expect("a link");
    symlink("..data/a.yaml", world.path("a.yaml")).expect("a link");
    world.check(&["a"], "");
    symlink("..2", world.path("..tmp")).expect("a link");
    fs::rename(world.path("..tmp"), world.path("..data")).expect("rename");
    world.check(&["b"], "");
}

#[test]
fn files_named_twice_and_circles_are_read_once() {
    let mut world = World::new(&[("sub/a.yaml", &service("a"))]);
    symlink("..", world.path("sub/up")).expect("a link");
    world.loader = Loader::new(vec![world.path("sub/a.yaml"), world.folder.path().to_owned()]);
    world.check(&["a"], "");
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let diagnostics = Loader::new(vec![PathBuf::from("/dev/zero")]).load().diagnostics;
    assert_lines(&diagnostics, "error [OUT0002] /dev/zero:1:1: it is no regular file (give a file or a folder)");
    assert!(Path::new("/dev/zero").exists());
    let mut world = World::new(&[("a.yaml", "x")]);
    fs::remove_file(world.path("a.yaml")).expect("remove");
    let listener = std::os::unix::net::UnixListener::bind(world.path("a.yaml")).expect("a socket");
    world.check(&[], "error [OUT0002] a.yaml:1:1: it is no regular file (give a file or a folder)");
    drop(listener);
}

#[test]
fn bytes_that_are_no_text_break_one_document() {
    let mut world = World::new(&[]);
    let mut bytes = service("a").into_bytes();
    bytes.extend(b"---\nkind: \xff\xfe\n---\n");
    bytes.extend(service("b").into_bytes());
    fs::write(world.path("a.yaml"), &bytes).expect("the file can be written");
    world.check(&["a", "b"], "error [OUT0006] a.yaml:6:7: the byte 0xff is not UTF-8 (save the file as UTF-8 text)");
    fs::write(world.path("a.yaml"), b"\xff\xfek\0i\0n\0d\0").expect("the file can be written");
    let diagnostics = world.load().diagnostics;
    assert_eq!(diagnostics[0].hint, "the file looks like UTF-16; save it as UTF-8");
}
