//! What may be asked for by hand, and by whom.

use super::*;

#[track_caller]
fn parsed(path: &str, pairs: &[(&str, &str)]) -> Result<Control, String> {
    let query = Query::from_iter(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Control::parse(verb(path).expect("a verb"), &query)
}

fn asks(action: ControlAction) -> Control {
    Control { proxy: None, by: "admin".to_owned(), action }
}

#[test]
fn requests_are_read_whole() {
    let forced = ControlAction::Force { circuit: "a|b".into(), is_open: true, ttl: Duration::from_secs(60) };
    let pairs = [("state", "open"), ("ttl", "60s")];
    assert_eq!(parsed("circuits/a%7Cb/force", &pairs), Ok(asks(forced.clone())));
    assert_eq!(parsed("circuits/a|b/force", &pairs), Ok(asks(forced.clone())));
    let pairs = [("circuit", "a|b"), ("state", "open"), ("ttl", "1m"), ("proxy", "shop/cart-0"), ("by", "ann")];
    let by_ann = Control { proxy: Some("shop/cart-0".into()), by: "ann".into(), action: forced };
    assert_eq!(parsed("circuits/force", &pairs), Ok(by_ann));
    assert_eq!(parsed("circuits/a/release", &[]), Ok(asks(ControlAction::Release { circuit: "a".into() })));
    let (cluster, endpoint) = ("c".to_owned(), "127.0.0.1:80".to_owned());
    let pairs = [("cluster", "c"), ("endpoint", "127.0.0.1:80")];
    let restore = ControlAction::Restore { cluster: cluster.clone(), endpoint: endpoint.clone() };
    assert_eq!(parsed("endpoints/restore", &pairs), Ok(asks(restore)));
    let reset = ControlAction::ResetEjection { cluster: cluster.clone(), endpoint: endpoint.clone() };
    assert_eq!(parsed("endpoints/reset-ejection", &pairs), Ok(asks(reset)));
    let drain = ControlAction::Drain { cluster, endpoint, ttl: Duration::from_secs(5400) };
    assert_eq!(parsed("endpoints/drain", &[pairs[0], pairs[1], ("ttl", "1h30m")]), Ok(asks(drain)));
}

#[test]
fn what_is_not_understood_changes_nothing_and_says_why() {
    for (path, pairs, says) in [
        ("circuits/a/force", &[("state", "open")][..], "ttl is missing"),
        ("circuits/a/force", &[("ttl", "60s")], "state is missing"),
        ("circuits/a/force", &[("state", "ajar"), ("ttl", "60s")], "it must be open or closed"),
        (
            "circuits/a/force",
            &[("state", "open"), ("tll", "60s")],
            "\"tll\" is not known; there are circuit, state, ttl",
        ),
        ("circuits/a/force", &[("state", "open"), ("state", "closed"), ("ttl", "1s")], "state comes twice"),
        ("circuits/a/release", &[("circuit", "b")], "stands in the path already"),
        ("circuits/%zz/release", &[], "percent-encoded"),
        ("circuits/%ff/release", &[], "percent-encoded"),
        ("circuits/a%7/release", &[], "percent-encoded"),
        ("circuits/release", &[], "circuit is missing"),
        ("endpoints/drain", &[("cluster", "c"), ("ttl", "1s")], "endpoint is missing"),
        ("endpoints/restore", &[("cluster", "c"), ("endpoint", "e"), ("ttl", "1s")], "\"ttl\" is not known"),
        ("circuits/a/release", &[("by", "a\nb")], "printable"),
    ] {
        let error = parsed(path, pairs).expect_err(path);
        assert!(error.contains(says), "{path}: {error}");
    }
    for path in ["circuits", "circuits/a/trip", "circuits//force", "endpoints", "endpoints/a/drain", "status"] {
        assert_eq!(verb(path), None, "{path}");
    }
}

#[test]
fn a_time_to_live_has_units_and_a_bound() {
    for (text, ms) in [("60s", 60_000), ("1h30m", 5_400_000), ("250ms", 250), ("1m1s1ms", 61_001), ("24h", 86_400_000)]
    {
        assert_eq!(parse_ttl(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in
        ["", "60", "s", "0s", "24h1ms", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"]
    {
        assert!(parse_ttl(text).is_err_and(|error| error.contains("at most 24h")), "{text}");
    }
}

#[test]
fn only_who_shows_the_token_may() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let status = |shown: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in shown {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        let token = ControlToken { file: file.clone() };
        denied(Some(&token), &headers).map(|response| response.status().as_u16())
    };
    assert!(ControlToken::in_file(&file).is_err_and(|error| error.contains("cannot be read")));
    assert_eq!(status(&["Bearer 0123456789abcdef"]), Some(403), "there is no file");
    for (text, is_good) in [("0123456789abcdef\n", true), ("short", false), ("0123456789 abcdef", false), ("", false)] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(ControlToken::in_file(&file).is_ok(), is_good, "{text}");
    }
    assert_eq!(status(&["Bearer "]), Some(403), "nothing is no token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    assert_eq!(status(&["Bearer 0123456789abcdef"]), None);
    assert_eq!(status(&["bearer  0123456789abcdef"]), None);
    for shown in ["Bearer 0123456789abcdeg", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "0123456789abcdef"] {
        assert_eq!(status(&[shown]), Some(401), "{shown}");
    }
    assert_eq!(status(&[]), Some(401));
    assert_eq!(status(&["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"]), Some(401), "which of them?");
    std::fs::write(&file, "another-secret-of-today").unwrap();
    assert_eq!(status(&["Bearer 0123456789abcdef"]), Some(401), "it was replaced");
    let refused = denied(None, &HeaderMap::new()).map(|response| response.status());
    assert_eq!(refused, Some(StatusCode::FORBIDDEN));
}
