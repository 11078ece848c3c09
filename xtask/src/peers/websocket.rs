//! WebSockets with a foreign client and foreign servers: HTTP/1.1 and HTTP/2 (RFC 8441) on either side of the proxy.
//!
//! What is said and expected stands in `xtask/python/websocket_client.py`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::exposition::{sum, until};
use super::manifests::service;
use super::python::Python;
use super::world::Proxy;
use crate::shell;

/// The large message of the client, which comes back: so many bytes have passed at least, both ways. Over HTTP/1.1 the two
/// ends agree to compress it, and then it is next to nothing.
const LARGE_BYTES: f64 = 1_048_576.0;

/// Runs all four pairings, each with the same conversation.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let python = Python::set_up()?;
    let [http1, http2] = [shell::free_port()?, shell::free_port()?];
    let _http1 = python.serve("websocket_server.py", http1, &[], &folder.join("http1.log"))?;
    let over_http2 = python.serve("websocket_h2_server.py", http2, &[], &folder.join("http2.log"))?;
    let yaml = folder.join("yaml");
    fs::create_dir_all(&yaml)?;
    let manifests =
        service("sockets", "http1", "http", 9080, &[http1]) + &service("sockets", "http2", "http2", 9080, &[http2]);
    fs::write(yaml.join("services.yaml"), manifests)?;
    let proxy = Proxy::start(program, &[yaml.to_str().context("UTF-8")?], &folder.join("outrigger.log"))?;
    let address = proxy.outbound.to_string();
    for server in ["http1", "http2"] {
        for client in ["http1", "http2"] {
            let said = python.run("websocket_client.py", &[&address, client, server], 60);
            said.with_context(|| format!("client over {client}, server over {server}\n{}", over_http2.said()))?;
        }
        counted(&proxy, server)?;
    }
    proxy.stop()
}

/// The sockets of both clients are counted as connections, with their bytes, and have ended.
fn counted(proxy: &Proxy, server: &str) -> Result<()> {
    let host = format!("{server}.sockets.svc.cluster.local");
    let labels = [("reporter", "source"), ("destination_service", host.as_str())];
    until(proxy, Duration::from_secs(15), |scrape| {
        let names = ["connections_opened", "connections_closed", "received_bytes", "sent_bytes"];
        let [opened, closed, received, sent] =
            names.map(|name| sum(scrape, &format!("istio_tcp_{name}_total"), &labels));
        // Two over HTTP/1.1 and three over HTTP/2.
        if (opened, closed) == (5.0, 5.0) && received.min(sent) >= LARGE_BYTES {
            return Ok(());
        }
        Err(format!("{host}: opened {opened}, closed {closed}, received {received} bytes, sent {sent}"))
    })
}
