//! Connections that the system redirects to a workload's sidecar, in network namespaces with rules of iptables: what leaves
//! the pod and what arrives, over IPv4 and IPv6, whatever it carries.

mod backends;
mod pod;

use outrigger_testkit::eventually;
use pod::{Machine, Pod, echo, get, talk, talker, within};

/// A mesh around workload `shop/app`: Services with addresses of both versions, whose endpoints are other pods.
const MESH: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'protocolDetectionTimeout: 300ms'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, namespace: shop}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: app, ports: [{containerPort: 8080, name: http}, {containerPort: 5000}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: shop}
spec: {selector: {app: app}, ports: [{name: http, port: 80, targetPort: 8080}, {name: any, port: 5000}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, 'fd00:96::10']
  ports: [{name: http-a, port: 8000}, {name: http-b, port: 8001}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: 10.96.0.11
  clusterIPs: [10.96.0.11, 'fd00:96::11']
  ports: [{name: tcp-db, port: 3300}]
---
apiVersion: v1
kind: Service
metadata: {name: any, namespace: shop}
spec:
  clusterIP: 10.96.0.12
  clusterIPs: [10.96.0.12, 'fd00:96::12']
  ports: [{name: mail, port: 2525}, {name: pages, port: 9000}]
";

/// The EndpointSlices of a service: one for each version of IP.
fn slices(service: &str, ports: &[(&str, u16)]) -> String {
    let ports: Vec<String> = ports.iter().map(|(name, port)| format!("{{name: {name}, port: {port}}}")).collect();
    let ports = ports.join(", ");
    let slice = |version: &str, address: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {service}-{version}, namespace: shop, labels: {{kubernetes.io/service-name: {service}}}}}\n\
             addressType: IP{version}\nports: [{ports}]\n\
             endpoints: [{{addresses: ['{address}'], conditions: {{ready: true}}}}]\n"
        )
    };
    slice("v4", "10.1.0.3") + &slice("v6", "fd00:1::3")
}

fn mesh() -> String {
    MESH.to_owned()
        + &slices("web", &[("http-a", 8000), ("http-b", 8001)])
        + &slices("db", &[("tcp-db", 3300)])
        + &slices("any", &[("mail", 2525), ("pages", 9000)])
}

/// Counts that come a moment after what they count.
fn counted(pod: &Pod, name: &str, labels: &[(&str, &str)], want: u64) {
    eventually(&format!("{want} of {name} {labels:?}"), || (pod.metric(name, labels) == want).then_some(()));
}

/// A request to the address of a service is routed by its Host, and the port it was to go to counts where the Host names
/// none, or another.
#[test]
fn requests_are_routed_by_the_port_they_were_to_go_to() {
    within("requests_are_routed_by_the_port_they_were_to_go_to", || {
        let mut pod = Pod::start(&mesh());
        let _web =
            echo(&["10.1.0.3:8000,pod=a", "[fd00:1::3]:8000,pod=a", "10.1.0.3:8001,pod=b", "[fd00:1::3]:8001,pod=b"]);
        for address in ["10.96.0.10", "[fd00:96::10]"] {
            for (port, host, want) in
                [(8000, "web.shop", "a"), (8001, "web.shop", "b"), (8001, "web", "b"), (8000, "web.shop:8001", "a")]
            {
                let address = format!("{address}:{port}");
                assert_eq!(get(&address, host), (200, want.to_owned()), "{host} at {address}");
            }
            let by_address = format!("{address}:8001");
            assert_eq!(get(&by_address, &by_address), (200, "b".to_owned()), "no name at all");
        }
        let labels = [("reporter", "source"), ("source_workload", "app"), ("destination_service_name", "web")];
        counted(&pod, "istio_requests_total", &labels, 10);
        pod.assert_well();
    });
}

/// Bytes to the address of a service go to an endpoint of it.
#[test]
fn connections_are_relayed_by_the_address_they_were_to_go_to() {
    within("connections_are_relayed_by_the_address_they_were_to_go_to", || {
        let mut pod = Pod::start(&mesh());
        talker("10.1.0.3:3300", "db:");
        talker("[fd00:1::3]:3300", "db:");
        for address in ["10.96.0.11:3300", "[fd00:96::11]:3300"] {
            assert_eq!(talk(address, "select").expect("relayed"), "db:select", "{address}");
        }
        let labels = [("destination_service_name", "db"), ("request_protocol", "tcp")];
        counted(&pod, "istio_tcp_connections_closed_total", &labels, 2);
        assert_eq!(pod.metric("outrigger_detection_total", &[]), 0, "the port says what it speaks");
        pod.assert_well();
    });
}

