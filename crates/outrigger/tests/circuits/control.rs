//! A circuit and an endpoint in an operator's hand.

use std::process::Command;

use outrigger_testkit::{eventually, metrics};
use serde_json::json;

use super::{CART, CART_CLUSTER, Mesh, OUTRIGGER, TOKEN};

#[test]
fn a_circuit_is_forced_and_released() {
    let mesh = Mesh::start();
    assert_eq!(mesh.get("cart.shop", "").status, 200);
    let (status, forced) = mesh.post(&format!("/api/v1/circuits/{CART}/force?state=open&ttl=10m&by=ann"));
    assert_eq!((status, &forced["state"], &forced["override"]["by"]), (200, &json!("forced_open"), &json!("ann")));
    assert_eq!(forced["override"]["state"], "open");
    assert!(
        forced["override"]["seconds_left"].as_f64().is_some_and(|left| left > 590.0 && left <= 600.0),
        "{forced:#}"
    );
    assert_eq!(mesh.circuit(CART)["override"]["until"], forced["override"]["until"]);
    let refused = mesh.get("cart.shop", "");
    let status = refused.fields.get("proxy-status").unwrap_or_default().to_owned();
    assert_eq!(refused.status, 503);
    assert!(status.ends_with("; flag=UO"), "{status}");
    assert!(status.contains("details=\"circuit_open{cart.shop forced_open left="), "{status}");
    let told = mesh.process.address("metrics");
    let scrape = outrigger_testkit::Client::connect(told)
        .expect("it listens")
        .exchange(format!("GET /stats/prometheus HTTP/1.1\r\nhost: {told}\r\nconnection: close\r\n\r\n").as_bytes());
    let samples = metrics::parse(&scrape.expect("an answer").text());
    let labels = [("service", "cart"), ("state", "forced_open")];
    assert_eq!(metrics::sum(&samples, "outrigger_circuit_state", &labels), 1.0);
    // By the name as curl encodes it, and as a parameter.
    let (status, released) = mesh.post(&format!("/api/v1/circuits/{}/release", CART.replace(':', "%3A")));
    assert_eq!((status, &released["state"], &released["override"]), (200, &json!("closed"), &json!(null)));
    assert_eq!(mesh.get("cart.shop", "").status, 200);
    let (status, forced) = mesh.post(&format!("/api/v1/circuits/force?circuit={CART}&state=closed&ttl=1h"));
    assert_eq!((status, &forced["state"]), (200, &json!("disabled")));
    for _ in 0..8 {
        assert_eq!(mesh.get("cart.shop", "x-echo-status: 500\r\n").status, 500, "calls pass whatever becomes of them");
    }
    eventually("the log to say who did what", || {
        let said = mesh.process.stderr();
        assert!(!said.contains(TOKEN), "{said}");
        said.lines().any(|line| line.contains("a circuit is forced by hand") && line.contains("ann")).then_some(())
    });
}

#[test]
fn what_is_forced_ends_by_itself() {
    let mesh = Mesh::start();
    let (status, forced) = mesh.post(&format!("/api/v1/circuits/{CART}/force?state=open&ttl=300ms"));
    assert_eq!((status, &forced["state"]), (200, &json!("forced_open")));
    eventually("the circuit to be left to itself", || (mesh.get("cart.shop", "").status == 200).then_some(()));
    let circuit = mesh.circuit(CART);
    assert_eq!((&circuit["state"], &circuit["override"]), (&json!("closed"), &json!(null)));
    let (status, drained) =
        mesh.post(&format!("/api/v1/endpoints/drain?cluster={CART_CLUSTER}&endpoint=cart-0&ttl=300ms"));
    assert_eq!((status, &drained["endpoint"]), (200, &json!("cart-0")));
    eventually("the drain to end", || (mesh.get("cart.shop", "").status == 200).then_some(()));
    eventually("the drain to be told no more", || (mesh.document()["drains"] == json!([])).then_some(()));
}

