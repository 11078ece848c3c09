//! What every Prometheus client library says about its process, under the same names. Computed at scrape by
//! [`crate::ProcessCollector`].

use super::metrics;
use crate::Desc;

metrics! {
    PROCESS_METRICS;
    /// User and system time.
    PROCESS_CPU_SECONDS_TOTAL = Desc::counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    )
    .unit("seconds");
    /// Open file descriptors.
    PROCESS_OPEN_FDS = Desc::gauge("process_open_fds", "Number of open file descriptors.");
    /// The soft limit.
    PROCESS_MAX_FDS = Desc::gauge("process_max_fds", "Maximum number of open file descriptors.");
    /// Address space in use.
    PROCESS_VIRTUAL_MEMORY_BYTES = Desc::gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
    )
    .unit("bytes");
    /// Address space allowed; absent when unlimited.
    PROCESS_VIRTUAL_MEMORY_MAX_BYTES = Desc::gauge(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
    )
    .unit("bytes");
    /// Memory in RAM.
    PROCESS_RESIDENT_MEMORY_BYTES = Desc::gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
    )
    .unit("bytes");
    /// Unix time.
    PROCESS_START_TIME_SECONDS = Desc::gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
    )
    .unit("seconds");
    /// Threads.
    PROCESS_THREADS = Desc::gauge("process_threads", "Number of threads.");
}
