//! A simulated Bookinfo under Prometheus: everything is scraped, the queries that others ask have data, and both sides of
//! every request count the same.
//!
//! Istio's own Bookinfo where its samples lie beside the repository (or where `OUTRIGGER_SHARED` says), else the example
//! that resembles it. Two meshes run one after the other: one under `--load`, where every query must say something, and one
//! that is quiet but for requests that are counted, where sums must agree to the request.

mod queries;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::prometheus::Server;
use super::world::Proxy;
use crate::shell;
use queries::Query;

/// Stands for `$__rate_interval`.
const RANGE: &str = "10s";

/// How long until every query must have data: a few scrapes on a busy machine.
const DATA_MAX: Duration = Duration::from_secs(25);

/// Requests of a counted load.
const REQUESTS: u64 = 120;

/// Runs both meshes.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    under_load(program, &folder.join("load")).context("under load")?;
    counted(program, &folder.join("counted")).context("counted")
}

/// A mesh with a Prometheus that follows its `--sd-file`.
struct Scraped {
    mesh: Proxy,
    server: Server,
}

impl Scraped {
    fn start(program: &Path, folder: &Path, flags: &[&str]) -> Result<Self> {
        shell::fresh_folder(folder)?;
        let targets = folder.join("targets.json");
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is UTF-8");
        let mut arguments = vec!["--simulate".to_owned(), "--sd-file".to_owned(), text(&targets)?];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        for path in input() {
            arguments.push(text(&path)?);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mesh = Proxy::start(program, &arguments, &folder.join("outrigger.log"))?;
        let jobs = format!(
            "- job_name: mesh\n  metrics_path: /stats/prometheus\n  file_sd_configs: [{{files: ['{}'], refresh_interval: 1s}}]\n",
            targets.display()
        );
        let server = Server::start(folder, "prometheus", &[], &jobs)?;
        Ok(Self { mesh, server })
    }

    /// Asks until an answer is good.
    fn until<T>(&self, what: &str, mut ask: impl FnMut(&Server) -> Result<Result<T, String>>) -> Result<T> {
        let start = Instant::now();
        loop {
            match ask(&self.server)? {
                Ok(answer) => return Ok(answer),
                Err(why) if start.elapsed() > DATA_MAX => bail!("{what}: {why}\n{}", self.server.targets()?),
                Err(_) => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Members of the report's list.
    fn listed(&self, list: &str) -> Result<&Vec<Value>> {
        self.mesh.report[list].as_array().with_context(|| format!("the report has no `{list}`"))
    }

    /// Every pod and gateway is a target, and up.
    fn all_up(&self) -> Result<()> {
        // One more: the process itself, for anonymous clients.
        let expected = self.listed("workloads")?.len() + self.listed("gateways")?.len() + 1;
        ensure!(expected >= 8, "Bookinfo has six pods and a gateway: {}", self.mesh.report);
        let up = self.until("targets that are up", |server| {
            let up = server.samples("sum(up)")?.first().map_or(0.0, |sample| sample.value) as usize;
            Ok(if up == expected { Ok(up) } else { Err(format!("{up} instead of {expected}")) })
        })?;
        eprintln!("      {up} targets are up");
        let down = self.server.samples("up == 0")?;
        ensure!(down.is_empty(), "targets are down: {}", self.server.targets()?);
        Ok(())
    }
}

/// Bookinfo with a gateway and a routing rule.
fn input() -> Vec<PathBuf> {
    let shared = env::var_os("OUTRIGGER_SHARED").map_or_else(|| shell::root().join("../shared"), PathBuf::from);
    let bookinfo = shared.join("data/istio-samples/samples/bookinfo");
    if !bookinfo.is_dir() {
        eprintln!("      Istio's samples are not at {}; the example stands in", bookinfo.display());
        return vec![shell::root().join("examples/gateway")];
    }
    [
        "platform/kube/bookinfo.yaml",
        "networking/bookinfo-gateway.yaml",
        "networking/destination-rule-all.yaml",
        "networking/virtual-service-reviews-v2-v3.yaml",
    ]
    .map(|file| bookinfo.join(file))
    .into()
}

/// Every query of every tool has data.
fn under_load(program: &Path, folder: &Path) -> Result<()> {
    let scraped = Scraped::start(program, folder, &["--load", "200"])?;
    scraped.all_up()?;
    // Who has traffic is what the services' destinations say; every service of Bookinfo is on some route.
    let services = scraped.until("destinations", |server| {
        let samples =
            server.samples("sum by (destination_service) (istio_requests_total{reporter=\"destination\"})")?;
        let found: BTreeSet<String> =
            samples.into_iter().filter_map(|s| s.labels.get("destination_service").cloned()).collect();
        Ok(if found.len() >= 4 { Ok(found) } else { Err(format!("{found:?} instead of four services")) })
    })?;
    let names = |list: &str, member: &str| -> Result<BTreeSet<String>> {
        Ok(scraped.listed(list)?.iter().filter_map(|item| Some(item[member].as_str()?.to_owned())).collect())
    };
    // Version 1 of the reviews gets nothing by the rule.
    let answering = |name: &String| name != "reviews-v1";
    let mut panels = 0;
    panels += scraped.ask_all(queries::MESH, &[&[]])?;
    let services: Vec<[(&str, &str); 2]> = ["source", "destination"]
        .into_iter()
        .flat_map(|reporter| services.iter().map(move |service| [("$service", service.as_str()), ("$qrep", reporter)]))
        .collect();
    panels += scraped.ask_all(queries::SERVICE, &services.iter().map(|s| &s[..]).collect::<Vec<_>>())?;
    let (namespaces, workloads) = (names("workloads", "namespace")?, names("workloads", "name")?);
    let namespace = namespaces.first().context("a namespace")?.as_str();
    panels += scraped.ask_all(queries::NAMESPACE, &[&[("$namespace", namespace)]])?;
    let workloads: Vec<[(&str, &str); 2]> = workloads
        .iter()
        .filter(|name| answering(name))
        .map(|w| [("$workload", w.as_str()), ("$namespace", namespace)])
        .collect();
    panels += scraped.ask_all(queries::WORKLOAD, &workloads.iter().map(|w| &w[..]).collect::<Vec<_>>())?;
    eprintln!("      {panels} queries of dashboards and tools have data");
    scraped.mesh.stop()
}

impl Scraped {
    /// Asks every query with every set of variables; tells how many that were.
    fn ask_all(&self, queries: &[Query], variables: &[&[(&str, &str)]]) -> Result<usize> {
        ensure!(!variables.is_empty(), "nothing to ask {} about", queries[0].name);
        for query in queries {
            for variables in variables {
                let what = format!("{} {variables:?}", query.name);
                self.until(&what, |server| query.ask(server, variables))?;
            }
        }
        Ok(queries.len() * variables.len())
    }
}

impl Query {
    /// Whether one of the alternatives has data, with all labels.
    fn ask(&self, server: &Server, variables: &[(&str, &str)]) -> Result<Result<(), String>> {
        let mut asked = Vec::new();
        for alternative in self.alternatives {
            let text = alternative.replace("[$r]", &format!("[{RANGE}]"));
            let text = variables.iter().fold(text, |text, (name, value)| text.replace(name, value));
            let samples = server.samples(&text)?;
            for sample in &samples {
                let missing: Vec<&&str> =
                    self.labels.iter().filter(|l| sample.labels.get(**l).is_none_or(String::is_empty)).collect();
                ensure!(missing.is_empty(), "`{text}`: {sample:?} lacks {missing:?}");
            }
            if !samples.is_empty() {
                return Ok(Ok(()));
            }
            asked.push(text);
        }
        Ok(Err(format!("no data for\n{}", asked.join("\n"))))
    }
}

/// Sums of both reporters are what clients sent, by service and by workload.
fn counted(program: &Path, folder: &Path) -> Result<()> {
    let scraped = Scraped::start(program, folder, &[])?;
    scraped.all_up()?;
    let sent = scraped.send(program)?;
    for (what, by) in [("service", "destination_service"), ("version", "destination_workload")] {
        let expected = &sent[what];
        for reporter in ["source", "destination"] {
            let query =
                format!("sum by ({by}) (istio_requests_total{{reporter=\"{reporter}\",response_code=\"200\"}})");
            scraped.until(&format!("requests by {what}, as the {reporter} counts"), |server| {
                let found = server.query(&query, by)?;
                Ok(if found == *expected {
                    Ok(())
                } else {
                    Err(format!("`{query}` says {found:?}, clients counted {expected:?}"))
                })
            })?;
        }
    }
    // Both sides name the same edges: who asked is known to who answers, and the other way round.
    let edges = |server: &Server, reporter: &str| -> Result<BTreeMap<Vec<String>, u64>> {
        let query = format!(
            "sum by (source_workload,source_canonical_service,destination_workload,destination_service) \
             (istio_requests_total{{reporter=\"{reporter}\"}})"
        );
        let samples = server.samples(&query)?;
        Ok(samples.into_iter().map(|s| (s.labels.into_values().collect(), s.value as u64)).collect())
    };
    let (out, arrived) = (edges(&scraped.server, "source")?, edges(&scraped.server, "destination")?);
    ensure!(out == arrived, "edges by their sources: {out:#?}\nby their destinations: {arrived:#?}");
    ensure!(out.keys().flatten().any(|label| label == "productpage-v1"), "no edge from the product page: {out:#?}");
    // Nothing was answered otherwise.
    let others = scraped.server.samples("sum(istio_requests_total{response_code!=\"200\"}) > 0")?;
    ensure!(others.is_empty(), "requests that no client knows of: {others:?}");
    let total: u64 = sent["service"].values().sum();
    eprintln!("      {total} requests are {total} at their sources and {total} at their destinations");
    scraped.mesh.stop()
}

impl Scraped {
    /// Sends from an anonymous client, from two workloads and through the gateway; tells what `outrigger request` counted,
    /// by destination and by workload.
    fn send(&self, program: &Path) -> Result<BTreeMap<&'static str, BTreeMap<String, u64>>> {
        let admin = self.mesh.report["admin"].as_str().context("an admin address")?;
        let gateway = &self.listed("gateways")?[0];
        let listener = &gateway["listeners"][0];
        let (address, port) = (gateway["address"].as_str().context("an address")?, &listener["port"]);
        // The example's gateway asks for its host; Bookinfo's takes any.
        let through_gateway = format!("http://{address}:{port}/productpage");
        let host = "Host: books.example";
        let ways: [(&str, &[&str]); 4] = [
            ("http://reviews:9080/", &["--from", "productpage-v1"]),
            ("http://ratings:9080/", &["--from", "reviews-v2", "--concurrency", "8"]),
            ("http://details:9080/", &[]),
            (&through_gateway, &["-H", host]),
        ];
        let mut sent = BTreeMap::<&str, BTreeMap<String, u64>>::new();
        for (url, flags) in ways {
            let mut command = Command::new(program);
            command
                .args(["request", url, "-o", "json", "--admin", admin, "--count", &REQUESTS.to_string()])
                .args(flags);
            let said: Value = serde_json::from_str(&shell::output(&mut command)?)?;
            ensure!(said["by_status"]["200"] == REQUESTS, "{url}: {said}");
            let counts = |table: &str| -> Result<Vec<(String, u64)>> {
                let table = said[table].as_object().with_context(|| format!("no {table}: {said}"))?;
                Ok(table.iter().filter_map(|(key, count)| Some((key.clone(), count.as_u64()?))).collect())
            };
            for (destination, count) in counts("by_destination")? {
                let (namespace, name) = destination.split_once('/').with_context(|| destination.clone())?;
                let service = format!("{name}.{namespace}.svc.cluster.local");
                *sent.entry("service").or_default().entry(service).or_default() += count;
            }
            for (pod, count) in counts("by_pod")? {
                let workload = pod.rsplit_once('-').with_context(|| pod.clone())?.0.to_owned();
                *sent.entry("version").or_default().entry(workload).or_default() += count;
            }
        }
        Ok(sent)
    }
}
