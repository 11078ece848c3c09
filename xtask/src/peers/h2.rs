//! HTTP/2 with curl and the tools of nghttp2, before an echo server, nginx and nghttpd: all pairings with HTTP/1.1.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::manifests::service;
use super::world::{self, Proxy};
use crate::nginx;
use crate::shell::{self, Background};

/// Size of the upload and the download.
const LARGE_BYTES: usize = 8 * 1024 * 1024;
/// Requests of the short load.
const REQUESTS: u32 = 20_000;

/// One way to use curl: the service, arguments, and what must stand in what it prints.
struct Case {
    name: &'static str,
    /// `http1` is nginx, `http2` is nghttpd, `echo` is the echo server.
    service: &'static str,
    arguments: &'static [&'static str],
    /// All of these; a leading `!` means it must not be there.
    expected: &'static [&'static str],
}

const PRIOR: &str = "--http2-prior-knowledge";
const VERSION: &str = " version=%{http_version} status=%{response_code}";

const CASES: [Case; 13] = [
    Case {
        name: "HTTP/2 to HTTP/1.1",
        service: "http1",
        arguments: &[PRIOR, "--write-out", VERSION],
        expected: &["small", "version=2 status=200"],
    },
    Case {
        name: "HTTP/2 to HTTP/2",
        service: "http2",
        arguments: &[PRIOR, "--write-out", VERSION],
        expected: &["small", "version=2 status=200"],
    },
    Case {
        name: "HTTP/1.1 to HTTP/2",
        service: "http2",
        arguments: &["--http1.1", "--write-out", VERSION],
        expected: &["small", "version=1.1 status=200"],
    },
    Case {
        name: "HTTP/1.0 to HTTP/2",
        service: "http2",
        arguments: &["--http1.0", "--include"],
        expected: &["small", " 200", "!ransfer-encoding: chunked"],
    },
    Case {
        name: "an upgrade to h2c is not taken",
        service: "http1",
        arguments: &["--http2", "--write-out", VERSION],
        expected: &["small", "version=1.1 status=200"],
    },
    Case {
        name: "HEAD over HTTP/2",
        service: "http2",
        arguments: &[PRIOR, "--head"],
        expected: &["HTTP/2 200", "server: nghttpd", "!small"],
    },
    Case {
        name: "a missing page over HTTP/2",
        service: "http2",
        arguments: &[PRIOR, "--write-out", VERSION, "--request-target", "/missing"],
        expected: &["version=2 status=404"],
    },
    Case {
        name: "trailers from HTTP/2 to HTTP/1.1",
        service: "http2",
        arguments: &["--http1.1", "--include", "-H", "TE: trailers", "-H", "Connection: TE"],
        expected: &["HTTP/1.1 200", "x-checksum: 1234"],
    },
    Case {
        name: "100 Continue over HTTP/2, from HTTP/1.1",
        service: "echo",
        arguments: &[PRIOR, "--include", "-H", "Expect: 100-continue", "--data", "a=b"],
        expected: &["HTTP/2 100", "HTTP/2 200", "\"method\":\"POST\""],
    },
    Case {
        name: "POST over HTTP/2 to HTTP/1.1",
        service: "echo",
        arguments: &[PRIOR, "--data", "a=b"],
        expected: &["\"method\":\"POST\"", "\"bodyBytes\":3"],
    },
    Case {
        name: "cookies arrive as one field",
        service: "echo",
        arguments: &[PRIOR, "-H", "Cookie: a=1", "-H", "Cookie: b=2"],
        expected: &["\"cookie\":[\"a=1; b=2\"]"],
    },
    Case {
        name: "fields of the hop stay on it",
        service: "echo",
        arguments: &[PRIOR, "-H", "TE: trailers", "-H", "x-public: 1"],
        expected: &["\"x-public\"", "!\"http2-settings\"", "!\":authority\""],
    },
    Case {
        name: "a host that nobody knows",
        service: "no-such",
        arguments: &[PRIOR, "--include"],
        expected: &["HTTP/2 404", "proxy-status: ", "flag=NR"],
    },
];

/// Starts the backends and the proxy, and asks.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let [http1, http2, echo] = [shell::free_port()?, shell::free_port()?, shell::free_port()?];
    let _nginx = start_nginx(folder, shell::loopback(http1))?;
    let _nghttpd = nghttpd(folder, shell::loopback(http2))?;
    let _echo = start_echo(program, folder, shell::loopback(echo))?;
    let yaml = folder.join("yaml");
    fs::create_dir_all(&yaml)?;
    let services = [("http1", "http", http1), ("http2", "http2", http2), ("echo", "http", echo)];
    let manifests = services.map(|(name, protocol, port)| service("pages", name, protocol, 8080, &[port])).concat();
    fs::write(yaml.join("services.yaml"), manifests)?;
    let proxy = Proxy::start(program, &[yaml.to_str().context("UTF-8")?], &folder.join("outrigger.log"))?;
    for case in &CASES {
        let mut command = curl(&proxy, case.service, "/");
        let said = shell::output(command.args(case.arguments)).with_context(|| case.name.to_owned())?;
        let said = said.lines().map(str::trim).collect::<String>().replace("\": ", "\":");
        for expected in case.expected {
            let holds = match expected.strip_prefix('!') {
                Some(absent) => !said.contains(absent),
                None => said.contains(expected),
            };
            ensure!(holds, "{}: `{expected}` does not hold of\n{said}", case.name);
        }
    }
    large(&proxy, folder)?;
    tools(&proxy).context("nghttp and h2load")?;
    proxy.stop()
}

