//! The task of a connection to an endpoint.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::PingPong;
use h2::client::Connection;

use super::super::ended::Ended;
use super::super::io::{Io, Watch};
use super::super::keepalive::Keepalive;
use super::super::windows::Windows;
use super::Live;
use crate::alarm::Alarm;

/// Moves the bytes of one connection.
pub(super) struct Driver {
    pub(super) connection: Connection<Io, Bytes>,
    pub(super) live: Rc<Live>,
    pub(super) watch: Rc<Watch>,
    pub(super) ping: Option<PingPong>,
    pub(super) keepalive: Keepalive,
    pub(super) alarm: Rc<Alarm>,
    pub(super) windows: Windows,
}

impl Future for Driver {
    type Output = Result<(), Ended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.live.driver.borrow().as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *this.live.driver.borrow_mut() = Some(cx.waker().clone());
        }
        if let Some(window) = this.windows.grow(this.live.active.get()) {
            this.connection.set_target_window_size(window);
        }
        if Pin::new(&mut this.connection).poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if let Some(tripped) = this.watch.meter.tripped() {
            return Poll::Ready(Err(Ended::Flood(tripped.0)));
        }
        this.live.listen();
        if this.live.is_closed.get() && this.live.active.get() == 0 {
            return Poll::Ready(Ok(()));
        }
        let busy = this.live.active.get() > 0;
        match this.keepalive.poll(&this.watch, this.ping.as_mut(), busy, &this.alarm, cx) {
            Poll::Ready(()) => Poll::Ready(Err(Ended::Dead)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.live.is_closed.set(true);
        self.watch.ended();
    }
}
