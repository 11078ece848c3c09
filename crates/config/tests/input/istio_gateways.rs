//! Istio Gateways: what is read, and what Istio's validation refuses.

use outrigger_config::kind::istio_gateway::{Bind, HostNamespace, Mode, Protocol};
use outrigger_config::loader::load_text;

use crate::check;

/// A Gateway with these servers, indented by two; `servers[0]` begins on line 5.
fn gateway(servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec: {{selector: {{istio: ingressgateway}}, servers: [\n{servers}\n]}}\n"
    )
}

/// What is said of one server.
#[track_caller]
fn server(server: &str, expected: &str) {
    let expected: Vec<String> = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| line.replacen(" 5:", " Gateway default/a f.yaml:5:", 1))
        .collect();
    check(&gateway(server), &expected.join("\n"));
}

#[test]
fn gateways_are_read() {
    let yaml = gateway(
        "{port: {number: 443, name: https, protocol: https}, bind: 10.0.0.1, hosts: [WWW.Example.com., ./*, 'shop/*.shop.com', '*/a.com'],
          tls: {mode: MUTUAL, credentialName: web, minProtocolVersion: TLSV1_2}, name: web},
         {port: {number: 80, name: http, protocol: HTTP2}, hosts: ['*'], tls: {httpsRedirect: true}}",
    );
    let (resources, diagnostics) = load_text("f.yaml", &yaml);
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    let gateway = resources.istio_gateways.get("default", "a").expect("it is valid");
    assert_eq!(gateway.meta.kind, "Gateway");
    let [https, http] = &gateway.spec.servers[..] else { panic!("two servers") };
    assert_eq!((https.port.number, https.port.protocol, https.mode()), (443, Protocol::Https, Some(Mode::Mutual)));
    assert_eq!(https.bind.as_ref().map(|bind| &bind.value), Some(&Bind::Address([10, 0, 0, 1].into())));
    let hosts: Vec<_> = https.hosts.iter().map(|host| (host.namespace.clone(), &*host.host)).collect();
    let shop = HostNamespace::Named("shop".into());
    assert_eq!(
        hosts,
        [
            (HostNamespace::Any, "www.example.com"),
            (HostNamespace::Own, "*"),
            (shop, "*.shop.com"),
            (HostNamespace::Any, "a.com")
        ]
    );
    assert!(http.redirects() && !https.redirects());
    assert_eq!((http.mode(), http.port.protocol.as_str()), (Some(Mode::Passthrough), "HTTP2"));
}

#[test]
fn the_object_has_servers_and_a_name_without_dots() {
    check(
        "apiVersion: networking.istio.io/v1beta1\nkind: Gateway\nmetadata: {name: a.b}\nspec: {}\n",
        "error [IST0106] Gateway default/a.b f.yaml:3:18: metadata.name: found \"a.b\", expected at most 63 lower-case letters, digits and inner hyphens (VirtualServices name it as `namespace/name`, without dots)
         error [IST0106] Gateway default/a.b f.yaml:3:18: spec.servers: it is missing or empty, expected at least one server",
    );
    server(
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.com]}, {port: {number: 81, name: http, protocol: HTTP}, hosts: [a.com]}",
        "error [IST0106] 5:74: spec.servers[1].port.name: \"http\" is given twice (each server has a port name of its own)",
    );
}

