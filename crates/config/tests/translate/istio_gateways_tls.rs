//! Istio Gateways that end TLS: certificates, clients, versions, and what is left out.

use std::sync::Arc;

use outrigger_config::loader::load_text;
use outrigger_config::translate::Translator;

use crate::dump::{check, dump, service};
use crate::istio_gateways::{INGRESS, gateway, http, rules};
use crate::listeners::gateway_view;

/// A certificate for a host and its key, as PEM; expired since `expired`, or good for centuries.
fn pem(host: &str, expired: Option<i32>) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(expired.unwrap_or(2500), 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A Secret `namespace/name` with these values.
fn secret(name: &str, values: &[(&str, &str)]) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    let values: String =
        values.iter().map(|(key, value)| format!("  {key}: \"{}\"\n", value.replace('\n', "\\n"))).collect();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData:\n{values}"
    )
}

/// A Secret with a certificate and its key.
fn tls_secret(name: &str) -> String {
    let (certificate, key) = pem("www.example.com", None);
    secret(name, &[("tls.crt", &certificate), ("tls.key", &key)])
}

/// A server of HTTPS at port 443.
fn https(name: &str, hosts: &str, tls: &str) -> String {
    format!("{{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: [{hosts}], tls: {{{tls}}}}}")
}

/// The answer of every host, bound to `default/web`.
fn answer() -> String {
    rules("default/r", "'*'", "default/web", "  http: [{directResponse: {status: 200}}]")
}

/// The listeners and findings of one HTTPS server with these TLS settings, `servers[0]` on line 6.
#[track_caller]
fn of(tls: &str, more: &str, expected: &str) {
    let yaml = gateway("default/web", &https("https", "a.com", tls)) + more;
    check(INGRESS, "listeners findings", &yaml, expected);
}

/// What is served for `a.com` with this in the chain's line.
fn served(chain: &str) -> String {
    format!("gateway|443\n[a.com] {chain} http NotFound")
}

#[test]
fn each_server_has_its_certificate_and_its_hosts() {
    let yaml = tls_secret("istio-system/one")
        + &tls_secret("istio-system/two")
        + &gateway(
            "default/web",
            &[
                https("one", "a.com, shop/b.com", "mode: SIMPLE, credentialName: one"),
                https("two", "'*'", "mode: SIMPLE, credentialNames: [two, one]"),
                http("'*'"),
            ]
            .join(", "),
        )
        + &rules("default/r", "a.com, b.com, c.com", "web", "  http: [{directResponse: {status: 200}}]");
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        "gateway|80
         [] http NotFound
         a.com:80 = a.com:*
         default -> 200 \"\"
         b.com:80 = b.com:*
         default -> 200 \"\"
         c.com:80 = c.com:*
         default -> 200 \"\"
         gateway|443
         [a.com b.com] tls(Secret istio-system/one) http NotFound
         a.com:443 = a.com:*
         default -> 200 \"\"
         [] tls(Secret istio-system/two, Secret istio-system/one) http NotFound
         a.com:443 of default/web two = a.com:*
         default -> 200 \"\"
         b.com:443 = b.com:*
         default -> 200 \"\"
         c.com:443 = c.com:*
         default -> 200 \"\"",
    );
    check(
        "",
        "gateways",
        &yaml,
        "Istio istio-system/istio-ingressgateway [istio=ingressgateway]
         Gateway default/web
         one 443 HTTPS a.com, b.com by gateway|443
         two 443 HTTPS * by gateway|443
         http 80 HTTP * by gateway|80",
    );
}

#[test]
fn clients_may_have_to_show_a_certificate() {
    let ((leaf, key), (root, _)) = (pem("a.com", None), pem("ca.com", None));
    let pair = [("cert", &*leaf), ("key", &*key)];
    let with = |key: &'static str, value: &str| secret("istio-system/web", &[pair[0], pair[1], (key, value)]);
    let one = with("cacert", &root);
    of("mode: MUTUAL, credentialName: web", &one, &served("tls(Secret istio-system/web) client!"));
    of("mode: OPTIONAL_MUTUAL, credentialName: web", &one, &served("tls(Secret istio-system/web) client?"));
    of("mode: SIMPLE, credentialName: web", &one, &served("tls(Secret istio-system/web)"));
    let two = secret("istio-system/web", &pair) + &secret("istio-system/web-cacert", &[("ca.crt", &root)]);
    of("mode: MUTUAL, credentialName: web", &two, &served("tls(Secret istio-system/web) client!"));
    of(
        "mode: MUTUAL, credentialName: web, caCertCredentialName: web-cacert",
        &two,
        &served("tls(Secret istio-system/web) client!"),
    );
    of(
        "mode: MUTUAL, credentialName: web",
        &secret("istio-system/web", &pair),
        "error [IST0161] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: Secret istio-system/web has no `cacert` and no `ca.crt` (store the authorities that sign the certificates of clients there, as PEM)",
    );
    of(
        "mode: MUTUAL, credentialName: web",
        &with("ca.crt", &key),
        "error [IST0161] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: Secret istio-system/web: the bundle of authorities is a private key, not a certificate (certificate and key look exchanged: put the certificate under tls.crt and the key under tls.key)",
    );
    of(
        "mode: MUTUAL, credentialName: web",
        &(with("ca.crl", "x") + &secret("istio-system/web-cacert", &[("ca.crt", &root), ("ca.crl", "x")])),
        "warning [OUT0215] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: `ca.crl` of Secret istio-system/web-cacert is not supported: clients that it revokes would get in (remove the list from the Secret)",
    );
}

