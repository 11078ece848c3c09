//! Records what was built: the revision of the source and the compiler, for `outrigger_build_info`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // HEAD names a branch most of the time; the log moves with every commit on it.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = output("git", &["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let revision = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let rustc = std::env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"]));
    println!("cargo::rustc-env=OUTRIGGER_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=OUTRIGGER_RUSTC={}", rustc.as_deref().unwrap_or("unknown"));
}

/// The first line a command prints; nothing when it cannot run or fails, as in a source archive without history.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}
