//! Counting gRPC messages as they pass: each is a flag, four bytes of length, and so many bytes.

use std::cell::Cell;

use outrigger_telemetry::Counter;

/// The messages of one direction. A message counts when it is complete, as it passes.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    counter: Option<Counter>,
    /// Bytes of the prefix seen, and the length as far as it was.
    prefix: Cell<u8>,
    length: Cell<u32>,
    /// Bytes of the message that are to come.
    left: Cell<u32>,
}

/// The counters of a call.
#[derive(Clone, Debug)]
pub(crate) struct MessageCount {
    /// From the client.
    pub(crate) requests: Counter,
    /// To the client.
    pub(crate) responses: Counter,
}

impl Messages {
    /// Counts into `counter`; without one nothing is looked at.
    pub(crate) fn new(counter: Option<&Counter>) -> Self {
        Self { counter: counter.cloned(), ..Self::default() }
    }

    /// Looks at the next bytes of the body.
    pub(crate) fn see(&self, mut data: &[u8]) {
        let Some(counter) = &self.counter else { return };
        while let Some(byte) = data.first() {
            if self.prefix.get() < 5 {
                let at = self.prefix.get() + 1;
                if at > 1 {
                    self.length.set(self.length.get() << 8 | u32::from(*byte));
                }
                self.prefix.set(at);
                data = &data[1..];
                if at < 5 {
                    continue;
                }
                self.left.set(self.length.get());
            } else {
                let taken = data.len().min(self.left.get() as usize);
                self.left.set(self.left.get() - taken as u32);
                data = &data[taken..];
            }
            if self.left.get() == 0 {
                counter.inc();
                self.prefix.set(0);
                self.length.set(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use outrigger_telemetry::{Registry, catalogue};

    use super::*;

    #[test]
    fn messages_count_the_same_however_they_arrive() {
        let body = [&[0, 0, 0, 0, 0][..], &[0, 0, 0, 0, 3, 1, 2, 3], &[1, 0, 0, 1, 0], &[7; 256], &[0, 0, 0, 0, 2, 1]]
            .concat();
        for piece in 1..body.len() {
            let registry = Registry::new(Default::default());
            let labels = vec!["x".into(); catalogue::PEER_LABELS.len()];
            let counter = registry.shard().counter(&catalogue::ISTIO_REQUEST_MESSAGES_TOTAL, &labels);
            let messages = Messages::new(Some(&counter));
            body.chunks(piece).for_each(|part| messages.see(part));
            let counted: f64 = registry
                .gather(std::time::Instant::now())
                .iter()
                .filter(|family| family.desc.name == "istio_request_messages_total")
                .flat_map(|family| family.samples.iter().map(|sample| sample.value.number()))
                .sum();
            assert_eq!(counted, 3.0, "pieces of {piece}: the last message is not complete");
        }
    }
}
