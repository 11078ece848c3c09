//! Secrets: what is kept of them, and that no message quotes them.

use outrigger_config::kind::secret::Secret;
use outrigger_config::loader::load_text;

use crate::check;

/// A Secret with this body.
fn secret(body: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{body}")
}

#[track_caller]
fn value(body: &str, key: &str) -> Option<String> {
    let (resources, diagnostics) = load_text("f.yaml", &secret(body));
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    let secret = resources.secrets.get("default", "a").expect("it is valid");
    secret.value(key).map(|value| String::from_utf8_lossy(value.bytes.reveal()).into_owned())
}

#[test]
fn what_tls_needs_is_kept() {
    assert_eq!(value("data: {tls.crt: bGVhZg==}", Secret::TLS_CERTIFICATE).as_deref(), Some("leaf"));
    assert_eq!(value("data:\n  cacert: |\n    bGVh\n    Zg==\n", "cacert").as_deref(), Some("leaf"));
    assert_eq!(value("stringData: {key: plain}\ndata: {key: bGVhZg==}", "key").as_deref(), Some("plain"));
    assert_eq!(value("data: {password: bGVhZg==}", "password"), None);
    assert_eq!(value("data: {tls.crt: '', tls.key: }\ntype: kubernetes.io/tls", "tls.crt"), None);
}

#[test]
fn no_message_quotes_a_value() {
    check(
        &secret("data: {tls.crt: 'hunter2-', x: [hunter2], y: 1234}\nstringData: {tls.key: 1234}\n"),
        "error [IST0106] Secret default/a f.yaml:4:17: data[\"tls.crt\"]: the value is no base64 (encode it with `base64 -w0`, or move the plain text to `stringData`)
         error [IST0106] Secret default/a f.yaml:4:32: data[\"x\"]: expected a string (put the value in quotes)
         error [IST0106] Secret default/a f.yaml:4:46: data[\"y\"]: expected a string (put the value in quotes)
         error [IST0106] Secret default/a f.yaml:5:23: stringData[\"tls.key\"]: expected a string (put the value in quotes)",
    );
    check(
        &secret("data: hunter2\n"),
        "error [IST0106] Secret default/a f.yaml:4:7: data: expected a mapping of names to values",
    );
}

#[test]
fn a_value_shows_itself_to_nobody() {
    let (resources, _) = load_text("f.yaml", &secret("stringData: {tls.key: hunter2}\n"));
    let shown = format!("{resources:?}");
    assert!(shown.contains("tls.key") && !shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
}

#[test]
fn a_tls_secret_has_both_parts() {
    check(
        &secret("type: kubernetes.io/tls\ndata: {tls.crt: bGVhZg==}\n"),
        "error [IST0106] Secret default/a f.yaml:3:18: `tls.key` is missing, a Secret of type `kubernetes.io/tls` has `tls.crt` and `tls.key`",
    );
}