#[test]
fn secrets_are_looked_for_where_the_proxy_is() {
    let simple = |name: &str| format!("mode: SIMPLE, credentialName: {name}");
    let chain = |secret: &str| served(&format!("tls(Secret {secret})"));
    of(&simple("web"), &tls_secret("default/web"), &chain("default/web"));
    of(&simple("web"), &(tls_secret("default/web") + &tls_secret("istio-system/web")), &chain("istio-system/web"));
    of(&simple("kubernetes://web"), &tls_secret("istio-system/web"), &chain("istio-system/web"));
    of(&simple("default/web"), &(tls_secret("default/web") + &tls_secret("istio-system/web")), &chain("default/web"));
    of(
        &simple("web"),
        "",
        "error [IST0101] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: there is neither a Secret istio-system/web nor default/web (define it with `tls.crt` and `tls.key` (kubectl create secret tls), or correct the name)",
    );
    of(
        &simple("web"),
        &tls_secret("shop/web"),
        "error [IST0101] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: there is neither a Secret istio-system/web nor default/web (Secrets are looked for where the gateway's pods are: move Secret shop/web to namespace istio-system)",
    );
    of(
        &simple("shop/web"),
        &tls_secret("shop/web"),
        "error [OUT0214] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: Secret shop/web is not in the proxy's namespace, which is istio-system (store it in istio-system)",
    );
    of(
        &simple("'builtin://'"),
        "",
        "warning [OUT0215] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: \"builtin://\" names no Secret (name a Secret that holds the certificate and its key)",
    );
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: edge, labels: {istio: ingressgateway}}\nspec: {containers: [{name: c}]}\n";
    let yaml = gateway("default/web", &https("https", "a.com", &simple("web"))) + pod;
    check(
        "istio:edge/p",
        "listeners findings",
        &(yaml.clone() + &tls_secret("default/web")),
        "error [IST0101] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: Secret edge/web does not exist (Secrets are looked for where the gateway's pods are: move Secret default/web to namespace edge)",
    );
    check("istio:edge/p", "listeners findings", &(yaml + &tls_secret("edge/web")), &chain("edge/web"));
}

#[test]
fn a_pair_that_cannot_serve_leaves_the_server_out() {
    let ((one, key), (_, other)) = (pem("a.com", None), pem("a.com", None));
    let bad = |values: &[(&str, &str)]| secret("istio-system/web", values);
    let simple = "mode: SIMPLE, credentialName: web";
    of(
        simple,
        &bad(&[("tls.crt", &one)]),
        "error [IST0161] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: Secret istio-system/web has no `tls.key` (store the certificate chain as `tls.crt` and its private key as `tls.key`)",
    );
    of(
        simple,
        &bad(&[("tls.crt", &one), ("tls.key", &other)]),
        "error [IST0161] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: Secret istio-system/web: the private key does not belong to the certificate (was one of the two renewed without the other? store both of one issue)",
    );
    of(
        simple,
        &bad(&[("tls.crt", &key), ("tls.key", &one)]),
        "error [IST0161] Gateway default/web f.yaml:7:117: spec.servers[0] (https) is left out: Secret istio-system/web: the certificate is a private key, not a certificate (certificate and key look exchanged: put the certificate under tls.crt and the key under tls.key)",
    );
    let (expired, key) = pem("a.com", Some(2021));
    of(
        simple,
        &bad(&[("tls.crt", &expired), ("tls.key", &key)]),
        &(served("tls(Secret istio-system/web)")
            + "\nwarning [OUT0217] Secret istio-system/web f.yaml:13:12: clients may refuse it: the certificate expired at 2021-01-01T00:00:00Z (clients that check will refuse it: issue it again)"),
    );
}

