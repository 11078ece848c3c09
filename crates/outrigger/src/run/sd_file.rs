//! `--sd-file`: a file of Prometheus' `file_sd` that names every metrics address of the process.
//!
//! Written in one step (Prometheus never sees half of it) and only when its content changes. The labels are those that
//! Istio's sample configuration of Prometheus makes by relabelling: `namespace`, `pod`, and every label of the pod.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Path of the proxy's metrics at every target.
const METRICS_PATH: &str = "/stats/prometheus";

/// The file.
#[derive(Debug)]
pub(super) struct SdFile {
    path: PathBuf,
    written: Option<String>,
}

/// One address to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    address: SocketAddr,
    labels: BTreeMap<String, String>,
}

/// An entry as it stands in the file.
#[derive(Serialize)]
struct Entry<'t> {
    targets: [String; 1],
    labels: &'t BTreeMap<String, String>,
}

impl SdFile {
    /// At this path. Nothing is written yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), written: None }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the targets, unless they stand there already.
    pub(super) fn write(&mut self, targets: &[Target]) -> io::Result<()> {
        let text = to_json(targets);
        if self.written.as_ref() == Some(&text) {
            return Ok(());
        }
        let name = self.path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
        // Beside the file, so that the rename stays on one file system; hidden and with another ending, so that no
        // pattern of a Prometheus finds it.
        let draft = self.path.with_file_name(format!(".{name}.{}.draft", std::process::id()));
        let written = std::fs::write(&draft, &text).and_then(|()| std::fs::rename(&draft, &self.path));
        if written.is_err() {
            // It may not be there at all.
            let _ = std::fs::remove_file(&draft);
        }
        written?;
        self.written = Some(text);
        Ok(())
    }
}

impl Target {
    /// The metrics of the process itself.
    pub(super) fn of_process(address: SocketAddr) -> Self {
        Self { address, labels: [("__metrics_path__".to_owned(), METRICS_PATH.to_owned())].into() }
    }

    /// The metrics of a pod's sidecar or of a gateway.
    pub(super) fn of_pod<'l>(
        address: SocketAddr,
        namespace: &str,
        pod: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    ) -> Self {
        let mut target = Self::of_process(address);
        // The pod's own labels first: one that is called `pod` must not hide which pod it is.
        target.labels.extend(labels.into_iter().map(|(name, value)| (label_name(name), value.to_owned())));
        target.labels.extend([("namespace", namespace), ("pod", pod)].map(|(k, v)| (k.to_owned(), v.to_owned())));
        target
    }
}

fn to_json(targets: &[Target]) -> String {
    let entry = |t: &Target| serde_json::to_string(&Entry { targets: [t.address.to_string()], labels: &t.labels });
    let lines: Vec<String> = targets.iter().map(|t| entry(t).expect("text always is JSON")).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// The name a Kubernetes label gets in Prometheus: whatever a label name may not hold becomes `_`.
fn label_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut out: String = name.chars().map(legal).collect();
    // Prometheus refuses the whole file for one name that begins with a digit.
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn labels_are_named_as_by_a_labelmap() {
        for (label, name) in [
            ("app", "app"),
            ("app.kubernetes.io/name", "app_kubernetes_io_name"),
            ("pod-template-hash", "pod_template_hash"),
            ("3scale", "_3scale"),
        ] {
            assert_eq!(label_name(label), name);
        }
    }

    #[test]
    fn the_file_says_where_and_who() {
        let labels = [("app", "reviews"), ("pod", "hidden"), ("app.kubernetes.io/part-of", "a \"b\"")];
        let targets = [
            Target::of_process(address("127.0.0.1:15020")),
            Target::of_pod(address("127.0.1.7:15020"), "shop", "reviews-v1-0", labels),
        ];
        let told: serde_json::Value = serde_json::from_str(&to_json(&targets)).expect("JSON");
        let expected = serde_json::json!([
            { "targets": ["127.0.0.1:15020"], "labels": { "__metrics_path__": "/stats/prometheus" } },
            {
                "targets": ["127.0.1.7:15020"],
                "labels": {
                    "__metrics_path__": "/stats/prometheus", "namespace": "shop", "pod": "reviews-v1-0",
                    "app": "reviews", "app_kubernetes_io_part_of": "a \"b\"",
                },
            },
        ]);
        assert_eq!(told, expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&to_json(&[])).expect("JSON"), serde_json::json!([]));
    }
}
