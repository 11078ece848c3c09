//! Request bodies for copies: held whole, or fed piece by piece while they go to the upstream.
//!
//! Whoever relays the body pushes and never waits; the copy takes what is there. What waits is bounded for each copy and
//! for all copies of a worker; a copy that would need more is given up and told why. All of it stays on one thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Bytes that copies of one worker hold.
#[derive(Debug)]
pub(crate) struct Budget {
    used: Cell<usize>,
    max: usize,
}

/// A whole body, in the budget until dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Box<[u8]>,
    budget: Rc<Budget>,
}

/// What feeds copies with a body that is on its way. Dropped before [`Self::finish`], it tells them that there is no rest.
#[derive(Debug, Default)]
pub(crate) struct Tee {
    queues: Vec<Rc<Queue>>,
}

/// A copy's end of a [`Tee`].
#[derive(Debug)]
pub(crate) struct Feed(Rc<Queue>);

/// Why a copy gets no more of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoMore {
    /// It did not take what was there fast enough.
    Slow,
    /// All copies together held too much.
    Full,
    /// The request itself ended before its body did.
    Cut,
}

#[derive(Debug)]
struct Queue {
    waiting: RefCell<Vec<u8>>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
    bytes_max: usize,
    budget: Rc<Budget>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More is to come.
    Open,
    /// All is there.
    Whole,
    /// Nothing more comes.
    Over(NoMore),
    /// Nobody takes any more.
    Left,
}

impl Budget {
    /// For so many bytes.
    pub(crate) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { used: Cell::new(0), max })
    }

    fn take(&self, bytes: usize) -> bool {
        let used = self.used.get().saturating_add(bytes);
        let fits = used <= self.max;
        if fits {
            self.used.set(used);
        }
        fits
    }

    fn give(&self, bytes: usize) {
        self.used.set(self.used.get() - bytes);
    }
}

impl Held {
    /// A copy of `bytes`; `None` when the budget has no room for it.
    pub(crate) fn copy(bytes: &[u8], budget: &Rc<Budget>) -> Option<Self> {
        budget.take(bytes.len()).then(|| Self { bytes: bytes.into(), budget: budget.clone() })
    }

    /// The body.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give(self.bytes.len());
    }
}

impl Tee {
    /// Feeds one more copy, for which at most `bytes_max` wait.
    pub(crate) fn add(&mut self, bytes_max: usize, budget: &Rc<Budget>) -> Feed {
        let queue = Rc::new(Queue {
            waiting: RefCell::default(),
            state: Cell::new(State::Open),
            waker: RefCell::default(),
            bytes_max,
            budget: budget.clone(),
        });
        self.queues.push(queue.clone());
        Feed(queue)
    }

    /// More of the body.
    pub(crate) fn push(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.queues.iter().for_each(|queue| queue.push(bytes));
        }
    }

    /// The body is whole.
    pub(crate) fn finish(&self) {
        self.end(State::Whole);
    }

    /// Whether a copy has something to take: it should have its turn before there is more.
    pub(crate) fn is_behind(&self) -> bool {
        self.queues.iter().any(|queue| !queue.waiting.borrow().is_empty())
    }

    fn end(&self, state: State) {
        for queue in self.queues.iter().filter(|queue| queue.state.get() == State::Open) {
            queue.state.set(state);
            queue.wake();
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.end(State::Over(NoMore::Cut));
    }
}

