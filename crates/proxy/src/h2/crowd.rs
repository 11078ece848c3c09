//! Futures that one task drives: those of the streams of a connection.
//!
//! A task of its own for each stream would be allocated, moved about and scheduled for every request, and kept until somebody
//! collects it. Here a stream has a place with a waker, and at it a future that serves one stream after another and never moves:
//! those that have nothing to serve are lent to whichever connection has, so that one that is idle keeps none.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What one task serves at a time.
pub(crate) struct Crowd<J> {
    places: Vec<Place<J>>,
    /// Places at which nothing is served.
    free: Vec<usize>,
    ready: Arc<Ready>,
    /// Lent to the queue in exchange for its list.
    turn: Vec<usize>,
}

struct Place<J> {
    /// Who serves there.
    server: Option<Server<J>>,
    waker: Waker,
}

/// A future that serves one `J` after another.
struct Server<J> {
    future: Pin<Box<dyn Future<Output = ()>>>,
    desk: Rc<Desk<J>>,
}

/// Those who have nothing to serve.
pub(crate) struct Spare<J> {
    servers: RefCell<Vec<Server<J>>>,
}

impl<J> Default for Spare<J> {
    fn default() -> Self {
        Self { servers: RefCell::default() }
    }
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

impl<J> Server<J> {
    fn new<F: Future<Output = ()> + 'static>(make: impl FnOnce(Rc<Desk<J>>) -> F) -> Self {
        let desk = Rc::new(Desk { next: Cell::new(None), is_idle: Cell::new(true) });
        Self { future: Box::pin(make(desk.clone())), desk }
    }
}

impl<J> Spare<J> {
    /// How many are kept.
    const KEPT_MAX: usize = 128;

    fn give(&self, server: Server<J>) {
        let mut servers = self.servers.borrow_mut();
        if servers.len() < Self::KEPT_MAX {
            servers.push(server);
        }
    }
}

impl<J> Crowd<J> {
    /// Nobody.
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), ready: Arc::default(), turn: Vec::new() }
    }

    /// How many are served.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Has one more served, with the others: by a spare future, or by one that is made for a desk.
    pub(crate) fn push<F: Future<Output = ()> + 'static>(
        &mut self,
        job: J,
        spare: &Spare<J>,
        make: impl FnOnce(Rc<Desk<J>>) -> F,
    ) {
        let at = self.free.pop().unwrap_or_else(|| {
            let waker = Arc::new(PlaceWaker { place: self.places.len(), ready: self.ready.clone() });
            self.places.push(Place { server: None, waker: waker.into() });
            self.places.len() - 1
        });
        let kept = spare.servers.borrow_mut().pop();
        let server = kept.unwrap_or_else(|| Server::new(make));
        server.desk.next.set(Some(job));
        server.desk.is_idle.set(false);
        let place = &mut self.places[at];
        place.server = Some(server);
        place.waker.wake_by_ref();
    }

    /// Polls those who were woken; whether there were any.
    pub(crate) fn poll(&mut self, spare: &Spare<J>, cx: &Context<'_>) -> bool {
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
            let Some(place) = self.places.get_mut(at) else { continue };
            let Some(server) = &mut place.server else { continue };
            let is_over = server.future.as_mut().poll(&mut Context::from_waker(&place.waker)).is_ready();
            if is_over || server.desk.is_idle.get() {
                self.free.push(at);
                place.server.take().filter(|_| !is_over).into_iter().for_each(|server| spare.give(server));
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
    fn run<J>(crowd: &mut Crowd<J>, spare: &Spare<J>) -> usize {
        let cx = Context::from_waker(Waker::noop());
        (0..100).take_while(|_| crowd.poll(spare, &cx)).count()
    }

    #[test]
    fn those_who_are_woken_are_polled_and_places_are_used_again() {
        let wakers = Rc::new(Cell::new(Vec::new()));
        let polled = Rc::new(Cell::new(0));
        let made = Cell::new(0);
        let (mut crowd, spare) = (Crowd::new(), Spare::default());
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
        [false, true, false].into_iter().for_each(|ends| crowd.push(ends, &spare, make));
        assert_eq!((run(&mut crowd, &spare), polled.get(), crowd.len()), (1, 3, 2));
        assert_eq!(run(&mut crowd, &spare), 0, "nobody was woken");
        let all = wakers.take();
        all[0].wake_by_ref();
        run(&mut crowd, &spare);
        assert_eq!((polled.get(), crowd.len()), (4, 1));
        crowd.push(true, &spare, make);
        crowd.push(true, &spare, make);
        run(&mut crowd, &spare);
        assert_eq!((polled.get(), crowd.len(), crowd.places.len()), (6, 1, 3), "three places do for all");
        assert_eq!(made.get(), 3, "and three futures");
        // A waker may outlive what it was for: whoever has the place then is polled once too often, no more.
        all[0].wake_by_ref();
        all[1].wake_by_ref();
        run(&mut crowd, &spare);
        assert_eq!((polled.get(), crowd.len()), (7, 0));
        crowd.shrink();
        assert_eq!(crowd.places.len(), 0);
        all[0].wake_by_ref();
        run(&mut crowd, &spare);
        crowd.push(true, &spare, make);
        run(&mut crowd, &spare);
        assert_eq!((polled.get(), crowd.len(), made.get()), (8, 0, 3), "a connection that is idle keeps none");
    }

    #[test]
    fn some_are_kept_for_those_to_come() {
        let (mut crowd, spare) = (Crowd::new(), Spare::default());
        let make = |desk: Rc<Desk<()>>| async move {
            loop {
                desk.next().await;
            }
        };
        (0..200).for_each(|_| crowd.push((), &spare, make));
        run(&mut crowd, &spare);
        assert_eq!((crowd.len(), crowd.places.len(), spare.servers.borrow().len()), (0, 200, 128));
        let mut other = Crowd::new();
        (0..100).for_each(|_| other.push((), &spare, make));
        assert_eq!((other.len(), spare.servers.borrow().len()), (100, 28));
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
        let (mut crowd, spare) = (Crowd::new(), Spare::default());
        crowd.poll(&spare, &cx);
        (0..5).for_each(|_| crowd.push((), &spare, |_| std::future::ready(())));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(crowd.poll(&spare, &cx) && crowd.len() == 0);
    }
}
