//! A request meets the first route that matches, however it is looked up.

use outrigger_model::{HeaderMatch, HeaderName, RouteMatch, StringMatch, ValueMatch};
use proptest::prelude::*;

use super::super::testing::{pattern, route, virtual_host, with_request};
use super::*;

/// Routes written as `=path`, `^path`, `/segments`, `~path`, `*`; with `!` behind for a path without case, and `@` behind for a
/// condition that the test's requests meet only with the header `x`.
fn host(routes: &[String]) -> Host {
    let routes = routes.iter().map(|text| route(text, matches(text), &[1])).collect();
    Host::compile(&virtual_host("*", routes), None)
}

fn matches(text: &str) -> RouteMatch {
    let path_ignore_case = text.contains('!');
    let headers = text.contains('@').then(|| HeaderMatch {
        name: HeaderName::parse("x").unwrap(),
        value: ValueMatch::Present,
        invert: false,
    });
    let path = text.trim_end_matches(['!', '@']);
    let path = match path.split_at(1) {
        ("=", path) => PathMatch::Exact(path.into()),
        ("^", path) => PathMatch::Prefix(path.into()),
        ("~", path) => PathMatch::Regex(pattern(path)),
        ("/", _) => PathMatch::Segments(path.trim_end_matches('/').into()),
        _ => PathMatch::Any,
    };
    RouteMatch { path, path_ignore_case, headers: headers.into_iter().collect(), ..RouteMatch::default() }
}

/// Checks the routes as they are, and once more behind so many that match nothing that they are looked up in the index.
#[track_caller]
fn check(routes: &[&str], path: &str, expected: Option<&str>) {
    for filler in [0, 20] {
        let filler = (0..filler).map(|n| format!("=/filler/{n}"));
        let host = host(&filler.chain(routes.iter().map(|text| (*text).to_owned())).collect::<Vec<_>>());
        let line = format!("GET http://a{path}");
        let found = with_request(&line, &[], |request| host.find(request).map(|route| &*route.route.name));
        assert_eq!(found, expected, "{path} among {routes:?}, {} routes in all", host.routes.len());
    }
}

/// The position of the route that a request meets.
fn found(host: &Host, request: &RequestView<'_>) -> Option<usize> {
    let id = host.find(request)?.id;
    host.routes.iter().position(|route| route.id == id)
}

#[test]
fn the_first_match_wins() {
    check(&["^/", "=/a"], "/a", Some("^/"));
    check(&["=/a", "^/"], "/a", Some("=/a"));
    check(&["=/a", "^/"], "/b", Some("^/"));
    check(&["^/a/b", "^/a", "*"], "/a/b/c", Some("^/a/b"));
    check(&["^/a", "^/a/b"], "/a/b/c", Some("^/a"));
    check(&["~/[0-9]+", "=/7"], "/7", Some("~/[0-9]+"));
    check(&["=/7", "~/[0-9]+"], "/7", Some("=/7"));
    check(&["*", "=/7"], "/7", Some("*"));
    check(&["=/a", "=/a!"], "/A", Some("=/a!"));
    check(&["^/a@", "=/a@", "*"], "/a", Some("*"));
    check(&["=/a"], "/b", None);
    check(&[], "/", None);
}

#[test]
fn a_prefix_is_a_matter_of_characters() {
    check(&["^/foo"], "/foobar", Some("^/foo"));
    check(&["^/foo"], "/foo", Some("^/foo"));
    check(&["^/foo"], "/fo", None);
    check(&["^/foo"], "/FOO", None);
    check(&["^/foo!"], "/FOObar", Some("^/foo!"));
    check(&["^"], "/x", Some("^"));
}

