//! The process as Envoy's admin interface speaks of it: its state, its build, how long it has run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::catalogue::*;
use crate::process::Memory;
use crate::snapshot::{Collect, Families};

/// State of a server, with Envoy's numbers and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ServerState {
    /// Serves.
    Live = 0,
    /// Finishes what it has and takes nothing new: not ready, still alive.
    Draining = 1,
    /// Has no configuration yet.
    PreInitializing = 2,
    /// Has its configuration and opens its listeners.
    Initializing = 3,
}

impl ServerState {
    /// Envoy's name, as `/ready` answers it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }
}

/// The state, shared by whoever sets it and the listeners that answer probes. Begins with
/// [`ServerState::PreInitializing`].
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU8::new(ServerState::PreInitializing as u8)))
    }

    /// Changes the state.
    pub fn set(&self, state: ServerState) {
        self.0.store(state as u8, Relaxed);
    }

    /// The state now.
    pub fn state(&self) -> ServerState {
        match self.0.load(Relaxed) {
            0 => ServerState::Live,
            1 => ServerState::Draining,
            3 => ServerState::Initializing,
            _ => ServerState::PreInitializing,
        }
    }

    /// Whether traffic should come.
    pub fn is_ready(&self) -> bool {
        self.state() == ServerState::Live
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

/// What was built.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// Version, e.g. `0.1.0`.
    pub version: &'static str,
    /// Revision of the source, `unknown` where it was not there.
    pub revision: &'static str,
    /// Version of the compiler, `unknown` where it was not recorded.
    pub rustc: &'static str,
}

/// A server: what does not change while it runs, and its readiness.
#[derive(Clone, Debug)]
pub struct Server {
    /// What was built.
    pub build: BuildInfo,
    /// When it started.
    pub started: Instant,
    /// Worker threads.
    pub concurrency: usize,
    /// Its state.
    pub readiness: Readiness,
}

impl Server {
    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A server that shares its process with others: its memory is told by the process alone, so that sums over all of them
/// are right.
#[derive(Clone, Debug)]
pub struct Tenant(pub Server);

/// `envoy_server_*` and build info.
impl Collect for Server {
    fn collect(&self, out: &mut Families) {
        self.tell(out);
        let memory = Memory::now();
        out.gauge(&ENVOY_SERVER_MEMORY_ALLOCATED, &[], memory.anonymous_bytes as f64);
        out.gauge(&ENVOY_SERVER_MEMORY_HEAP_SIZE, &[], memory.data_bytes as f64);
        out.gauge(&ENVOY_SERVER_MEMORY_PHYSICAL_SIZE, &[], memory.resident_bytes as f64);
    }
}

impl Collect for Tenant {
    fn collect(&self, out: &mut Families) {
        self.0.tell(out);
    }
}

impl Server {
    fn tell(&self, out: &mut Families) {
        let state = self.readiness.state();
        out.gauge(&ENVOY_SERVER_LIVE, &[], f64::from(u8::from(state == ServerState::Live)));
        out.gauge(&ENVOY_SERVER_STATE, &[], f64::from(state as u8));
        out.gauge(&ENVOY_SERVER_UPTIME, &[], self.uptime().as_secs() as f64);
        out.gauge(&ENVOY_SERVER_CONCURRENCY, &[], self.concurrency as f64);
        let build = self.build;
        out.gauge(&ISTIO_BUILD, &["proxy".into(), build.version.into()], 1.0);
        let labels = [build.version.into(), build.revision.into(), build.rustc.into()];
        out.gauge(&OUTRIGGER_BUILD_INFO, &labels, 1.0);
    }
}
