//! The thread of a process that does at given times what is no request's business: sweeps of outlier detection, ends of
//! drains. It sleeps until something is due, and starts with the first thing that can be.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Something to be done at times that it names itself.
pub(crate) trait Chore: Send + Sync {
    /// When it is to be done next; `None`: not before it is handed in again.
    fn due(&self) -> Option<Instant>;

    /// Does it. Called on the thread, at or after the time it named.
    fn run(&self, now: Instant);
}

/// The thread. Cheap to clone; it ends with the last clone.
#[derive(Clone, Default)]
pub(crate) struct Sweeper(Arc<Handle>);

#[derive(Default)]
struct Handle(Arc<Inner>);

#[derive(Default)]
struct Inner {
    plan: Mutex<Plan>,
    bell: Condvar,
}

#[derive(Default)]
struct Plan {
    /// What is due when; the number tells those of one moment apart.
    due: BTreeMap<(Instant, u64), Weak<dyn Chore>>,
    sequence: u64,
    is_running: bool,
    has_ended: bool,
}

/// Rest between two rounds: what is due at about the same time is done together.
const PAUSE: Duration = Duration::from_millis(10);

/// Rest after a chore that broke off.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Sweeper {
    /// Does this chore when it is due, for as long as somebody else holds it. One whose time has changed is handed in again.
    pub(crate) fn take(&self, chore: &Arc<dyn Chore>) {
        let Some(due) = chore.due() else { return };
        let inner = &self.0.0;
        let mut plan = inner.plan();
        plan.sequence += 1;
        let key = (due, plan.sequence);
        plan.due.insert(key, Arc::downgrade(chore));
        if !std::mem::replace(&mut plan.is_running, true) {
            let inner = inner.clone();
            let started = std::thread::Builder::new().name("sweeper".to_owned()).spawn(move || inner.work());
            if let Err(error) = started {
                plan.is_running = false;
                tracing::error!(%error, "endpoints that are ejected or drained stay so: there is no thread");
            }
        }
        drop(plan);
        inner.bell.notify_one();
    }
}

impl Inner {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut plan = self.plan();
        while !plan.has_ended {
            let now = Instant::now();
            let wait = plan.due.first_key_value().map(|((due, _), _)| due.saturating_duration_since(now).max(PAUSE));
            plan = match wait {
                Some(wait) => self.bell.wait_timeout(plan, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.bell.wait(plan).unwrap_or_else(PoisonError::into_inner),
            };
            let now = Instant::now();
            let later = plan.due.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut plan.due, later);
            drop(plan);
            let done: Vec<(Instant, Weak<dyn Chore>)> =
                due.into_values().filter_map(|chore| do_it(&chore, now)).collect();
            plan = self.plan();
            for (due, chore) in done {
                plan.sequence += 1;
                let key = (due, plan.sequence);
                plan.due.insert(key, chore);
            }
        }
    }
}

/// Does a chore whose time has come; when it is due again. One that was handed in twice is done once.
fn do_it(weak: &Weak<dyn Chore>, now: Instant) -> Option<(Instant, Weak<dyn Chore>)> {
    let chore = weak.upgrade()?;
    if chore.due()? > now {
        return None;
    }
    if catch_unwind(AssertUnwindSafe(|| chore.run(now))).is_err() {
        // The panic has said so already. What is due for others must not wait for ever.
        return Some((now + RETRY_PAUSE, weak.clone()));
    }
    Some((chore.due()?, weak.clone()))
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.plan().has_ended = true;
        self.0.bell.notify_one();
    }
}

impl fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeper").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Is due at each of these times, and tells when it was done.
    struct Times(Mutex<Vec<Instant>>, mpsc::Sender<Instant>);

    impl Chore for Times {
        fn due(&self) -> Option<Instant> {
            self.0.lock().unwrap().last().copied()
        }

        fn run(&self, now: Instant) {
            let due = self.0.lock().unwrap().pop().unwrap();
            assert!(now >= due, "too early");
            self.1.send(now).unwrap();
        }
    }

    fn chore(mut after_ms: Vec<u64>, done: &mpsc::Sender<Instant>) -> Arc<dyn Chore> {
        let now = Instant::now();
        after_ms.reverse();
        let times = after_ms.into_iter().map(|ms| now + Duration::from_millis(ms)).collect();
        Arc::new(Times(Mutex::new(times), done.clone()))
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_due_is_done_again_and_again() {
        let (done, wire) = mpsc::channel();
        let sweeper = Sweeper::default();
        let far = chore(vec![1_000_000], &done);
        sweeper.take(&far);
        let near = chore(vec![0, 20, 40], &done);
        sweeper.take(&near);
        // Handed in twice it is not done more often.
        sweeper.take(&near);
        for _ in 0..3 {
            wire.recv_timeout(PATIENCE).expect("it is done");
        }
        assert!(near.due().is_none() && far.due().is_some());
    }

    #[test]
    fn what_nobody_holds_is_not_done_and_does_not_hold_the_thread_up() {
        let (done, wire) = mpsc::channel();
        let sweeper = Sweeper::default();
        sweeper.take(&chore(vec![0], &done));
        let kept = chore(vec![30], &done);
        sweeper.take(&kept);
        wire.recv_timeout(PATIENCE).expect("the other one is done");
        assert!(wire.try_recv().is_err(), "and that one only");
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let (done, _wire) = mpsc::channel();
        let sweeper = Sweeper::default();
        let inner = Arc::downgrade(&sweeper.0.0);
        let far = chore(vec![1_000_000], &done);
        sweeper.take(&far);
        drop(sweeper.clone());
        assert!(inner.upgrade().is_some());
        drop(sweeper);
        let deadline = Instant::now() + PATIENCE;
        while inner.strong_count() > 0 {
            assert!(Instant::now() < deadline, "the thread goes on");
            std::thread::yield_now();
        }
    }
}
