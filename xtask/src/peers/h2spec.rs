//! h2spec, the conformance suite of HTTP/2, strict, against a gateway: in cleartext and through TLS, before backends of
//! HTTP/1.1 and of HTTP/2. Every case must pass, but for the one in cleartext that takes the port for one of HTTP/2 alone.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::manifests::service;
use super::world::Proxy;
use crate::shell;

/// What `go build` needs to know. The suite's releases with a `go.mod` cannot be had by version, and of this one the
/// dependencies are whatever is newest unless they are named; these build with Debian's Go as well.
const GO_MOD: &str = "module h2spec-build

go 1.18

require (
	github.com/fatih/color v1.13.0
	github.com/mattn/go-colorable v0.1.13
	github.com/mattn/go-isatty v0.0.16
	github.com/spf13/cobra v1.5.0
	github.com/spf13/pflag v1.0.5
	github.com/summerwind/h2spec v2.2.1+incompatible
	golang.org/x/net v0.17.0
)
";

/// A gateway for everybody: `/one` goes to a service of HTTP/1.1, `/two` to one of HTTP/2.
const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec:
  gatewayClassName: outrigger
  listeners:
  - {name: clear, port: 7588, protocol: HTTP}
  - {name: tls, port: 7589, protocol: HTTPS, tls: {certificateRefs: [{name: web}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: web}]
  rules:
  - {matches: [{path: {value: /one}}], backendRefs: [{name: one, port: 80}]}
  - {matches: [{path: {value: /two}}], backendRefs: [{name: two, port: 80}]}
---
";

/// At least so many cases must have been run: a suite that ran none has shown nothing.
const CASES_MIN: u32 = 145;

/// What a port that also speaks HTTP/1.1 cannot do as the suite wants it: this preface is a request line of HTTP/1.1, a bad
/// one, and whoever sent it is told so before the connection is closed. The suite reads that as a frame of 4 MB.
const PREFACE: (&str, &str) = ("Sends invalid connection preface", "INVALID CONNECTION PREFACE\r\n\r\n");

/// Builds the suite and runs it four times.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let suite = build(&folder.join("build"))?;
    let mesh = folder.join("mesh");
    fs::create_dir(&mesh)?;
    let services = service("shop", "one", "http", 80, &[shell::free_port()?])
        + &service("shop", "two", "http2", 80, &[shell::free_port()?]);
    fs::write(mesh.join("mesh.yaml"), GATEWAY.to_owned() + &services + &secret(folder)?)?;
    let mesh = mesh.to_str().context("a path that is UTF-8")?;
    let proxy = Proxy::start(program, &[mesh, "--echo"], &folder.join("outrigger.log"))?;
    let clear: (usize, &[&str], &[&str]) = (0, &[], &[PREFACE.0]);
    for (listener, flags, excused) in [clear, (1, &["--tls", "--insecure"], &[])] {
        let bound = &proxy.report["gateways"][0]["listeners"][listener]["bound"];
        let (ip, port) = bound.as_str().and_then(|bound| bound.rsplit_once(':')).context("a bound address")?;
        for path in ["/one", "/two"] {
            let mut command = Command::new(&suite);
            command.args(["--strict", "--timeout", "5", "--host", ip, "--port", port, "--path", path]).args(flags);
            judge(&mut command, excused).with_context(|| format!("{path} {}", flags.join(" ")))?;
        }
    }
    let bound = proxy.report["gateways"][0]["listeners"][0]["bound"].as_str().context("a bound address")?;
    let mut stream = TcpStream::connect(bound)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(PREFACE.1.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("a broken preface is not followed by a close in good order")?;
    ensure!(answer.starts_with("HTTP/1.1 ") && answer.contains("connection: close"), "a broken preface: {answer}");
    proxy.stop()
}

/// Builds the suite from the sources that the module proxy has.
fn build(folder: &Path) -> Result<PathBuf> {
    let go = shell::need("go", "golang-go")?;
    fs::create_dir(folder)?;
    fs::write(folder.join("go.mod"), GO_MOD)?;
    let program = folder.join("h2spec");
    let mut command = Command::new(go);
    command.current_dir(folder).args(["build", "-mod=mod", "-o"]).arg(&program);
    shell::output(command.arg("github.com/summerwind/h2spec/cmd/h2spec")).context("h2spec cannot be built")?;
    Ok(program)
}

/// Runs the suite, which tells at the end which of its cases failed.
fn judge(command: &mut Command, excused: &[&str]) -> Result<()> {
    let said = command.output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let (cases, passed) = counts(&said).with_context(|| format!("h2spec said:\n{said}"))?;
    let failures = said.split_once("Failures:").map_or("", |(_, failures)| failures);
    // A line is `× 2: Sends invalid connection preface`.
    let failed = failures.lines().filter_map(|line| line.trim().strip_prefix("× ")?.split_once(": "));
    let failed: Vec<_> = failed.map(|(_, name)| name).collect();
    let are_all_excused = failed.iter().all(|name| excused.contains(name));
    if !are_all_excused || passed + failed.len() as u32 != cases {
        bail!("{passed} of {cases} passed:\n{failures}");
    }
    ensure!(cases >= CASES_MIN, "only {cases} cases were run");
    eprintln!("      {passed} of {cases} cases");
    Ok(())
}

/// Reads `146 tests, 146 passed, 0 skipped, 0 failed`.
fn counts(said: &str) -> Option<(u32, u32)> {
    let line = said.lines().rev().find(|line| line.contains(" tests, "))?;
    let number = |word: &str| line.split(", ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    Some((number(" tests")?, number(" passed")?))
}

/// A certificate of nobody in particular, as a Secret.
fn secret(folder: &Path) -> Result<String> {
    let openssl = shell::need("openssl", "openssl")?;
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let mut command = Command::new(openssl);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=web.example", "-addext", "subjectAltName=DNS:web.example"]);
    shell::output(command.arg("-out").arg(&certificate).arg("-keyout").arg(&key))?;
    let mut text = "apiVersion: v1\nkind: Secret\nmetadata: {name: web, namespace: shop}\ntype: kubernetes.io/tls\n\
                    stringData:\n"
        .to_owned();
    for (name, file) in [("tls.crt", certificate), ("tls.key", key)] {
        text += &format!("  {name}: |\n");
        for line in fs::read_to_string(file)?.lines() {
            text += &format!("    {line}\n");
        }
    }
    Ok(text)
}
