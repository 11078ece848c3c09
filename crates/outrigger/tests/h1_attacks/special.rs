//! Rows of the catalogue that are stories rather than bytes and an answer.

use std::sync::Arc;
use std::time::Duration;

use outrigger_testkit::{Backend, Client, How, Reply, Request, Response, response};

use crate::site::{DESCRIPTOR_SLACK, HOST, Site, mirror};

/// A GET of a target of a host.
fn get(host: &str, target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()
}

fn connect(site: &Site) -> Client {
    Client::connect(site.proxy).expect("the proxy accepts")
}

/// Every request after the trouble gets its own answer.
fn assert_untangled(site: &Site, host: &str) {
    for round in 0..4 {
        let target = format!("/after-{round}");
        let answer = connect(site).exchange(&get(host, &target)).expect("an answer");
        assert_eq!((answer.status, answer.text()), (200, target));
    }
}

/// H1-28: the backend answers before the body that it invited; what the client does then must not shift messages.
#[test]
fn an_answer_before_the_body_does_not_shift_messages() {
    let backend = Backend::start_early(mirror);
    let site = Site::start(&[("early", backend.address())], "");
    for sends_body in [true, false] {
        let mut client = connect(&site);
        let head = "POST /early HTTP/1.1\r\nhost: early.default\r\nexpect: 100-continue\r\ncontent-length: 45\r\n\r\n";
        client.send(head.as_bytes()).expect("sent");
        let answer = client.read_response("POST").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "/early"));
        if sends_body {
            let _ = client.send(b"GET /smuggled HTTP/1.1\r\nhost: early.default\r\n\r\n");
        } else {
            client.reset();
        }
        assert_untangled(&site, "early.default");
    }
    let smuggled = backend.seen().into_iter().find(|request| request.target == "/smuggled");
    assert_eq!(smuggled, None, "the body became a request");
}

/// H1-30: an early refusal reaches a client that is still sending.
#[test]
fn an_early_answer_reaches_a_sender() {
    let refuse = |request: &Request| match request.method.as_str() {
        "POST" => Reply::Close(response(413, &[], b"too much")),
        _ => mirror(request),
    };
    let backend = Backend::start_early(refuse);
    let site = Site::start(&[("early", backend.address())], "");
    for bytes in [10, 100_000, 4_000_000] {
        let mut client = connect(&site);
        let head = format!("POST / HTTP/1.1\r\nhost: early.default\r\ncontent-length: {bytes}\r\n\r\n");
        // The first half goes out while nothing is known; the proxy may stop reading after the answer.
        client.send(&[head.as_bytes(), &vec![b'x'; bytes / 2]].concat()).expect("sent");
        let answer = client.read_response("POST").unwrap_or_else(|error| panic!("{bytes} bytes: {error}"));
        assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
        let _ = client.send(&vec![b'x'; bytes - bytes / 2]);
        assert_untangled(&site, "early.default");
    }
}

/// H1-34: CONNECT dials nobody that configuration does not let it reach.
#[test]
fn connect_dials_nobody() {
    let victim = Backend::start(mirror);
    let only = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: default}\n\
                spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ['*/*']}]}\n";
    let site = Site::start(&[], only);
    let port = victim.address().port();
    for authority in [
        victim.address().to_string(),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        "[::1]:22".into(),
        "a:80".into(),
    ] {
        let mut client = connect(&site);
        let request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
        client.send(request.as_bytes()).expect("sent");
        let answer = client.read_response("CONNECT").expect("an answer");
        assert_eq!(answer.status, 502, "{authority}: {}", answer.text());
        assert!(answer.closes(), "{authority}");
    }
    assert_eq!(victim.connections(), 0);
}

