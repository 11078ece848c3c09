//! What the resources of Istio, SMI and Kubernetes mean, judged from the outside: manifests in, requests sent, and what
//! came back, what the backends saw and what was counted.
//!
//! Every case runs the built program on a folder of its own, with echo servers for its endpoints. The cases are data, in
//! the little language of `site.rs` (manifests) and `judge.rs` (requests); a case that fails says which line is wrong
//! and what happened instead, and the others still run.

mod balance;
mod corners;
mod filters;
mod hosts;
mod inputs;
mod judge;
mod matches;
mod pitfalls;
mod reactions;
mod scope;
mod site;
mod splits;

/// One world and what must happen in it.
struct Case {
    /// What is shown.
    name: &'static str,
    /// Flags beyond the usual ones.
    flags: &'static [&'static str],
    /// Manifests; lines that begin with `@` are short for longer ones.
    yaml: &'static str,
    /// Requests, one a line, and what must come of them.
    requests: &'static str,
}

#[test]
fn matches() {
    judge::all("matches", matches::CASES);
}

#[test]
fn reactions() {
    judge::all("reactions", reactions::CASES);
}

#[test]
fn filters() {
    judge::all("filters", filters::CASES);
}

#[test]
fn splits() {
    judge::all("splits", splits::CASES);
}

#[test]
fn hosts() {
    judge::all("hosts", hosts::CASES);
}

#[test]
fn scope() {
    judge::all("scope", scope::CASES);
}

#[test]
fn balance() {
    judge::all("balance", balance::CASES);
}

#[test]
fn inputs() {
    judge::all("inputs", inputs::CASES);
}

#[test]
fn pitfalls() {
    judge::all("pitfalls", pitfalls::CASES);
}

#[test]
fn corners() {
    judge::all("corners", corners::CASES);
}
