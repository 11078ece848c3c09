//! The configuration of a running proxy: load, translate, tell, reload.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use outrigger_config::codes;
use outrigger_config::loader::{Loaded, Loader};
use outrigger_config::translate::{Translator, View};
use outrigger_config::watch::{Timing, Watcher};
use outrigger_model::{Diagnostic, Level, Snapshot};
use outrigger_telemetry::{Gauge, Registry, Shard, catalogue};
use tokio::sync::Notify;

use crate::commands::run::RunArgs;

/// One configuration in force.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) diagnostics: Arc<[Diagnostic]>,
    pub(super) files: usize,
    pub(super) objects: usize,
}

/// The configuration in force, for those who only read it.
pub(super) type Latest = Arc<Mutex<Option<InForce>>>;

/// Loads and translates, again and again.
pub(super) struct Configuration {
    loader: Loader,
    translator: Translator,
    paths: Vec<std::path::PathBuf>,
    latest: Latest,
    metrics: Metrics,
}

/// What the metrics say of reloads.
struct Metrics {
    shard: Shard,
    successful: Gauge,
    timestamp: Gauge,
    info: Option<Gauge>,
}

impl Configuration {
    /// For the paths and the workload of the command line. Reads nothing yet.
    pub(super) fn new(args: &RunArgs, registry: &Registry) -> Self {
        let shard = registry.shard();
        let metrics = Metrics {
            successful: shard.gauge(&catalogue::OUTRIGGER_CONFIG_LAST_RELOAD_SUCCESSFUL, &[]),
            timestamp: shard.gauge(&catalogue::OUTRIGGER_CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS, &[]),
            info: None,
            shard,
        };
        let view = args.workload.as_ref().map_or_else(View::default, |w| View::of(&w.namespace, &w.name));
        Self {
            loader: Loader::new(args.paths.clone()),
            translator: Translator::new(view),
            paths: args.paths.clone(),
            latest: Latest::default(),
            metrics,
        }
    }

    /// The configuration in force, to be read elsewhere.
    pub(super) fn latest(&self) -> Latest {
        self.latest.clone()
    }

    /// The first load; `None`, with everything told, when the input is bad and nothing of it can be used.
    pub(super) fn load(&mut self) -> anyhow::Result<Option<InForce>> {
        let loaded = self.loader.load();
        let next = self.translate(loaded);
        let errors = || next.diagnostics.iter().filter(|d| d.level == Level::Error);
        if next.objects > 0 || errors().next().is_none() {
            return Ok(Some(next));
        }
        for diagnostic in next.diagnostics.iter() {
            eprintln!("{diagnostic}");
        }
        if errors().all(|d| d.code == codes::UNREADABLE.code) {
            anyhow::bail!("nothing could be read");
        }
        eprintln!("nothing in the input can be used");
        Ok(None)
    }

    /// Reads again; `None` when nothing changed.
    pub(super) fn reload(&mut self) -> Option<InForce> {
        let began = Instant::now();
        let before = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let loaded = self.loader.load();
        if loaded.unchanged && before.is_some() {
            return None;
        }
        let next = self.translate(loaded);
        let known: &[Diagnostic] = before.as_ref().map_or(&[], |b| &b.diagnostics);
        for diagnostic in next.diagnostics.iter().filter(|d| !known.contains(d)) {
            log(diagnostic);
        }
        let took_ms = began.elapsed().as_millis() as u64;
        tracing::info!(objects = next.objects, files = next.files, took_ms, "configuration changed");
        Some(next)
    }

    fn translate(&mut self, loaded: Loaded) -> InForce {
        let (snapshot, findings) = self.translator.translate(&loaded.resources);
        let mut diagnostics = loaded.diagnostics;
        diagnostics.extend(findings);
        let next = InForce {
            snapshot: Arc::new(snapshot),
            diagnostics: diagnostics.into(),
            files: loaded.files,
            objects: loaded.objects,
        };
        self.metrics.record(&next);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(next.clone());
        next
    }

    /// Watches the paths while the result lives; `changed` is notified when something may have changed.
    pub(super) fn watch(&self, changed: Arc<Notify>) -> std::io::Result<Watcher> {
        Watcher::start(&self.paths, Timing::default(), move || changed.notify_one())
    }
}

impl Metrics {
    fn record(&mut self, next: &InForce) {
        let errors = || next.diagnostics.iter().filter(|d| d.level == Level::Error);
        let good = errors().next().is_none();
        let result = if good { "success" } else { "failure" };
        self.shard.counter(&catalogue::OUTRIGGER_CONFIG_RELOADS_TOTAL, &[result.into()]).inc();
        self.successful.set(f64::from(u8::from(good)));
        if good {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.timestamp.set(now.as_secs_f64());
        }
        for error in errors() {
            let kind = error.object.as_ref().map_or_else(|| "file".into(), |o| o.kind.clone());
            self.shard.counter(&catalogue::OUTRIGGER_CONFIG_REJECTED_TOTAL, &[kind]).inc();
        }
        let labels = ["".into(), format!("{:016x}", next.snapshot.version).into(), "files".into()];
        let info = self.shard.gauge(&catalogue::OUTRIGGER_CONFIG_INFO, &labels);
        if let Some(before) = self.info.replace(info) {
            before.set(0.0);
        }
        if let Some(info) = &self.info {
            info.set(1.0);
        }
    }
}

fn log(diagnostic: &Diagnostic) {
    match diagnostic.level {
        Level::Error => tracing::error!("{diagnostic}"),
        Level::Warning => tracing::warn!("{diagnostic}"),
        Level::Info => tracing::info!("{diagnostic}"),
    }
}
