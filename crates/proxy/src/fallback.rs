//! What a client gets when a circuit lets its call not through, or the call fails: the fallback of the circuit breaker.
//!
//! As with Hystrix it stands in for failures, timeouts, refusals and short circuits, and not for answers that say that the
//! request was wrong; and only so many are under way at one time.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use outrigger_model::{Cluster, Fallback, HeaderName, HeaderValue};

use crate::answer::Answer;
use crate::circuit::{Circuit, FallbackEnd};
use crate::downstream::Downstream;
use crate::failure::{Blame, Reason};
use crate::flag::Flags;
use crate::forward::{Broken, Destination, Forwarded, Forwarding, Talks, forward};
use crate::h1::head::ResponseHead;
use crate::headers::write_field;
use crate::plan::{Client, Exchange};
use crate::trial::Trial;
use crate::worker::Worker;

/// Fields as they stood in the last good answer of a cluster, for [`Fallback::LastHeaders`].
#[derive(Debug, Default)]
pub(crate) struct LastHeaders(Mutex<Option<(Instant, Vec<u8>)>>);

impl LastHeaders {
    /// What a cluster needs.
    pub(crate) fn of(model: &Cluster, previous: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let fallback = model.breaker.as_ref()?.fallback.as_ref();
        matches!(fallback, Some(Fallback::LastHeaders { .. })).then(|| previous.cloned().unwrap_or_default())
    }

    /// Remembers the fields of a good answer.
    pub(crate) fn note(&self, names: &[HeaderName], answer: &ResponseHead<'_>, now: Instant) {
        // Who holds the lock writes the fields of another answer that came at this moment: one is as good as the other.
        let Ok(mut last) = self.0.try_lock() else { return };
        let (at, fields) = last.get_or_insert_with(|| (now, Vec::new()));
        *at = now;
        fields.clear();
        let named = |name: &str| names.iter().any(|wanted| wanted.as_str().eq_ignore_ascii_case(name));
        answer.headers.iter().filter(|h| named(h.name)).for_each(|h| write_field(h.name, h.value, fields));
    }

    fn get(&self, age_max: std::time::Duration, now: Instant) -> Option<Vec<u8>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, fields) = last.as_ref()?;
        (now.saturating_duration_since(*at) <= age_max).then(|| fields.clone())
    }
}

/// Whether a failure of the exchange is one that the fallback of its cluster stands in for.
pub(crate) fn is_for(forwarded: &Forwarded, forwarding: &Forwarding, exchange: &Exchange) -> bool {
    let Err(broken) = &forwarded.result else { return false };
    let breaker = forwarding.cluster().and_then(|cluster| cluster.live.model.breaker.as_ref());
    breaker.is_some_and(|breaker| breaker.fallback.is_some())
        && broken.lost.status_sent == 0
        && broken.lost.reason.row().blame != Blame::Downstream
        && !exchange.is_connect
        && !exchange.asks_upgrade
}

/// Lets the fallback stand in for a call that failed. Where it cannot, the failure stays what it was.
pub(crate) async fn stand_in<T: Talks>(
    worker: &Rc<Worker>,
    client: &mut Downstream<'_>,
    who: &Client,
    exchange: &Exchange,
    forwarding: &mut Forwarding,
    failed: Forwarded,
) -> Forwarded {
    let Some(cluster) = forwarding.cluster().cloned() else { return failed };
    let Some(fallback) = cluster.live.model.breaker.as_ref().and_then(|breaker| breaker.fallback.as_ref()) else {
        return failed;
    };
    // The circuit of an endpoint is not known any more when none could be chosen: any of them counts its fallbacks.
    let circuit = cluster.live.circuit.as_ref().or_else(|| cluster.live.hosts.iter().find_map(|h| h.circuit.as_ref()));
    let Some(circuit) = circuit else { return failed };
    let Some(_pass) = circuit.begin_fallback() else { return failed };
    match fallback {
        Fallback::Cluster(name) => {
            let to = worker.cluster(&exchange.current, name);
            let (Some(to), true) = (to, is_at_hand(&failed)) else { return missing(circuit, failed) };
            forwarding.destination = Destination::Cluster(to);
            forwarding.key = None;
            let stood_in = Box::pin(forward::<T>(worker, client, who, exchange, forwarding, None)).await;
            let succeeded = stood_in.result.is_ok();
            circuit.note_fallback(if succeeded { FallbackEnd::Success } else { FallbackEnd::Failure });
            let flags = stood_in.flags.and(flags_of(&failed));
            Forwarded { flags, ..stood_in }
        }
        Fallback::Static { status, headers, body } => {
            let fields = fields(headers);
            answered(exchange, circuit, failed, *status, fields, body.clone())
        }
        Fallback::LastHeaders { status, age_max, .. } => {
            let last = cluster.live.last_headers.as_ref().and_then(|last| last.get(*age_max, Instant::now()));
            let Some(fields) = last else { return missing(circuit, failed) };
            answered(exchange, circuit, failed, *status, fields, Arc::default())
        }
    }
}

/// An answer of the proxy's own in place of the failure.
fn answered(
    exchange: &Exchange,
    circuit: &Circuit,
    mut failed: Forwarded,
    status: u16,
    mut fields: Vec<u8>,
    body: Arc<[u8]>,
) -> Forwarded {
    let Err(broken) = &mut failed.result else { return failed };
    let row = broken.lost.reason.row();
    let why = match broken.lost.reason {
        // An answer came whole, and is not what a caller should see.
        Reason::Declined(status) => {
            format!("outrigger; received-status={status}; details=\"{} fallback\"", row.details)
        }
        _ => format!("outrigger; error={}; details=\"{} fallback\"", row.error, row.details),
    };
    write_field("proxy-status", why.as_bytes(), &mut fields);
    let mut answer = Answer { flag: row.flag, ..Answer::configured(status, fields, body) };
    if exchange.is_grpc {
        // To a call of gRPC an answer without its status is no answer.
        let Some(status) = answer.grpc_status() else { return missing(circuit, failed) };
        let own = std::mem::take(&mut answer.fields);
        answer = answer.for_grpc(status);
        answer.fields = own;
        write_field("content-type", b"application/grpc", &mut answer.fields);
    }
    broken.instead = Some(Box::new(answer));
    circuit.note_fallback(FallbackEnd::Success);
    failed
}

fn missing(circuit: &Circuit, failed: Forwarded) -> Forwarded {
    circuit.note_fallback(FallbackEnd::Missing);
    failed
}

fn fields(headers: &[(HeaderName, HeaderValue)]) -> Vec<u8> {
    let mut lines = Vec::new();
    headers.iter().for_each(|(name, value)| write_field(name.as_str(), value.as_str().as_bytes(), &mut lines));
    lines
}

fn is_at_hand(failed: &Forwarded) -> bool {
    matches!(&failed.result, Err(broken) if broken.lost.is_at_hand())
}

/// The flags of a failure, which an answer of the fallback carries on: it is not what was asked for.
fn flags_of(failed: &Forwarded) -> Flags {
    match &failed.result {
        Err(Broken { lost, .. }) => failed.flags.with(lost.reason.row().flag),
        Ok(_) => failed.flags,
    }
}

/// Whether an answer is replaced by the fallback of the circuit that let its call through.
pub(crate) fn replaces(circuit: &Circuit, trial: Trial, is_at_hand: bool) -> bool {
    let can = match &circuit.breaker.fallback {
        None => false,
        Some(Fallback::Cluster(_)) => is_at_hand,
        Some(Fallback::Static { .. } | Fallback::LastHeaders { .. }) => true,
    };
    can && circuit.is_failure(trial)
}