#[test]
fn an_endpoint_is_drained_and_restored() {
    let mesh = Mesh::start();
    let flags = || {
        let text = mesh.ask("GET", "/clusters", "").text();
        let line = |line: &&str| line.starts_with(CART_CLUSTER) && line.contains("::health_flags::");
        text.lines().find(line).unwrap_or_default().rsplit("::").next().unwrap_or_default().to_owned()
    };
    assert_eq!(flags(), "healthy");
    let (status, drained) =
        mesh.post(&format!("/api/v1/endpoints/drain?cluster={CART_CLUSTER}&endpoint=cart-0&ttl=1h&by=joe"));
    assert_eq!((status, &drained["by"]), (200, &json!("joe")));
    assert_eq!(mesh.get("cart.shop", "").fields.get("proxy-status").map(|s| s.ends_with("flag=UH")), Some(true));
    assert_eq!(flags(), "/eds_status_draining");
    assert_eq!(mesh.document()["drains"][0]["by"], "joe");
    // The API takes an address, too.
    let address = drained["address"].as_str().expect("an address").to_owned();
    let restore = format!("/api/v1/endpoints/restore?cluster={CART_CLUSTER}&endpoint={address}");
    assert_eq!(mesh.post(&restore).1["was_drained"], true);
    assert_eq!((mesh.get("cart.shop", "").status, flags().as_str()), (200, "healthy"));
    assert_eq!(mesh.post(&restore).1["was_drained"], false);
}

#[test]
fn an_ejection_is_seen_and_ended() {
    let mesh = Mesh::start();
    let ejection = eventually("an ejection", || {
        mesh.get("stock.shop", "x-echo-status: 503\r\n");
        mesh.document()["ejections"].as_array().and_then(|all| all.first().cloned())
    });
    assert_eq!((&ejection["reason"], &ejection["multiplier"]), (&json!("consecutive_5xx"), &json!(1)));
    assert!(ejection["seconds_left"].as_f64().is_some_and(|left| left > 200.0), "{ejection:#}");
    let address = ejection["address"].as_str().expect("an address");
    assert!(mesh.stock.iter().any(|stock| stock.to_string() == address));
    let cluster = "outbound|80||stock.shop.svc.cluster.local";
    let text = mesh.ask("GET", "/clusters", "").text();
    for line in [
        format!("{cluster}::default_priority::max_connections::77\n"),
        format!("{cluster}::default_priority::max_requests::99\n"),
        format!("{cluster}::outlier::success_rate_average::-1\n"),
        format!("{cluster}::{address}::health_flags::/failed_outlier_check\n"),
        format!("{cluster}::{address}::success_rate::-1\n"),
    ] {
        assert!(text.contains(&line), "no {line} in {text}");
    }
    let clusters = mesh.ask("GET", "/clusters?format=json", "").text();
    let clusters: serde_json::Value = serde_json::from_str(&clusters).expect("JSON");
    let statuses = clusters["cluster_statuses"].as_array().expect("a list").iter();
    let stock = statuses.clone().find(|status| status["name"] == cluster).expect("the cluster");
    assert_eq!(stock["circuit_breakers"]["thresholds"][0]["max_connections"], 77);
    let failed = stock["host_statuses"].as_array().expect("a list").iter();
    assert_eq!(failed.filter(|host| host["health_status"]["failed_outlier_check"] == true).count(), 1);
    let reset = format!("/api/v1/endpoints/reset-ejection?cluster={cluster}&endpoint={address}");
    assert_eq!(mesh.post(&reset).1["was_ejected"], true);
    assert_eq!(mesh.document()["ejections"], json!([]));
}

#[test]
fn nothing_changes_without_the_token_and_by_get() {
    let mesh = Mesh::start();
    let force = format!("/api/v1/circuits/{CART}/force?state=open&ttl=60s");
    for (method, fields, status) in [
        ("POST", "content-length: 0\r\n".to_owned(), 401),
        ("POST", "authorization: Bearer wrong-wrong-wrong-wrong\r\ncontent-length: 0\r\n".to_owned(), 401),
        ("POST", format!("authorization: Basic {TOKEN}\r\ncontent-length: 0\r\n"), 401),
        ("POST", format!("origin: http://evil.example\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 0\r\n"), 403),
        ("GET", format!("authorization: Bearer {TOKEN}\r\n"), 405),
    ] {
        assert_eq!(mesh.ask(method, &force, &fields).status, status, "{method} {fields}");
    }
    let (status, told) = mesh.post("/api/v1/circuits/crat.shop.svc.cluster.local:80/force?state=open&ttl=60s");
    assert_eq!(
        (status, told["error"].as_str().map(|text| text.contains(&format!("nearest name is {CART}")))),
        (404, Some(true))
    );
    let (status, told) = mesh.post(&format!("{force}&proxy=shop/nobody"));
    assert_eq!((status, told["error"].as_str().map(|text| text.contains("no proxy"))), (404, Some(true)));
    assert_eq!(mesh.post(&format!("/api/v1/circuits/{CART}/force?state=open")).0, 400, "for ever is not to be had");
    assert_eq!(mesh.post(&format!("/api/v1/circuits/{CART}/force?state=open&ttl=25h")).0, 400);
    assert_eq!(mesh.circuit(CART)["state"], "closed", "nothing of this has changed anything");
    let without = Mesh::start_with(false);
    let (status, told) = without.post(&force);
    assert_eq!((status, told["error"].as_str().map(|text| text.contains("--admin-token-file"))), (403, Some(true)));
    assert_eq!(without.circuit(CART)["state"], "closed");
}

