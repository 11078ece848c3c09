//! HTTPS: certificates, grants, client certificates, and hosts that belong to another listener.

use std::fmt::Write as _;

use super::*;

/// A certificate for these names, and its key.
fn pair(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("random bytes");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn block(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        writeln!(out, "    {line}").unwrap();
        out
    })
}

/// A Secret `NAMESPACE/NAME` with a key pair for these host names.
pub(super) fn secret(name: &str, names: &[&str]) -> String {
    let (certificate, key) = pair(names);
    secret_of(name, &certificate, &key)
}

fn secret_of(name: &str, certificate: &str, key: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        block(certificate),
        block(key)
    )
}

/// A ConfigMap `NAMESPACE/NAME` with an authority.
fn authority(name: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    let certificate = block(&pair(&["authority"]).0);
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  ca.crt: |\n{certificate}"
    )
}

/// A listener for HTTPS on port 443 with references to certificates.
fn https(name: &str, references: &str, more: &str) -> String {
    format!("{{name: {name}, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{references}]}}, {more}}}")
}

#[test]
fn references_that_lead_nowhere() {
    let (certificate, key) = pair(&["a.com"]);
    let of = |name: &str, reference: &str| gateway(&format!("infra/{name}"), &https("https", reference, ""));
    let yaml = of("absent", "{name: absent}")
        + &of("group", "{group: wrong.group.io, kind: Secret, name: good}")
        + &of("kind", "{group: '', kind: WrongKind, name: good}")
        + &of("malformed", "{name: malformed}")
        + &of("other-key", "{name: other-key}")
        + &of("empty", "{name: empty}")
        + &gateway("infra/no-tls", "{name: https, port: 443, protocol: HTTPS}")
        + &secret_of("infra/good", &certificate, &key)
        + &secret_of("infra/malformed", "Hello world", "Hello world")
        + &secret_of("infra/other-key", &certificate, &pair(&["a.com"]).1)
        + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: empty, namespace: infra}\n";
    let found = status(&yaml);
    for name in ["absent", "group", "kind", "malformed", "other-key", "empty"] {
        let lines = format!(
            "Gateway infra/{name}: Accepted Programmed=False/Invalid ResolvedRefs=False/ListenersNotResolved\n\
             Gateway infra/{name}/https: Accepted ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid routes=0\n"
        );
        assert!(found.contains(&lines), "{name} in {found}");
        assert!(Gateway::new(&format!("infra/{name}"), &yaml).0.listeners.is_empty());
    }
    let lines = "Gateway infra/no-tls: Accepted=False/ListenersNotValid Programmed=False/Invalid ResolvedRefs
        Gateway infra/no-tls/https: Accepted=False/Invalid ResolvedRefs Programmed=False/Invalid routes=0";
    same(&found[found.find("Gateway infra/no-tls").unwrap()..], lines);
    same(
        &findings(&yaml),
        "error [IST0101] Gateway infra/absent f.yaml:5:116: Secret infra/absent does not exist (add it to the input, or fix its errors; it holds tls.crt and tls.key)
         error [IST0161] Gateway infra/group f.yaml:10:116: certificates are read from Secrets, found a Secret of the group \"wrong.group.io\" (name a Secret of type kubernetes.io/tls)
         error [IST0161] Gateway infra/kind f.yaml:15:116: certificates are read from Secrets, found a WrongKind of the group \"\" (name a Secret of type kubernetes.io/tls)
         error [IST0161] Gateway infra/malformed f.yaml:20:116: Secret infra/malformed: the certificate holds no block BEGIN CERTIFICATE (expected is PEM, from a line BEGIN CERTIFICATE to a line END CERTIFICATE)
         error [IST0161] Gateway infra/other-key f.yaml:25:116: Secret infra/other-key: the private key does not belong to the certificate (was one of the two renewed without the other? store both of one issue)
         error [IST0161] Gateway infra/empty f.yaml:30:116: Secret infra/empty has no value under tls.crt (a Secret of type kubernetes.io/tls has tls.crt and tls.key)
         error [OUT0222] Gateway infra/no-tls f.yaml:35:50: listener https: `tls` is missing, HTTPS needs a certificate (add tls.certificateRefs with a Secret of type kubernetes.io/tls)",
    );
}

#[test]
fn several_certificates_serve_though_one_is_missing() {
    let yaml = gateway("infra/web", &https("https", "{name: a}, {name: absent}, {name: b}", ""))
        + &secret("infra/a", &["a.com"])
        + &secret("infra/b", &["b.com"]);
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs=False/ListenersNotResolved
         Gateway infra/web/https: Accepted ResolvedRefs=False/InvalidCertificateRef Programmed routes=0",
    );
    let snapshot = Gateway::new("infra/web", &yaml).0;
    let tls = snapshot.listeners[0].chains[0].tls.as_ref().expect("TLS ends here");
    let names: Vec<&str> = tls.certificates.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["Secret infra/a", "Secret infra/b"]);
    assert_eq!(
        (&tls.client, tls.version_min, tls.version_max),
        (&ClientCertificate::None, TlsVersion::V1_2, TlsVersion::V1_3)
    );
}

