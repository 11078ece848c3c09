//! Broken input: whatever line is taken away or bent, nothing panics, the model's promises hold, and a translator that has
//! seen other inputs says the same as a fresh one.

use std::collections::HashSet;

use outrigger_config::translate::Translator;

use super::*;

/// Every kind, each with every block that the translation looks at; the Secret is added.
const WORLD: &str = "
apiVersion: v1
kind: Namespace
metadata:
  name: team
  labels: {tier: web}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec:
  controllerName: outrigger.dev/gateway-controller
  parametersRef: {group: '', kind: ConfigMap, name: ca, namespace: infra}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: web
  namespace: infra
spec:
  gatewayClassName: ours
  infrastructure:
    labels: {version: v1}
    parametersRef: {group: '', kind: ConfigMap, name: ca}
  addresses:
  - type: IPAddress
    value: 10.0.0.1
  allowedListeners:
    namespaces:
      from: Selector
      selector:
        matchLabels: {tier: web}
  tls:
    backend: {clientCertificateRef: {name: c}}
    frontend:
      default:
        validation:
          caCertificateRefs:
          - {group: '', kind: ConfigMap, name: ca}
          mode: AllowValidOnly
      perPort:
      - port: 443
        tls: {}
  listeners:
  - name: http
    port: 80
    protocol: HTTP
    allowedRoutes:
      namespaces:
        from: All
  - name: wild
    port: 80
    protocol: HTTP
    hostname: '*.example.com'
  - name: https
    port: 443
    protocol: HTTPS
    tls:
      certificateRefs:
      - name: c
  - name: named
    port: 443
    protocol: HTTPS
    hostname: a.example.com
    tls:
      mode: Terminate
      certificateRefs:
      - name: c
      - name: c
        namespace: vault
  - name: tcp
    port: 9000
    protocol: TCP
  - name: through
    port: 443
    protocol: TLS
    hostname: '*.through.example.com'
    tls:
      mode: Passthrough
  - name: end
    port: 443
    protocol: TLS
    hostname: '*.end.example.com'
    tls:
      mode: Terminate
      certificateRefs:
      - name: c
  - name: udp
    port: 9000
    protocol: UDP
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: set, namespace: team}
spec:
  parentRef:
    name: web
    namespace: infra
  listeners:
  - name: set
    port: 80
    protocol: HTTP
    hostname: b.example.com
  - name: taken
    port: 80
    protocol: HTTP
    hostname: '*.example.com'
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: vault}
spec:
  from:
  - group: gateway.networking.k8s.io
    kind: Gateway
    namespace: infra
  to:
  - group: ''
    kind: Secret
    name: c
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: one, namespace: infra}
spec:
  parentRefs:
  - name: web
    sectionName: http
    port: 80
  - name: web
    sectionName: wild
    port: 80
  hostnames:
  - a.example.com
  - '*.com'
  rules:
  - matches:
    - path: {value: /one}
    backendRefs:
    - name: a
      port: 8080
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: two, namespace: team}
spec:
  parentRefs:
  - name: set
    kind: ListenerSet
  - name: web
    namespace: infra
  rules:
  - backendRefs:
    - {name: a, namespace: infra, port: 8080}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: tls, namespace: infra}
spec:
  parentRefs:
  - name: web
  - name: a
    kind: Service
    group: ''
  hostnames:
  - a.through.example.com
  - '*.example.com'
  rules:
  - backendRefs:
    - name: a
      port: 8080
      weight: 3
    - name: absent
      port: 8080
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp, namespace: infra}
spec:
  parentRefs:
  - name: web
    sectionName: tcp
  - name: web
    sectionName: end
  rules:
  - backendRefs:
    - name: a
      port: 8080
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca, namespace: infra}
data: {}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: infra}
spec: {ports: [{name: http, port: 8080}]}
";

/// What the data plane may rely on.
#[track_caller]
fn promises(snapshot: &Snapshot) {
    let mut names = HashSet::new();
    for listener in &snapshot.listeners {
        assert!(!listener.chains.is_empty(), "{}", listener.name);
        assert_eq!(listener.direction, Direction::Gateway);
        let mut server_names = HashSet::new();
        for chain in &listener.chains {
            assert!(server_names.insert(chain.server_names.clone()), "{:?} twice", chain.server_names);
            assert!(chain.tls.as_ref().is_none_or(|tls| !tls.certificates.is_empty()));
            let Serve::Tcp(route) = &chain.serve else { continue };
            assert!(!route.destinations.is_empty());
            for destination in route.destinations.iter().filter(|d| d.missing.is_none()) {
                assert!(destination.weight > 0);
                assert!(snapshot.clusters.contains_key(&destination.cluster), "{}", destination.cluster);
            }
        }
        for table in listener.route_tables() {
            assert_eq!(table.unmatched, Unmatched::NotFound);
            let mut domains = HashSet::new();
            for vhost in &table.virtual_hosts {
                assert!(names.insert(vhost.name.clone()), "{} twice", vhost.name);
                assert!(vhost.domains.iter().all(|domain| domains.insert(domain.clone())), "{}", vhost.name);
                for route in &vhost.routes {
                    let Action::Forward(forward) = &route.action else { continue };
                    for destination in forward.destinations.iter().filter(|d| d.missing.is_none()) {
                        assert!(snapshot.clusters.contains_key(&destination.cluster), "{}", destination.cluster);
                    }
                }
            }
        }
    }
}

