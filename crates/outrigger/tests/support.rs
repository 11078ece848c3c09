//! The tables of docs/gateways.md: every field of the APIs stands in them, and a field that is not in force says so.
//!
//! The CRDs are other projects' and lie beside the repository, or where `OUTRIGGER_SHARED` says; where they are missing the
//! comparison with them says so and passes, and with `OUTRIGGER_CI` set it fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use outrigger_testkit::{Process, World};
use serde_json::Value;

/// One row of a table.
#[derive(Debug)]
struct Row {
    field: String,
    /// `yes`, or a code.
    in_force: String,
}

/// The tables by their heading, `API: Kind`.
fn tables() -> BTreeMap<String, Vec<Row>> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateways.md");
    let text = std::fs::read_to_string(document).expect("the document is there");
    let mut tables = BTreeMap::<String, Vec<Row>>::new();
    let mut heading = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            let mut cell = || cells.next().unwrap_or_default();
            tables.entry(heading.clone()).or_default().push(Row { field: cell(), in_force: cell() });
        }
    }
    tables
}

/// Which CRD a table is about: its file, and the kind in it.
const CRDS: [(&str, &str, &str); 9] = [
    ("Istio: Gateway", "istio.yaml", "Gateway"),
    ("Gateway API: GatewayClass", "gateway-api-standard/gateway.networking.k8s.io_gatewayclasses.yaml", "GatewayClass"),
    ("Gateway API: Gateway", "gateway-api-standard/gateway.networking.k8s.io_gateways.yaml", "Gateway"),
    ("Gateway API: ListenerSet", "gateway-api-standard/gateway.networking.k8s.io_listenersets.yaml", "ListenerSet"),
    ("Gateway API: HTTPRoute", "gateway-api-standard/gateway.networking.k8s.io_httproutes.yaml", "HTTPRoute"),
    ("Gateway API: GRPCRoute", "gateway-api-standard/gateway.networking.k8s.io_grpcroutes.yaml", "GRPCRoute"),
    ("Gateway API: TLSRoute", "gateway-api-standard/gateway.networking.k8s.io_tlsroutes.yaml", "TLSRoute"),
    ("Gateway API: TCPRoute", "gateway-api-standard/gateway.networking.k8s.io_tcproutes.yaml", "TCPRoute"),
    (
        "Gateway API: ReferenceGrant",
        "gateway-api-standard/gateway.networking.k8s.io_referencegrants.yaml",
        "ReferenceGrant",
    ),
];

#[test]
fn every_field_of_the_apis_stands_in_a_table() {
    let shared = std::env::var_os("OUTRIGGER_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let crds = shared.join("data/crds");
    if !crds.is_dir() {
        assert!(std::env::var_os("OUTRIGGER_CI").is_none(), "{} is missing", crds.display());
        eprintln!("passed over: {} is not there", crds.display());
        return;
    }
    let tables = tables();
    assert_eq!(tables.keys().collect::<Vec<_>>().len(), CRDS.len(), "{:?}", tables.keys());
    for (heading, file, kind) in CRDS {
        let text = std::fs::read_to_string(crds.join(file)).expect("the CRD is there");
        let fields = fields(&text, kind);
        assert!(fields.len() > 3, "{heading}: {fields:?}");
        let rows = &tables[heading];
        for field in &fields {
            let covered = |row: &Row| *field == row.field || field.starts_with(&format!("{}.", row.field));
            let is_parent = |row: &Row| row.field.starts_with(&format!("{field}."));
            assert!(rows.iter().any(|row| covered(row) || is_parent(row)), "{heading}: {field} is in no row");
        }
        for Row { field, .. } in rows {
            assert!(fields.contains(field), "{heading}: {field} is no field");
        }
    }
}

/// The paths of all fields of `spec` in the CRD of a kind, lists looked through.
///
/// Reads no more YAML than a CRD as a generator writes it: block mappings by indentation, and block scalars to skip.
fn fields(text: &str, kind: &str) -> Vec<String> {
    let of_kind = |document: &&str| document.contains(&format!("\n    kind: {kind}\n"));
    let document = text.split("\n---").find(of_kind).unwrap_or_else(|| panic!("no CRD of {kind}"));
    let mut stack: Vec<(usize, &str)> = Vec::new();
    let (mut fields, mut text_indent) = (Vec::new(), None::<usize>);
    for line in document.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.is_empty() || text_indent.is_some_and(|outer| indent > outer) {
            continue;
        }
        text_indent = None;
        let Some((key, value)) = trimmed.trim_start_matches("- ").split_once(':') else { continue };
        let indent = indent + trimmed.len() - trimmed.trim_start_matches("- ").len();
        stack.retain(|(outer, _)| *outer < indent);
        stack.push((indent, key));
        // A text may go on in further lines, deeper than its key.
        if !value.trim().is_empty() {
            text_indent = Some(indent);
        }
        if let Some(path) = field(&stack)
            && !fields.contains(&path)
        {
            fields.push(path);
        }
    }
    fields
}

