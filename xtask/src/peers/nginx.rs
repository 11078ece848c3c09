//! nginx as the application: files, ranges, compression, closed connections.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::world::Proxy;
use crate::nginx;
use crate::shell::{self, Background};

/// Size of the file it serves.
const FILE_BYTES: usize = 3_000_000;

/// Starts nginx and the proxy, and asks for what is easily got wrong.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let backend = shell::loopback(shell::free_port()?);
    let _nginx = start(folder, backend)?;
    let yaml = folder.join("yaml");
    fs::create_dir_all(&yaml)?;
    fs::write(yaml.join("files.yaml"), manifests(backend))?;
    let yaml = yaml.to_str().context("a path that is UTF-8")?;
    let proxy = Proxy::start(program, &[yaml], &folder.join("outrigger.log"))?;
    let ask = |arguments: &[&str], path: &str| {
        let url = format!("http://files.shop:8080{path}");
        shell::output(proxy.curl().args(arguments).arg(url))
    };
    let size = ["--output", "/dev/null", "--write-out", "%{http_code} %{size_download}"];
    expect(&ask(&size, "/file.txt")?, &format!("200 {FILE_BYTES}"), "a file")?;
    expect(&ask(&[&size[..], &["--range", "5-14"]].concat(), "/file.txt")?, "206 10", "a range of it")?;
    expect(&ask(&[&size[..], &["--http1.0"]].concat(), "/file.txt")?, &format!("200 {FILE_BYTES}"), "HTTP/1.0")?;
    let chunked = ask(&["--compressed", "--include", "--output", "-"], "/file.txt")?;
    ensure!(chunked.to_lowercase().contains("content-encoding: gzip"), "compression was lost");
    ensure!(chunked.len() > FILE_BYTES, "a compressed file arrives in chunks and whole, here {} bytes", chunked.len());
    let head = ask(&["--head"], "/file.txt")?;
    ensure!(head.contains(&format!("{FILE_BYTES}")), "HEAD keeps the length: {head}");
    let tag = head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case("etag")));
    let tag = tag.with_context(|| format!("nginx sends an ETag: {head}"))?.1.trim();
    let condition = format!("If-None-Match: {tag}");
    expect(&ask(&[&size[..], &["-H", &condition]].concat(), "/file.txt")?, "304 0", "a conditional request")?;
    expect(&ask(&size, "/empty")?, "204 0", "an empty answer")?;
    expect(&ask(&size, "/missing")?.chars().take(3).collect::<String>(), "404", "a missing file")?;
    reuse(&proxy)?;
    proxy.stop()
}

fn expect(said: &str, expected: &str, what: &str) -> Result<()> {
    ensure!(said == expected, "{what}: `{said}` instead of `{expected}`");
    Ok(())
}

/// nginx closes every third connection's life early; none of the requests may notice.
fn reuse(proxy: &Proxy) -> Result<()> {
    let mut command = proxy.curl();
    command.args(["--output", "/dev/null", "--write-out", "%{http_code}\n", "http://files.shop:8080/small?[1-600]"]);
    let said = shell::output(&mut command)?;
    let good = said.lines().filter(|line| *line == "200").count();
    ensure!(good == 600, "{good} of 600 requests over short-lived connections were answered");
    Ok(())
}

fn start(folder: &Path, address: SocketAddr) -> Result<Background> {
    let html = folder.join("html");
    fs::create_dir_all(&html)?;
    fs::write(html.join("file.txt"), "0123456789".repeat(FILE_BYTES / 10))?;
    let http = format!(
        "access_log off; keepalive_requests 3; gzip on; gzip_types text/plain; default_type text/plain;
         server {{ listen {address}; root {};
           location /small {{ return 200 \"small\\n\"; }}
           location /empty {{ return 204; }} }}",
        html.display()
    );
    nginx::start("nginx", folder, &http, None, address)
}

fn manifests(backend: SocketAddr) -> String {
    let port = backend.port();
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: files, namespace: shop}}
spec:
  ports: [{{name: http, port: 8080, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: files-1, namespace: shop, labels: {{kubernetes.io/service-name: files}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}
