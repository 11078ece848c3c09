//! Futures that one task drives: those of the streams of a connection.
//!
//! A task of its own for each stream would be allocated, moved about and scheduled for every request, and kept until somebody
//! collects it. Here a stream has a place, whose memory and waker the next one uses again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The futures of one task.
pub(crate) struct Crowd<F> {
    places: Vec<Place<F>>,
    /// Places that hold no future.
    free: Vec<usize>,
    ready: Arc<Ready>,
    /// Lent to the queue in exchange for its list.
    turn: Vec<usize>,
}

struct Place<F> {
    /// Stays where it is while there is a future in it.
    future: Option<Pin<Box<Option<F>>>>,
    waker: Waker,
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

impl<F: Future<Output = ()>> Crowd<F> {
    /// Boxes that are kept for the next futures.
    const KEPT_MAX: usize = 16;

    /// Nobody.
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), ready: Arc::default(), turn: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes one in, to be polled with the others.
    pub(crate) fn push(&mut self, future: F) {
        let at = self.free.pop().unwrap_or_else(|| {
            let waker = Arc::new(PlaceWaker { place: self.places.len(), ready: self.ready.clone() });
            self.places.push(Place { future: None, waker: waker.into() });
            self.places.len() - 1
        });
        let place = &mut self.places[at];
        match &mut place.future {
            Some(kept) => kept.set(Some(future)),
            None => place.future = Some(Box::pin(Some(future))),
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
            // Places may be fewer than they were, and futures gone, when their wakers wake.
            let Some(place) = self.places.get_mut(at) else { continue };
            let Some(kept) = &mut place.future else { continue };
            let Some(future) = kept.as_mut().as_pin_mut() else { continue };
            if future.poll(&mut Context::from_waker(&place.waker)) == Poll::Ready(()) {
                kept.set(None);
                if self.free.len() >= Self::KEPT_MAX {
                    place.future = None;
                }
                self.free.push(at);
            }
        }
        any
    }

    /// Whether memory is kept for futures to come.
    pub(crate) fn keeps(&self) -> bool {
        !self.places.is_empty()
    }

    /// Gives back what is kept for futures that do not come.
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

    /// Polls until nobody is ready; who was polled.
    fn run<F: Future<Output = ()>>(crowd: &mut Crowd<F>) -> usize {
        let cx = Context::from_waker(Waker::noop());
        (0..100).take_while(|_| crowd.poll(&cx)).count()
    }

    #[test]
    fn those_who_are_woken_are_polled_and_places_are_used_again() {
        let wakers = Rc::new(Cell::new(Vec::new()));
        let polled = Rc::new(Cell::new(0));
        let mut crowd = Crowd::new();
        let make = |ends: bool| {
            let (wakers, polled) = (wakers.clone(), polled.clone());
            async move {
                let mut first = true;
                std::future::poll_fn(|cx| {
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
        };
        [false, true, false].into_iter().for_each(|ends| crowd.push(make(ends)));
        assert_eq!((run(&mut crowd), polled.get(), crowd.len()), (1, 3, 2));
        assert_eq!(run(&mut crowd), 0, "nobody was woken");
        let all = wakers.take();
        all[0].wake_by_ref();
        run(&mut crowd);
        assert_eq!((polled.get(), crowd.len()), (4, 1));
        crowd.push(make(true));
        crowd.push(make(true));
        run(&mut crowd);
        assert_eq!((polled.get(), crowd.len(), crowd.places.len()), (6, 1, 3), "three places do for all");
        // A waker may outlive its future: whoever has the place then is polled once too often, no more.
        all[0].wake_by_ref();
        all[1].wake_by_ref();
        run(&mut crowd);
        assert_eq!(crowd.len(), 0);
        crowd.shrink();
        assert_eq!(crowd.places.len(), 0);
        all[0].wake_by_ref();
        run(&mut crowd);
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
        (0..5).for_each(|_| crowd.push(std::future::ready(())));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(crowd.poll(&cx) && crowd.len() == 0);
    }
}