/// The path of the innermost key, if it is a field below `spec`.
fn field(stack: &[(usize, &str)]) -> Option<String> {
    let keys: Vec<&str> = stack.iter().map(|(_, key)| *key).collect();
    let schema = keys.iter().position(|key| *key == "openAPIV3Schema")?;
    let mut keys = &keys[schema + 1..];
    let mut path = Vec::new();
    loop {
        match keys {
            ["properties", name, rest @ ..] => {
                path.push(*name);
                keys = rest;
            }
            ["items", rest @ ..] => keys = rest,
            [] => break,
            _ => return None,
        }
    }
    match &path[..] {
        ["spec", fields @ ..] if !fields.is_empty() => Some(fields.join(".")),
        _ => None,
    }
}

/// A manifest that uses a field which is not in force.
struct Sample {
    heading: &'static str,
    /// Each with a part of what is said of it.
    fields: &'static [(&'static str, &'static str)],
    yaml: &'static str,
}

const SAMPLES: [Sample; 16] = [
    Sample {
        heading: "Istio: Gateway",
        fields: &[
            ("servers.port.targetPort", "targetPort"),
            ("servers.bind", "`bind`"),
            ("servers.defaultEndpoint", "defaultEndpoint"),
        ],
        yaml: "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, name: a, protocol: HTTP, targetPort: 8081}, hosts: [a.example]}
  - {port: {number: 8080, name: b, protocol: HTTP}, hosts: [b.example], bind: 127.0.0.9}
  - {port: {number: 8080, name: c, protocol: HTTP}, hosts: [c.example], defaultEndpoint: '127.0.0.1:80'}
",
    },
    Sample {
        heading: "Istio: Gateway",
        fields: &[("servers.tls.cipherSuites", "cipherSuites")],
        yaml: "SIMPLE credentialName: pair, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]",
    },
    Sample {
        heading: "Istio: Gateway",
        fields: &[("servers.tls.subjectAltNames", "subjectAltNames")],
        yaml: "MUTUAL credentialName: pair, subjectAltNames: [a.example]",
    },
    Sample {
        heading: "Istio: Gateway",
        fields: &[("servers.tls.verifyCertificateSpki", "verifyCertificateSpki")],
        yaml: "MUTUAL credentialName: pair, verifyCertificateSpki: [NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=]",
    },
    Sample {
        heading: "Istio: Gateway",
        fields: &[("servers.tls.verifyCertificateHash", "verifyCertificateHash")],
        yaml: "MUTUAL credentialName: pair, verifyCertificateHash: [df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a]",
    },
    Sample {
        heading: "Istio: Gateway",
        fields: &[("servers.tls.caCrl", "not read from files")],
        yaml: "MUTUAL serverCertificate: /etc/cert.pem, privateKey: /etc/key.pem, caCertificates: /etc/ca.pem, caCrl: /etc/crl.pem",
    },
    Sample {
        heading: "Istio: Gateway",
        fields: &[("servers.tls.insecureSkipVerify", "insecureSkipVerify")],
        yaml: "MUTUAL credentialName: pair, insecureSkipVerify: true",
    },
    Sample {
        heading: "Istio: Gateway",
        fields: &[
            ("servers.tls.serverCertificate", "not read from files"),
            ("servers.tls.privateKey", "not read from files"),
            ("servers.tls.caCertificates", "not read from files"),
        ],
        yaml: "MUTUAL serverCertificate: /etc/cert.pem, privateKey: /etc/key.pem, caCertificates: /etc/ca.pem",
    },
    Sample {
        heading: "Istio: Gateway",
        fields: &[("servers.tls.tlsCertificates", "not read from files")],
        yaml: "SIMPLE tlsCertificates: [{serverCertificate: /etc/cert.pem, privateKey: /etc/key.pem}]",
    },
    Sample {
        heading: "Gateway API: GatewayClass",
        fields: &[("parametersRef", "parametersRef")],
        yaml: "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: outrigger}
spec:
  controllerName: outrigger.dev/gateway-controller
  parametersRef: {group: example.com, kind: Parameters, name: a}
",
    },
    Sample {
        heading: "Gateway API: Gateway",
        fields: &[
            ("listeners.tls.options", "option"),
            ("addresses", "10.0.0.1"),
            ("infrastructure.annotations", "annotations"),
            ("tls.backend", "spec.tls.backend"),
        ],
        yaml: "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: outrigger
  addresses: [{value: 10.0.0.1}]
  infrastructure: {annotations: {example.com/a: b}}
  tls: {backend: {clientCertificateRef: {name: pair}}}
  listeners:
  - {name: https, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: pair}], options: {example.com/a: b}}}