/// A Gateway in `infra` that refers to a Secret in `vault`, with grants.
fn with_grants(grants: &str) -> String {
    gateway("infra/web", &https("https", "{name: c, namespace: vault}", "")) + &secret("vault/c", &["a.com"]) + grants
}

const GATEWAY: &str = "{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}";

#[test]
fn grants_that_permit() {
    for grants in [
        grant("vault/all", GATEWAY, "{group: '', kind: Secret}"),
        grant("vault/one", GATEWAY, "{group: '', kind: Secret, name: c}"),
        grant("vault/old", GATEWAY, "{group: '', kind: Secret}").replace("/v1\n", "/v1beta1\n"),
        grant(
            "vault/several",
            &format!("{{group: '', kind: Thing, namespace: apps}}, {GATEWAY}"),
            "{group: a, kind: B}, {group: '', kind: Secret}",
        ),
    ] {
        check(
            &with_grants(&grants),
            "Gateway infra/web: Accepted Programmed ResolvedRefs
             Gateway infra/web/https: Accepted ResolvedRefs Programmed routes=0",
        );
    }
}

#[test]
fn grants_that_do_not_permit() {
    let to = "{group: '', kind: Secret, name: c}";
    for grants in [
        String::new(),
        grant("apps/wrong-namespace", GATEWAY, to),
        grant("vault/from-group", &GATEWAY.replace("gateway.networking.k8s.io", "other"), to),
        grant("vault/from-kind", &GATEWAY.replace("Gateway", "HTTPRoute"), to),
        grant("vault/from-namespace", &GATEWAY.replace("infra", "other"), to),
        grant("vault/to-group", GATEWAY, &to.replace("''", "other")),
        grant("vault/to-kind", GATEWAY, &to.replace("Secret", "Service")),
        grant("vault/to-name", GATEWAY, &to.replace("name: c", "name: d")),
        grant("vault/halves", GATEWAY, "{group: '', kind: Service}")
            + &grant("vault/other", &GATEWAY.replace("infra", "x"), to),
    ] {
        let yaml = with_grants(&grants);
        check(
            &yaml,
            "Gateway infra/web: Accepted Programmed=False/Invalid ResolvedRefs=False/ListenersNotResolved
             Gateway infra/web/https: Accepted ResolvedRefs=False/RefNotPermitted Programmed=False/Invalid routes=0",
        );
        same(
            &findings(&yaml),
            "error [OUT0214] Gateway infra/web f.yaml:5:116: Secret vault/c is in another namespace, and no ReferenceGrant there lets a Gateway of infra refer to it (add a ReferenceGrant to vault, or copy the Secret to infra)",
        );
    }
}

#[test]
fn the_certificate_for_backends() {
    let of = |name: &str, reference: &str| {
        gateway_with(
            &format!("infra/{name}"),
            &format!("tls: {{backend: {{clientCertificateRef: {{{reference}}}}}}},"),
            &http("http", ""),
        )
    };
    let yaml = of("absent", "name: absent")
        + &of("kind", "kind: WrongKind, name: c")
        + &of("grant", "name: c, namespace: vault")
        + &of("good", "name: c")
        + &secret("infra/c", &["client"])
        + &secret("vault/c", &["client"]);
    check(
        &yaml,
        "Gateway infra/absent: Accepted Programmed ResolvedRefs=False/InvalidClientCertificateRef
         Gateway infra/absent/http: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/kind: Accepted Programmed ResolvedRefs=False/InvalidClientCertificateRef
         Gateway infra/kind/http: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/grant: Accepted Programmed ResolvedRefs=False/RefNotPermitted
         Gateway infra/grant/http: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/good: Accepted Programmed ResolvedRefs
         Gateway infra/good/http: Accepted ResolvedRefs Programmed routes=0",
    );
    let found = findings(&yaml);
    assert_eq!(found.matches("spec.tls.backend: not enforced yet, no certificate is shown to backends").count(), 4);
}

/// A Gateway `infra/web` that asks for client certificates.
fn with_validation(frontend: &str, listeners: &str) -> String {
    gateway_with("infra/web", &format!("tls: {{frontend: {{{frontend}}}}},"), listeners)
        + &secret("infra/c", &["a.com"])
}

fn validation(references: &str) -> String {
    format!("{{validation: {{caCertificateRefs: [{references}]}}}}")
}

const MAP: &str = "{group: '', kind: ConfigMap, name: ca}";

