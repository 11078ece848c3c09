//! The documents under `docs/` that are rendered from the code: metrics, diagnostics, settings, the command line.
//!
//! They are compared here, so that a change of the code without its document fails; `cargo xtask docs` runs this test
//! with `OUTRIGGER_UPDATE_DOCS=1`, which writes them instead.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outrigger_config::codes;
use outrigger_telemetry::{Desc, catalogue};

/// First line of every rendered document.
const NOTE: &str = "<!-- Rendered from the code by `cargo xtask docs`; do not edit. -->\n\n";

#[test]
fn metrics() {
    check("metrics.md", &metrics_document());
}

#[test]
fn diagnostics() {
    check("diagnostics.md", &diagnostics_document());
}

#[test]
fn settings() {
    check("settings.md", &settings_document());
}

#[test]
fn command_line() {
    check("cli.md", &command_line_document());
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a document, or writes it when asked to.
fn check(name: &str, rendered: &str) {
    let path = root().join("docs").join(name);
    let rendered = format!("{NOTE}{rendered}");
    if std::env::var_os("OUTRIGGER_UPDATE_DOCS").is_some() {
        fs::write(&path, rendered).expect("docs/ can be written");
        return;
    }
    let present = fs::read_to_string(&path).unwrap_or_default();
    assert!(present == rendered, "docs/{name} is not current: run `cargo xtask docs`");
}

/// Label lists longer than this are told once, under a number.
const LABELS_INLINE_MAX: usize = 10;

fn metrics_document() -> String {
    let mut text = String::from(
        "# Metrics\n\nServed on port 15020 under `/stats/prometheus` and `/metrics`, as Prometheus text, OpenMetrics or protobuf, \
         as the scraper asks. A metric appears with its first series, so a name that stands here before its feature does is \
         not exposed. Names that begin with `istio_` and `envoy_` mean what they mean there. No label value comes from a \
         client.\n",
    );
    let mut sets = Vec::new();
    let groups: [(&str, &str); 4] =
        [("Istio's", "istio_"), ("Our own", "outrigger_"), ("The process", "process_"), ("Envoy's", "envoy_")];
    for (title, prefix) in groups {
        let _ = write!(text, "\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for desc in catalogue::all().filter(|desc| desc.name.starts_with(prefix)) {
            text += &metric_row(desc, &mut sets);
        }
    }
    let told = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(told, catalogue::all().count(), "a metric belongs to none of the groups");
    text += "\n## Label sets\n";
    for (at, set) in sets.iter().enumerate() {
        let _ = write!(text, "\n{}. {}\n", at + 1, code_list(set));
    }
    text
}

fn metric_row(desc: &Desc, sets: &mut Vec<&'static [&'static str]>) -> String {
    let labels = if desc.labels.len() > LABELS_INLINE_MAX {
        let at = sets.iter().position(|set| *set == desc.labels).unwrap_or_else(|| {
            sets.push(desc.labels);
            sets.len() - 1
        });
        format!("set {} below", at + 1)
    } else {
        code_list(desc.labels)
    };
    let help = desc.help.replace('|', "\\|");
    format!("| `{}` | {} | {labels} | {help} |\n", desc.name, desc.kind.as_str())
}

fn code_list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

fn diagnostics_document() -> String {
    let mut text = String::from(
        "# Diagnostics\n\nWhat `outrigger` finds in a configuration. A code keeps its meaning; a retired one is never used again. `OUTnnnn` \
         are ours, `ISTnnnn` mean what they mean in istioctl.\n\n| code | level | meaning |\n|---|---|---|\n",
    );
    let mut all: Vec<_> = codes::ALL.iter().map(|info| (info.code.0, info.level.as_str(), info.doc)).collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "a code has one meaning");
    }
    for (code, level, doc) in all {
        let _ = writeln!(text, "| {code} | {level} | {} |", doc.replace('|', "\\|"));
    }
    text
}

fn command_line_document() -> String {
    let mut text = String::from(
        "# Command line\n\nExit status: 0 success; 1 the thing looked at is bad; 2 wrong use, or it could not run. Answers go to standard \
         output, logs and errors to standard error.\n",
    );
    let whole = help(&[]);
    let _ = write!(text, "\n## outrigger\n\n```text\n{whole}```\n");
    let names = commands(&whole);
    assert!(names.contains(&"run"), "the help lists the commands: {whole}");
    for name in names {
        let of_command = help(&[name]);
        let _ = write!(text, "\n## outrigger {name}\n\n```text\n{of_command}```\n");
        for inner in commands(&of_command) {
            let _ = write!(text, "\n### outrigger {name} {inner}\n\n```text\n{}```\n", help(&[name, inner]));
        }
    }
    text
}

/// The commands that a help lists.
fn commands(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

/// What `--help` prints, on a terminal of a fixed width and without the surroundings' variables.
fn help(command: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    program.args(command).arg("--help").env_clear().env("COLUMNS", "100");
    let said = program.output().expect("the binary runs");
    assert!(said.status.success(), "{command:?}");
    let text = String::from_utf8(said.stdout).expect("help is UTF-8");
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The bounds of the data plane with their defaults and reasons, from the one place where they stand.
fn settings_document() -> String {
    let source = fs::read_to_string(root().join("crates/proxy/src/settings.rs")).expect("settings.rs is there");
    let mut text = String::from(
        "# Settings\n\nBounds and time limits of the data plane. All are on without configuration; none can be changed from outside yet.\n\n\
         | setting | default | meaning |\n|---|---|---|\n",
    );
    let fields = setting_fields(&source);
    assert!(fields.len() > 10, "settings.rs has its fields: {fields:?}");
    for (name, doc) in fields {
        let line = source.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: "))?.strip_suffix(','));
        let default = line.unwrap_or_else(|| panic!("{name} has a default"));
        let _ = writeln!(text, "| `{name}` | {} | {} |", human(default), doc.replace('|', "\\|"));
    }
    text
}

/// Names and doc comments of the public fields of `Settings`.
fn setting_fields(source: &str) -> Vec<(String, String)> {
    let body = source.split_once("pub struct Settings {").expect("the struct").1.split_once("\n}").expect("its end").0;
    let (mut fields, mut doc) = (Vec::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("/// ") {
            doc.push(words.to_owned());
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            fields.push((name.to_owned(), doc.join(" ")));
            doc.clear();
        }
    }
    fields
}

/// `Duration::from_secs(10)` is 10 s, `60 * 1024` is 60 KiB.
fn human(default: &str) -> String {
    let inner = |prefix: &str| default.strip_prefix(prefix)?.strip_suffix(')').map(str::to_owned);
    if let Some(seconds) = inner("Duration::from_secs(") {
        return format!("{seconds} s");
    }
    if let Some(milliseconds) = inner("Duration::from_millis(") {
        return format!("{milliseconds} ms");
    }
    match default.strip_suffix(" * 1024") {
        Some(kib) => format!("{kib} KiB"),
        None => default.replace('_', ""),
    }
}