",
    },
    Sample {
        heading: "Gateway API: Gateway",
        fields: &[("infrastructure.parametersRef", "parametersRef")],
        yaml: "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: outrigger
  infrastructure: {parametersRef: {group: example.com, kind: Parameters, name: a}}
  listeners: [{name: http, port: 8080, protocol: HTTP}]
",
    },
    Sample {
        heading: "Gateway API: HTTPRoute",
        fields: &[("rules.filters.extensionRef", "filter Filter a")],
        yaml: EXTENSION,
    },
    Sample {
        heading: "Gateway API: HTTPRoute",
        fields: &[
            ("rules.backendRefs.filters.requestMirror", "RequestMirror"),
            ("rules.backendRefs.filters.extensionRef", "filter Filter a"),
        ],
        yaml: OF_BACKENDS,
    },
    Sample {
        heading: "Gateway API: GRPCRoute",
        fields: &[("rules.filters.extensionRef", "filter Filter a")],
        yaml: EXTENSION,
    },
    Sample {
        heading: "Gateway API: GRPCRoute",
        fields: &[
            ("rules.backendRefs.filters.requestMirror", "RequestMirror"),
            ("rules.backendRefs.filters.extensionRef", "filter Filter a"),
        ],
        yaml: OF_BACKENDS,
    },
];

/// Filters that HTTPRoutes and GRPCRoutes have in common.
const EXTENSION: &str = "rules: [{filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: a}}], backendRefs: [{name: app, port: 80}]}]";
const OF_BACKENDS: &str = "rules:
  - backendRefs:
    - {name: app, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: app, port: 80}}}]}
    - {name: app, port: 80, filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: a}}]}
";

impl Sample {
    /// The whole input.
    fn input(&self) -> String {
        if let Some((mode, tls)) = self.yaml.split_once(' ').filter(|(mode, _)| matches!(*mode, "SIMPLE" | "MUTUAL")) {
            return format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: web}}\nspec:\n  selector: {{istio: \
                 ingressgateway}}\n  servers:\n  - {{port: {{number: 8443, name: https, protocol: HTTPS}}, hosts: \
                 [a.example], tls: {{mode: {mode}, {tls}}}}}\n"
            );
        }
        if self.yaml.starts_with("rules:") {
            return format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: app}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
                 apiVersion: gateway.networking.k8s.io/v1\nkind: {}\nmetadata: {{name: app}}\nspec:\n  \
                 parentRefs: [{{group: '', kind: Service, name: app, port: 80}}]\n  {}",
                self.heading.trim_start_matches("Gateway API: "),
                self.yaml
            );
        }
        self.yaml.to_owned()
    }
}

#[test]
fn what_is_not_in_force_is_told() {
    for (heading, rows) in tables() {
        for row in rows.iter().filter(|row| row.in_force != "yes") {
            let is_its = |sample: &&Sample| {
                sample.heading == heading && sample.fields.iter().any(|(field, _)| *field == row.field)
            };
            assert!(SAMPLES.iter().any(|sample| is_its(&sample)), "{heading}: {} has no sample", row.field);
        }
    }
    let tables = tables();
    for sample in &SAMPLES {
        let found = findings(&sample.input());
        for (field, said) in sample.fields {
            let row = tables[sample.heading].iter().find(|row| row.field == *field);
            let code = &row.unwrap_or_else(|| panic!("{field} is in no row")).in_force;
            let is_told = found.iter().any(|(of, message)| of == code && message.contains(said));
            assert!(is_told, "{}: {field} gives {found:#?}, not {code} with {said:?}", sample.heading);
        }
    }
}

/// Code and message of what is found in an input.
fn findings(yaml: &str) -> Vec<(String, String)> {
    let world = World::new();
    world.write("input.yaml", yaml);
    world.write("pair.yaml", &pair());
    let folder = world.path().display().to_string();
    let flags = ["-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];
    let process = Process::start(env!("CARGO_BIN_EXE_outrigger"), ["run", &folder].iter().chain(&flags));
    let all = process.ready()["diagnostics"].as_array().expect("a list").iter();
    let text = |finding: &Value, member: &str| finding[member].as_str().unwrap_or_default().to_owned();
    all.map(|finding| (text(finding, "code"), text(finding, "message"))).collect()
}

/// A key pair as Gateways name it, with authorities of clients.
fn pair() -> String {
    let made = outrigger_testkit::certificates::Made::for_names(&["a.example"]);
    let text = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let (certificate, key) = (text(&made.certificate), text(&made.key));
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: pair}}\nstringData:\n  tls.crt: |\n{certificate}  tls.key: \
         |\n{key}  ca.crt: |\n{certificate}"
    )
}
