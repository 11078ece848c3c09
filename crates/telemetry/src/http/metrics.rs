//! The metrics servers (ports 15020 and 15090, and 15021 for the kubelet): exact paths, read only, nothing else.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::get;

use super::query::Query;
use super::reply::sentence;
use super::scrape::Scraper;
use crate::Readiness;

/// `GET /stats/prometheus`, `/metrics` and `/healthz/ready`; every other path, however it is spelt, is 404.
pub fn metrics_router(scraper: Scraper, readiness: Readiness) -> Router {
    let metrics = Router::new().route("/metrics", get(scrape)).with_state(scraper.clone());
    readiness_router(readiness).merge(stats_router(scraper)).merge(metrics)
}

/// Port 15021: `GET /healthz/ready` alone.
pub fn readiness_router(readiness: Readiness) -> Router {
    Router::new().route("/healthz/ready", get(ready)).with_state(readiness)
}

/// Port 15090: `GET /stats/prometheus` alone.
pub fn stats_router(scraper: Scraper) -> Router {
    Router::new().route("/stats/prometheus", get(scrape)).with_state(scraper)
}

async fn scrape(State(scraper): State<Scraper>, query: Query, request: Parts) -> Response {
    scraper.scrape(&query, &request).await
}

pub(super) async fn ready(State(readiness): State<Readiness>) -> Response {
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    sentence(status, readiness.state().as_str())
}