/// curl that finds every service at the proxy's outbound listener.
fn curl(proxy: &Proxy, service: &str, path: &str) -> Command {
    let mut command = world::curl();
    let to = format!("::127.0.0.1:{}", proxy.outbound.port());
    command.args(["--noproxy", "*", "--connect-to", &to, &format!("http://{service}.pages:8080{path}")]);
    command
}

/// Some megabytes each way, in all pairings.
fn large(proxy: &Proxy, folder: &Path) -> Result<()> {
    let file = folder.join("upload");
    fs::write(&file, vec![b'x'; LARGE_BYTES])?;
    let body = format!("@{}", file.display());
    for (version, service) in [(PRIOR, "http1"), (PRIOR, "http2"), ("--http1.1", "http2")] {
        let mut download = curl(proxy, service, "/large");
        download.args([version, "--output", "/dev/null", "--write-out", "%{response_code} %{size_download}"]);
        let said = shell::output(&mut download)?;
        ensure!(said == format!("200 {LARGE_BYTES}"), "a download, {version} from {service}: {said}");
    }
    for version in [PRIOR, "--http1.1"] {
        // nghttpd sends back what it gets.
        let mut upload = curl(proxy, "http2", "/echo");
        upload.args([version, "--data-binary", &body, "--output", "/dev/null"]);
        upload.args(["--write-out", "%{response_code} %{size_upload} %{size_download}"]);
        let said = shell::output(&mut upload)?;
        ensure!(said == format!("200 {LARGE_BYTES} {LARGE_BYTES}"), "an upload and its echo, {version}: {said}");
    }
    let mut upload = curl(proxy, "echo", "/");
    let said = shell::output(upload.args([PRIOR, "--data-binary", &body]))?;
    ensure!(said.replace(' ', "").contains(&format!("\"bodyBytes\":{LARGE_BYTES}")), "an upload: {said}");
    Ok(())
}

/// What nghttp shows of the frames, and a short load without a failure.
fn tools(proxy: &Proxy) -> Result<()> {
    let url = format!("http://{}", proxy.outbound);
    let authority = |service: &str| format!(":authority: {service}.pages:8080");
    let nghttp = shell::need("nghttp", "nghttp2-client")?;
    let mut command = Command::new(nghttp);
    command.args(["--verbose", "--timeout", "10", "--header", &authority("http2"), &url]);
    let said = shell::output(&mut command)?;
    for expected in [":status: 200", "x-checksum: 1234", "recv SETTINGS frame", "SETTINGS_MAX_CONCURRENT_STREAMS"] {
        ensure!(said.contains(expected), "nghttp does not show `{expected}`:\n{said}");
    }
    ensure!(!said.contains("recv RST_STREAM"), "a whole exchange ends without a reset:\n{said}");
    for service in ["http1", "http2"] {
        let h2load = shell::need("h2load", "nghttp2-client")?;
        let mut command = Command::new("timeout");
        command.arg("60").arg(h2load).args(["--requests", &REQUESTS.to_string(), "--clients", "8"]);
        command.args(["--max-concurrent-streams", "32", "--header", &authority(service), &url]);
        let said = shell::output(&mut command)?;
        let (done, codes) =
            (format!("{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout"), format!("{REQUESTS} 2xx"));
        ensure!(said.contains(&done) && said.contains(&codes), "h2load to {service}:\n{said}");
    }
    Ok(())
}

fn start_nginx(folder: &Path, address: SocketAddr) -> Result<Background> {
    let pages = pages(folder)?;
    let http = format!("{} default_type text/plain; server {{ listen {address}; root {pages}; }}", nginx::QUIET);
    nginx::start("nginx", folder, &http, None, address)
}

/// HTTP/2 alone, with a trailer on every answer; bodies come back. Without lengths, since HTTP/1.1 has trailers only where
/// a body comes in chunks.
fn nghttpd(folder: &Path, address: SocketAddr) -> Result<Background> {
    let mut command = Command::new(shell::need("nghttpd", "nghttp2-server")?);
    command.args(["--no-tls", "--address", "127.0.0.1", "--echo-upload", "--trailer", "x-checksum: 1234"]);
    command.args(["--no-content-length", "--htdocs", &pages(folder)?, &address.port().to_string()]);
    let mut process = Background::start("nghttpd", &mut command, &folder.join("nghttpd.log"))?;
    process.wait_for_port(address)?;
    Ok(process)
}

fn start_echo(program: &Path, folder: &Path, address: SocketAddr) -> Result<Background> {
    let mut command = Command::new(program);
    command.args(["echo", "--listen", &address.to_string()]);
    let mut process = Background::start("echo", &mut command, &folder.join("echo.log"))?;
    process.wait_for_port(address)?;
    Ok(process)
}

/// The files of both servers.
fn pages(folder: &Path) -> Result<String> {
    let pages = folder.join("pages");
    fs::create_dir_all(&pages)?;
    fs::write(pages.join("index.html"), "small\n")?;
    fs::write(pages.join("large"), vec![b'y'; LARGE_BYTES])?;
    Ok(pages.display().to_string())
}