#[test]
fn clients_show_certificates() {
    let other = "{name: other, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}";
    let open = "{name: open, port: 9443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}";
    let two = validation("{group: '', kind: ConfigMap, name: ca2}, {group: '', kind: ConfigMap, name: ca}");
    let frontend = format!(
        "default: {}, perPort: [{{port: 8443, tls: {two}}}, {{port: 9443, tls: {{}}}}, {{port: 80, tls: {two}}}]",
        validation(MAP)
    );
    let yaml = with_validation(
        &frontend,
        &format!("{}, {other}, {open}, {}", https("https", "{name: c}", ""), http("http", "")),
    ) + &authority("infra/ca")
        + &authority("infra/ca2");
    check(
        &yaml,
        "Gateway infra/web: Accepted Programmed ResolvedRefs
         Gateway infra/web/https: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/web/other: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/web/open: Accepted ResolvedRefs Programmed routes=0
         Gateway infra/web/http: Accepted ResolvedRefs Programmed routes=0",
    );
    let snapshot = Gateway::new("infra/web", &yaml).0;
    let authorities = |port: u16| {
        let listener = snapshot.listener(&Listener::gateway_name(port)).expect("it is served");
        match listener.chains[0].tls.as_ref().map(|tls| &tls.client) {
            Some(ClientCertificate::Required(pem)) => String::from_utf8_lossy(pem).matches("BEGIN CERTIFICATE").count(),
            Some(ClientCertificate::None) | None => 0,
            Some(ClientCertificate::Optional(_)) => panic!("not asked for"),
        }
    };
    assert_eq!([443, 8443, 9443, 80].map(authorities), [1, 2, 0, 0]);
}

#[test]
fn authorities_that_cannot_be_used() {
    let port = |port: u16, references: &str| format!("{{port: {port}, tls: {}}}", validation(references));
    let ports = [
        port(1, "{group: '', kind: ConfigMap, name: absent}"),
        port(2, "{group: example.com, kind: Thing, name: z}"),
        port(3, "{group: '', kind: ConfigMap, name: ca, namespace: vault}"),
        port(4, &format!("{{group: '', kind: ConfigMap, name: absent}}, {MAP}")),
        port(5, "{group: '', kind: ConfigMap, name: no-key}"),
        port(6, "{group: '', kind: ConfigMap, name: broken}"),
    ];
    let listener = |port: u16| {
        format!("{{name: p{port}, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: c}}]}}}}")
    };
    let listeners: Vec<String> = [1, 2, 3, 4, 5, 6, 7].map(listener).to_vec();
    let map = |name: &str, data: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: infra}}\ndata: {{{data}}}\n"
        )
    };
    let frontend = format!("default: {}, perPort: [{}]", validation(MAP), ports.join(", "));
    let yaml = with_validation(&frontend, &listeners.join(", "))
        + &authority("infra/ca")
        + &authority("vault/ca")
        + &map("no-key", "other: text")
        + &map("broken", "ca.crt: Hello world");
    check(
        &yaml,
        "Gateway infra/web: Accepted=True/ListenersNotValid Programmed ResolvedRefs=False/ListenersNotResolved
         Gateway infra/web/p1: Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef Programmed=False/Invalid routes=0
         Gateway infra/web/p2: Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateKind Programmed=False/Invalid routes=0
         Gateway infra/web/p3: Accepted=False/NoValidCACertificate ResolvedRefs=False/RefNotPermitted Programmed=False/Invalid routes=0
         Gateway infra/web/p4: Accepted ResolvedRefs=False/InvalidCACertificateRef Programmed routes=0
         Gateway infra/web/p5: Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef Programmed=False/Invalid routes=0
         Gateway infra/web/p6: Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef Programmed=False/Invalid routes=0
         Gateway infra/web/p7: Accepted ResolvedRefs Programmed routes=0",
    );
    let gateway = Gateway::new("infra/web", &yaml);
    let answer = |port: u16| gateway.https(port, "a.com", "a.com", "/");
    assert_eq!([1, 2, 3, 4, 5, 6, 7].map(answer), ["closed", "closed", "closed", "404", "closed", "closed", "404"]);
}

#[test]
fn the_insecure_fallback_is_refused() {
    let fallback = validation(MAP).replace("]}", "], mode: AllowInsecureFallback}");
    let yaml =
        with_validation(&format!("default: {fallback}"), &https("https", "{name: c}", "")) + &authority("infra/ca");
    check(
        &yaml,
        "Gateway infra/web: Accepted=False/ListenersNotValid Programmed=False/Invalid ResolvedRefs
         Gateway infra/web/https: Accepted=False/UnsupportedValue ResolvedRefs Programmed=False/Invalid routes=0",
    );
}

