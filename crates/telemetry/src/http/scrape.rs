//! One scrape: select, negotiate, compress, and write piece by piece.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_core::Stream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Busy;
use super::hits::{Bound, LimitHits};
use super::query::Query;
use super::reply::{Held, reply, sentence};
use crate::expose::{Exposition, Selection, accepts_gzip, negotiate};
use crate::{Family, Registry};

/// Large answers under way at once, over all servers that share a [`Scraper`]: two Prometheus replicas, a dashboard and
/// a person.
const LARGE_ANSWERS_MAX: usize = 4;

/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a scrape may take unless the scraper names a shorter time.
const SCRAPE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Answers scrapes of one registry; shared by the servers of a proxy, so that their bound is common.
#[derive(Clone, Debug)]
pub struct Scraper {
    registry: Registry,
    turns: Arc<Semaphore>,
    hits: LimitHits,
}

impl Scraper {
    /// Of this registry, which from now on tells the bounds of the servers too.
    pub fn new(registry: Registry) -> Self {
        let hits = LimitHits::default();
        registry.add_collector(Arc::new(hits.clone()));
        Self { registry, turns: Arc::new(Semaphore::new(LARGE_ANSWERS_MAX)), hits }
    }

    /// What the servers of this proxy count their bounds with.
    pub fn hits(&self) -> LimitHits {
        self.hits.clone()
    }

    /// Answers `GET /stats/prometheus` and `/metrics`.
    pub(super) async fn scrape(&self, query: &Query, request: &Parts) -> Response {
        let (selection, held) = match self.prepare(query, request).await {
            Ok(prepared) => prepared,
            Err(refusal) => return refusal,
        };
        let headers = &request.headers;
        let format = negotiate(joined(headers, header::ACCEPT).as_deref());
        let gzip = accepts_gzip(joined(headers, header::ACCEPT_ENCODING).as_deref());
        let body = ScrapeBody {
            exposition: Exposition::new(self.select(&selection), format),
            gzip: gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
            deadline: Instant::now() + scrape_timeout(headers),
            ended: false,
            hits: self.hits(),
            _held: held,
        };
        let mut response = reply(StatusCode::OK, format.content_type(), Body::from_stream(body));
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// The selection of a request and its turn, or the answer that says why not.
    pub(super) async fn prepare(&self, query: &Query, request: &Parts) -> Result<(Selection, Held), Response> {
        let selection =
            Selection::parse(query.pairs()).map_err(|error| sentence(StatusCode::BAD_REQUEST, &error.to_string()))?;
        Ok((selection, self.turn(request).await?))
    }

    /// Waits for the turn of a large answer.
    pub(super) async fn turn(&self, request: &Parts) -> Result<Held, Response> {
        let busy = request.extensions.get::<Busy>().cloned();
        match timeout(TURN_TIMEOUT, self.turns.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Held { _permit: permit, _busy: busy }),
            // The semaphore is never closed, so both mean the same.
            Ok(Err(_)) | Err(_) => {
                self.hits.count(Bound::LargeAnswers);
                let text = format!("{LARGE_ANSWERS_MAX} large answers are under way already; try again");
                let mut response = sentence(StatusCode::SERVICE_UNAVAILABLE, &text);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                Err(response)
            }
        }
    }

    pub(super) fn select(&self, selection: &Selection) -> Vec<Family> {
        let mut families = self.registry.gather(Instant::now());
        selection.apply(&mut families);
        families
    }
}

/// A list header, its lines joined as RFC 9110 §5.3 says.
fn joined(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

fn scrape_timeout(headers: &HeaderMap) -> Duration {
    let named = headers.get("x-prometheus-scrape-timeout-seconds").and_then(|value| value.to_str().ok());
    match named.and_then(|text| text.parse::<f64>().ok()) {
        Some(seconds) if seconds > 0.0 => Duration::from_secs_f64(seconds.min(SCRAPE_TIMEOUT_MAX.as_secs_f64())),
        _ => SCRAPE_TIMEOUT_MAX,
    }
}

struct ScrapeBody {
    exposition: Exposition,
    gzip: Option<GzEncoder<Vec<u8>>>,
    deadline: Instant,
    ended: bool,
    hits: LimitHits,
    _held: Held,
}

impl ScrapeBody {
    /// The next bytes for the wire; empty when the compressor keeps them for now.
    fn next_piece(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = Vec::new();
        let more = self.exposition.next_piece(&mut piece);
        let Some(gzip) = &mut self.gzip else {
            self.ended = !more;
            return Ok(piece);
        };
        if more {
            gzip.write_all(&piece)?;
            return Ok(std::mem::take(gzip.get_mut()));
        }
        self.ended = true;
        self.gzip.take().map_or(Ok(Vec::new()), GzEncoder::finish)
    }
}

impl Stream for ScrapeBody {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while !this.ended {
            if Instant::now() > this.deadline {
                this.ended = true;
                this.hits.count(Bound::ScrapeTimeout);
                // Not `TimedOut`, which stands for a reader that stalls.
                return Poll::Ready(Some(Err(io::Error::other("the scrape took too long"))));
            }
            match this.next_piece() {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(piece.into()))),
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(None)
    }
}