#[test]
fn the_command_line_says_and_does_the_same() {
    let mesh = Mesh::start();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let listed = mesh.command(&["circuits"]);
    let table = text(&listed.stdout);
    assert_eq!(listed.status.code(), Some(0), "{table}{}", text(&listed.stderr));
    assert!(table.starts_with("SERVICE ") && table.lines().any(|line| line.starts_with("cart.shop ")), "{table}");
    let hand = ["--admin-token-file", &mesh.token];
    let force = ["circuit", "force", CART, "--state", "open", "--ttl", "5m", "--by", "ann"];
    let forced = mesh.command(&[&force[..], &hand].concat());
    assert_eq!(forced.status.code(), Some(0), "{}", text(&forced.stderr));
    assert!(text(&forced.stdout).starts_with(&format!("{CART} is forced open until ")), "{}", text(&forced.stdout));
    let listed = mesh.command(&["circuits"]);
    assert_eq!(listed.status.code(), Some(1), "an open circuit is bad news");
    let table = text(&listed.stdout);
    let row = table.lines().find(|line| line.starts_with("cart.shop ")).unwrap_or_default();
    assert!(row.contains("forced_open") && row.ends_with("by=ann"), "{table}");
    let told: serde_json::Value =
        serde_json::from_slice(&mesh.command(&["circuits", "-o", "json"]).stdout).expect("JSON");
    assert!(told["circuits"].as_array().is_some_and(|all| all.len() == 3), "{told:#}");
    let released = mesh.command(&[&["circuit", "release", CART][..], &hand].concat());
    assert_eq!(text(&released.stdout), format!("{CART} is left to itself; it is closed\n"));
    let endpoint = ["cart-0", "--cluster", CART_CLUSTER];
    let drained = mesh.command(&[&["endpoint", "drain"][..], &endpoint, &["--ttl", "5m"], &hand].concat());
    assert!(text(&drained.stdout).starts_with("cart-0 (127.0.0.1:"), "{}", text(&drained.stderr));
    assert!(text(&mesh.command(&["circuits"]).stdout).contains("\nDRAINED "));
    let restored = mesh.command(&[&["endpoint", "restore"][..], &endpoint, &hand].concat());
    assert!(text(&restored.stdout).ends_with("is no longer drained\n"), "{}", text(&restored.stderr));
    let unknown = mesh.command(&[&["circuit", "release", "crat"][..], &hand].concat());
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("the nearest name is"), "{}", text(&unknown.stderr));
    let nobody = Command::new(OUTRIGGER).args(["circuits", "--admin", "127.0.0.1:1"]).output().expect("it runs");
    assert_eq!(nobody.status.code(), Some(2));
}

/// As a person types it, with what the machine has for that.
#[test]
fn curl_can_do_it() {
    let mesh = Mesh::start();
    let admin = mesh.admin();
    let curl = |line: &str| {
        let line = format!("curl -s {line}").replace("ADMIN", &admin.to_string()).replace("TOKEN", TOKEN);
        let said = Command::new("sh").arg("-c").arg(&line).output().expect("there is a shell");
        assert!(said.status.success(), "{line}");
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let told = curl("-X POST ADMIN/api/v1/circuits/force");
    assert!(told.contains("needs the token"), "{told}");
    let told = curl(&format!(
        "-X POST -H 'Authorization: Bearer TOKEN' 'ADMIN/api/v1/circuits/{CART}/force?state=open&ttl=60s'"
    ));
    assert!(told.contains("\"state\": \"forced_open\""), "{told}");
    let told = curl(
        "-H 'Authorization: Bearer TOKEN' 'ADMIN/api/v1/circuits/release' -G -X POST --data-urlencode \
         circuit=cart.shop.svc.cluster.local:80",
    );
    assert!(told.contains("\"state\": \"closed\""), "{told}");
}
