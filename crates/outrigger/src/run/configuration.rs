//! The configuration of a running process: load, tell, reload.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use outrigger_config::codes;
use outrigger_config::loader::{Loaded, Loader};
use outrigger_config::status::ObjectStatus;
use outrigger_config::translate::Forward;
use outrigger_config::watch::{Timing, Watcher};
use outrigger_model::{Diagnostic, Level, Snapshot};
use outrigger_proxy::Proxy;
use outrigger_telemetry::{Gauge, Registry, Shard, catalogue};
use tokio::sync::Notify;

use super::report::{GatewayReport, WorkloadReport};

/// One configuration in force.
#[derive(Clone)]
pub(super) struct InForce {
    /// What the main proxy obeys.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) diagnostics: Arc<[Diagnostic]>,
    pub(super) files: usize,
    pub(super) objects: usize,
    /// Simulated pods.
    pub(super) workloads: Arc<[WorkloadReport]>,
    /// Gateways.
    pub(super) gateways: Arc<[GatewayReport]>,
    /// What `--forward` relays.
    pub(super) forwards: Arc<[Forward]>,
    /// What the objects of the Gateway API would read under `status`.
    pub(super) status: Arc<[ObjectStatus]>,
    /// All proxies but the main one, by `NAMESPACE/NAME`.
    pub(super) proxies: Arc<BTreeMap<String, Arc<Proxy>>>,
}

/// The configuration in force, for those who only read it.
pub(super) type Latest = Arc<Mutex<Option<InForce>>>;

/// Loads again and again, and tells what changed.
pub(super) struct Configuration {
    loader: Loader,
    paths: Vec<PathBuf>,
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
    /// For the paths of the command line. Reads nothing yet.
    pub(super) fn new(paths: &[PathBuf], registry: &Registry) -> Self {
        let shard = registry.shard();
        let metrics = Metrics {
            successful: shard.gauge(&catalogue::OUTRIGGER_CONFIG_LAST_RELOAD_SUCCESSFUL, &[]),
            timestamp: shard.gauge(&catalogue::OUTRIGGER_CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS, &[]),
            info: None,
            shard,
        };
        Self { loader: Loader::new(paths.to_vec()), paths: paths.to_vec(), latest: Latest::default(), metrics }
    }

    /// The configuration in force, to be read elsewhere.
    pub(super) fn latest(&self) -> Latest {
        self.latest.clone()
    }

    /// The first load; `None`, with everything told, when the input is bad and nothing of it can be used.
    pub(super) fn load(&mut self) -> anyhow::Result<Option<Loaded>> {
        let loaded = self.loader.load();
        let errors = || loaded.diagnostics.iter().filter(|d| d.level == Level::Error);
        if loaded.objects > 0 || errors().next().is_none() {
            return Ok(Some(loaded));
        }
        for diagnostic in &loaded.diagnostics {
            eprintln!("{diagnostic}");
        }
        if errors().all(|d| d.code == codes::UNREADABLE.code) {
            anyhow::bail!("nothing could be read");
        }
        eprintln!("nothing in the input can be used");
        Ok(None)
    }

    /// Reads again; `None` when nothing changed.
    pub(super) fn reload(&mut self) -> Option<Loaded> {
        let loaded = self.loader.load();
        let is_known = self.latest.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if loaded.unchanged && is_known { None } else { Some(loaded) }
    }

    /// Notes what is in force now. What the start-up report did not tell is logged.
    pub(super) fn note(&mut self, next: InForce, began: Instant) {
        self.metrics.record(&next);
        let before = self.latest.lock().unwrap_or_else(PoisonError::into_inner).replace(next.clone());
        let Some(before) = before else { return };
        for diagnostic in next.diagnostics.iter().filter(|d| !before.diagnostics.contains(d)) {
            log(diagnostic);
        }
        let took_ms = began.elapsed().as_millis() as u64;
        let (objects, files, pods) = (next.objects, next.files, next.workloads.len());
        tracing::info!(objects, files, pods, took_ms, "configuration changed");
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
