//! Circuits from the outside: seen by API, stream, metrics and command line, and in the hand of an operator.
//!
//! A real proxy with echo servers: `cart` has a CircuitBreaker, `stock` Linkerd's annotation, and its endpoints are watched
//! for outliers.

mod control;
mod document;
mod pods;
mod stream;

use std::net::SocketAddr;
use std::process::{Command, Output};

use outrigger_testkit::{Client, Endpoint, Process, Response, World, eventually, free_address, service_yaml};
use serde_json::Value;

const OUTRIGGER: &str = env!("CARGO_BIN_EXE_outrigger");
const TOKEN: &str = "0123456789-abcdef-secret";
/// The circuit of `cart`.
const CART: &str = "cart.shop.svc.cluster.local:80";
const CART_CLUSTER: &str = "outbound|80||cart.shop.svc.cluster.local";

const POLICIES: &str = "---
apiVersion: outrigger.dev/v1alpha1
kind: CircuitBreaker
metadata: {name: cart, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: cart}]
  circuitBreaker: {requestVolumeThreshold: 5, sleepWindowInMilliseconds: 60000}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all, namespace: shop}
spec:
  host: stock
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 77}, http: {http2MaxRequests: 99}}
    outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 50, baseEjectionTime: 5m}
";

/// The proxy, and what it serves.
struct Mesh {
    process: Process,
    stock: [SocketAddr; 2],
    token: String,
    _world: World,
}

impl Mesh {
    fn start() -> Self {
        Self::start_with(true)
    }

    fn start_with(has_token: bool) -> Self {
        let world = World::new();
        let endpoint = |pod: &str| Endpoint { address: free_address(), pod: pod.to_owned(), version: "v1".to_owned() };
        let stock = [endpoint("stock-0"), endpoint("stock-1")];
        let cart = service_yaml("shop", "cart", 80, &[endpoint("cart-0")]);
        let of_stock = service_yaml("shop", "stock", 80, &stock).replacen(
            "metadata: {name: stock, namespace: shop}",
            "metadata: {name: stock, namespace: shop, annotations: {balancer.linkerd.io/failure-accrual: consecutive}}",
            1,
        );
        world.write("mesh.yaml", &format!("{cart}---\n{of_stock}{POLICIES}"));
        // Not YAML by its name, and so no manifest.
        let token = world.write("token", TOKEN).display().to_string();
        let path = world.path().display().to_string();
        let mut args = vec!["run", &path, "--echo", "-o", "json", "--admin", ":0", "--outbound", ":0", "--stats", ":0"];
        if has_token {
            args.extend(["--admin-token-file", &token]);
        }
        let process = Process::start(OUTRIGGER, args);
        assert_eq!(process.ready()["diagnostics"], Value::Array(Vec::new()));
        Self { process, stock: stock.map(|endpoint| endpoint.address), token, _world: world }
    }

    fn admin(&self) -> SocketAddr {
        self.process.address("admin")
    }

    /// A request of the admin interface, with these further lines of its head.
    fn ask(&self, method: &str, target: &str, fields: &str) -> Response {
        let admin = self.admin();
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {admin}\r\n{fields}connection: close\r\n\r\n");
        Client::connect(admin).expect("it listens").exchange(head.as_bytes()).expect("an answer")
    }

    /// A change by hand, with the token.
    fn post(&self, target: &str) -> (u16, Value) {
        let answer = self.ask("POST", target, &format!("authorization: Bearer {TOKEN}\r\ncontent-length: 0\r\n"));
        (answer.status, serde_json::from_str(&answer.text()).expect("JSON"))
    }

    fn document(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/api/v1/circuits", "").text()).expect("JSON")
    }

    /// A circuit by name.
    fn circuit(&self, name: &str) -> Value {
        let document = self.document();
        let found = document["circuits"].as_array().and_then(|all| all.iter().find(|circuit| circuit["name"] == name));
        found.unwrap_or_else(|| panic!("no circuit {name} in {document:#}")).clone()
    }

    /// A request through the proxy.
    fn get(&self, host: &str, fields: &str) -> Response {
        let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{fields}connection: close\r\n\r\n");
        Client::connect(self.process.address("outbound"))
            .expect("it listens")
            .exchange(head.as_bytes())
            .expect("an answer")
    }

    /// Lets calls fail until the circuit of `cart` opens by itself.
    fn open_cart(&self) -> Value {
        eventually("the circuit to open", || {
            self.get("cart.shop", "x-echo-status: 503\r\n");
            Some(self.circuit(CART)).filter(|circuit| circuit["state"] == "open")
        })
    }

    /// `outrigger` with the admin interface of this proxy.
    fn command(&self, args: &[&str]) -> Output {
        let admin = self.admin().to_string();
        let mut command = Command::new(OUTRIGGER);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OUTRIGGER_")) {
            command.env_remove(name);
        }
        command.args(args).args(["--admin", &admin]).output().expect("it runs")
    }
}
