//! Istio Gateways from broken input: whatever is taken away or bent, the model's promises hold, and a translator that has
//! seen other inputs says the same as a fresh one.

use std::collections::HashSet;

use outrigger_config::loader::load_text;
use outrigger_config::translate::{Translator, translate};
use outrigger_model::{Action, Destination, Serve, Snapshot};

use crate::istio_gateways::{INGRESS, gateway, http, rules};
use crate::listeners::gateway_view;

/// A line for each block that is looked at; `KEY` and `CERTIFICATE` are put in.
const WORLD: &str = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  ports:
  - {name: http, port: 80}
  - {name: tcp, port: 81}
---
apiVersion: v1
kind: Secret
metadata:
  name: web
  namespace: istio-system
type: kubernetes.io/tls
stringData:
  tls.crt: CERTIFICATE
  tls.key: KEY
  ca.crt: CERTIFICATE
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata:
      labels: {istio: ingressgateway}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector:
    istio: ingressgateway
  servers:
  - name: plain
    port: {number: 80, name: http, protocol: HTTP}
    hosts:
    - '*'
    - default/b.com
  - port:
      number: 80
      name: redirect
      protocol: HTTP
    hosts: ['*.r.com']
    tls:
      httpsRedirect: true
  - port:
      number: 443
      name: https
      protocol: HTTPS
    hosts:
    - a.com
    - b.com
    tls:
      mode: MUTUAL
      credentialName: web
      minProtocolVersion: TLSV1_3
  - port: {number: 443, name: pass, protocol: TLS}
    hosts:
    - '*.com'
    tls: {mode: PASSTHROUGH}
  - port: {number: 443, name: end, protocol: TLS}
    hosts: [x.org]
    tls:
      mode: SIMPLE
      credentialNames: [web]
  - port: {number: 9000, name: tcp, protocol: TCP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts:
  - '*'
  gateways:
  - web
  - mesh
  http:
  - match:
    - gateways: [web]
      uri: {prefix: /a}
    route: [{destination: {host: a, port: {number: 80}}}]
  - route:
    - destination: {host: a, port: {number: 80}}
  tls:
  - match:
    - sniHosts: [a.com, c.com]
      port: 443
    route:
    - destination: {host: a, port: {number: 81}}
      weight: 3
    - destination: {host: a, port: {number: 81}, subset: x}
      weight: 1
  tcp:
  - match:
    - port: 9000
    route: [{destination: {host: a, port: {number: 81}}}]
  - route: [{destination: {host: a, port: {number: 81}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: w}
spec:
  hosts: [b.com, s.r.com]
  gateways: [default/web]
  http: [{directResponse: {status: 200}}]
";

fn world() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.com".to_owned()]).unwrap().self_signed(&key).unwrap();
    let quoted = |pem: String| format!("\"{}\"", pem.replace('\n', "\\n"));
    WORLD.replace("CERTIFICATE", &quoted(certificate.pem())).replace("KEY", &quoted(key.serialize_pem()))
}

/// What the data plane may rely on.
#[track_caller]
fn promises(snapshot: &Snapshot) {
    let mut listeners = HashSet::new();
    let mut vhosts = HashSet::new();
    for listener in &snapshot.listeners {
        assert!(listeners.insert(listener.name.clone()) && !listener.chains.is_empty(), "{}", listener.name);
        let mut names = HashSet::new();
        let mut without_names = 0;
        for chain in &listener.chains {
            without_names += usize::from(chain.server_names.is_empty());
            assert!(chain.server_names.iter().all(|name| names.insert(name.clone())), "{:?}", chain.server_names);
            assert!(chain.tls.as_ref().is_none_or(|tls| !tls.certificates.is_empty()));
            match &chain.serve {
                Serve::Tcp(route) => destinations(&route.destinations, snapshot),
                Serve::Http(table) | Serve::Detect { http: table, .. } => {
                    let mut domains = HashSet::new();
                    for vhost in &table.virtual_hosts {
                        assert!(vhosts.insert(vhost.name.clone()), "{} stands twice", vhost.name);
                        assert!(vhost.domains.iter().all(|domain| domains.insert(domain.clone())), "{}", vhost.name);
                        assert!(!vhost.domains.is_empty() && !vhost.routes.is_empty(), "{}", vhost.name);
                        for route in &vhost.routes {
                            if let Action::Forward(forward) = &route.action {
                                destinations(&forward.destinations, snapshot);
                            }
                        }
                    }
                }
            }
        }
        assert!(without_names <= 1, "{} has {without_names} chains for everybody", listener.name);
    }
}

#[track_caller]
fn destinations(all: &[Destination], snapshot: &Snapshot) {
    assert!(all.iter().map(|destination| u64::from(destination.weight)).sum::<u64>() > 0);
    for destination in all {
        assert_eq!(snapshot.clusters.contains_key(&destination.cluster), destination.missing.is_none());
    }
}

#[test]
fn the_world_itself_is_whole() {
    let (resources, findings) = load_text("f.yaml", &world());
    assert!(findings.is_empty(), "{findings:#?}");
    let (snapshot, _) = translate(&resources, &gateway_view(INGRESS).unwrap());
    promises(&snapshot);
    let chains: Vec<(u16, usize)> = snapshot.listeners.iter().map(|l| (l.port, l.chains.len())).collect();
    assert_eq!(chains, [(80, 1), (443, 3), (9000, 1)]);
}

#[test]
fn no_line_is_needed_for_safety() {
    let world = world();
    let view = gateway_view(INGRESS).unwrap();
    let mut translator = Translator::new(view.clone());
    let lines: Vec<&str> = world.lines().collect();
    let values = ["", "[]", "{}", "~", "-1", "'*'", "[[]]", "99999999999", "\"\\0\""];
    for at in 0..lines.len() {
        let mut inputs = vec![[&lines[..at], &lines[at + 1..]].concat().join("\n")];
        if let Some((key, _)) = lines[at].split_once(": ") {
            for value in values.iter().cycle().skip(at).take(3) {
                let bent = format!("{key}: {value}");
                inputs.push([&lines[..at], &[bent.as_str()], &lines[at + 1..]].concat().join("\n"));
            }
        }
        for input in inputs {
            let (resources, _) = load_text("f.yaml", &input);
            let (fresh, findings) = translate(&resources, &view);
            promises(&fresh);
            let (kept, kept_findings) = translator.translate(&resources);
            assert_eq!(kept.version, fresh.version, "line {}", at + 1);
            assert_eq!(kept.clusters, fresh.clusters, "line {}", at + 1);
            assert_eq!(kept.listeners, fresh.listeners, "line {}", at + 1);
            assert_eq!(kept_findings, findings, "line {}", at + 1);
        }
    }
}

#[test]
fn a_workload_that_comes_later_takes_the_gateways_over() {
    let mut translator = Translator::new(gateway_view(INGRESS).unwrap());
    let mut listeners = |yaml: &str| translator.translate(&load_text("f.yaml", yaml).0).0.listeners.len();
    let yaml = gateway("default/web", &http("'*'"));
    let elsewhere = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: edge, labels: {istio: ingressgateway}}\nspec: {containers: [{name: c}]}\n";
    assert_eq!(listeners(&yaml), 1);
    assert_eq!(listeners(&(yaml.clone() + elsewhere)), 0);
    assert_eq!(listeners(&yaml), 1);
    let selector = yaml.replace("istio: ingressgateway", "istio: other");
    assert_eq!(listeners(&selector), 0);
}

/// A thousand hosts with a VirtualService each are worked through in about linear time, and again for a fraction of it.
#[test]
fn a_thousand_virtual_services_are_no_trouble() {
    let mut yaml = gateway("default/web", &http("'*'"));
    for index in 0..1_000 {
        yaml += &rules(
            &format!("default/v{index}"),
            &format!("h{index}.example.com"),
            "web",
            "  http: [{directResponse: {status: 200}}]",
        );
    }
    let resources = load_text("f.yaml", &yaml).0;
    let mut translator = Translator::new(gateway_view(INGRESS).unwrap());
    let started = std::time::Instant::now();
    let (snapshot, findings) = translator.translate(&resources);
    eprintln!("1000 VirtualServices at one gateway: {:?}", started.elapsed());
    assert_eq!(findings, Vec::new());
    let hosts = |snapshot: &Snapshot| snapshot.listeners[0].route_tables().next().unwrap().virtual_hosts.clone();
    assert_eq!(hosts(&snapshot).len(), 1_000);
    let edited = load_text("f.yaml", &yaml.replacen("status: 200", "status: 201", 1)).0;
    let (next, _) = translator.translate(&edited);
    let pairs = hosts(&snapshot).into_iter().zip(hosts(&next));
    assert_eq!(pairs.filter(|(old, new)| !std::sync::Arc::ptr_eq(old, new)).count(), 1, "one virtual host changed");
}