#[test]
fn a_prefix_of_segments_ends_where_a_segment_ends() {
    for path in ["/foo", "/foo/", "/foo/bar", "/foo//", "/foo?a=b"] {
        check(&["/foo"], path, Some("/foo"));
    }
    for path in ["/foobar", "/fo", "/", "/FOO", "/Foo/bar", "/bar/foo"] {
        check(&["/foo"], path, None);
    }
    check(&["/foo!"], "/FOO/bar", Some("/foo!"));
    check(&["/foo!"], "/FOObar", None);
    check(&["/foo/bar", "/foo"], "/foo/bar", Some("/foo/bar"));
    check(&["/foo/bar", "/foo"], "/foo/barista", Some("/foo"));
    check(&["/foo", "^/foo"], "/foobar", Some("^/foo"));
    check(&["^/foo", "/foo"], "/foo/bar", Some("^/foo"));
    check(&["=/foo", "/foo"], "/foo", Some("=/foo"));
    check(&["=/foo", "/foo"], "/foo/", Some("/foo"));
    // Of `/`, nothing is left without its trailing slash: it takes everything, `OPTIONS *` too.
    for path in ["/", "/x", "//", ""] {
        check(&["/"], path, Some("/"));
    }
}

#[test]
fn an_exact_path_is_the_whole_path() {
    check(&["=/foo"], "/foo/", None);
    check(&["=/foo"], "/foo?a=b", Some("=/foo"));
    check(&["=/foo!"], "/Foo", Some("=/foo!"));
    check(&["~/fo+"], "/foooX", None);
}

proptest! {
    /// The index gives what reading from top to bottom gives.
    #[test]
    fn the_index_finds_what_a_scan_finds(
        routes in prop::collection::vec("[=^][/aAb]{0,4}[!]?[@]?|/[/aAb]{0,3}[!]?[@]?|~/[ab]\\*|\\*@?", 9..60),
        paths in prop::collection::vec("/[/aAb]{0,5}", 1..20),
        has_header in any::<bool>(),
    ) {
        let host = host(&routes);
        prop_assert!(host.index.is_some());
        let fields: &[(&str, &str)] = if has_header { &[("X", "1")] } else { &[] };
        for path in paths {
            with_request(&format!("GET http://a{path}"), fields, |request| {
                let scanned = host.routes.iter().map(|route| &route.route.matches).position(|matches| {
                    matching::path_matches(matches, request.path) && matching::others_match(matches, request)
                });
                prop_assert_eq!(found(&host, request), scanned, "{} among {:?}", path, routes);
                Ok(())
            })?;
        }
    }
}

#[test]
fn no_two_compiled_routes_share_an_id() {
    let routes = ["*", "=/a", "^/b"].map(str::to_owned);
    let ids: std::collections::HashSet<u64> =
        [host(&routes), host(&routes)].iter().flat_map(|host| &host.routes).map(|route| route.id).collect();
    assert_eq!(ids.len(), 6);
}

/// How many routes are judged by their other conditions, and how many texts are looked up.
#[test]
fn ten_thousand_routes_cost_no_more_than_their_shapes() {
    let texts: Vec<String> = (0..10_000)
        .map(|n| match n % 4 {
            0 => format!("=/exact/{n:05}"),
            1 => format!("^/prefix/{n:05}"),
            2 => format!("/segments/{n:05}"),
            _ => format!("^/any/{n:05}/case!"),
        })
        .collect();
    let host = host(&texts);
    let index = host.index.as_ref().unwrap();
    for (path, expected) in
        [("/exact/09996", 9996), ("/prefix/09997/x", 9997), ("/segments/09998/x", 9998), ("/ANY/09999/CASE", 9999)]
    {
        let mut judged = Vec::new();
        index.visit(path.as_bytes(), |list, _| judged.extend_from_slice(list));
        assert_eq!(judged, [expected], "{path}");
        let found = with_request(&format!("GET http://a{path}"), &[], |request| found(&host, request));
        assert_eq!(found, Some(expected as usize), "{path}");
    }
    let regex = RouteMatch { path: PathMatch::Regex(pattern("/.*")), ..RouteMatch::default() };
    assert_eq!(index.residual.len(), 0, "{:?} would be the first of the residual", regex.path);
}

#[test]
fn conditions_on_other_things_hold_too() {
    let matches = RouteMatch { method: Some(StringMatch::Exact("POST".into())), ..RouteMatch::default() };
    let host = Host::compile(
        &virtual_host("*", vec![route("post", matches, &[1]), route("any", RouteMatch::default(), &[1])]),
        None,
    );
    let name = |line| with_request(line, &[], |request| host.find(request).map(|route| route.route.name.clone()));
    assert_eq!(name("POST http://a/").as_deref(), Some("post"));
    assert_eq!(name("post http://a/").as_deref(), Some("any"));
}