#[test]
fn restrictions_that_cannot_be_kept_leave_the_server_out() {
    let more = tls_secret("istio-system/web");
    let left_out = |tls: &str, expected: &str| of(&format!("credentialName: web, {tls}"), &more, expected);
    left_out(
        "mode: MUTUAL, subjectAltNames: [x]",
        "warning [OUT0215] Gateway default/web f.yaml:7:140: spec.servers[0] (https) is left out: `tls.subjectAltNames` is not supported (remove it; clients are judged by their authority alone)",
    );
    left_out(
        "mode: MUTUAL, insecureSkipVerify: true",
        "warning [OUT0215] Gateway default/web f.yaml:7:142: spec.servers[0] (https) is left out: `tls.insecureSkipVerify` is not supported (remove it; clients are judged by their authority alone)",
    );
    left_out(
        "mode: SIMPLE, verifyCertificateHash: [x], insecureSkipVerify: false",
        &(served("tls(Secret istio-system/web)")
            + "\nwarning [OUT0102] Gateway default/web f.yaml:7:146: spec.servers[0] (https) has `tls.verifyCertificateHash`, which mode SIMPLE does not use (clients are not asked for a certificate)"),
    );
    left_out(
        "mode: SIMPLE, maxProtocolVersion: TLSV1_1",
        "warning [OUT0215] Gateway default/web f.yaml:7:142: spec.servers[0] (https) is left out: TLSV1_1 is not spoken (RFC 8996), and newer versions are not allowed (remove `maxProtocolVersion`)",
    );
    left_out(
        "mode: SIMPLE, minProtocolVersion: TLSV1_0, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]",
        &(served("tls(Secret istio-system/web)")
            + "\nwarning [OUT0102] Gateway default/web f.yaml:7:142: spec.servers[0] (https) speaks TLS from 1.2 on: TLSV1_0 is refused by everybody (RFC 8996) (remove `minProtocolVersion`, or set TLSV1_2)\nwarning [OUT0103] Gateway default/web f.yaml:7:166: spec.servers[0] (https) has `tls.cipherSuites`, which is understood, but not enforced (the suites in use are AEAD with forward secrecy)"),
    );
    of(
        "mode: ISTIO_MUTUAL",
        "",
        "warning [OUT0215] Gateway default/web f.yaml:7:93: spec.servers[0] (https) is left out: mode ISTIO_MUTUAL needs certificates of the mesh, which there are none of yet (use mode MUTUAL with a Secret)",
    );
    of(
        "mode: SIMPLE, serverCertificate: /etc/c.pem, privateKey: /etc/k.pem",
        "",
        "warning [OUT0215] Gateway default/web f.yaml:7:120: spec.servers[0] (https) is left out: certificates are not read from files (store them in a Secret and name it in `credentialName`)",
    );
}

#[test]
fn versions_are_those_that_are_asked_for() {
    let more = tls_secret("istio-system/web");
    let of = |versions: &str, expected: &str| {
        let tls = format!("mode: SIMPLE, credentialName: web, {versions}");
        of(&tls, &more, &served(&format!("tls(Secret istio-system/web){expected}")));
    };
    of("minProtocolVersion: TLS_AUTO", "");
    of("minProtocolVersion: TLSV1_3", " V1_3-V1_3");
    of("minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_2", " V1_2-V1_2");
}

