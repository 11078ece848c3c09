//! A running proxy: started as a user would, its addresses read from the start-up report.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::shell::{self, Background};

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(30);

/// `outrigger run` and where it listens.
pub(crate) struct Proxy {
    /// The process.
    pub(crate) process: Background,
    /// Outbound listener and forward proxy.
    pub(crate) outbound: SocketAddr,
    /// Metrics.
    pub(crate) metrics: SocketAddr,
    /// The whole start-up report.
    pub(crate) report: Value,
}

impl Proxy {
    /// Runs `arguments` after `outrigger run`, on free ports, and waits until it is ready. Its log is `log`.
    pub(crate) fn start(program: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("run").args(arguments).args(["-o", "json"]);
        for flag in ["--outbound", "--admin", "--stats"] {
            if !arguments.contains(&flag) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        let mut process = Background::start("outrigger", &mut command, log)?;
        let report = process.wait_for("start-up report", START_MAX, |process| ready(&process.said()))?;
        let address = |field: &str| -> Result<SocketAddr> {
            let text = report[field].as_str().with_context(|| format!("the report has no `{field}`: {report}"))?;
            text.parse().with_context(|| format!("`{field}` of the report"))
        };
        Ok(Self { outbound: address("outbound")?, metrics: address("metrics")?, process, report })
    }

    /// A curl that takes this proxy as its forward proxy.
    pub(crate) fn curl(&self) -> Command {
        let mut command = curl();
        command.args(["--proxy", &format!("http://{}", self.outbound)]);
        command
    }

    /// Sends `count` GETs over one connection and counts the echoed values of a field.
    pub(crate) fn count(
        &self,
        url: &str,
        count: u32,
        arguments: &[&str],
        field: &str,
    ) -> Result<BTreeMap<String, u64>> {
        let said = shell::output(self.curl().args(arguments).arg(format!("{url}?[1-{count}]")))?;
        let mut counts = BTreeMap::new();
        let mut answers = 0;
        for answer in serde_json::Deserializer::from_str(&said).into_iter::<Value>() {
            let answer = answer.with_context(|| format!("an answer is no JSON:\n{said}"))?;
            let value = answer[field].as_str().with_context(|| format!("an echo has no `{field}`: {answer}"))?;
            *counts.entry(value.to_owned()).or_default() += 1;
            answers += 1;
        }
        ensure!(answers == count, "{answers} answers to {count} requests");
        Ok(counts)
    }

    /// The exposition in the text format.
    pub(crate) fn scrape(&self) -> Result<String> {
        shell::output(curl().arg(format!("http://{}/stats/prometheus", self.metrics)))
    }

    /// Asks it to end and waits until it has, in good order.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        let status = self.process.wait(Duration::from_secs(40))?;
        if status.success() { Ok(()) } else { bail!("ended with {status} after SIGTERM:\n{}", self.process.said()) }
    }
}

/// A curl that is silent but for errors and never waits for long; no proxy of the surroundings takes part.
pub(crate) fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--disable", "--silent", "--show-error", "--max-time", "20"]);
    without_proxies(&mut command);
    command
}

/// Takes the proxies of the surroundings out of a program's environment.
pub(crate) fn without_proxies(command: &mut Command) {
    for name in
        ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]
    {
        command.env_remove(name);
    }
}

/// The one line of JSON that says it is ready.
pub(crate) fn ready(said: &str) -> Option<Value> {
    let mut reports = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    reports.find(|report| report["ready"] == true)
}
