//! Services fail and recover under Prometheus, and the questions of docs/circuit-breakers.md and docs/resilience.md are
//! answered: what was open or ejected, when, for how long, how near it was before.
//!
//! The expressions are read from the documents and asked as they stand there; a question that is not judged here fails the
//! check. The example `circuit-breaker` has the circuit, a manifest of this check the replica that fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::prometheus::{Sample, Server};
use super::world::{Proxy, without_proxies};
use crate::shell;

/// How long an answer may take to come true.
const ANSWER_MAX: Duration = Duration::from_secs(25);

/// Between scrapes, in seconds.
const SCRAPE: f64 = 0.5;

/// What a scrape, a step of a subquery and a busy machine may add to a time, in seconds.
const SLACK: f64 = 4.0;

const CART: &str = "http://cart.shop:7070/";
const ITEMS: &str = "http://items.shop:9080/";
const BAD_CART: &[&str] = &["-H", "x-echo-status: 503;pod=cart-0", "-H", "x-echo-status: 503;pod=cart-1"];
const BAD_ITEM: &[&str] = &["-H", "x-echo-status: 503;pod=items-1"];

/// Three replicas, one of which will fail.
const MANIFEST: &str = "apiVersion: v1
kind: Service
metadata: {name: items, namespace: shop}
spec: {selector: {app: items}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: items, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: items}}
  template:
    metadata: {labels: {app: items}}
    spec: {containers: [{name: items, image: any, ports: [{name: http, containerPort: 9080}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: items, namespace: shop}
spec:
  host: items
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, interval: 200ms, baseEjectionTime: 2s, maxEjectionPercent: 50}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: items, namespace: shop}
spec:
  hosts: [items]
  http:
  - route: [{destination: {host: items}}]
    retries: {attempts: 2, retryOn: 5xx}
";

/// Plays it, asking as it goes.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let mut scene = Scene::start(program, folder)?;
    scene.near()?;
    let [failing, recovering] = scene.play()?;
    scene.circuit(failing, recovering).context("the circuit")?;
    scene.outlier(failing).context("the outlier")?;
    let rest: Vec<&String> = scene.questions.keys().collect();
    ensure!(rest.is_empty(), "questions of the documents that this check does not ask: {rest:?}");
    scene.proxy.stop()
}

struct Scene<'a> {
    program: &'a Path,
    proxy: Proxy,
    server: Server,
    /// The expressions of the documents by their questions; taken when asked.
    questions: BTreeMap<String, String>,
    /// Calls of the cart so far.
    calls: u32,
}

impl<'a> Scene<'a> {
    fn start(program: &'a Path, folder: &Path) -> Result<Self> {
        let manifest = folder.join("items.yaml");
        fs::write(&manifest, MANIFEST)?;
        let paths = [shell::root().join("examples/circuit-breaker"), manifest];
        let paths =
            paths.iter().map(|path| path.to_str().context("a path that is UTF-8")).collect::<Result<Vec<_>>>()?;
        let proxy = Proxy::start(program, &["--simulate", paths[0], paths[1]], &folder.join("outrigger.log"))?;
        let target = proxy.metrics;
        let job = format!(
            "- job_name: proxy\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  metrics_path: /stats/prometheus\n  \
             static_configs: [{{targets: ['{target}']}}]\n"
        );
        let server = Server::start(folder, "prometheus", &[], &job)?;
        let mut questions = BTreeMap::new();
        for document in ["docs/circuit-breakers.md", "docs/resilience.md"] {
            let found = expressions(&fs::read_to_string(shell::root().join(document))?);
            ensure!(found.len() > 3, "{document} asks next to nothing");
            questions.extend(found);
        }
        let scene = Self { program, proxy, server, questions, calls: 0 };
        scene.until("the first scrape", "outrigger_circuit_state{service=\"cart\",state=\"closed\"}", |found| {
            found.iter().any(|sample| sample.value == 1.0)
        })?;
        Ok(scene)
    }

