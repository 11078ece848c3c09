//! Rules that can never be reached, found by looking at a VirtualService alone.

use std::collections::HashMap;

use outrigger_model::{Diagnostic, StringMatch};

use super::virtual_services::{Candidate, Rule};
use crate::codes;
use crate::kind::http_match::HttpMatch;

/// Reports rules behind a rule that takes everything, and matches that repeat an earlier one.
pub(crate) fn review(candidate: &Candidate, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = Seen::default();
    let mut taker: Option<&Rule> = None;
    for rule in &candidate.rules {
        if let Some(taker) = taker {
            let place = taker.object.meta.source.place(taker.pos);
            diagnostics.push(codes::UNREACHABLE_RULE.about(
                &rule.object.meta,
                rule.pos,
                format!("{} can never be reached: {} at {place} takes every request", label(rule), label(taker)),
                "move it in front of that rule, or give that rule a match",
            ));
            continue;
        }
        let blocks = &rule.route.matches;
        let repeated: Vec<bool> = blocks.iter().map(|block| seen.has(block)).collect();
        if !blocks.is_empty() && repeated.iter().all(|r| *r) {
            diagnostics.push(codes::UNREACHABLE_RULE.about(
                &rule.object.meta,
                rule.pos,
                format!("{} can never be reached: earlier rules have all of its matches", label(rule)),
                "remove it, or make its match different",
            ));
        } else {
            for (index, block) in blocks.iter().enumerate().filter(|(index, _)| repeated[*index]) {
                diagnostics.push(codes::INEFFECTIVE_MATCH.about(
                    &rule.object.meta,
                    block.pos,
                    format!("match[{index}] of {} repeats an earlier one and has no effect", label(rule)),
                    "",
                ));
            }
        }
        blocks.iter().for_each(|block| seen.add(block));
        let takes_all = |block: &HttpMatch| is_catch_all(block) && is_unconditional(block);
        if blocks.is_empty() || blocks.iter().any(|block| takes_all(block)) {
            taker = Some(rule);
        }
    }
}

fn label(rule: &Rule) -> String {
    match &rule.route.name {
        Some(name) => format!("http[{}] ({name})", rule.index),
        None => format!("http[{}]", rule.index),
    }
}

/// Matches seen so far, by what they ask of the path: a rule list may be thousands of paths long.
#[derive(Default)]
struct Seen<'m> {
    by_path: HashMap<Option<&'m str>, Vec<&'m HttpMatch>>,
}

impl<'m> Seen<'m> {
    fn has(&self, block: &HttpMatch) -> bool {
        self.by_path.get(&path(block)).is_some_and(|seen| seen.iter().any(|s| same(s, block)))
    }

    fn add(&mut self, block: &'m HttpMatch) {
        self.by_path.entry(path(block)).or_default().push(block);
    }
}

/// The text of the condition on the path.
fn path(block: &HttpMatch) -> Option<&str> {
    block.uri.as_ref().map(|uri| match uri {
        StringMatch::Exact(text) | StringMatch::Prefix(text) => &**text,
        StringMatch::Regex(pattern) => pattern.source(),
    })
}

/// Whether two matches differ in nothing but their names.
fn same(a: &HttpMatch, b: &HttpMatch) -> bool {
    let HttpMatch {
        name: _,
        uri,
        ignore_uri_case,
        scheme,
        method,
        authority,
        headers,
        query,
        port,
        source_labels,
        source_namespace,
        gateways,
    } = a;
    (uri, ignore_uri_case, scheme, method, authority)
        == (&b.uri, &b.ignore_uri_case, &b.scheme, &b.method, &b.authority)
        && (headers, query, port) == (&b.headers, &b.query, &b.port)
        && (source_labels, source_namespace, gateways) == (&b.source_labels, &b.source_namespace, &b.gateways)
}

/// Whether the conditions that a request is judged by take in every request.
pub(crate) fn is_catch_all(block: &HttpMatch) -> bool {
    let any_path = match &block.uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => matches!(&**prefix, "" | "/"),
        Some(StringMatch::Regex(pattern)) => pattern.source() == ".*",
        Some(StringMatch::Exact(_)) => false,
    };
    any_path
        && block.scheme.is_none()
        && block.method.is_none()
        && block.authority.is_none()
        && block.headers.is_empty()
        && block.query.is_empty()
}

/// Whether it holds for every client and port.
fn is_unconditional(block: &HttpMatch) -> bool {
    block.port.is_none()
        && block.source_labels.is_empty()
        && block.source_namespace.is_none()
        && block.gateways.is_empty()
}