#[test]
fn the_older_gateway_keeps_a_host() {
    let created = |yaml: String, year: &str| {
        yaml.replacen("metadata: {", &format!("metadata: {{creationTimestamp: '{year}-01-01T00:00:00Z', "), 1)
    };
    let tls = "mode: SIMPLE, credentialName: web";
    let yaml = tls_secret("istio-system/web")
        + &created(gateway("default/younger", &https("https", "b.com, a.com", tls)), "2022")
        + &created(gateway("default/web", &https("https", "a.com, '*.com'", tls)), "2021")
        + &created(gateway("shop/other", &https("https", "b.com, default/*.com", "mode: PASSTHROUGH")), "2023")
        + &answer();
    check(INGRESS, "listeners findings", &yaml, "gateway|443
         [a.com *.com] tls(Secret istio-system/web) http NotFound
         a.com:443 = a.com:*
         default -> 200 \"\"
         *.com:443 = *.com:*
         default -> 200 \"\"
         error [IST0145] Gateway default/younger f.yaml:14:80: spec.servers[0] (https) is left out: host a.com of port 443 belongs to spec.servers[0] (https) of Gateway default/web at f.yaml:21:13 (name the host in one of the two)
         error [IST0145] Gateway shop/other f.yaml:28:80: spec.servers[0] (https) is left out: host *.com of port 443 belongs to spec.servers[0] (https) of Gateway default/web at f.yaml:21:13 (name the host in one of the two)");
}

#[test]
fn tls_may_end_before_tcp() {
    let server =
        "{port: {number: 9443, name: tls, protocol: TLS}, hosts: [a.com], tls: {mode: SIMPLE, credentialName: web}}";
    let yaml = service("default", "a", &[])
        + &tls_secret("istio-system/web")
        + &gateway("default/web", server)
        + &rules("default/r", "a.com", "web", "  tcp: [{route: [{destination: {host: a}}]}]");
    check(
        INGRESS,
        "listeners findings",
        &yaml,
        "gateway|9443
         [a.com] tls(Secret istio-system/web) default/r tcp[0] -> outbound|9080||a.default.svc.cluster.local*1",
    );
    check(
        INGRESS,
        "listeners findings",
        &yaml.replace("  tcp: [{route: [{destination: {host: a}}]}]", "  http: [{directResponse: {status: 200}}]"),
        "warning [OUT0215] Gateway default/web f.yaml:19:13: spec.servers[0] (tls) is left out: no VirtualService has `tcp` rules for it (bind one to gateway default/web, or use protocol HTTPS for `http` rules)",
    );
}

#[test]
fn servers_with_tls_share_a_port_with_those_that_pass_it_through() {
    let yaml = service("default", "a", &[])
        + &tls_secret("istio-system/web")
        + &gateway(
            "default/web",
            &[
                https("pass", "'*.com'", "mode: PASSTHROUGH"),
                https("https", "a.com, b.com", "mode: SIMPLE, credentialName: web"),
                https("none", "c.com", "mode: SIMPLE, credentialName: web"),
            ]
            .join(", "),
        )
        + &rules(
            "default/r",
            "'*.com'",
            "web",
            "  tls: [{match: [{sniHosts: [a.com, c.com]}], route: [{destination: {host: a}}]}]",
        )
        + &rules("default/s", "b.com", "web", "  http: [{directResponse: {status: 200}}]");
    check(INGRESS, "listeners findings", &yaml, "gateway|443
         [a.com c.com] default/r tls[0] -> outbound|9080||a.default.svc.cluster.local*1
         [b.com] tls(Secret istio-system/web) http NotFound
         b.com:443 = b.com:*
         default -> 200 \"\"
         warning [OUT0201] Gateway default/web f.yaml:19:169: has no effect for server name a.com: VirtualService default/r at f.yaml:27:18 already has it (a connection goes one way; name the host in one of the two)
         warning [OUT0201] Gateway default/web f.yaml:19:286: has no effect for server name c.com: VirtualService default/r at f.yaml:27:18 already has it (a connection goes one way; name the host in one of the two)");
    check(
        "",
        "gateways",
        &yaml,
        "Istio istio-system/istio-ingressgateway [istio=ingressgateway]
         Gateway default/web
         pass 443 HTTPS *.com by gateway|443
         https 443 HTTPS a.com, b.com by gateway|443
         none 443 HTTPS c.com by nothing",
    );
}

#[test]
fn what_stays_the_same_is_lent() {
    let yaml = |status: u16, key: &str| {
        let hosts =
            ["a.com", "b.com"].map(|host| https(&host[..1], host, &format!("mode: SIMPLE, credentialName: {key}")));
        gateway("default/web", &hosts.join(", "))
            + &rules("default/a", "a.com", "web", &format!("  http: [{{directResponse: {{status: {status}}}}}]"))
            + &rules("default/b", "b.com", "web", "  http: [{directResponse: {status: 200}}]")
    };
    let (one, two) = (tls_secret("istio-system/one"), tls_secret("istio-system/two"));
    let mut translator = Translator::new(gateway_view(INGRESS).unwrap());
    let mut translate = |text: &str| translator.translate(&load_text("f.yaml", text).0).0;
    let first = translate(&(yaml(200, "one") + &one + &two));
    let again = translate(&(yaml(200, "one") + &one + &two));
    assert!(Arc::ptr_eq(&first.listeners[0], &again.listeners[0]));
    assert_eq!(first.version, again.version);
    let routes = translate(&(yaml(201, "one") + &one + &two));
    let (old, new) = (&first.listeners[0].chains, &routes.listeners[0].chains);
    let tls = |chain: &outrigger_model::Chain| chain.tls.clone().unwrap();
    assert!(Arc::ptr_eq(&tls(&old[0]), &tls(&new[0])) && Arc::ptr_eq(&tls(&old[1]), &tls(&new[1])));
    assert_ne!(first.version, routes.version);
    let key = translate(&(yaml(201, "two") + &one + &two));
    assert!(!Arc::ptr_eq(&tls(&new[0]), &tls(&key.listeners[0].chains[0])));
    assert_ne!(routes.version, key.version);
    // The same name, and another key in the Secret.
    let renewed = translate(&(yaml(201, "two") + &one + &tls_secret("istio-system/two")));
    assert_ne!(tls(&key.listeners[0].chains[0]), tls(&renewed.listeners[0].chains[0]));
    let keys = dump(INGRESS, "listeners findings", &(yaml(200, "one") + &one));
    assert!(!keys.contains("PRIVATE"), "{keys}");
}
