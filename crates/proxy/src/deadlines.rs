//! The time limits of a route: `timeout` on the whole answer, the per-try timeout on the head of a try's answer.
//!
//! Both count from when the whole request is here, as Envoy counts them: a client that takes its time to send a body
//! spends none of the upstream's. A try counts from when it began, if that is later; opening a connection is part of it.
//! They are kept to the millisecond by the runtime's timer, which only a request whose route has a limit asks for one.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::failure::Reason;

/// The limits of one request, and when they strike.
#[derive(Debug)]
pub(crate) struct Deadlines {
    route: Limit,
    per_try: Limit,
    /// What a circuit allows a try; set when the try begins.
    of_circuit: Cell<Option<Instant>>,
    /// When a call of gRPC has taken as long as its client gave it.
    call: Option<Instant>,
    request_is_here: Cell<bool>,
}

/// One limit; it strikes nothing before it is set.
#[derive(Debug)]
struct Limit {
    length: Option<Duration>,
    strikes: Cell<Option<Instant>>,
}

impl Deadlines {
    /// With these limits; `None` is none.
    pub(crate) fn new(route: Option<Duration>, per_try: Option<Duration>) -> Self {
        let limit = |length| Limit { length, strikes: Cell::new(None) };
        Self {
            route: limit(route),
            per_try: limit(per_try),
            of_circuit: Cell::new(None),
            call: None,
            request_is_here: Cell::new(false),
        }
    }

    /// As well as at a moment that the client named (`grpc-timeout`), whatever has come until then.
    pub(crate) fn until(self, call: Option<std::time::Instant>) -> Self {
        Self { call: call.map(Instant::from_std), ..self }
    }

    /// The last byte of the request has come.
    pub(crate) fn request_is_here(&self) {
        if !self.request_is_here.replace(true) {
            self.route.set();
            self.per_try.set();
        }
    }

    /// Another try begins, for which a circuit allows so much time.
    pub(crate) fn try_begins(&self, of_circuit: Option<Duration>) {
        self.of_circuit.set(of_circuit.and_then(|length| Instant::now().checked_add(length)));
        if self.request_is_here.get() {
            self.per_try.set();
        }
    }

    /// Awaits `future`, at most until a limit strikes. Once `answer_begun` is not 0 any more, only the route's counts.
    pub(crate) async fn limit<F: Future>(
        &self,
        mut future: Pin<&mut F>,
        answer_begun: &Cell<u16>,
    ) -> Result<F::Output, Reason> {
        let unlimited = self.route.length.is_none()
            && self.per_try.length.is_none()
            && self.call.is_none()
            && self.of_circuit.get().is_none();
        let mut timer: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if unlimited {
                return Poll::Pending;
            }
            // Polling may have set a limit, or begun the answer.
            let Some((strikes, reason)) = self.next(answer_begun.get() != 0) else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(strikes)));
            if timer.deadline() != strikes {
                timer.as_mut().reset(strikes);
            }
            timer.as_mut().poll(cx).map(|()| Err(reason))
        })
        .await
    }

    /// Awaits `future`, at most until a limit on the whole strikes.
    pub(crate) async fn limit_whole<F: Future>(&self, future: Pin<&mut F>) -> Result<F::Output, Reason> {
        self.limit(future, &Cell::new(u16::MAX)).await
    }

    /// Whether the limits on the whole leave time for a wait and something after it.
    pub(crate) fn leaves(&self, wait: Duration) -> bool {
        let whole = self.route.strikes.get().into_iter().chain(self.call);
        whole.min().is_none_or(|strikes| Instant::now() + wait < strikes)
    }

    /// Which limit strikes next.
    fn next(&self, answer_begun: bool) -> Option<(Instant, Reason)> {
        let route = self.route.strikes.get().map(|at| (at, Reason::RouteTimeout));
        let per_try = self.per_try.strikes.get().filter(|_| !answer_begun).map(|at| (at, Reason::PerTryTimeout));
        let of_circuit = self.of_circuit.get().filter(|_| !answer_begun).map(|at| (at, Reason::CircuitTimeout));
        let call = self.call.map(|at| (at, Reason::CallTimeout));
        // Of two at one time, the one of the whole: no other try could help.
        call.into_iter().chain(route).chain(per_try).chain(of_circuit).min_by_key(|(at, _)| *at)
    }
}

