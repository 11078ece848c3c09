//! What is sent for a plan, before a version of HTTP puts it into its frames.

use super::answer::Answer;
use super::body::Body;
use super::head::{Head, Received};
use super::instructions::{Abort, Plan};
use super::listen::{Identity, Listen};

/// An answer, ready to be sent.
#[derive(Debug)]
pub(super) struct Reply {
    /// Status.
    pub(super) status: u16,
    /// Its fields, but for those that frame it.
    pub(super) fields: Vec<(String, String)>,
    /// What `content-length` says. RFC 9110 §8.6: there is none in a 204; in a 304 it would be that of another answer.
    pub(super) length: Option<u64>,
    /// The part of the body that is sent.
    pub(super) body: Body,
    /// Fields after it.
    pub(super) trailers: Vec<(String, String)>,
    /// Whether the answer is broken off after the body.
    pub(super) is_cut: bool,
}

impl Reply {
    /// The answer that was asked for.
    pub(super) fn planned(plan: Plan, head: &Head, received: &Received, listen: &Listen) -> Self {
        let (body, fields) = match plan.body_bytes {
            Some(bytes) => (Body::Pattern(bytes), fields(&plan, listen)),
            None => (Body::Text(Answer::new(head, received, listen).to_bytes().into()), plan.fields),
        };
        let mut reply = Self::new(plan.status, fields, body, head);
        reply.trailers = plan.trailers;
        if plan.abort == Some(Abort::AfterHeaders) {
            let half = reply.body.length() / 2;
            reply.body = reply.body.cut(half);
            reply.is_cut = true;
        }
        reply
    }

    /// The answer to what is wrong.
    pub(super) fn refusal(status: u16, problem: &str, head: &Head) -> Self {
        let body = serde_json::json!({ "error": problem }).to_string() + "\n";
        Self::new(status, Vec::new(), Body::Text(body.into()), head)
    }

    fn new(status: u16, mut fields: Vec<(String, String)>, body: Body, head: &Head) -> Self {
        let has_body = !matches!(status, 204 | 205 | 304);
        if has_body && !fields.iter().any(|(name, _)| name == "content-type") {
            fields.push(("content-type".to_owned(), body.content_type().to_owned()));
        }
        let length = Some(if has_body { body.length() } else { 0 }).filter(|_| !matches!(status, 204 | 304));
        let body = if has_body && head.method != "HEAD" { body } else { body.cut(0) };
        Self { status, fields, length, body, trailers: Vec::new(), is_cut: false }
    }
}

/// The fields that were asked for, and four that tell who answered where no JSON does.
pub(super) fn fields(plan: &Plan, listen: &Listen) -> Vec<(String, String)> {
    let Identity { service, namespace, pod, version, .. } = &listen.identity;
    let who = [("service", service), ("namespace", namespace), ("pod", pod), ("version", version)];
    // Names come from a command line or a document, which may say anything.
    let who = who.map(|(name, value)| (format!("x-echo-{name}"), value.replace(char::is_control, " ")));
    plan.fields.iter().cloned().chain(who).collect()
}

/// The `Date` of now.
pub(super) fn date() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}
