//! Host names of listeners and routes: where they meet, and which listener a host belongs to.
//!
//! `*` stands for every host: a listener or route without host names.

use std::sync::Arc;

use crate::hosts::covers;

/// Every host.
pub(super) const ANY: &str = "*";

/// The hosts that both of two patterns take in: one of them, as patterns are suffixes.
pub(super) fn intersect(a: &Arc<str>, b: &Arc<str>) -> Option<Arc<str>> {
    if covers(a, b) {
        Some(b.clone())
    } else if covers(b, a) {
        Some(a.clone())
    } else {
        None
    }
}

/// The patterns that take in all of `pattern`, itself first, then from the most specific to `*`.
pub(super) fn wider(pattern: &str) -> impl Iterator<Item = String> {
    let mut next = Some(pattern.to_owned());
    std::iter::from_fn(move || {
        let current = next.take()?;
        let name = current.strip_prefix("*.").unwrap_or(&current);
        next = match name.split_once('.') {
            _ if current == ANY => None,
            Some((_, parent)) => Some(format!("*.{parent}")),
            None => Some(ANY.to_owned()),
        };
        Some(current)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_patterns_go_from_near_to_far() {
        let of = |pattern: &str| wider(pattern).collect::<Vec<_>>().join(" ");
        assert_eq!(of("a.b.com"), "a.b.com *.b.com *.com *");
        assert_eq!(of("*.b.com"), "*.b.com *.com *");
        assert_eq!(of("localhost"), "localhost *");
        assert_eq!(of("*.com"), "*.com *");
        assert_eq!(of("*"), "*");
    }

    #[test]
    fn each_wider_pattern_takes_in_the_first_and_nothing_else_does() {
        let all = ["a.b.com", "*.b.com", "*.com", "*", "b.com", "*.a.b.com", "x.a.b.com", "com"];
        for host in all {
            let wide: Vec<String> = wider(host).collect();
            for pattern in all {
                assert_eq!(wide.iter().any(|w| w == pattern), covers(pattern, host), "{pattern} {host}");
            }
        }
    }

    #[test]
    fn two_patterns_meet_in_the_narrower() {
        let meet = |a: &str, b: &str| intersect(&a.into(), &b.into()).map(|m| m.to_string());
        assert_eq!(meet("*.com", "*.example.com").as_deref(), Some("*.example.com"));
        assert_eq!(meet("*", "*").as_deref(), Some("*"));
        assert_eq!(meet("*.example.com", "sub.domain.example.com").as_deref(), Some("sub.domain.example.com"));
        assert_eq!(meet("example.com", "*.example.com"), None);
        assert_eq!(meet("a.com", "b.com"), None);
    }
}
