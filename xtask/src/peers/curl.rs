//! curl in the ways people use it, through the canary example to its echo servers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::world::{self, Proxy};
use crate::shell;

/// The service of the example.
const URL: &str = "http://reviews.shop:9080/";

/// One way to use curl: arguments, and what must stand in what it prints.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    /// All of these; a leading `!` means it must not be there.
    expected: &'static [&'static str],
}

/// `--include` shows the head, `--write-out` what curl knows of the exchange.
const CASES: [Case; 15] = [
    Case {
        name: "GET",
        arguments: &["--include", URL],
        expected: &["HTTP/1.1 200", "\"method\":\"GET\"", "\"namespace\":\"shop\""],
    },
    Case {
        name: "HTTP/1.0 gets no chunks and a closed connection",
        arguments: &["--http1.0", "--include", URL],
        expected: &[" 200", "\"path\":\"/\"", "!ransfer-encoding: chunked"],
    },
    Case {
        name: "HTTP/1.0 keep-alive",
        arguments: &["--http1.0", "-H", "Connection: keep-alive", "--write-out", " %{num_connects}", URL],
        expected: &["\"path\":\"/\""],
    },
    Case { name: "HEAD", arguments: &["--head", URL], expected: &["HTTP/1.1 200", "ontent-length: ", "!\"method\""] },
    Case {
        name: "two requests on one connection",
        arguments: &["--write-out", "connects=%{num_connects} ", URL, URL],
        expected: &["connects=1", "connects=0"],
    },
    Case {
        name: "POST",
        arguments: &["--data", "a=b", "--include", URL],
        expected: &["\"method\":\"POST\"", "\"content-length\":[\"3\"]"],
    },
    Case {
        name: "chunked upload",
        arguments: &["-H", "Transfer-Encoding: chunked", "--data", "a=b", URL],
        expected: &["\"method\":\"POST\"", "\"transfer-encoding\":[\"chunked\"]", "!\"content-length\""],
    },
    Case {
        name: "Expect: 100-continue",
        arguments: &["-H", "Expect: 100-continue", "--data", "a=b", "--include", URL],
        expected: &["HTTP/1.1 100 Continue", "HTTP/1.1 200", "\"method\":\"POST\""],
    },
    Case {
        name: "a long answer arrives whole",
        arguments: &[
            "-H",
            "x-echo-body-bytes: 10000000",
            "--output",
            "/dev/null",
            "--write-out",
            "size=%{size_download}",
            URL,
        ],
        expected: &["size=10000000"],
    },
    Case {
        name: "a status of the application passes unchanged",
        arguments: &["-H", "x-echo-status: 503", "--include", URL],
        expected: &["HTTP/1.1 503", "\"path\":\"/\"", "!roxy-status"],
    },
    Case {
        name: "the header rule sends testers to v2",
        arguments: &["-H", "x-tester: true", URL],
        expected: &["\"version\":\"v2\""],
    },
    Case {
        name: "a host without an address says so",
        arguments: &["--include", "http://no-such-service.invalid/"],
        expected: &["HTTP/1.1 5", "roxy-status: "],
    },
    Case {
        name: "an own request id is kept",
        arguments: &["-H", "x-request-id: 0b3c1d2e-1111-4222-8333-444455556666", URL],
        expected: &["0b3c1d2e-1111-4222-8333-444455556666"],
    },
    Case {
        name: "hop-by-hop fields stay on their hop",
        arguments: &["-H", "Connection: x-private", "-H", "x-private: 1", "-H", "x-public: 1", URL],
        expected: &["\"x-public\"", "!\"x-private\"", "!\"proxy-connection\""],
    },
    Case {
        name: "paths arrive as sent",
        arguments: &["--path-as-is", "http://reviews.shop:9080/a%20b;c=1?q=%2F&e="],
        expected: &["a%20b;c=1"],
    },
];

/// Runs all cases, then the ones that need more than one command.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let example = shell::root().join("examples/canary");
    let example = example.to_str().context("a path that is UTF-8")?;
    let proxy = Proxy::start(program, &["--simulate", example], &folder.join("outrigger.log"))?;
    for case in &CASES {
        let said = shell::output(proxy.curl().args(case.arguments)).with_context(|| case.name.to_owned())?;
        let said = squeeze(&said);
        for expected in case.expected {
            let holds = match expected.strip_prefix('!') {
                Some(absent) => !said.contains(absent),
                None => said.contains(expected),
            };
            ensure!(holds, "{}: `{expected}` does not hold of\n{said}", case.name);
        }
    }
    by_host_header(&proxy).context("Host header without a forward proxy")?;
    large_upload(&proxy, folder).context("a large upload")?;
    drain(proxy).context("SIGTERM while a request is on its way")
}

/// JSON on one line, without its indentation.
fn squeeze(said: &str) -> String {
    said.lines().map(str::trim).collect::<String>().replace("\": ", "\":")
}

/// What `curl -H Host` asks directly, as an application whose traffic is captured does.
fn by_host_header(proxy: &Proxy) -> Result<()> {
    for host in ["reviews.shop", "reviews.shop:9080", "reviews.shop.svc.cluster.local:9080"] {
        let mut command = world::curl();
        command.args(["-H", &format!("Host: {host}"), &format!("http://{}/", proxy.outbound)]);
        let said = squeeze(&shell::output(&mut command)?);
        ensure!(said.contains("\"pod\":\"reviews-"), "{host}: {said}");
    }
    Ok(())
}

/// Eight megabytes, with a length and without.
fn large_upload(proxy: &Proxy, folder: &Path) -> Result<()> {
    let file = folder.join("upload");
    fs::write(&file, vec![b'x'; 8 * 1024 * 1024])?;
    let body = format!("@{}", file.display());
    let chunked: [&[&str]; 2] = [&[], &["-H", "Transfer-Encoding: chunked"]];
    for arguments in chunked {
        let mut command = proxy.curl();
        command.args(arguments).args(["--data-binary", &body, URL]);
        let said = squeeze(&shell::output(&mut command)?);
        ensure!(said.contains("\"method\":\"POST\"") && said.contains("\"bodyBytes\":8388608"), "{said}");
    }
    Ok(())
}

/// A request that takes a second is answered although the proxy was told to end meanwhile.
fn drain(proxy: Proxy) -> Result<()> {
    let mut command = proxy.curl();
    command.args(["-H", "x-echo-delay: 1500ms", "--write-out", " status=%{http_code}", URL]);
    let slow = command.stdout(std::process::Stdio::piped()).spawn()?;
    wait_for_active(&proxy)?;
    let start = Instant::now();
    proxy.stop()?;
    let took = start.elapsed();
    let said = slow.wait_with_output()?;
    let said = String::from_utf8_lossy(&said.stdout);
    ensure!(said.contains("status=200"), "the request was cut: {said}");
    ensure!(took < Duration::from_secs(20), "draining an idle proxy took {took:?}");
    Ok(())
}

/// Waits until the proxy says that a request is on its way.
fn wait_for_active(proxy: &Proxy) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let active = proxy
            .scrape()?
            .lines()
            .any(|line| line.starts_with("outrigger_endpoint_active_requests{") && !line.ends_with(" 0"));
        if active {
            return Ok(());
        }
    }
    anyhow::bail!("no endpoint ever had an active request")
}
