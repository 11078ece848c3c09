//! A mesh made of sample files, and questions to it whose answers are text.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use outrigger_testkit::Process;
use serde_json::Value;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");

/// A running mesh.
pub(crate) struct Mesh {
    process: Process,
}

/// Istio's samples; `None` where the folder of other projects' files is not there.
pub(crate) fn samples() -> Option<PathBuf> {
    let shared = std::env::var_os("OUTRIGGER_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let root = shared.join("data/istio-samples/samples");
    if !root.is_dir() {
        assert!(std::env::var_os("OUTRIGGER_CI").is_none(), "{} is missing", root.display());
        eprintln!("passed over: {} is not there", root.display());
        return None;
    }
    Some(root)
}

/// The YAML files of a folder, in order.
pub(crate) fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

impl Mesh {
    /// Runs these files, whose names are relative to `root`.
    pub(crate) fn start(root: &Path, files: &[&str]) -> Self {
        let paths: Vec<String> = files.iter().map(|file| root.join(file).display().to_string()).collect();
        let flags = ["--simulate", "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];
        let begun = Instant::now();
        let process =
            Process::start(OUTRIGGER, ["run"].into_iter().chain(flags).chain(paths.iter().map(String::as_str)));
        let pods = process.ready()["workloads"].as_array().map_or(0, Vec::len);
        println!("{pods} pods were ready after {:?} ({})", begun.elapsed(), files.join(" "));
        Self { process }
    }

    /// What it said when it was ready.
    pub(crate) fn ready(&self) -> &Value {
        self.process.ready()
    }

    /// The address of a gateway.
    pub(crate) fn gateway(&self, name: &str) -> String {
        let all = self.ready()["gateways"].as_array().expect("a list");
        let gateway = all.iter().find(|gateway| gateway["name"] == name);
        let gateway = gateway.unwrap_or_else(|| panic!("no gateway {name} in {all:?}"));
        gateway["address"].as_str().expect("an address").to_owned()
    }

    /// Everything found about the files: `CODE level object`, in order, each once. That a port below 1024 is another one
    /// (OUT0311) is left out: it depends on who runs this.
    pub(crate) fn findings(&self) -> Vec<String> {
        let all = self.ready()["diagnostics"].as_array().expect("a list").iter();
        let all = all.filter(|finding| finding["code"] != "OUT0311");
        let text = |finding: &Value, member: &str| finding[member].as_str().unwrap_or("-").to_owned();
        let mut lines: Vec<String> =
            all.map(|f| [text(f, "code"), text(f, "level"), text(f, "object")].join(" ")).collect();
        lines.sort();
        lines.dedup();
        lines
    }

    /// Sends requests as `outrigger request` does and tells what came back.
    ///
    /// `ask` is `HOST[/PATH][ name: value]`, the answer `v1 90, v2 10`: how many requests each version got. Other
    /// statuses than 200 and response flags follow, `503 100, UH 100`.
    pub(crate) fn shares(&self, ask: &str, from: Option<&str>, count: u32) -> String {
        let (target, header) = ask.split_once(' ').map_or((ask, None), |(target, header)| (target, Some(header)));
        let slash = if target.contains('/') { "" } else { "/" };
        let mut command = Command::new(OUTRIGGER);
        command.args([
            "request",
            &format!("http://{target}{slash}"),
            "-o",
            "json",
            "--count",
            &count.to_string(),
            "--concurrency",
            "4",
        ]);
        command.args(["--admin", &self.process.address("admin").to_string()]);
        command.args(header.into_iter().flat_map(|header| ["-H", header]));
        command.args(from.into_iter().flat_map(|from| ["--from", from]));
        let output = command.output().expect("it starts");
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{ask}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!((&told["errors"], &told["requests"]), (&Value::Array(Vec::new()), &count.into()), "{ask}");
        let parts = |table: &str| {
            let table = told[table].as_object().expect("a table").clone();
            table.into_iter().map(|(key, count)| (key, count.as_u64().expect("a count")))
        };
        let odd = parts("by_status").filter(|(status, _)| status != "200");
        let lines = parts("by_version").chain(odd).chain(parts("by_flag")).map(|(key, count)| format!("{key} {count}"));
        lines.collect::<Vec<_>>().join(", ")
    }

    /// Panics if the program is gone or has panicked.
    pub(crate) fn assert_well(&mut self) {
        self.process.assert_well();
    }
}
