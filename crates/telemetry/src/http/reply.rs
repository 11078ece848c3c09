//! Answers of the admin and metrics servers.
//!
//! Small answers are plain bodies. Large ones are sent in pieces and hold a permit until their last piece is gone, so
//! that slow readers bound each other and not our memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_core::Stream;
use serde_json::Value as Json;
use tokio::sync::OwnedSemaphorePermit;

use super::Busy;

/// Bytes handed to the connection at once.
const PIECE_BYTES: usize = 64 * 1024;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// What a large answer holds while it is under way.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) _permit: OwnedSemaphorePermit,
    /// Keeps its connection from being closed as idle.
    pub(super) _busy: Option<Busy>,
}

/// A small answer.
pub(super) fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A sentence for a person, ended with a line feed.
pub(super) fn sentence(status: StatusCode, text: &str) -> Response {
    reply(status, TEXT, format!("{text}\n"))
}

/// A large text.
pub(super) fn large(content_type: &'static str, body: String, held: Held) -> Response {
    let pieces = Pieces { rest: body.into(), _held: held };
    reply(StatusCode::OK, content_type, Body::from_stream(pieces))
}

/// A large document, indented for people.
pub(super) fn large_json(document: &Json, held: Held) -> Response {
    large(JSON, format!("{document:#}\n"), held)
}

struct Pieces {
    rest: Bytes,
    _held: Held,
}

impl Stream for Pieces {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(piece)))
    }
}
