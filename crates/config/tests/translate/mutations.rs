//! Broken input: whatever is taken away or bent, nothing panics, the model's promises hold, and a translator that has seen
//! other inputs says the same as a fresh one.

use std::collections::HashSet;

use outrigger_config::loader::load_text;
use outrigger_config::translate::{Forward, Translator, View, translate};
use outrigger_model::{Action, ClusterName, Listener, Serve, Snapshot};

/// Every kind, each with every block that the translation looks at.
const WORLD: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  selector: {app: cart}
  ports:
  - {name: http, port: 80, targetPort: web}
  - {name: tcp-x, port: 81}
  - {name: tls-x, port: 82}
---
apiVersion: v1
kind: Service
metadata: {name: cart-v2, namespace: shop}
spec:
  ports:
  - name: http
    port: 80
---
apiVersion: v1
kind: Pod
metadata: {name: cart-0, namespace: shop, labels: {app: cart, version: v1}}
spec:
  nodeName: n1
  containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]
status:
  podIP: 10.1.0.1
---
apiVersion: v1
kind: Node
metadata:
  name: n1
  labels: {topology.kubernetes.io/region: r1}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: v2, namespace: shop, labels: {kubernetes.io/service-name: cart-v2}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- addresses: [10.1.0.2]
- addresses: [10.1.0.3]
  conditions: {ready: false}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: connections, namespace: shop}
spec:
  hosts: [cart, '*.example']
  gateways: [mesh]
  tls:
  - match:
    - sniHosts: [a.example, '*.b.example']
      port: 82
      gateways: [mesh]
    - {sniHosts: [a.example], destinationSubnets: [10.0.0.0/8]}
    route:
    - destination: {host: cart, subset: v1}
  tcp:
  - match: [{port: 81, sourceLabels: {app: web}}]
    route: [{destination: {host: cart-v2}}]
  - match:
    - port: 81
      destinationSubnets: [10.0.0.0/24]
      sourceSubnet: 10.0.0.0/8
    route:
    - destination: {host: cart, subset: v1, port: {number: 81}}
      weight: 9
    - destination: {host: cart-v2}
      weight: 1
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec:
  host: cart
  trafficPolicy:
    outlierDetection: {}
    loadBalancer:
      consistentHash:
        httpCookie: {name: c, ttl: 1s}
      localityLbSetting:
        distribute: [{from: r1, to: {r1: 100}}]
    portLevelSettings:
    - port: {number: 80}
      loadBalancer: {simple: RANDOM}
  subsets:
  - name: v1
    labels: {version: v1}
  - name: v2
    labels: {version: v2}
    trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec:
  hosts:
  - cart
  - '*.example.com'
  http:
  - match:
    - uri: {prefix: /a}
      headers: {x: {regex: a.*}}
    - port: 80
      sourceLabels: {app: web}
    rewrite: {uri: /b}
    route:
    - destination: {host: cart, subset: v1, port: {number: 80}}
      weight: 90
    - destination: {host: cart, subset: v2, port: {number: 80}}
      weight: 10
      headers: {request: {set: {host: h}}}
  - match: [{uri: {prefix: /d}}]
    delegate: {name: leaf}
  - route: [{destination: {host: cart-v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf, namespace: shop}
spec:
  http:
  - match: [{uri: {prefix: /d/e}}]
    redirect: {uri: /f}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: shop}
spec:
  hosts: [api.example.com, '*.other.com']
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints:
  - address: 10.2.0.1
    locality: r1/z1
  - address: 10.2.0.2
    weight: 3
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec:
  egress:
  - hosts:
    - '*/*'
    - '~shop/x.example.com'
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: s, namespace: shop}
spec:
  service: cart-v2
  backends:
  - {service: cart, weight: 500m}
  - {service: cart-v2, weight: 1}
  matches: [{kind: HTTPRouteGroup, name: g}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: g, namespace: shop}
spec:
  matches: [{name: m, pathRegex: /x, methods: [GET]}]
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec: {ports: [{name: http, port: 80}, {name: admin, port: 81}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pay, namespace: shop}
spec:
  parentRefs:
  - {group: '', kind: Service, name: pay}
  rules:
  - name: first
    matches:
    - path: {type: Exact, value: /a}
      method: GET
    - headers: [{name: x, value: a}]
      queryParams: [{name: q, type: RegularExpression, value: a.*}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: a, value: b}], remove: [c]}
    - type: RequestMirror
      requestMirror: {backendRef: {name: cart, port: 80}, percent: 5}
    backendRefs:
    - {name: cart, port: 80, weight: 9}
    - name: cart-v2
      port: 80
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: a, value: b}]}}]
    timeouts: {request: 1s}
  - matches: [{path: {value: /r}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}
  - matches: [{path: {value: /w}}]
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: a.b}
    - {type: CORS, cors: {allowOrigins: ['https://*.a.b']}}
    backendRefs: [{name: pay, port: 81}]
---
apiVersion: v1
kind: Service
metadata: {name: calls, namespace: shop}
spec: {ports: [{name: grpc, port: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: calls, namespace: shop}
spec:
  host: calls
  trafficPolicy:
    proxyProtocol: {version: V2}
    connectionPool:
      tcp: {tcpKeepalive: {probes: 3, time: 60s}, idleTimeout: 90s}
      http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 7, http2KeepAlive: {interval: 30s, timeout: 5s}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec:
  parentRefs:
  - {group: '', kind: Service, name: calls, port: 9000}
  rules:
  - name: one
    matches:
    - method: {type: Exact, service: shop.v1.Cart, method: Get}
      headers: [{name: x, value: a}]
    - method: {type: RegularExpression, service: 'shop[.].*'}
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: a, value: b}]}
    backendRefs:
    - {name: calls, port: 9000, weight: 9}
    - name: calls
      port: 9000
      filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    connectTimeout: 3s
    h2UpgradePolicy: UPGRADE
    tcpKeepalive: {probes: 3}
    outboundTrafficPolicy:
      mode: REGISTRY_ONLY
