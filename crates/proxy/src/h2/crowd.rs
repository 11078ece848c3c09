//! Futures that one task drives: those of the streams of a connection.
//!
//! A task of its own for each stream would be allocated, moved about and scheduled for every request, and kept until somebody
//! collects it. Here a stream has a place: a future that serves one stream after another and never moves, with its waker.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The futures `F` of one task, each of which serves one `J` after another.
pub(crate) struct Crowd<J, F> {
    places: Vec<Place<J, F>>,
    /// Places at which nothing is served.
    free: Vec<usize>,
    ready: Arc<Ready>,
    /// Lent to the queue in exchange for its list.
    turn: Vec<usize>,
}

struct Place<J, F> {
    future: Option<Pin<Box<F>>>,
    desk: Rc<Desk<J>>,
    waker: Waker,
}

/// Where a future finds what it is to serve.
pub(crate) struct Desk<J> {
    next: Cell<Option<J>>,
    /// Whether it waits for more.
    is_idle: Cell<bool>,
}

/// Who wants to be polled.
#[derive(Default)]
struct Ready {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    places: Vec<usize>,
    /// Of the task.
    waker: Option<Waker>,
}

/// Wakes the future at a place.
struct PlaceWaker {
    place: usize,
    ready: Arc<Ready>,
}

impl Wake for PlaceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Nothing in here panics, so that a poisoned lock is as good as any.
        let mut queue = self.ready.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.places.push(self.place);
        if queue.places.len() == 1
            && let Some(waker) = &queue.waker
        {
            waker.wake_by_ref();
        }
    }
}

impl<J> Desk<J> {
    /// The next to serve. Who asks has done with the one before.
    pub(crate) async fn next(&self) -> J {
        poll_fn(|_| match self.next.take() {
            Some(next) => Poll::Ready(next),
            None => {
                self.is_idle.set(true);
                Poll::Pending
            }
        })
        .await
    }
}

impl<J, F: Future<Output = ()>> Crowd<J, F> {
    /// Futures that are kept for the next to serve.
    const KEPT_MAX: usize = 16;

