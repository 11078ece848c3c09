//! How long 10,000 Services with 50,000 endpoints take to load and translate, and one changed
//! endpoint to reload.
//!
//! `cargo run --release --example load10k -p outrigger-config [-- SERVICES ENDPOINTS_PER_SERVICE [files]]`; with `files`
//! every object has a file of its own. Prints times, sizes and resident memory; it judges nothing.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use outrigger_config::loader::Loader;
use outrigger_config::translate::{Translator, View};
use outrigger_config::watch::{Timing, Watcher};

// What `outrigger` itself allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (services, endpoints) = (number(0, 10_000), number(1, 5));
    let separate = arguments.get(2).is_some_and(|text| text == "files");
    let folder = std::env::temp_dir().join(format!("outrigger-load10k-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = measure(&folder, services, endpoints, separate);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn measure(folder: &Path, services: usize, endpoints: usize, separate: bool) -> std::io::Result<()> {
    let bytes = write(folder, services, endpoints, separate, None)?;
    println!("{services} services, {} endpoints, {:.1} MB of YAML", services * endpoints, bytes as f64 / 1e6);
    let resident_before = resident_mib();
    let mut loader = Loader::new(vec![folder.to_owned()]);
    let start = Instant::now();
    let loaded = loader.load();
    println!("first load     {:>8.1} ms, {} objects, {} files", ms(start), loaded.objects, loaded.files);
    let mut translator = Translator::new(View::default());
    let start = Instant::now();
    let (snapshot, findings) = translator.translate(&loaded.resources);
    println!("translation    {:>8.1} ms, {} clusters", ms(start), snapshot.clusters.len());
    println!("diagnostics    {:>8}", loaded.diagnostics.len() + findings.len());
    println!("resident       {:>8.1} MiB (before: {resident_before:.1})", resident_mib());
    for round in 0..3 {
        let start = Instant::now();
        let loaded = loader.load();
        println!("nothing new    {:>8.1} ms, unchanged: {}", ms(start), loaded.unchanged);
        write(folder, services, endpoints, separate, Some((services / 2, round)))?;
        let start = Instant::now();
        let loaded = loader.load();
        println!("one endpoint   {:>8.1} ms, unchanged: {}", ms(start), loaded.unchanged);
        let start = Instant::now();
        let (snapshot, _) = translator.translate(&loaded.resources);
        println!("translation    {:>8.1} ms, {} clusters", ms(start), snapshot.clusters.len());
    }
    println!("resident       {:>8.1} MiB", resident_mib());
    in_force(&mut loader, &mut translator, folder, |round| {
        write(folder, services, endpoints, separate, Some((services / 2, round))).map(drop)
    })
}

/// From the end of a write to the snapshot that has it, through the watcher.
fn in_force(
    loader: &mut Loader,
    translator: &mut Translator,
    folder: &Path,
    edit: impl Fn(usize) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let (sender, changes) = std::sync::mpsc::channel();
    let _watcher = Watcher::start(&[folder.to_owned()], Timing::default(), move || {
        // Nobody listens any more at the end.
        let _ = sender.send(());
    })?;
    for round in 10..15 {
        edit(round)?;
        let start = Instant::now();
        loop {
            if changes.recv().is_err() {
                return Err(std::io::Error::other("the watcher has ended"));
            }
            let loaded = loader.load();
            let _ = translator.translate(&loaded.resources);
            if !loaded.unchanged {
                break;
            }
        }
        println!("in force after {:>8.1} ms", ms(start));
    }
    Ok(())
}

/// Writes everything, or with `changed` only the file of that service; returns the bytes written.
fn write(
    folder: &Path,
    services: usize,
    endpoints: usize,
    separate: bool,
    changed: Option<(usize, usize)>,
) -> std::io::Result<usize> {
    let mut bytes = 0;
    // Written piece by piece, so that the text is not part of the memory measured later.
    let mut all = match separate {
        true => None,
        false => Some(BufWriter::new(File::create(folder.join("all.yaml"))?)),
    };
    for index in 0..services {
        let round = changed.filter(|(service, _)| *service == index).map_or(0, |(_, round)| round + 1);
        if separate && changed.is_some_and(|(service, _)| service != index) {
            continue;
        }
        let text = manifest(index, endpoints, round);
        bytes += text.len();
        match &mut all {
            Some(all) => all.write_all(text.as_bytes())?,
            None => std::fs::write(folder.join(format!("service-{index:05}.yaml")), text)?,
        }
    }
    if let Some(all) = &mut all {
        all.flush()?;
    }
    Ok(bytes)
}

fn manifest(index: usize, endpoints: usize, round: usize) -> String {
    let namespace = format!("team-{:03}", index % 100);
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: service-{index:05}\n  namespace: {namespace}\n  labels:\n    \
         app: service-{index:05}\n    team: {namespace}\nspec:\n  selector:\n    app: service-{index:05}\n  ports:\n  \
         - name: http\n    port: 80\n    targetPort: 8080\n    protocol: TCP\n---\napiVersion: discovery.k8s.io/v1\n\
         kind: EndpointSlice\nmetadata:\n  name: service-{index:05}-abcde\n  namespace: {namespace}\n  labels:\n    \
         kubernetes.io/service-name: service-{index:05}\naddressType: IPv4\nports:\n- name: http\n  port: 8080\n  \
         protocol: TCP\nendpoints:\n"
    );
    for endpoint in 0..endpoints {
        let serial = index * endpoints + endpoint;
        let host = if endpoint == 0 { round } else { 0 };
        let _ = write!(
            text,
            "- addresses:\n  - 10.{}.{}.{}\n  conditions:\n    ready: true\n    serving: true\n    terminating: false\n  \
             nodeName: node-{:03}\n  zone: zone-{}\n  targetRef:\n    kind: Pod\n    name: \
             service-{index:05}-7d9c5b8f6-{serial:05}\n    namespace: {namespace}\n",
            serial >> 16 & 255,
            serial >> 8 & 255,
            (serial + host) & 255,
            serial % 200,
            serial % 3,
        );
    }
    text
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}