#[test]
fn a_server_has_a_port_and_hosts() {
    server(
        "{port: {number: 80, name: http, protocol: FTP}, hosts: []}",
        "error [IST0106] 5:43: spec.servers[0].port.protocol: found the string \"FTP\", expected one of `HTTP`, `HTTPS`, `TLS`, `TCP`, `HTTP2`, `GRPC`, `GRPC-WEB`, `MONGO`, `REDIS`, `MYSQL`",
    );
    server(
        "{port: {number: 0, name: http, protocol: HTTP}, hosts: []}",
        "error [IST0106] 5:1: spec.servers[0]: hosts: the list is empty, expected at least one host (`*` is every host)
         error [IST0106] 5:8: spec.servers[0]: port.number: found 0, expected an integer from 1 to 65535",
    );
    server(
        "{port: {number: 80, name: http, protocol: HTTP}, bind: 'unix:///x', hosts: ['a b', 'A/x', 'x/*y', '~/a.com', 1]}",
        "error [IST0106] 5:77: spec.servers[0].hosts[0]: found the string \"a b\", expected a host such as `www.example.com`, `*.example.com` or `*`, perhaps with `namespace/` in front
         error [IST0106] 5:84: spec.servers[0].hosts[1]: found the string \"A/x\", expected a host such as `www.example.com`, `*.example.com` or `*`, perhaps with `namespace/` in front
         error [IST0106] 5:91: spec.servers[0].hosts[2]: found the string \"x/*y\", expected a host such as `www.example.com`, `*.example.com` or `*`, perhaps with `namespace/` in front
         error [IST0106] 5:99: spec.servers[0].hosts[3]: found the string \"~/a.com\", expected a host such as `www.example.com`, `*.example.com` or `*`, perhaps with `namespace/` in front
         error [IST0106] 5:110: spec.servers[0].hosts[4]: found the number 1, expected a string (put it in quotes: \"1\")",
    );
    server(
        "{port: {number: 80, name: http, protocol: HTTP, targetPort: 8080}, bind: 'unix:///x', hosts: [a.com], defaultEndpoint: '127.0.0.1:80'}",
        "error [IST0106] 5:8: spec.servers[0]: port.number: found 80, expected 0 with a Unix socket
         warning [OUT0102] 5:61: spec.servers[0].port.targetPort: gateways do not look at it, and Istio refuses it (remove it)
         warning [OUT0102] 5:120: spec.servers[0].defaultEndpoint: gateways do not look at it (name destinations in a VirtualService)",
    );
}

#[test]
fn protocol_and_tls_go_together() {
    let of = |protocol: &str, tls: &str| {
        format!("{{port: {{number: 80, name: a, protocol: {protocol}}}, hosts: [a.com]{tls}}}")
    };
    server(
        &of("HTTPS", ""),
        "error [IST0106] 5:8: spec.servers[0]: `tls` is missing, protocol HTTPS needs it (add `tls: {mode: SIMPLE, credentialName: SECRET}`, or `tls: {mode: PASSTHROUGH}`)",
    );
    server(
        &of("HTTP", ", tls: {mode: SIMPLE, credentialName: x}"),
        "error [IST0106] 5:68: spec.servers[0]: tls: protocol HTTP is plain text, it has no TLS settings but `httpsRedirect` (use protocol HTTPS)",
    );
    server(
        &of("TCP", ", tls: {httpsRedirect: true}"),
        "error [IST0106] 5:67: spec.servers[0]: tls: protocol TCP is plain text, it has no TLS settings (use protocol TLS)",
    );
    server(
        &of("HTTPS", ", tls: {mode: SIMPLE, credentialName: x, httpsRedirect: true}"),
        "warning [OUT0102] 5:69: spec.servers[0]: tls.httpsRedirect: it is for plain HTTP, this server speaks HTTPS (add a server of protocol HTTP that redirects)",
    );
    server(
        &of("HTTPS", ", tls: {credentialName: x}"),
        "warning [OUT0102] 5:86: spec.servers[0].tls: mode PASSTHROUGH uses no certificates (add `mode: SIMPLE` if TLS is meant to end here)",
    );
}

#[test]
fn certificates_come_from_one_source() {
    let of = |tls: &str| format!("{{port: {{number: 443, name: a, protocol: HTTPS}}, hosts: [a.com], tls: {{{tls}}}}}");
    for good in [
        "mode: SIMPLE, credentialName: x",
        "mode: SIMPLE, credentialName: ''  , credentialNames: [x, z]",
        "mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, caCrl: /crl",
        "mode: SIMPLE, tlsCertificates: [{serverCertificate: /c, privateKey: /k}]",
        "mode: OPTIONAL_MUTUAL, credentialName: x, caCertCredentialName: z",
        "mode: ISTIO_MUTUAL",
    ] {
        server(&of(good), "");
    }
    server(
        &of("mode: SIMPLE"),
        "error [IST0106] 5:70: spec.servers[0].tls: `serverCertificate` is missing, mode SIMPLE needs a certificate and its key (name a Secret that has both in `credentialName`)
         error [IST0106] 5:70: spec.servers[0].tls: `privateKey` is missing, mode SIMPLE needs a certificate and its key (name a Secret that has both in `credentialName`)",
    );
    server(
        &of("mode: MUTUAL, tlsCertificates: [{serverCertificate: /c}]"),
        "error [IST0106] 5:70: spec.servers[0].tls: tlsCertificates[0]: `privateKey` is missing (name a Secret that has both in `credentialName`)
         error [IST0106] 5:70: spec.servers[0].tls: `caCertificates` is missing, mode MUTUAL needs the clients' authorities (name a Secret that has both in `credentialName`)",
    );
    server(
        &of("mode: SIMPLE, credentialName: x, credentialNames: [a, b, c], caCrl: /crl"),
        "error [IST0106] 5:70: spec.servers[0].tls: `credentialName` and `credentialNames` are given together, expected one of them
         error [IST0106] 5:70: spec.servers[0].tls: credentialNames: found 3, expected at most 2 (one certificate may be RSA, the other ECDSA)
         error [IST0106] 5:139: spec.servers[0].tls: caCrl: it does not go with `credentialName` (put the list into the Secret, as `ca.crl`)",
    );
    server(
        &of("mode: ISTIO_MUTUAL, credentialName: x"),
        "error [IST0106] 5:107: spec.servers[0].tls: mode ISTIO_MUTUAL takes the certificates of the mesh, no others (remove them, or use mode MUTUAL)",
    );
    server(
        &of("mode: SIMPLE, credentialName: x, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2"),
        "error [IST0106] 5:153: spec.servers[0].tls: maxProtocolVersion: TLSV1_2 is older than minProtocolVersion, which is TLSV1_3",
    );
}