    /// Nobody.
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), ready: Arc::default(), turn: Vec::new() }
    }

    /// How many are served.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Has one more served, with the others; where a future is wanting for it, by one that is made for its desk.
    pub(crate) fn push(&mut self, job: J, make: impl FnOnce(Rc<Desk<J>>) -> F) {
        let at = self.free.pop().unwrap_or_else(|| {
            let waker = Arc::new(PlaceWaker { place: self.places.len(), ready: self.ready.clone() });
            let desk = Rc::new(Desk { next: Cell::new(None), is_idle: Cell::new(true) });
            self.places.push(Place { future: None, desk, waker: waker.into() });
            self.places.len() - 1
        });
        let place = &mut self.places[at];
        place.desk.next.set(Some(job));
        place.desk.is_idle.set(false);
        if place.future.is_none() {
            place.future = Some(Box::pin(make(place.desk.clone())));
        }
        place.waker.wake_by_ref();
    }

    /// Polls those who were woken; whether there were any.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> bool {
        {
            let mut queue = self.ready.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                queue.waker = Some(cx.waker().clone());
            }
            std::mem::swap(&mut queue.places, &mut self.turn);
        }
        let any = !self.turn.is_empty();
        for at in self.turn.drain(..) {
            // Places may be fewer than they were, and free, when their wakers wake.
            let Some(place) = self.places.get_mut(at).filter(|place| !place.desk.is_idle.get()) else { continue };
            let Some(future) = &mut place.future else { continue };
            let is_over = future.as_mut().poll(&mut Context::from_waker(&place.waker)).is_ready();
            if is_over || place.desk.is_idle.get() {
                if is_over || self.free.len() >= Self::KEPT_MAX {
                    place.future = None;
                }
                place.desk.is_idle.set(true);
                self.free.push(at);
            }
        }
        any
    }

    /// Whether memory is kept for what is to come.
    pub(crate) fn keeps(&self) -> bool {
        !self.places.is_empty()
    }

    /// Gives back what is kept for what does not come.
    pub(crate) fn shrink(&mut self) {
        if self.len() == 0 && !self.places.is_empty() {
            *self = Self { ready: std::mem::take(&mut self.ready), ..Self::new() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Polls until nobody is ready; in how many rounds.
    fn run<J, F: Future<Output = ()>>(crowd: &mut Crowd<J, F>) -> usize {
        let cx = Context::from_waker(Waker::noop());
        (0..100).take_while(|_| crowd.poll(&cx)).count()
    }

    #[test]
    fn those_who_are_woken_are_polled_and_places_are_used_again() {
        let wakers = Rc::new(Cell::new(Vec::new()));
        let polled = Rc::new(Cell::new(0));
        let made = Cell::new(0);
        let mut crowd = Crowd::new();
        // What is served says whether that ends at once, or with the second look at it.
        let make = |desk: Rc<Desk<bool>>| {
            let (wakers, polled) = (wakers.clone(), polled.clone());
            made.set(made.get() + 1);
            async move {
                loop {
                    let ends = desk.next().await;
                    let mut first = true;
                    poll_fn(|cx| {
                        polled.set(polled.get() + 1);
                        if ends || !std::mem::take(&mut first) {
                            return Poll::Ready(());
                        }
                        let mut all = wakers.take();
                        all.push(cx.waker().clone());
                        wakers.set(all);
                        Poll::Pending
                    })
                    .await;
                }
            }
        };
        [false, true, false].into_iter().for_each(|ends| crowd.push(ends, make));
        assert_eq!((run(&mut crowd), polled.get(), crowd.len()), (1, 3, 2));
        assert_eq!(run(&mut crowd), 0, "nobody was woken");
        let all = wakers.take();
        all[0].wake_by_ref();
        run(&mut crowd);
        assert_eq!((polled.get(), crowd.len()), (4, 1));
        crowd.push(true, make);
        crowd.push(true, make);
        run(&mut crowd);
        assert_eq!((polled.get(), crowd.len(), crowd.places.len()), (6, 1, 3), "three places do for all");
        assert_eq!(made.get(), 3, "and three futures");
        // A waker may outlive what it was for: whoever has the place then is polled once too often, no more.
        all[0].wake_by_ref();
        all[1].wake_by_ref();
        run(&mut crowd);
        assert_eq!((polled.get(), crowd.len()), (7, 0));
        crowd.shrink();
        assert_eq!(crowd.places.len(), 0);
        all[0].wake_by_ref();
        run(&mut crowd);
        crowd.push(true, make);
        run(&mut crowd);
        assert_eq!((polled.get(), crowd.len(), made.get()), (8, 0, 4));
    }

    #[test]
    fn few_futures_are_kept_for_those_to_come() {
        let mut crowd = Crowd::new();
        let make = |desk: Rc<Desk<()>>| async move {
            loop {
                desk.next().await;
            }
        };
        (0..40).for_each(|_| crowd.push((), make));
        run(&mut crowd);
        let kept = crowd.places.iter().filter(|place| place.future.is_some()).count();
        assert_eq!((crowd.len(), kept), (0, 16));
        (0..40).for_each(|_| crowd.push((), make));
        run(&mut crowd);
        assert_eq!((crowd.len(), crowd.places.len()), (0, 40));
    }

    #[test]
    fn the_task_is_woken_once_for_many() {
        struct Count(std::sync::atomic::AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(0.into()));
        let waker = count.clone().into();
        let cx = Context::from_waker(&waker);
        let mut crowd = Crowd::new();
        crowd.poll(&cx);
        (0..5).for_each(|_| crowd.push((), |_| std::future::ready(())));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(crowd.poll(&cx) && crowd.len() == 0);
    }
}