/// H1-39: the path that chose the route is the path that is forwarded, also for a backend that reads it differently.
#[test]
fn route_and_backend_see_one_path() {
    let [public, admin, other] = ["public", "admin", "other"].map(|name| {
        Backend::start(move |request: &Request| {
            Reply::Keep(response(200, &[("x-route", name)], request.target.as_bytes()))
        })
    });
    let services = [("public", public.address()), ("admin", admin.address()), ("other", other.address())];
    let routes = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: paths, namespace: default}\n\
        spec:\n  hosts: [other]\n  http:\n  - match: [{uri: {prefix: /admin}}]\n    route: [{destination: {host: admin}}]\n  \
        - match: [{uri: {prefix: /pub}}]\n    route: [{destination: {host: public}}]\n  - route: [{destination: {host: \
        other}}]\n";
    let site = Site::start(&services, routes);
    let ask = |path: &str| connect(&site).exchange(&get("other.default", path)).expect("an answer");
    let route = |path: &str| {
        if path.starts_with("/admin") {
            "admin"
        } else if path.starts_with("/pub") {
            "public"
        } else {
            "other"
        }
    };
    for plain in ["/admin/x", "/pub/x", "/x"] {
        assert_eq!(ask(plain).fields.get("x-route"), Some(route(plain)), "{plain}: routes are in force");
    }
    let paths = [
        "/pub/../admin",
        "/pub/%2e%2e/admin",
        "/pub/%2E./admin",
        "/pub/./../admin",
        "/pub\\..\\admin",
        "//admin",
        "/admin;x",
        "/%61dmin",
        "/pub/%c0%ae%c0%ae/admin",
        "/./admin",
        "/x/../../admin",
        "/pub/..",
        "/a%00b",
        "/%",
        "/%zz",
        "/pub/..;/admin",
    ];
    let mut failures = Vec::new();
    for path in paths {
        let answer = ask(path);
        let (forwarded, taken) = (answer.text(), answer.fields.get("x-route").unwrap_or_default());
        let is_refusal = answer.status == 400;
        let agrees = answer.status == 200 && taken == route(&forwarded) && taken == route(&normalised(&forwarded));
        if path == "/a%00b" && !is_refusal {
            failures.push(format!("{path}: {} instead of 400", answer.status));
        } else if !is_refusal && !agrees {
            failures.push(format!("{path}: {} by route {taken:?} as {forwarded:?}", answer.status));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A path as a backend may read it: unreserved characters decoded, backslashes turned, dot segments removed.
fn normalised(path: &str) -> String {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let code = rest.strip_prefix('%').and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        match code.map(char::from).filter(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c)) {
            Some(character) => {
                decoded.push(character);
                rest = &rest[3..];
            }
            None => {
                decoded.push(if first == '\\' { '/' } else { first });
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.trim_start_matches('/').split('/') {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// H1-47: a thousand requests in one packet are answered in order; after an invalid one nothing more is.
#[test]
fn pipelines_keep_their_order() {
    let site = Site::start(&[], "");
    let mut client = connect(&site);
    let packet: Vec<u8> = (0..1_000).flat_map(|number| get(HOST, &format!("/{number}"))).collect();
    let sender = std::thread::scope(|scope| {
        // Answers may have to be read for the rest to be taken.
        let mut writer = client.writer().expect("a second handle");
        scope.spawn(move || std::io::Write::write_all(&mut writer, &packet));
        (0..1_000).map(|_| client.read_response("GET").expect("an answer").text()).collect::<Vec<_>>()
    });
    let wanted: Vec<_> = (0..1_000).map(|number| format!("/{number}")).collect();
    assert_eq!(sender, wanted);

    let mut client = connect(&site);
    let packet = [get(HOST, "/first"), b"GET /bad HTTP/1.1\r\n\r\n".to_vec(), get(HOST, "/smuggled-third")].concat();
    client.send(&packet).expect("sent");
    assert_eq!(client.read_response("GET").expect("an answer").text(), "/first");
    let refusal = client.read_response("GET").expect("a refusal");
    assert_eq!((refusal.status, refusal.closes()), (400, true));
    let ending = client.read_ending();
    assert!(ending.how != How::Open && ending.bytes.is_empty(), "{ending:?}");
    assert!(site.backend.seen().iter().all(|request| request.target != "/smuggled-third"));
}

/// H1-48: connections that say nothing cost nothing and end when their peer does.
#[test]
fn silence_is_survived() {
    let mut site = Site::start(&[], "");
    let before = site.descriptors();
    let mut silent: Vec<_> = (0..50).map(|_| connect(&site)).collect();
    site.assert_healthy();
    for (number, mut client) in silent.drain(..).enumerate() {
        match number % 3 {
            0 => client.reset(),
            1 => drop(client),
            _ => {
                client.finish().expect("half closed");
                assert_eq!(client.read_ending().how, How::Closed);
            }
        }
    }
    outrigger_testkit::eventually("their descriptors to be given back", || {
        (site.descriptors() <= before + DESCRIPTOR_SLACK).then_some(())
    });
    site.process.assert_well();
}

/// H1-51: a configured header value cannot split an answer: the object stays out and is named.
#[test]
fn configured_headers_cannot_split() {
    let split = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: split, namespace: default}\n\
        spec:\n  hosts: [app]\n  http:\n  - headers: {response: {add: {x-a: \"1\\r\\nset-cookie: evil=1\"}}}\n    route: \
        [{destination: {host: app}}]\n";
    let site = Site::start(&[], split);
    let diagnostics = site.process.ready()["diagnostics"].as_array().cloned().unwrap_or_default();
    let is_named = |d: &serde_json::Value| d["level"] == "error" && d["object"] == "VirtualService default/split";
    assert!(diagnostics.iter().any(is_named), "{diagnostics:?}");
    let answer: Response = connect(&site).exchange(&get(HOST, "/")).expect("an answer");
    assert_eq!(answer.fields.get("set-cookie"), None);
}

/// H1-30, the other half: after an early answer the proxy does not read on for ever.
#[test]
fn a_sender_that_never_stops_is_cut() {
    let backend = Backend::start_early(|_| Reply::Close(response(413, &[], b"too much")));
    let site = Arc::new(Site::start(&[("early", backend.address())], ""));
    let mut client = connect(&site);
    client.set_patience(Duration::from_secs(20));
    client.send(b"POST / HTTP/1.1\r\nhost: early.default\r\ntransfer-encoding: chunked\r\n\r\n").expect("sent");
    let block = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
    // 64 MiB is far more than any buffer between: the send must fail before that.
    let cut = (0..4096).any(|_| client.send(&block).is_err());
    assert!(cut, "64 MiB were taken after the answer");
}
