//! ALPN at a gateway that terminates TLS: curl chooses HTTP/2 or HTTP/1.1 in the handshake, and its answer is the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::world::{self, Proxy};
use crate::shell;

/// Runs a simulated gateway with a certificate of its own and asks it with both versions.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let mut make = Command::new(shell::need("openssl", "openssl")?);
    make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.example"]);
    make.args(["-addext", "subjectAltName=DNS:shop.example"]);
    shell::output(make.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
    let indented = |file: &Path| -> Result<String> {
        Ok(fs::read_to_string(file)?.lines().map(|line| format!("    {line}\n")).collect())
    };
    let secret = format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: shop, namespace: shop}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}---
",
        indented(&certificate)?,
        indented(&key)?
    );
    let yaml = folder.join("yaml");
    fs::create_dir_all(&yaml)?;
    fs::write(yaml.join("secret.yaml"), secret)?;
    fs::write(yaml.join("shop.yaml"), MANIFESTS)?;
    let yaml = yaml.to_str().context("UTF-8")?;
    let proxy = Proxy::start(program, &["--simulate", yaml], &folder.join("outrigger.log"))?;
    let gateway = &proxy.report["gateways"][0];
    let (address, port) = (gateway["address"].as_str(), &gateway["listeners"][0]["port"]);
    let to = format!("::{}:{port}", address.with_context(|| format!("no gateway: {}", proxy.report))?);
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1"), ("--no-alpn", "1.1")] {
        let mut command = world::curl();
        command.args(["--noproxy", "*", "--connect-to", &to, flag, "https://shop.example:8443/"]);
        command.arg("--cacert").arg(&certificate).args(["--write-out", " version=%{http_version} %{response_code}"]);
        let said = shell::output(&mut command)?;
        let whole = said.contains("\"pod\": \"echo-") && said.ends_with(&format!(" version={version} 200"));
        ensure!(whole, "{flag}: {said}");
    }
    proxy.stop()
}

/// A gateway, its route, and one workload behind it.
const MANIFESTS: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shop, namespace: shop}
spec:
  gatewayClassName: istio
  listeners:
  - name: https
    port: 8443
    protocol: HTTPS
    hostname: shop.example
    tls: {certificateRefs: [{name: shop}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop}
spec:
  parentRefs: [{name: shop}]
  rules: [{backendRefs: [{name: echo, port: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: shop}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo, namespace: shop}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers: [{name: echo, image: echo, ports: [{containerPort: 8080}]}]
";
