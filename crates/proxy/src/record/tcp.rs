//! Counting connections whose bytes are relayed.
//!
//! As Istio: seen from the proxy's clients, so that `sent` is what goes to the client, on both sides of the mesh. Bytes
//! are counted as they pass; a connection that lasts for days shows in the metrics meanwhile.

use std::cell::Cell;
use std::sync::Arc;

use outrigger_telemetry::{Counter, catalogue};

use super::{EndpointStats, Recorder, Side};
use crate::flag::Flag;

/// Bytes of one direction.
pub(crate) struct Bytes {
    counter: Counter,
    total: Cell<u64>,
}

/// One connection; counted as closed when dropped.
pub(crate) struct Connection<'r> {
    /// Bytes that came from the client.
    pub(crate) received: Bytes,
    /// Bytes that went to the client.
    pub(crate) sent: Bytes,
    /// Why it ended; [`Flag::None`] while nothing is wrong.
    pub(crate) flag: Cell<Flag>,
    recorder: &'r Recorder,
    labels: Vec<Arc<str>>,
}

impl<'r> Connection<'r> {
    /// Counts a connection to `endpoint` as opened.
    pub(crate) fn open(recorder: &'r Recorder, side: Side<'_>, endpoint: &EndpointStats) -> Self {
        let labels = endpoint.tcp_labels(recorder, side, Flag::None);
        let shard = &recorder.shard;
        shard.counter(&catalogue::ISTIO_TCP_CONNECTIONS_OPENED_TOTAL, &labels).inc();
        Self {
            received: Bytes::new(shard.counter(&catalogue::ISTIO_TCP_RECEIVED_BYTES_TOTAL, &labels)),
            sent: Bytes::new(shard.counter(&catalogue::ISTIO_TCP_SENT_BYTES_TOTAL, &labels)),
            flag: Cell::new(Flag::None),
            recorder,
            labels,
        }
    }
}

impl Bytes {
    fn new(counter: Counter) -> Self {
        Self { counter, total: Cell::new(0) }
    }

    /// Counts some that passed.
    pub(crate) fn add(&self, count: u64) {
        self.counter.add(count);
        self.total.set(self.total.get() + count);
    }

    /// Those of this connection.
    pub(crate) fn total(&self) -> u64 {
        self.total.get()
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        set_flag(&mut self.labels, self.flag.get());
        self.recorder.shard.counter(&catalogue::ISTIO_TCP_CONNECTIONS_CLOSED_TOTAL, &self.labels).inc();
    }
}

impl Recorder {
    /// Counts a connection that never came to be: opened and closed at once.
    pub(crate) fn connection_failed(&self, side: Side<'_>, endpoint: &EndpointStats, flag: Flag) {
        let labels = endpoint.tcp_labels(self, side, flag);
        self.shard.counter(&catalogue::ISTIO_TCP_CONNECTIONS_OPENED_TOTAL, &labels).inc();
        self.shard.counter(&catalogue::ISTIO_TCP_CONNECTIONS_CLOSED_TOTAL, &labels).inc();
    }
}

impl EndpointStats {
    /// The labels of Istio's TCP metrics, in the catalogue's order.
    fn tcp_labels(&self, recorder: &Recorder, side: Side<'_>, flag: Flag) -> Vec<Arc<str>> {
        let own = &*recorder.own.borrow();
        let (reporter, source, destination) = match side.inbound() {
            Some(_) => ("destination", side.peer.unwrap_or(&recorder.stranger), own),
            None => ("source", own, &self.workload),
        };
        let label = |name: &&str| match *name {
            "reporter" => reporter.into(),
            "request_protocol" => "tcp".into(),
            "response_flags" => flag.as_str().into(),
            name => self.peer_label(name, source, destination),
        };
        catalogue::TCP_LABELS.iter().map(label).collect()
    }
}

fn set_flag(labels: &mut [Arc<str>], flag: Flag) {
    if let Some(at) = catalogue::TCP_LABELS.iter().position(|name| *name == "response_flags") {
        labels[at] = flag.as_str().into();
    }
}
