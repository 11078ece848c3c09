//! The admin interface (port 15000): Envoy's paths and shapes, our `/api/v1`, and whatever pages the caller adds.
//!
//! Reading is `GET`; what changes something is `POST` and answers `GET` with 405; under `/api/v1` it needs a token. What only
//! the proxy knows comes through [`AdminState`].

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value as Json, json};

use super::control::{self, Control, ControlToken, Refusal, denied, verb};
use super::guard::{Hosts, guard};
use super::hystrix::{Streams, stream};
use super::logging::LogChange;
use super::metrics::ready;
use super::query::Query;
use super::reply::{HTML, JSON, TEXT, large, large_json, reply, sentence};
use super::scrape::Scraper;
use crate::Server;
use crate::expose::{stats_json, stats_text};
use crate::process::Memory;

/// What the admin interface shows of a proxy. Called on the control thread; must not block. Secrets must be redacted by
/// whoever builds the documents.
pub trait AdminState: Send + Sync {
    /// `GET /clusters`: Envoy's lines `cluster::address::key::value`.
    fn clusters_text(&self) -> String;
    /// `GET /clusters?format=json`: Envoy's `admin.v3.Clusters`.
    fn clusters_json(&self) -> Json;
    /// `GET /listeners?format=json`: Envoy's `admin.v3.Listeners`.
    fn listeners_json(&self) -> Json;
    /// `GET /listeners`: lines `name::address`.
    fn listeners_text(&self) -> String;
    /// `GET /config_dump`: Envoy's `admin.v3.ConfigDump`. `Err` says which parameter cannot be served, and is a 400.
    fn config_dump(&self, query: &Query) -> Result<Json, String>;
    /// `GET /api/v1/PATH`; `None` is a path that is not known.
    fn api(&self, path: &str, query: &Query) -> Option<Result<Json, Refusal>>;
    /// Does what an operator asks for by hand, and answers what is in force then. Whoever asks has shown the token.
    fn control(&self, control: &Control) -> Result<Json, Refusal>;
    /// `GET /hystrix.stream`: one `HystrixCommand` for each circuit, of one proxy or of all.
    fn hystrix(&self, proxy: Option<&str>) -> Result<Vec<Json>, Refusal>;
    /// `POST /logging`: makes the change and answers what is in force, or why it cannot be made (400).
    fn logging(&self, change: &LogChange) -> Result<String, String>;
    /// `POST /quitquitquit`: begins to stop and answers `true`; `false` where that is not enabled.
    fn quit(&self) -> bool {
        false
    }
    /// The page at `/`; Envoy's list of links without one.
    fn home(&self) -> Option<Cow<'static, str>> {
        None
    }
    /// Further members of `GET /server_info`, e.g. `node` and `command_line_options`.
    fn server_info(&self) -> Json {
        json!({})
    }
}

/// The admin interface of one proxy.
#[derive(Clone)]
pub struct Admin {
    /// What the proxy knows.
    pub state: Arc<dyn AdminState>,
    /// The process.
    pub server: Server,
    /// Its metrics.
    pub scraper: Scraper,
    /// What `POST /api/v1/…` asks for; without it nothing there can be changed.
    pub token: Option<ControlToken>,
}

/// Path, method and meaning, as `/` and `/help` list them.
const PATHS: [(&str, &str, &str); 15] = [
    ("/", "GET", "this list"),
    ("/api/v1/", "GET", "state as JSON: circuits, status, services, routes, diagnostics, proxies"),
    ("/api/v1/circuits/NAME/force", "POST", "?state=open|closed&ttl=60s, with a token; /release ends it"),
    ("/api/v1/endpoints/drain", "POST", "?cluster=&endpoint=&ttl=60s, with a token; /restore, /reset-ejection"),
    ("/clusters", "GET", "clusters and endpoints; ?format=json"),
    ("/config_dump", "GET", "the configuration in force"),
    ("/help", "GET", "this list as text"),
    ("/hystrix.stream", "GET", "circuits for a Hystrix dashboard; ?delay=MS"),
    ("/listeners", "GET", "listeners and their addresses; ?format=json"),
    ("/logging", "POST", "show or change log levels; ?level=debug, ?paths=module:level"),
    ("/memory", "GET", "memory of the process"),
    ("/quitquitquit", "POST", "stop, where enabled"),
    ("/ready", "GET", "200 when traffic may come, else 503"),
    ("/server_info", "GET", "version, state and uptime"),
    ("/stats", "GET", "metrics by Envoy's names; ?filter=REGEX, ?usedonly, ?format=json|prometheus"),
];

