//! Logging of the process: set up once, changed at run time through the admin interface for a while.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use outrigger_telemetry::http::{LogChange, LogLevel};
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

/// How long a change lasts: nobody remembers to turn a debug log off again, and it may fill a disk.
const CHANGE_LASTS: Duration = Duration::from_secs(600);
/// Longest filter that is accepted, in bytes.
const FILTER_BYTES_MAX: usize = 1024;

static CONTROL: OnceLock<Control> = OnceLock::new();

struct Control {
    handle: Handle<EnvFilter, Registry>,
    /// What the command line and `RUST_LOG` say.
    configured: String,
    /// Counts changes: only the last one is taken back.
    changes: Mutex<u64>,
}

/// Remembers how logging is changed. Called once, when it starts.
pub(crate) fn install(handle: Handle<EnvFilter, Registry>, configured: String) {
    // A second start has failed before it comes here.
    let _ = CONTROL.set(Control { handle, configured, changes: Mutex::default() });
}

/// Changes the levels, or shows them. A change is taken back after ten minutes. Must be called on an event loop.
pub(crate) fn change(change: &LogChange) -> Result<String, String> {
    let control = CONTROL.get().ok_or("logging has not started")?;
    let filter = match change {
        LogChange::Show => return control.shown(),
        LogChange::All(level) => word(*level).to_owned(),
        LogChange::Modules(modules) => {
            let words = modules.iter().map(|(module, level)| format!("{module}={}", word(*level)));
            std::iter::once(control.configured.clone()).chain(words).collect::<Vec<_>>().join(",")
        }
    };
    if filter.len() > FILTER_BYTES_MAX {
        return Err(format!("the filter is longer than {FILTER_BYTES_MAX} bytes"));
    }
    let parsed = EnvFilter::builder().parse(&filter).map_err(|error| format!("not a filter: {error}"))?;
    control.handle.reload(parsed).map_err(|error| error.to_string())?;
    let number = {
        let mut changes = control.changes.lock().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        *changes
    };
    tracing::warn!(filter, minutes = CHANGE_LASTS.as_secs() / 60, "log levels changed through the admin interface");
    tokio::spawn(async move {
        tokio::time::sleep(CHANGE_LASTS).await;
        control.revert(number);
    });
    Ok(format!("{filter}\n"))
}

impl Control {
    fn shown(&self) -> Result<String, String> {
        self.handle.with_current(|filter| format!("{filter}\n")).map_err(|error| error.to_string())
    }

    fn revert(&self, number: u64) {
        if *self.changes.lock().unwrap_or_else(PoisonError::into_inner) != number {
            return;
        }
        let configured = EnvFilter::builder().parse_lossy(&self.configured);
        if self.handle.reload(configured).is_ok() {
            tracing::info!(filter = self.configured, "log levels are as configured again");
        }
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warn",
        LogLevel::Error => "error",
        LogLevel::Off => "off",
    }
}