#[test]
fn hosts_of_other_listeners_are_misdirected() {
    let host = |name: &str, host: &str| https(name, "{name: c}", &format!("hostname: '{host}'"));
    let listeners = [
        https("https", "{name: c}", ""),
        host("named", "second-example.org"),
        host("wild", "*.wildcard.org"),
        host("inner", "fourth-example.wildcard.org"),
    ];
    let section = |name: &str| format!("{{name: web, sectionName: {name}}}");
    let yaml = gateway("infra/web", &listeners.join(", "))
        + &secret("infra/c", &["example.org"])
        + &route("infra/r1", &section("https"), "example.org", "/", "a")
        + &route("infra/r2", &section("named"), "", "/", "b")
        + &route("infra/r3", &section("wild"), "", "/", "c")
        + &route("infra/r4", &section("inner"), "", "/", "a")
        + &["infra/a", "infra/b", "infra/c"].map(service).concat();
    let web = Gateway::new("infra/web", &yaml);
    for (server_name, host, answer) in [
        ("example.org", "example.org", "a"),
        ("example.org", "second-example.org", "421"),
        ("example.org", "unknown-example.org", "404"),
        ("second-example.org", "second-example.org", "b"),
        ("second-example.org", "example.org", "421"),
        ("second-example.org", "unknown-example.org", "421"),
        ("third-example.wildcard.org", "third-example.wildcard.org", "c"),
        ("third-example.wildcard.org", "fifth-example.wildcard.org", "c"),
        ("third-example.wildcard.org", "fourth-example.wildcard.org", "421"),
        ("third-example.wildcard.org", "second-example.org", "421"),
        ("third-example.wildcard.org", "unknown-example.org", "421"),
        ("fourth-example.wildcard.org", "fourth-example.wildcard.org", "a"),
        ("fourth-example.wildcard.org", "fifth-example.wildcard.org", "421"),
        ("unknown-example.org", "example.org", "a"),
        ("unknown-example.org", "unknown-example.org", "404"),
    ] {
        assert_eq!(web.https(443, server_name, host, "/x"), answer, "{server_name} {host}");
    }
    let found = status(&yaml);
    assert_eq!(found.matches("OverlappingTLSConfig=True/OverlappingHostnames").count(), 4, "{found}");
    let names: std::collections::HashSet<_> =
        web.0.listeners[0].route_tables().flat_map(|t| &t.virtual_hosts).map(|v| v.name.clone()).collect();
    let all = web.0.listeners[0].route_tables().flat_map(|t| &t.virtual_hosts).count();
    assert_eq!((names.len(), all), (16, 16), "virtual hosts have names of their own");
}

#[test]
fn host_names_that_do_not_overlap_need_no_warning() {
    let host = |name: &str, host: &str| https(name, "{name: c}", &format!("hostname: '{host}'"));
    let listeners = [host("a", "foo.example.com"), host("b", "foo.example.org"), host("c", "*.example.com")];
    let found = status(&(gateway("infra/web", &listeners.join(", ")) + &secret("infra/c", &["x"])));
    let overlapping: Vec<&str> = found.lines().filter(|l| l.contains("Overlapping")).collect();
    assert_eq!(overlapping.len(), 2, "{found}");
    assert!(overlapping.iter().all(|l| !l.contains("web/b:")), "{found}");
}

#[test]
fn a_listener_without_certificate_keeps_its_hosts() {
    let yaml = gateway(
        "infra/web",
        &format!("{}, {}", https("all", "{name: c}", ""), https("broken", "{name: absent}", "hostname: a.com")),
    ) + &secret("infra/c", &["x"])
        + &route("infra/r", "{name: web, sectionName: all}", "", "/", "a")
        + &service("infra/a");
    let web = Gateway::new("infra/web", &yaml);
    assert_eq!(web.https(443, "b.com", "b.com", "/"), "a");
    // Its server name meets the wider listener, which does not answer for it.
    assert_eq!(web.https(443, "a.com", "a.com", "/"), "421");
}

#[test]
fn certificates_that_clients_will_refuse_are_told() {
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let yaml = gateway("infra/web", &https("https", "{name: c}", "")) + &secret("infra/c", &["a.com"]);
    let late = View { now: Some(std::time::UNIX_EPOCH + 10_000 * year), ..view("infra/web") };
    let (_, findings) = translate(&load(&yaml), &late);
    let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("warning [OUT0217] Secret infra/c f.yaml:13:5: the certificate expired at"),
        "{found:?}"
    );
}

#[test]
fn no_message_shows_a_key() {
    let (certificate, key) = pair(&["a.com"]);
    let yaml =
        gateway("infra/web", &https("https", "{name: swapped}", "")) + &secret_of("infra/swapped", &key, &certificate);
    let found = findings(&yaml) + &format!("{:?}", conditions(&load(&yaml), &View::default()));
    assert!(found.contains("exchanged"), "{found}");
    let secret = key.lines().nth(1).unwrap();
    assert!(!found.contains(secret) && !found.contains(&secret[..16]));
}
