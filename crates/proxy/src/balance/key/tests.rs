//! What is hashed, and which cookies are issued.

use std::time::Duration;

use outrigger_model::HeaderName;

use super::super::testing::cookie;
use super::*;

fn key_of(key: &HashKey, query: Option<&str>, fields: &[(&str, &str)], peer: &str) -> Key {
    let headers: Vec<httparse::Header<'_>> =
        fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
    let request = RequestView {
        method: b"GET",
        scheme: "http",
        authority: b"a",
        path: b"/",
        query: query.map(str::as_bytes),
        headers: &headers,
        peer: peer.parse().unwrap(),
    };
    hash_key(key, &request, 7)
}

/// `expected` is the text that is hashed.
#[track_caller]
fn check(key: &HashKey, query: Option<&str>, fields: &[(&str, &str)], expected: Option<&str>) {
    let found = key_of(key, query, fields, "10.0.0.1");
    let expected = expected.map_or(Key::None, |text| Key::Hash(xxh64(text.as_bytes(), 0)));
    assert_eq!(found, expected, "{key:?} of {query:?} and {fields:?}");
}

/// The values that Envoy's own tests state.
#[test]
fn hashes_are_those_of_envoy() {
    assert_eq!(xxh64(b"", 0), 17_241_709_254_077_376_921);
    assert_eq!(xxh64(b"foo", 0), 3_728_699_739_546_630_719);
    assert_eq!(xxh64(b"lyft", 0), 4_400_747_396_090_729_504);
    assert_eq!(chained(&[b"foo", b"bar"]), 17_745_830_980_996_999_794);
}

#[test]
fn header() {
    let key = HashKey::Header(HeaderName::parse("x-user").unwrap());
    check(&key, None, &[("X-User", "ann")], Some("ann"));
    check(&key, None, &[("x-user", "")], Some(""));
    check(&key, None, &[("x-users", "ann")], None);
    for fields in [[("x-user", "b"), ("y", "z"), ("X-User", "a")], [("x-user", "a"), ("x-user", "b"), ("y", "z")]] {
        assert_eq!(key_of(&key, None, &fields, "10.0.0.1"), Key::Hash(chained(&[b"a", b"b"])), "in any order");
    }
}

#[test]
fn query_parameter() {
    let key = HashKey::Query("user".into());
    check(&key, Some("a=b&user=ann&user=bob"), &[], Some("ann"));
    check(&key, Some("user=%61nn"), &[], Some("ann"));
    check(&key, Some("user"), &[], Some(""));
    check(&key, Some("users=ann"), &[], None);
    check(&key, None, &[], None);
}

#[test]
fn source_address() {
    let hash = |peer| key_of(&HashKey::SourceIp, None, &[], peer);
    assert_eq!(hash("10.1.2.3"), Key::Hash(xxh64(b"10.1.2.3", 0)));
    assert_eq!(hash("::ffff:10.1.2.3"), hash("10.1.2.3"), "one client is one client on a dual-stack socket");
    assert_eq!(hash("2001:db8::1"), Key::Hash(xxh64(b"2001:db8::1", 0)));
    let longest = "2001:db80:1111:2222:3333:4444:5555:6666";
    assert_eq!(hash(longest), Key::Hash(xxh64(longest.as_bytes(), 0)));
}

#[test]
fn a_cookie_that_was_sent() {
    for ttl in [None, Some(Duration::ZERO)] {
        let key = HashKey::Cookie(cookie(ttl));
        check(&key, None, &[("Cookie", "sticky=abc")], Some("abc"));
        check(&key, None, &[("cookie", "a=b; sticky=\"abc\" ; c=d")], Some("abc"));
        check(&key, None, &[("cookie", "a=b"), ("cookie", "sticky=a=b")], Some("a=b"));
        check(&key, None, &[("cookie", "sticky=\"")], Some("\""));
    }
}

#[test]
fn a_cookie_that_was_not_sent_is_issued_if_it_has_a_lifetime() {
    let missing: [&[(&str, &str)]; 4] =
        [&[], &[("cookie", "sticky=")], &[("cookie", "Sticky=a; xsticky=b")], &[("cookie", "sticky")]];
    for fields in missing {
        check(&HashKey::Cookie(cookie(None)), None, fields, None);
        let issued = key_of(&HashKey::Cookie(cookie(Some(Duration::ZERO))), None, fields, "10.0.0.1");
        assert!(matches!(issued, Key::Issue { .. }), "{fields:?}");
    }
}

#[track_caller]
fn check_issued(cookie: CookieKey, expected: &str) {
    let key = key_of(&HashKey::Cookie(cookie), None, &[], "10.0.0.1");
    let Key::Issue { hash, set_cookie } = key else { panic!("{key:?} is no new cookie") };
    let text = String::from_utf8(set_cookie).unwrap();
    let value = text.strip_prefix("sticky=\"").and_then(|rest| rest.get(..16)).expect("16 digits");
    assert_eq!(text.replace(value, "V"), expected);
    assert_eq!(hash, xxh64(value.as_bytes(), 0), "the next request comes to the same endpoint");
}

#[test]
fn what_is_issued() {
    check_issued(cookie(Some(Duration::ZERO)), "sticky=\"V\"; Path=/; HttpOnly");
    check_issued(cookie(Some(Duration::from_secs(90))), "sticky=\"V\"; Max-Age=90; Path=/; HttpOnly");
    let attributes = vec![("SameSite".into(), "Strict".into()), ("Secure".into(), "".into())];
    let cookie = CookieKey { path: "".into(), attributes, ..cookie(Some(Duration::ZERO)) };
    check_issued(cookie, "sticky=\"V\"; SameSite=Strict; Secure; HttpOnly");
}

#[test]
fn requests_of_one_connection_get_the_same_cookie() {
    let key = HashKey::Cookie(cookie(Some(Duration::ZERO)));
    assert_eq!(key_of(&key, None, &[], "10.0.0.1"), key_of(&key, None, &[], "10.0.0.2"));
    let request = RequestView {
        method: b"GET",
        scheme: "http",
        authority: b"a",
        path: b"/",
        query: None,
        headers: &[],
        peer: "10.0.0.1".parse().unwrap(),
    };
    assert_ne!(hash_key(&key, &request, 1), hash_key(&key, &request, 2));
}