    /// A quarter of twelve calls to the cart fails, and an item twice in a row: neither is enough.
    fn near(&mut self) -> Result<()> {
        self.send(CART, 9, 0, &[])?.wait()?;
        self.send(CART, 3, 0, BAD_CART)?.wait()?;
        self.calls += 12;
        // The threshold is a half.
        self.answer("How near was it to opening?", |found| one(found).is_some_and(|near| (near - 0.5).abs() < 0.01))?;
        let row =
            |scrape: &str| scrape.lines().any(|l| l.starts_with(ROW) && l.contains("items-1") && l.ends_with(" 2"));
        const ROW: &str = "outrigger_endpoint_consecutive_failures{";
        let start = Instant::now();
        while !row(&self.proxy.scrape()?) {
            ensure!(start.elapsed() < ANSWER_MAX, "no two failures of items-1 in a row");
            self.send(ITEMS, 1, 0, BAD_ITEM)?.wait()?;
        }
        self.answer(
            "How near is an endpoint to its ejection?",
            |found| matches!(found, [one] if one.value == 2.0 && is(one, "endpoint", "items-1")),
        )?;
        let open = self.server.samples("outrigger_circuit_state{state!=\"closed\"} == 1")?;
        ensure!(open.is_empty(), "open too early: {open:?}");
        Ok(())
    }

    /// Both fail for six seconds and are well for six. Tells when the two halves began.
    fn play(&mut self) -> Result<[f64; 2]> {
        let failing = now();
        let mut bad = [self.send(CART, 120, 20, BAD_CART)?, self.send(ITEMS, 120, 20, BAD_ITEM)?];
        self.answer(
            "Which circuits are not closed, and in which state?",
            |found| matches!(found, [one] if is(one, "service", "cart") && is(one, "state", "open")),
        )?;
        self.answer("Who is ejected now?", |found| matches!(found, [one] if is(one, "endpoint", "items-1")))?;
        ensure!(bad[1].wait()?.success(), "a request to the items was lost");
        // The fallback stands in, but the answers of the proxy itself are none of a destination.
        bad[0].wait()?;
        let recovering = now();
        let mut good = [self.send(CART, 120, 20, &[])?, self.send(ITEMS, 120, 20, &[])?];
        for child in &mut good {
            child.wait()?;
        }
        self.calls += 240;
        self.until("all is well", "sum(outrigger_endpoint_ejected)", |found| one(found) == Some(0.0))?;
        Ok([failing, recovering])
    }

    fn circuit(&mut self, failing: f64, recovering: f64) -> Result<()> {
        let opened = self.number("When did it first open in the last hour?", |opened| {
            (failing..failing + SLACK).contains(&opened)
        })?;
        let since = self.number("Since how many seconds?", |since| {
            // A probe comes three seconds after the last failure.
            (recovering..recovering + 3.0 + SLACK).contains(&(now() - since))
        })?;
        let outage = now() - since - opened;
        let open = self.number("How long was it open in the last hour, in seconds?", |open| near(open, outage))?;
        let recovery = self.number("How fast did it recover", |recovery| near(recovery, outage))?;
        eprintln!(
            "      opened {:.1} s after the first failure, open for {open:.1} s, well after {recovery:.1} s",
            opened - failing
        );
        let said = self.proxy.process.said();
        let probes =
            said.lines().filter(|line| line.contains("a circuit opens") && line.contains("probe_failed")).count();
        ensure!(probes > 0, "six seconds of failures have a probe that fails");
        self.answer("How often did it open, and did a probe fail?", |found| {
            let of = |reason| found.iter().find(|sample| is(sample, "reason", reason)).map(|sample| sample.value);
            of("error_rate").is_some_and(|n| near(n, 1.0)) && of("probe_failed").is_some_and(|n| near(n, probes as f64))
        })?;
        let calls = f64::from(self.calls);
        self.answer("What became of the calls?", |found| {
            let refused = found.iter().find(|sample| is(sample, "outcome", "short_circuited"));
            near(found.iter().map(|sample| sample.value).sum(), calls)
                && refused.is_some_and(|sample| sample.value > 50.0)
        })
    }