impl Admin {
    /// The routes, guarded for a listener bound to `bound`. `extra` answers what is not ours, under the same guard.
    pub fn router(self, bound: IpAddr, extra: Router) -> Router {
        let readiness = self.server.readiness.clone();
        let streams = Streams::new(self.state.clone());
        Router::new()
            .route("/", get(home))
            .route("/help", get(help))
            .route("/server_info", get(server_info))
            .route("/memory", get(memory))
            .route("/stats", get(stats))
            .route("/stats/prometheus", get(stats_prometheus))
            .route("/clusters", get(clusters))
            .route("/listeners", get(listeners))
            .route("/config_dump", get(config_dump))
            .route("/api/v1/{*path}", get(api).post(change))
            .route("/logging", post(logging))
            .route("/quitquitquit", post(quit))
            .with_state(self)
            .route("/ready", get(ready).with_state(readiness))
            .route("/hystrix.stream", get(stream).with_state(streams))
            .fallback_service(extra)
            .layer(axum::middleware::from_fn_with_state(Hosts::new(bound), guard))
    }
}

async fn home(State(admin): State<Admin>) -> Response {
    let page = admin.state.home().unwrap_or_else(|| {
        let mut page = String::from("<!doctype html><meta charset=utf-8><title>Outrigger admin</title><table>");
        for (path, method, meaning) in PATHS {
            let name = if method == "GET" { format!("<a href='{path}'>{path}</a>") } else { path.into() };
            write!(page, "<tr><td>{method}<td>{name}<td>{meaning}").expect("a String takes every write");
        }
        Cow::Owned(page + "</table>\n")
    });
    reply(StatusCode::OK, HTML, page.into_owned())
}

async fn help() -> Response {
    let mut text = String::from("admin commands are:\n");
    for (path, method, meaning) in PATHS {
        let method = if method == "POST" { " (POST)" } else { "" };
        writeln!(text, "  {path}{method}: {meaning}").expect("a String takes every write");
    }
    reply(StatusCode::OK, TEXT, text)
}