";

/// What the data plane may rely on.
#[track_caller]
fn promises(snapshot: &Snapshot) {
    let mut domains = HashSet::new();
    for vhost in &crate::dump::outbound(snapshot).virtual_hosts {
        assert!(!vhost.domains.is_empty(), "{}", vhost.name);
        // Without routes it is a port that CONNECT leads to: `HOST:PORT`, whose cluster there is.
        let (host, port) = vhost.name.rsplit_once(':').expect("HOST:PORT");
        let own = port.parse().ok().map(|port| ClusterName::outbound(port, "", host));
        assert!(
            !vhost.routes.is_empty() || own.is_some_and(|own| snapshot.clusters.contains_key(&own)),
            "{}",
            vhost.name
        );
        for domain in &vhost.domains {
            assert!(domains.insert(domain.clone()), "{domain:?} is claimed twice");
        }
        for route in &vhost.routes {
            let Action::Forward(forward) = &route.action else { continue };
            assert!(forward.destinations.iter().map(|d| u64::from(d.weight)).sum::<u64>() > 0);
            for destination in &forward.destinations {
                let there = snapshot.clusters.contains_key(&destination.cluster);
                // A share that gets 500 may name a cluster that is there: what cannot be obeyed is a filter.
                let missing = destination.missing.as_ref().map(|missing| missing.status);
                assert!(
                    there == missing.is_none() || missing == Some(500),
                    "{} in {}",
                    destination.cluster,
                    vhost.name
                );
            }
        }
    }
    snapshot.listeners.iter().filter(|l| l.name.starts_with("forward|")).for_each(|l| relays(l, snapshot));
    for (name, cluster) in &snapshot.clusters {
        assert_eq!(*name, cluster.name);
        assert!(cluster.endpoints.iter().all(|e| e.weight > 0));
    }
}

/// What a listener that relays connections promises: each has one way to go.
fn relays(listener: &Listener, snapshot: &Snapshot) {
    let unnamed = listener.chains.iter().filter(|chain| chain.server_names.is_empty()).count();
    assert_eq!(unnamed, 1, "{}", listener.name);
    let mut names = HashSet::new();
    for chain in &listener.chains {
        assert!(chain.server_names.iter().all(|name| names.insert(name)), "{:?}", chain.server_names);
        let Serve::Tcp(route) = &chain.serve else { panic!("{} speaks HTTP", listener.name) };
        assert!(route.destinations.iter().map(|d| u64::from(d.weight)).sum::<u64>() > 0);
        for destination in &route.destinations {
            let there = snapshot.clusters.contains_key(&destination.cluster);
            assert_eq!(there, destination.missing.is_none(), "{}", destination.cluster);
        }
    }
}

/// An anonymous client with a forward for each kind of port, and one to nowhere.
fn view() -> View {
    let to = [("cart.shop", 80), ("cart.shop.svc.cluster.local", 81), ("10.0.0.1", 82), ("gone", 1)];
    let forward = |(own, (host, port)): (u16, (&str, u16))| Forward {
        address: ([127, 0, 0, 1], own).into(),
        host: host.into(),
        port,
    };
    View { forwards: (1..).zip(to).map(forward).collect(), ..View::default() }
}

#[test]
fn the_world_itself_is_whole() {
    let (resources, findings) = load_text("f.yaml", WORLD);
    let errors: Vec<String> = findings.iter().filter(|f| f.code.0 != "OUT0103").map(ToString::to_string).collect();
    assert_eq!(errors, Vec::<String>::new());
    let (snapshot, _) = translate(&resources, &view());
    promises(&snapshot);
    let ways: Vec<usize> = snapshot.listeners.iter().map(|listener| listener.chains.len()).collect();
    assert_eq!(ways, [1, 1, 1, 2, 1]);
    assert_eq!(snapshot.clusters.len(), 15, "{:?}", snapshot.clusters.keys());
}

#[test]
fn no_line_is_needed_for_safety() {
    let mut translator = Translator::new(view());
    let lines: Vec<&str> = WORLD.lines().collect();
    let values = ["", "[]", "{}", "~", "-1", "'*'", "[[]]", "99999999999", "\"\\0\""];
    for at in 0..lines.len() {
        let mut inputs = vec![[&lines[..at], &lines[at + 1..]].concat().join("\n")];
        if let Some((key, _)) = lines[at].split_once(": ") {
            let value = values[at % values.len()];
            let bent = format!("{key}: {value}");
            inputs.push([&lines[..at], &[bent.as_str()], &lines[at + 1..]].concat().join("\n"));
        }
        for input in inputs {
            let (resources, _) = load_text("f.yaml", &input);
            let (fresh, findings) = translate(&resources, &view());
            promises(&fresh);
            let (kept, kept_findings) = translator.translate(&resources);
            // A broken mesh text leaves the settings of before in force: only a translator with a past has any.
            if !kept_findings.iter().any(|f| f.code.0 == "OUT0011") {
                assert_eq!(kept.version, fresh.version, "line {}", at + 1);
                assert_eq!(kept.clusters, fresh.clusters, "line {}", at + 1);
                assert_eq!(kept.listeners, fresh.listeners, "line {}", at + 1);
                assert_eq!(kept_findings, findings, "line {}", at + 1);
            }
        }
    }
}
