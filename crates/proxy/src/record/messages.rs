//! Counting the messages of gRPC calls.

use std::sync::Arc;

use outrigger_model::Workload;
use outrigger_telemetry::catalogue;

use super::{EndpointStats, Recorder, Side};
use crate::bridge::MessageCount;

/// Whose calls, in whose proxy; which side reports.
#[derive(Clone, PartialEq)]
pub(super) struct Key {
    source: Arc<Workload>,
    own: Arc<Workload>,
    is_inbound: bool,
}

impl EndpointStats {
    /// Handles for the messages of a call to this endpoint.
    pub(crate) fn messages(&self, recorder: &Recorder, side: Side<'_>) -> MessageCount {
        let own = recorder.own.borrow();
        let is_inbound = side.inbound().is_some();
        let source = if is_inbound { side.peer.unwrap_or(&recorder.stranger) } else { &*own };
        let mut known = self.messages.borrow_mut();
        let is_it =
            |key: &Key| key.is_inbound == is_inbound && Arc::ptr_eq(&key.source, source) && Arc::ptr_eq(&key.own, &own);
        if let Some((_, count)) = known.iter().find(|(key, _)| is_it(key)) {
            return count.clone();
        }
        if known.len() >= Self::SERIES_KEPT_MAX {
            known.clear();
        }
        let (reporter, destination) = if is_inbound { ("destination", &*own) } else { ("source", &self.workload) };
        let label = |name: &&str| match *name {
            "reporter" => reporter.into(),
            "request_protocol" => "grpc".into(),
            name => self.peer_label(name, source, destination),
        };
        let labels: Vec<Arc<str>> = catalogue::PEER_LABELS.iter().map(label).collect();
        let count = MessageCount {
            requests: recorder.shard.counter(&catalogue::ISTIO_REQUEST_MESSAGES_TOTAL, &labels),
            requests_counted: Default::default(),
            responses: recorder.shard.counter(&catalogue::ISTIO_RESPONSE_MESSAGES_TOTAL, &labels),
        };
        known.push((Key { source: source.clone(), own: own.clone(), is_inbound }, count.clone()));
        count
    }
}