/// Where nobody says what a port speaks, HTTP is routed, and a client that waits for its server gets through.
#[test]
fn undetermined_ports_take_what_comes() {
    within("undetermined_ports_take_what_comes", || {
        let mut pod = Pod::start(&mesh());
        let _pages = echo(&["10.1.0.3:9000,pod=pages", "[fd00:1::3]:9000,pod=pages"]);
        talker("10.1.0.3:2525", "220 ready\r\n");
        talker("[fd00:1::3]:2525", "220 ready\r\n");
        for address in ["10.96.0.12", "[fd00:96::12]"] {
            assert_eq!(get(&format!("{address}:9000"), "any.shop"), (200, "pages".to_owned()));
            let mut client = std::net::TcpStream::connect(format!("{address}:2525")).expect("a connection");
            client.set_read_timeout(Some(outrigger_testkit::PATIENCE)).expect("a limit");
            let mut greeting = [0; 11];
            std::io::Read::read_exact(&mut client, &mut greeting).expect("the server speaks first");
            assert_eq!(&greeting, b"220 ready\r\n");
        }
        for (port, result) in [(9000, "http1"), (2525, "timeout")] {
            let listener = format!("outbound|{port}|any.shop.svc.cluster.local");
            counted(&pod, "outrigger_detection_total", &[("listener", &listener), ("result", result)], 2);
        }
        // Not the 3 s of a mesh that says nothing: 300 ms each, and a little.
        let listener = [("listener", "outbound|2525|any.shop.svc.cluster.local")];
        assert!(pod.metric("outrigger_detection_duration_seconds_sum", &listener) < 4);
        pod.assert_well();
    });
}

/// What no configuration has goes on to where it was to go.
#[test]
fn unknown_destinations_are_reached() {
    within("unknown_destinations_are_reached", || {
        let mut pod = Pod::start(&mesh());
        talker("192.0.2.7:7000", "");
        talker("[2001:db8::7]:7000", "");
        let _outside = echo(&["192.0.2.7:7001,pod=outside", "[2001:db8::7]:7001,pod=outside"]);
        for address in ["192.0.2.7", "[2001:db8::7]"] {
            // As no request and no TLS begins; and what is meant for a proxy out there.
            for text in ["hello", "CONNECT a.example:443 HTTP/1.1\r\n\r\n"] {
                assert_eq!(talk(&format!("{address}:7000"), text).expect("relayed"), text, "{address}");
            }
            assert_eq!(get(&format!("{address}:7001"), "www.example.com"), (200, "outside".to_owned()), "{address}");
        }
        let unknown = [("destination_service_name", "PassthroughCluster")];
        counted(&pod, "istio_tcp_connections_closed_total", &unknown, 4);
        counted(&pod, "istio_requests_total", &unknown, 2);
        pod.assert_well();
    });
}

/// Under REGISTRY_ONLY it is refused, counted, and never reached.
#[test]
fn unknown_destinations_are_refused_where_the_mesh_says_so() {
    within("unknown_destinations_are_refused_where_the_mesh_says_so", || {
        let only = "\"protocolDetectionTimeout: 300ms\\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\"";
        let yaml = mesh().replace("'protocolDetectionTimeout: 300ms'", only);
        let mut pod = Pod::start(&yaml);
        talker("192.0.2.7:7000", "reached");
        talker("10.1.0.3:3300", "db:");
        let outcome = talk("192.0.2.7:7000", "hello");
        assert!(outcome.is_err(), "it is reset: {outcome:?}");
        assert_eq!(get("192.0.2.7:7000", "www.example.com").0, 502);
        let refused = [("destination_service_name", "BlackHoleCluster")];
        counted(&pod, "istio_tcp_connections_closed_total", &refused, 1);
        counted(&pod, "istio_requests_total", &refused, 1);
        pod.assert_well();
    });
}

/// What arrives goes through the sidecar to the application at the pod's own address; what is not redirected is closed.
#[test]
fn what_arrives_goes_to_the_application() {
    within("what_arrives_goes_to_the_application", || {
        let mut pod = Pod::start(&mesh());
        let machine = Machine::connect();
        // It listens at the pod's address alone, not on loopback.
        let _app = echo(&["10.2.0.1:8080,pod=app-0", "[fd00:2::1]:8080,pod=app-0"]);
        for address in ["10.2.0.1", "[fd00:2::1]"] {
            talker(&format!("{address}:5000"), "app:");
            talker(&format!("{address}:5999"), "other:");
        }
        assert!(pod.ready()["inbound"].as_str().is_some_and(|inbound| inbound.ends_with(":15006")), "{}", pod.ready());
        let request = "GET /at HTTP/1.1\\r\\nhost: app.shop\\r\\nconnection: close\\r\\n\\r\\n";
        for address in ["10.2.0.1", "fd00:2::1"] {
            let answer = machine.talk(address, 8080, request);
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("app-0"), "{address}: {answer}");
            // Nobody says what these speak: they begin as no request does.
            for (port, greeting) in [(5000, "app:"), (5999, "other:")] {
                let heard = machine.run(&format!("head -c {} </dev/tcp/{address}/{port}", greeting.len()));
                assert_eq!(heard, greeting, "{address} port {port}");
            }
            assert_eq!(machine.talk(address, 15006, "hello"), "", "nobody may connect to the socket itself");
        }
        let here = [("reporter", "destination"), ("destination_workload", "app")];
        counted(&pod, "istio_requests_total", &here, 2);
        counted(&pod, "outrigger_container_requests_total", &[("container", "app"), ("port", "8080")], 2);
        counted(&pod, "outrigger_detection_total", &[("listener", "inbound|unknown"), ("result", "timeout")], 2);
        pod.assert_well();
    });
}
