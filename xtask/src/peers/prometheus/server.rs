//! A Prometheus of our own, and questions to it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::world;
use crate::shell::{self, Background};

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(20);

/// A running Prometheus that scrapes every second.
pub(crate) struct Server {
    address: SocketAddr,
    _process: Background,
}

/// One sample of an instant query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its value.
    pub(crate) value: f64,
}

impl Server {
    /// Starts one with these entries of `scrape_configs`; its files lie in `folder` under `name`.
    pub(crate) fn start(folder: &Path, name: &str, flags: &[&str], jobs: &str) -> Result<Self> {
        let program = shell::need("prometheus", "prometheus")?;
        let address = shell::loopback(shell::free_port()?);
        let file = folder.join(format!("{name}.yml"));
        fs::write(&file, format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}"))?;
        let data = folder.join(format!("{name}-data"));
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", file.display())).arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address={address}")).args(flags);
        let mut process = Background::start(name, &mut command, &folder.join(format!("{name}.log")))?;
        // It listens before it has read its storage, and answers 503 until then.
        let ready = format!("http://{address}/-/ready");
        process.wait_for("readiness", START_MAX, |_| shell::output(world::curl().args(["--fail", &ready])).ok())?;
        Ok(Self { address, _process: process })
    }

    /// The samples of an instant query. Numbers that are none are left out.
    pub(crate) fn samples(&self, query: &str) -> Result<Vec<Sample>> {
        let mut command = world::curl();
        command.args(["--get", "--data-urlencode", &format!("query={query}")]);
        let said = shell::output(command.arg(format!("http://{}/api/v1/query", self.address)))?;
        let answer: Value = serde_json::from_str(&said).with_context(|| format!("`{query}`: {said}"))?;
        let samples = answer["data"]["result"].as_array().with_context(|| format!("`{query}`: {said}"))?;
        let sample = |sample: &Value| {
            let label = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
            let labels = sample["metric"].as_object()?.iter().map(label).collect::<Option<_>>()?;
            Some(Sample { labels, value: sample["value"][1].as_str()?.parse().ok()? })
        };
        let samples: Vec<Sample> =
            samples.iter().map(sample).collect::<Option<_>>().with_context(|| format!("`{query}`: {said}"))?;
        Ok(samples.into_iter().filter(|sample| sample.value.is_finite()).collect())
    }

    /// The samples of an instant query by one of their labels, as whole numbers.
    pub(crate) fn query(&self, query: &str, label: &str) -> Result<BTreeMap<String, u64>> {
        let named = |sample: Sample| {
            let name = sample.labels.get(label).with_context(|| format!("`{query}`: no label {label}: {sample:?}"))?;
            Ok((name.clone(), sample.value as u64))
        };
        self.samples(query)?.into_iter().map(named).collect()
    }

    /// How its scrapes fare, for messages.
    pub(crate) fn targets(&self) -> Result<String> {
        let said = shell::output(world::curl().arg(format!("http://{}/api/v1/targets", self.address)))?;
        let answer: Value = serde_json::from_str(&said)?;
        let active = answer["data"]["activeTargets"].as_array().into_iter().flatten();
        Ok(active.map(|t| format!("{} {} {}\n", t["scrapeUrl"], t["health"], t["lastError"])).collect())
    }
}