/// What conditions promise: none stands twice, and what is not true says why.
#[track_caller]
fn conditions_promise(statuses: &[ObjectStatus]) {
    for status in statuses {
        let mut kinds = HashSet::new();
        for condition in &status.conditions {
            assert!(kinds.insert(condition.kind), "{status:?}");
            let silent = condition.message.is_empty() && condition.reason != "NoConflicts";
            assert!(condition.status == ConditionStatus::True || !silent, "{status:?}");
        }
    }
}

struct Both {
    gateway: Translator,
    anonymous: Translator,
}

impl Both {
    fn new() -> Self {
        Self { gateway: Translator::new(view("infra/web")), anonymous: Translator::new(View::default()) }
    }

    #[track_caller]
    fn translate(&mut self, yaml: &str) {
        let resources = load_text("f.yaml", yaml).0;
        for (translator, view) in [(&mut self.gateway, view("infra/web")), (&mut self.anonymous, View::default())] {
            let (kept, kept_findings) = translator.translate(&resources);
            let (fresh, findings) = translate(&resources, &view);
            assert_eq!((kept.version, kept.listeners), (fresh.version, fresh.listeners.clone()), "{yaml}");
            assert_eq!((kept.clusters, kept_findings), (fresh.clusters.clone(), findings), "{yaml}");
            conditions_promise(translator.conditions());
            if view.gateway.is_some() {
                promises(&fresh);
            }
        }
        assert_eq!(self.gateway.conditions(), self.anonymous.conditions());
        for proxy in config_gateways::list(&resources, &View::default()) {
            let shown = proxy.objects.iter().flat_map(|o| &o.listeners).filter_map(|l| l.listener.clone());
            let shown: HashSet<_> = shown.collect();
            let snapshot = translate(&resources, &View::of_gateway(proxy.id)).0;
            assert_eq!(
                shown,
                snapshot.listeners.iter().map(|l| l.name.clone()).collect(),
                "the report tells what is served"
            );
        }
    }
}

fn world() -> String {
    format!("{WORLD}{}{}", tls::secret("infra/c", &["a.example.com"]), tls::secret("vault/c", &["x"]))
}

#[test]
fn the_world_itself_is_whole() {
    let (resources, findings) = load_text("f.yaml", &world());
    assert!(findings.is_empty(), "{findings:#?}");
    let found: String = conditions(&resources, &View::default()).iter().map(line).collect();
    assert!(
        found.starts_with("GatewayClass ours: Accepted\nGateway infra/web: Accepted=True/ListenersNotValid"),
        "{found}"
    );
    let snapshot = translate(&resources, &view("infra/web")).0;
    promises(&snapshot);
    assert_eq!(snapshot.listeners.len(), 3, "{found}");
}

#[test]
fn no_line_is_needed_for_safety() {
    let mut both = Both::new();
    // The Secrets at the end are left alone: they are judged elsewhere.
    let (lines, rest) = (WORLD.lines().count(), world()[WORLD.len()..].to_owned());
    for gone in 0..lines {
        let kept = WORLD.lines().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| line);
        both.translate(&(kept.collect::<Vec<_>>().join("\n") + "\n" + &rest));
    }
}

#[test]
fn no_word_is_needed_for_safety() {
    let mut both = Both::new();
    let whole = world();
    for (from, to) in [
        ("ours", "theirs"),
        ("HTTPS", "HTTP"),
        ("protocol: HTTP\n", "protocol: UDP\n"),
        ("port: 443\n    protocol", "port: 80\n    protocol"),
        ("- port: 443", "- port: 8443"),
        ("'*.example.com'", "a.example.com"),
        ("from: All", "from: Same"),
        ("from: Selector", "from: None"),
        ("kind: Gateway\n    namespace", "kind: HTTPRoute\n    namespace"),
        ("name: web", "name: bew"),
        ("sectionName: wild", "sectionName: http"),
        ("data: {}", "data: {ca.crt: text}"),
        ("kind: ConfigMap, name: ca}", "kind: Secret, name: c}"),
        ("AllowValidOnly", "AllowInsecureFallback"),
        ("type: IPAddress", "type: NamedAddress"),
        ("value: 10.0.0.1", "value: ''"),
        ("'*.com'", "'*.org'"),
        ("Passthrough", "Terminate"),
        ("protocol: TLS", "protocol: HTTPS"),
        ("protocol: TCP", "protocol: TLS"),
        ("'*.through.example.com'", "'*.example.com'"),
        ("kind: TLSRoute", "kind: TCPRoute"),
        ("kind: TCPRoute", "kind: TLSRoute"),
        ("sectionName: end", "sectionName: through"),
        ("weight: 3", "weight: 0"),
    ] {
        let bent = whole.replace(from, to);
        assert_ne!(bent, whole, "{from}");
        both.translate(&bent);
        both.translate(&whole);
    }
}