    fn outlier(&mut self, failing: f64) -> Result<()> {
        let said = self.proxy.process.said();
        let ejections = said.lines().filter(|line| line.contains("endpoint ejected")).count();
        ensure!(ejections >= 2, "six seconds of failures have two ejections, the log {ejections}");
        self.answer("Who was ejected in the last hour, how often, and why?", |found| {
            let [one] = found else { return false };
            near(one.value, ejections as f64) && is(one, "endpoint", "items-1") && is(one, "reason", "consecutive_5xx")
        })?;
        let at =
            self.number("Since when? The first scrape that saw it.", |at| (failing..failing + SLACK).contains(&at))?;
        let returns = said.lines().filter(|line| line.contains("endpoint returned"));
        let lasted = |line: &str| line.split_once(" seconds=")?.1.split(' ').next()?.parse::<f64>().ok();
        let all = returns.map(|line| lasted(line).with_context(|| line.to_owned())).sum::<Result<f64>>()?;
        let out = self.number("For how many seconds?", |out| near(out, all))?;
        eprintln!("      ejected {:.1} s after the first failure, {ejections} times, for {out:.1} s", at - failing);
        // Two of the first three failures came before; the counters of a cluster begin with its first request.
        let retries = 3.0 * ejections as f64 - 2.0;
        let all = 240.0 + retries;
        self.answer("What did retries add to the requests?", |found| {
            let of = found.iter().find(|s| s.labels.values().any(|value| value.contains("items.shop")));
            of.is_some_and(|share| share.value >= retries / all * 0.9 && share.value < 0.2)
        })?;
        self.answer("How many of them helped?", |found| {
            let of = found.iter().find(|s| s.labels.values().any(|value| value.contains("items.shop")));
            of.is_some_and(|share| near(share.value, 1.0))
        })
    }

    /// Sends requests, so many a second if that is not 0, without waiting for their end.
    fn send(&self, url: &str, count: u32, rate: u32, arguments: &[&str]) -> Result<Child> {
        let admin = self.proxy.report["admin"].as_str().context("the report has an admin address")?;
        let mut command = Command::new(self.program);
        command.args(["request", url, "--admin", admin, "--count", &count.to_string()]).args(arguments);
        if rate > 0 {
            command.args(["--rate", &rate.to_string()]);
        }
        without_proxies(&mut command);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Asks a question of the documents, which begins so, until the answer is good.
    fn answer(&mut self, question: &str, is_good: impl FnMut(&[Sample]) -> bool) -> Result<()> {
        let found = self.questions.keys().find(|known| known.starts_with(question)).cloned();
        let found = found.with_context(|| format!("no document asks `{question}`"))?;
        let expression = self.questions.remove(&found).context("it is there")?;
        self.until(question, &expression, is_good)
    }

    /// Asks for one number, and gives it.
    fn number(&mut self, question: &str, is_good: impl Fn(f64) -> bool) -> Result<f64> {
        let mut number = 0.0;
        self.answer(question, |found| {
            number = one(found).unwrap_or(f64::NAN);
            is_good(number)
        })?;
        Ok(number)
    }

    fn until(&self, what: &str, expression: &str, mut is_good: impl FnMut(&[Sample]) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let found = self.server.samples(expression)?;
            if is_good(&found) {
                return Ok(());
            }
            if start.elapsed() > ANSWER_MAX {
                let (now, targets) = (now(), self.server.targets()?);
                bail!("{what}: at {now} `{expression}` says {found:#?}\n{targets}");
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The expressions of a document's `promql` blocks by the comment in their first line.
fn expressions(document: &str) -> BTreeMap<String, String> {
    let blocks = document.split("```promql\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let block = |(block, _): (&str, &str)| {
        let (question, expression) = block.strip_prefix("# ")?.split_once('\n')?;
        Some((question.to_owned(), expression.trim().to_owned()))
    };
    blocks.filter_map(block).collect()
}

/// The only value.
fn one(found: &[Sample]) -> Option<f64> {
    match found {
        [one] => Some(one.value),
        _ => None,
    }
}

/// Whether a sample has this label.
fn is(sample: &Sample, label: &str, value: &str) -> bool {
    sample.labels.get(label).is_some_and(|found| found == value)
}

/// Whether an increase is what it should be: Prometheus extrapolates by a scrape or two.
fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= expected * 0.1 + SCRAPE
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_the_comments_of_their_blocks() {
        let document =
            "a\n```promql\n# Why? So.\nup ==\n 1\n```\nb\n```yaml\n# no\n```\n```promql\n# When?\ntime()\n```\n";
        let found = expressions(document);
        let expected = [("When?", "time()"), ("Why? So.", "up ==\n 1")];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    }
}