impl Limit {
    fn set(&self) {
        self.strikes.set(self.length.and_then(|length| Instant::now().checked_add(length)));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// So many milliseconds later, as the clock of the test goes.
    async fn after(milliseconds: u64) -> u64 {
        sleep_until(Instant::now() + ms(milliseconds)).await;
        milliseconds
    }

    /// What ends a wait for ever, and after how many milliseconds.
    async fn struck(deadlines: &Deadlines, answer_begun: u16) -> (Reason, u128) {
        let began = Instant::now();
        let reason = deadlines.limit(pin!(std::future::pending::<()>()), &Cell::new(answer_begun)).await;
        (reason.unwrap_err(), began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_limit_strikes() {
        for (route, per_try, reason, after) in [
            (Some(700), None, Reason::RouteTimeout, 700),
            (None, Some(250), Reason::PerTryTimeout, 250),
            (Some(700), Some(250), Reason::PerTryTimeout, 250),
            (Some(250), Some(700), Reason::RouteTimeout, 250),
            (Some(250), Some(250), Reason::RouteTimeout, 250),
        ] {
            let deadlines = Deadlines::new(route.map(ms), per_try.map(ms));
            deadlines.request_is_here();
            deadlines.try_begins(None);
            assert_eq!(struck(&deadlines, 0).await, (reason, after), "{route:?} {per_try:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_on_its_way_has_all_the_time() {
        let deadlines = Deadlines::new(Some(ms(100)), Some(ms(50)));
        deadlines.try_begins(None);
        let upload = async {
            tokio::time::advance(ms(5_000)).await;
            deadlines.request_is_here();
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        let struck = deadlines.limit(pin!(upload), &Cell::new(0)).await;
        assert_eq!((struck, began.elapsed()), (Err(Reason::PerTryTimeout), ms(5_050)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_begun_has_the_routes_time() {
        let deadlines = Deadlines::new(Some(ms(400)), Some(ms(100)));
        deadlines.request_is_here();
        let begun = Cell::new(0);
        let answer = async {
            tokio::time::advance(ms(90)).await;
            begun.set(200);
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        let struck = deadlines.limit(pin!(answer), &begun).await;
        assert_eq!((struck, began.elapsed()), (Err(Reason::RouteTimeout), ms(400)));
        let per_try = Deadlines::new(None, Some(ms(100)));
        per_try.request_is_here();
        let answer = pin!(after(1_000));
        assert_eq!(per_try.limit(answer, &Cell::new(200)).await, Ok(1_000));
    }

    #[tokio::test(start_paused = true)]
    async fn each_try_has_its_own_time_and_all_have_the_routes() {
        let deadlines = Deadlines::new(Some(ms(250)), Some(ms(100)));
        deadlines.request_is_here();
        for expected in [(Reason::PerTryTimeout, 100), (Reason::PerTryTimeout, 100), (Reason::RouteTimeout, 50)] {
            deadlines.try_begins(None);
            assert_eq!(struck(&deadlines, 0).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_in_time_is_done_and_no_limit_never_strikes() {
        let deadlines = Deadlines::new(None, None);
        deadlines.request_is_here();
        deadlines.try_begins(None);
        assert_eq!(deadlines.limit(pin!(after(86_400_000)), &Cell::new(0)).await, Ok(86_400_000));
        let deadlines = Deadlines::new(Some(Duration::MAX), Some(ms(100)));
        deadlines.request_is_here();
        let soon = deadlines.limit(pin!(after(99)), &Cell::new(0)).await;
        assert_eq!(soon, Ok(99), "a limit beyond the clock is none");
    }
}