impl Queue {
    fn push(&self, bytes: &[u8]) {
        if self.state.get() != State::Open {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        let over = if waiting.len() + bytes.len() > self.bytes_max {
            Some(NoMore::Slow)
        } else {
            (!self.budget.take(bytes.len())).then_some(NoMore::Full)
        };
        match over {
            None => waiting.extend_from_slice(bytes),
            Some(why) => {
                self.budget.give(waiting.len());
                *waiting = Vec::new();
                self.state.set(State::Over(why));
            }
        }
        drop(waiting);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Feed {
    /// The next bytes, as soon as there are some; `None` at the body's end.
    pub(crate) async fn next(&self) -> Result<Option<Vec<u8>>, NoMore> {
        let queue = &self.0;
        poll_fn(|cx| {
            let waiting = queue.waiting.take();
            queue.budget.give(waiting.len());
            match queue.state.get() {
                State::Over(why) => Poll::Ready(Err(why)),
                _ if !waiting.is_empty() => Poll::Ready(Ok(Some(waiting))),
                State::Open => {
                    *queue.waker.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                }
                State::Whole | State::Left => Poll::Ready(Ok(None)),
            }
        })
        .await
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.state.set(State::Left);
        self.0.budget.give(self.0.waiting.take().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_takes_what_was_pushed_and_then_the_end() {
        let (mut tee, budget) = (Tee::default(), Budget::new(100));
        let (one, two) = (tee.add(10, &budget), tee.add(10, &budget));
        tee.push(b"ab");
        tee.push(b"");
        tee.push(b"cd");
        assert!(tee.is_behind());
        assert_eq!(one.next().await, Ok(Some(b"abcd".to_vec())));
        tee.push(b"ef");
        tee.finish();
        drop(tee);
        assert_eq!(one.next().await, Ok(Some(b"ef".to_vec())));
        assert_eq!(one.next().await, Ok(None));
        assert_eq!(two.next().await, Ok(Some(b"abcdef".to_vec())));
        assert_eq!((two.next().await, budget.used.get()), (Ok(None), 0));
    }

    #[tokio::test]
    async fn a_copy_that_waits_is_woken() {
        let (mut tee, budget) = (Tee::default(), Budget::new(100));
        let feed = tee.add(10, &budget);
        let all = async {
            let mut all = Vec::new();
            while let Some(bytes) = feed.next().await? {
                all.extend(bytes);
            }
            Ok::<_, NoMore>(all)
        };
        let push = async {
            for byte in b"hello" {
                tokio::task::yield_now().await;
                tee.push(&[*byte]);
            }
            tokio::task::yield_now().await;
            tee.finish();
        };
        assert_eq!(tokio::join!(all, push).0, Ok(b"hello".to_vec()));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_for_one_and_for_all() {
        let (mut tee, budget) = (Tee::default(), Budget::new(12));
        let (slow, quick) = (tee.add(5, &budget), tee.add(10, &budget));
        tee.push(b"123");
        assert_eq!(quick.next().await, Ok(Some(b"123".to_vec())));
        tee.push(b"456");
        assert_eq!(slow.next().await, Err(NoMore::Slow));
        assert_eq!(quick.next().await, Ok(Some(b"456".to_vec())));
        assert_eq!(budget.used.get(), 0, "what is given up is held no longer");

        let held = Held::copy(b"12345678", &budget).expect("there is room");
        assert!(Held::copy(b"12345", &budget).is_none());
        tee.push(b"12345");
        assert_eq!(quick.next().await, Err(NoMore::Full));
        assert_eq!(held.bytes(), b"12345678");
        drop(held);
        assert_eq!(budget.used.get(), 0);
    }

    #[tokio::test]
    async fn a_request_that_ends_early_cuts_its_copies() {
        let (mut tee, budget) = (Tee::default(), Budget::new(12));
        let feed = tee.add(10, &budget);
        tee.push(b"half");
        drop(tee);
        assert_eq!((feed.next().await, budget.used.get()), (Err(NoMore::Cut), 0));
    }

    #[test]
    fn nothing_waits_for_a_copy_that_has_left() {
        let (mut tee, budget) = (Tee::default(), Budget::new(12));
        let feed = tee.add(10, &budget);
        tee.push(b"abc");
        drop(feed);
        tee.push(b"abc");
        assert_eq!((budget.used.get(), tee.is_behind()), (0, false));
        tee.finish();
    }
}
