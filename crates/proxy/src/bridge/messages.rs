//! Counting gRPC messages as they pass: each is a flag, four bytes of length, and so many bytes.

use std::cell::Cell;

use outrigger_telemetry::Counter;

/// The messages of one direction. A message counts when it is complete, as it passes.
#[derive(Debug, Default)]
pub(crate) struct Messages<'c> {
    counter: Option<Counter>,
    /// How many an earlier try has counted: a request that is sent again is the same messages.
    counted: Option<&'c Cell<u64>>,
    /// How many have passed.
    passed: Cell<u64>,
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
    /// How many of those this call has counted, over all its tries.
    pub(crate) requests_counted: Cell<u64>,
    /// To the client.
    pub(crate) responses: Counter,
}

impl<'c> Messages<'c> {
    /// Counts into `counter`; without one nothing is looked at.
    pub(crate) fn new(counter: Option<&Counter>) -> Self {
        Self { counter: counter.cloned(), ..Self::default() }
    }

    /// The messages of a request, which may be sent more than once.
    pub(crate) fn of_request(count: Option<&'c MessageCount>) -> Self {
        let counted = count.map(|count| &count.requests_counted);
        Self { counted, ..Self::new(count.map(|count| &count.requests)) }
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
                self.count(counter);
                self.prefix.set(0);
                self.length.set(0);
            }
        }
    }

    fn count(&self, counter: &Counter) {
        self.passed.set(self.passed.get() + 1);
        match self.counted {
            Some(counted) if counted.get() >= self.passed.get() => {}
            Some(counted) => {
                counted.set(self.passed.get());
                counter.inc();
            }
            None => counter.inc(),
        }
    }
}

#[cfg(test)]
mod tests {
    use outrigger_telemetry::{Registry, catalogue};

    use super::*;

    fn requests(registry: &Registry) -> f64 {
        let families = registry.gather(std::time::Instant::now());
        let counted = families.iter().filter(|family| family.desc.name == "istio_request_messages_total");
        counted.flat_map(|family| family.samples.iter().map(|sample| sample.value.number())).sum()
    }

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
            assert_eq!(requests(&registry), 3.0, "pieces of {piece}: the last message is not complete");
        }
    }

    #[test]
    fn messages_that_are_sent_again_count_once() {
        let registry = Registry::new(Default::default());
        let labels = vec!["x".into(); catalogue::PEER_LABELS.len()];
        let counter = |of| registry.shard().counter(of, &labels);
        let count = MessageCount {
            requests: counter(&catalogue::ISTIO_REQUEST_MESSAGES_TOTAL),
            responses: counter(&catalogue::ISTIO_RESPONSE_MESSAGES_TOTAL),
            requests_counted: Cell::default(),
        };
        for messages in [2, 1, 3] {
            let tried = Messages::of_request(Some(&count));
            (0..messages).for_each(|_| tried.see(&[0, 0, 0, 0, 1, 9]));
        }
        assert_eq!(count.requests_counted.get(), 3);
        assert_eq!(requests(&registry), 3.0);
    }
}
