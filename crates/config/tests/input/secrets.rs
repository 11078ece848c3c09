//! Secrets: what is kept of them, and that no message quotes them.

use std::time::{Duration, SystemTime};

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

/// A certificate for `web.example.com` and its key, valid from 2020 to 2030, as PEM.
fn pem() -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["web.example.com".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

/// `stringData` with these values.
fn strings(values: &[(&str, &str)]) -> String {
    let quoted = values.iter().map(|(key, value)| format!("  {key}: \"{}\"\n", value.replace('\n', "\\n")));
    format!("stringData:\n{}", quoted.collect::<String>())
}

fn at(year: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_556_952)
}

/// What Istio makes of the Secret: the name of the pair and what clients may dislike, or why there is none.
fn pair(body: &str, now: SystemTime) -> String {
    let (resources, diagnostics) = load_text("f.yaml", &secret(body));
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    match resources.secrets.get("default", "a").expect("it is valid").istio_pair(now) {
        Ok(usable) => {
            let doubts: Vec<&str> = usable.doubts.iter().map(|doubt| &*doubt.message).collect();
            format!("{} [{}]", usable.pair.name, doubts.join(", "))
        }
        Err(unusable) => format!("{} ({})", unusable.message, unusable.hint),
    }
}

#[test]
fn a_key_pair_is_judged_before_it_serves() {
    let ((leaf, key), (other, _)) = (pem(), pem());
    let tls = strings(&[("tls.crt", &leaf), ("tls.key", &key)]);
    assert_eq!(pair(&tls, at(2025)), "Secret default/a []");
    assert_eq!(pair(&tls, at(2035)), "Secret default/a [the certificate expired at 2030-01-01T00:00:00Z]");
    assert_eq!(pair(&strings(&[("cert", &leaf), ("key", &key), ("tls.crt", &other)]), at(2025)), "Secret default/a []");
    assert!(
        pair(&strings(&[("tls.crt", &other), ("tls.key", &key)]), at(2025))
            .starts_with("Secret default/a: the private key does not belong to the certificate (")
    );
    assert_eq!(
        pair(&strings(&[("tls.crt", &leaf), ("key", &key)]), at(2025)),
        "Secret default/a has no `tls.key` (store the certificate chain as `tls.crt` and its private key as `tls.key`)"
    );
    let garbage = pair(&strings(&[("tls.crt", "hunter2"), ("tls.key", "hunter2")]), at(2025));
    assert!(garbage.starts_with("Secret default/a: ") && !garbage.contains("hunter2"), "{garbage}");
}

#[test]
fn authorities_are_found_under_the_first_key_that_has_some() {
    let (root, _) = pem();
    let (resources, _) = load_text("f.yaml", &secret(&strings(&[("ca.crt", &root), ("cacert", "")])));
    let found = resources.secrets.get("default", "a").expect("it is valid");
    let keys = [Secret::ISTIO_AUTHORITIES, Secret::TLS_AUTHORITIES];
    assert_eq!(found.authorities(&keys).as_deref(), Ok(root.as_bytes()));
    let missing = found.authorities(&["cacert"]).expect_err("it is empty");
    assert_eq!(missing.message, "Secret default/a has no `cacert`");
}
