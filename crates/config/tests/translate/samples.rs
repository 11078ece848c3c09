//! Istio's own samples, where they are beside the repository: all of them load and translate.

use std::path::{Path, PathBuf};

use outrigger_config::loader::load_text;
use outrigger_config::translate::{View, translate};
use outrigger_model::{Action, Level};

/// Istio's samples; `None` where the folder of other projects' files is not there.
pub(crate) fn samples() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/istio-samples/samples");
    if !root.is_dir() {
        assert!(std::env::var_os("OUTRIGGER_CI").is_none(), "{} is missing", root.display());
        eprintln!("passed over: {} is not there", root.display());
        return None;
    }
    Some(root)
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_networking_sample_of_bookinfo_translates_without_error() {
    let Some(samples) = samples() else { return };
    let bookinfo = samples.join("bookinfo");
    let platform = std::fs::read_to_string(bookinfo.join("platform/kube/bookinfo.yaml")).unwrap();
    let rules = std::fs::read_to_string(bookinfo.join("networking/destination-rule-all.yaml")).unwrap();
    let files = yaml_files(&bookinfo.join("networking"));
    assert!(files.len() >= 20, "{} files", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let brings_rules = text.contains("kind: DestinationRule");
        // Samples that use the subsets of destination-rule-all expect it to be there.
        let rules = if brings_rules { "" } else { rules.as_str() };
        let (resources, loading) = load_text("all.yaml", &format!("{platform}\n---\n{rules}\n---\n{text}"));
        let (snapshot, findings) = translate(&resources, &View::default());
        let errors: Vec<String> = loading
            .iter()
            .chain(&findings)
            .filter(|f| f.level == Level::Error || f.code.0 == "OUT0101")
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", file.display());
        let hosts = &crate::dump::outbound(&snapshot).virtual_hosts;
        assert!(hosts.iter().any(|h| &*h.name == "reviews.default.svc.cluster.local:9080"), "{}", file.display());
    }
}

#[test]
fn the_canary_sample_routes_as_it_says() {
    let Some(samples) = samples() else { return };
    let read = |file: &str| std::fs::read_to_string(samples.join("bookinfo").join(file)).unwrap();
    let text = [
        read("platform/kube/bookinfo.yaml"),
        read("networking/destination-rule-all.yaml"),
        read("networking/virtual-service-reviews-80-20.yaml"),
    ]
    .join("\n---\n");
    let (resources, _) = load_text("all.yaml", &text);
    let (snapshot, _) = translate(&resources, &View::of("default", "productpage-v1"));
    assert_eq!(&*snapshot.workload.app, "productpage");
    assert_eq!(&*snapshot.workload.principal, "spiffe://cluster.local/ns/default/sa/bookinfo-productpage");
    let hosts = &crate::dump::outbound(&snapshot).virtual_hosts;
    let reviews = hosts.iter().find(|h| &*h.name == "reviews.default.svc.cluster.local:9080").unwrap();
    let Action::Forward(forward) = &reviews.routes[0].action else { panic!("{:?}", reviews.routes[0].action) };
    let shares: Vec<_> = forward.destinations.iter().map(|d| (d.cluster.as_str(), d.weight)).collect();
    assert_eq!(
        shares,
        [
            ("outbound|9080|v1|reviews.default.svc.cluster.local", 80),
            ("outbound|9080|v2|reviews.default.svc.cluster.local", 20)
        ]
    );
}

#[test]
fn every_sample_loads_without_unknown_fields() {
    let Some(samples) = samples() else { return };
    let mut folders = vec![samples];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            files += 1;
            let (resources, findings) = load_text("f.yaml", &std::fs::read_to_string(&path).unwrap());
            let (_, more) = translate(&resources, &View::default());
            let bad: Vec<String> = findings
                .iter()
                .chain(&more)
                .filter(|f| matches!(f.code.0, "OUT0101" | "IST0106" | "OUT0104"))
                .map(ToString::to_string)
                .collect();
            assert_eq!(bad, Vec::<String>::new(), "{}", path.display());
        }
    }
    assert!(files > 50, "{files} files");
}