async fn server_info(State(admin): State<Admin>) -> Response {
    let uptime = format!("{}s", admin.server.uptime().as_secs());
    let mut info = json!({
        "version": format!("{}/{}/outrigger", admin.server.build.revision, admin.server.build.version),
        "state": admin.server.readiness.state().as_str(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": {"concurrency": admin.server.concurrency},
        "node": {},
    });
    if let (Some(info), Json::Object(more)) = (info.as_object_mut(), admin.state.server_info()) {
        info.extend(more);
    }
    reply(StatusCode::OK, JSON, format!("{info:#}\n"))
}

async fn memory() -> Response {
    let memory = Memory::now();
    // Numbers of 64 bits are strings in the JSON form of protobuf. We have no page heap and no thread caches to tell
    // of.
    let body = json!({
        "allocated": memory.anonymous_bytes.to_string(),
        "heap_size": memory.data_bytes.to_string(),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": memory.resident_bytes.to_string(),
    });
    reply(StatusCode::OK, JSON, format!("{body:#}\n"))
}

async fn stats(State(admin): State<Admin>, query: Query, request: Parts) -> Response {
    let format = query.get("format").unwrap_or("text");
    if format == "prometheus" {
        return admin.scraper.scrape(&query, &request).await;
    }
    if !matches!(format, "text" | "json") {
        return bad_format(format, "text, json or prometheus");
    }
    let (selection, held) = match admin.scraper.prepare(&query, &request).await {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal,
    };
    let families = admin.scraper.select(&selection);
    match format {
        "json" => large_json(&stats_json(&families), held),
        _ => large(TEXT, stats_text(&families), held),
    }
}

async fn stats_prometheus(State(admin): State<Admin>, query: Query, request: Parts) -> Response {
    admin.scraper.scrape(&query, &request).await
}

async fn clusters(State(admin): State<Admin>, query: Query, request: Parts) -> Response {
    text_or_json(&admin, &query, &request, |s| s.clusters_text(), |s| s.clusters_json()).await
}

async fn listeners(State(admin): State<Admin>, query: Query, request: Parts) -> Response {
    text_or_json(&admin, &query, &request, |s| s.listeners_text(), |s| s.listeners_json()).await
}

async fn text_or_json(
    admin: &Admin,
    query: &Query,
    request: &Parts,
    text: fn(&dyn AdminState) -> String,
    json: fn(&dyn AdminState) -> Json,
) -> Response {
    let format = query.get("format").unwrap_or("text");
    if !matches!(format, "text" | "json") {
        return bad_format(format, "text or json");
    }
    let held = match admin.scraper.turn(request).await {
        Ok(held) => held,
        Err(refusal) => return refusal,
    };
    match format {
        "json" => large_json(&json(&*admin.state), held),
        _ => large(TEXT, text(&*admin.state), held),
    }
}

async fn config_dump(State(admin): State<Admin>, query: Query, request: Parts) -> Response {
    match admin.scraper.turn(&request).await {
        Ok(held) => match admin.state.config_dump(&query) {
            Ok(dump) => large_json(&dump, held),
            Err(text) => sentence(StatusCode::BAD_REQUEST, &text),
        },
        Err(refusal) => refusal,
    }
}

async fn api(State(admin): State<Admin>, query: Query, request: Parts) -> Response {
    let path = request.uri.path().strip_prefix("/api/v1/").unwrap_or_default();
    if verb(path).is_some() {
        return other_method("POST", "this changes something");
    }
    match admin.scraper.turn(&request).await {
        Ok(held) => match admin.state.api(path, &query) {
            Some(Ok(document)) => large_json(&document, held),
            Some(Err(refusal)) => refusal.response(),
            None => control::error(StatusCode::NOT_FOUND, &format!("/api/v1/{path} is not known")),
        },
        Err(refusal) => refusal,
    }
}

async fn change(State(admin): State<Admin>, query: Query, request: Parts) -> Response {
    let path = request.uri.path().strip_prefix("/api/v1/").unwrap_or_default();
    let Some(verb) = verb(path) else { return other_method("GET", "this can only be read") };
    if let Some(answer) = denied(admin.token.as_ref(), &request.headers) {
        return answer;
    }
    match Control::parse(verb, &query).map_err(Refusal::Bad).and_then(|control| admin.state.control(&control)) {
        Ok(document) => reply(StatusCode::OK, JSON, format!("{document:#}\n")),
        Err(refusal) => refusal.response(),
    }
}

fn other_method(allowed: &'static str, why: &str) -> Response {
    let mut response = control::error(StatusCode::METHOD_NOT_ALLOWED, &format!("{why}: use {allowed}"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

async fn logging(State(admin): State<Admin>, query: Query) -> Response {
    match LogChange::parse(&query).and_then(|change| admin.state.logging(&change)) {
        Ok(text) => sentence(StatusCode::OK, text.trim_end()),
        Err(text) => sentence(StatusCode::BAD_REQUEST, &text),
    }
}

async fn quit(State(admin): State<Admin>) -> Response {
    if admin.state.quit() {
        return sentence(StatusCode::OK, "OK");
    }
    sentence(StatusCode::FORBIDDEN, "Stopping through the admin interface is not enabled.")
}

fn bad_format(found: &str, allowed: &str) -> Response {
    sentence(StatusCode::BAD_REQUEST, &format!("format is \"{}\"; it must be {allowed}", found.escape_default()))
}
