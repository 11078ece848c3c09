//! Sends the requests of a case and compares.
//!
//! A line is one of
//! - `METHOD HOST/PATH | name: value … => STATUS | check …`: one request on a connection of its own. `http://HOST/PATH`
//!   is sent in absolute form. Checks: `version=`, `pod=`, `service=`, `path=`, `host=`, `method=` as the backend told;
//!   `>name=value`, `>name` and `!>name` for request fields as the backend saw them; `<name=value`, `<name` and `!<name`
//!   for fields of the answer; `flag=`; `body=` whole, `body~` part;
//! - `N*version METHOD HOST/PATH | … => A=9 | B=1`: N requests on one connection, counted by what the backend told of
//!   itself (or `pod`, `service`), by status and flag where no backend answered; `2..4` is a range;
//! - `sticky METHOD HOST/PATH | … => N`: with 24 values for `#`, three times each: a value always reaches the same pod,
//!   and all values together so many pods;
//! - `idle METHOD HOST/PATH | … => N`: while one pod has a request under way, N others all reach one other pod;
//! - `cookie METHOD HOST/PATH | … => TEXT`: the answer's `Set-Cookie` has this attribute;
//! - `count NAME label=value … => N`: the sum of the metrics with these labels;
//! - `says TEXT`: a diagnostic of the start has this text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use outrigger_testkit::{Client, Response, metrics, within};
use serde_json::Value;

use crate::Case;
use crate::site::Site;

/// Cases that run at the same time.
const PARALLEL: usize = 4;
/// How long metrics may take to follow.
const METRICS: Duration = Duration::from_secs(5);

/// Runs all cases and panics with what was wrong in any of them.
pub(crate) fn all(module: &str, cases: &[Case]) {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = thread::spawn({
                let (name, flags, yaml, requests) = (case.name, case.flags, case.yaml, case.requests);
                move || run(&Case { name, flags, yaml, requests })
            })
            .join();
            let mut found = outcome.unwrap_or_else(|_| vec!["it did not start; see above".to_owned()]);
            found.iter_mut().for_each(|failure| *failure = format!("{module}, {}: {failure}", case.name));
            failures.lock().expect("no worker panics").extend(found);
        }
    };
    thread::scope(|scope| (0..PARALLEL).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner().expect("no worker panics");
    assert!(failures.is_empty(), "{} lines failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

/// Runs a case; what was wrong.
fn run(case: &Case) -> Vec<String> {
    let mut site = Site::start(case);
    let lines = case.requests.lines().map(str::trim).filter(|line| !line.is_empty());
    let failed = lines.filter_map(|line| judge(line, &site).err().map(|why| format!("{line}\n    {why}")));
    let failed = failed.collect();
    site.process.assert_well();
    failed
}

fn judge(line: &str, site: &Site) -> Result<(), String> {
    if let Some(text) = line.strip_prefix("says ") {
        let diagnostics = site.process.ready()["diagnostics"].to_string();
        return if diagnostics.contains(text) { Ok(()) } else { Err(format!("diagnostics: {diagnostics}")) };
    }
    let (request, wanted) = line.split_once(" => ").ok_or("a line without =>")?;
    let wanted: Vec<&str> = wanted.split(" | ").collect();
    if let Some(metric) = request.strip_prefix("count ") {
        return judge_count(metric, wanted[0], site.process.address("metrics"));
    }
    let outbound = site.process.address("outbound");
    match request.split_once(' ') {
        Some(("sticky", request)) => judge_sticky(request, wanted[0], outbound),
        Some(("idle", request)) => judge_idle(request, wanted[0], site),
        Some(("cookie", request)) => judge_cookie(request, wanted[0], outbound),
        Some((times, request)) if times.contains('*') => judge_many(times, request, &wanted, outbound),
        _ => judge_one(request, &wanted, outbound),
    }
}

/// The bytes of a request.
fn render(request: &str) -> Result<Vec<u8>, String> {
    let mut parts = request.split(" | ");
    let (method, url) = parts.next().and_then(|first| first.split_once(' ')).ok_or("expected METHOD URL")?;
    let (rest, is_absolute) = url.strip_prefix("http://").map_or((url, false), |rest| (rest, true));
    let slash = rest.find('/').ok_or("expected HOST/PATH")?;
    let (host, path) = rest.split_at(slash);
    let target = if is_absolute { url } else { path };
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
    parts.for_each(|field| text.push_str(&format!("{field}\r\n")));
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

fn exchange(bytes: &[u8], outbound: SocketAddr) -> Result<Response, String> {
    let mut client = Client::connect(outbound).map_err(|error| error.to_string())?;
    client.exchange(bytes).map_err(|error| format!("no answer: {error:?}"))
}

fn judge_one(request: &str, wanted: &[&str], outbound: SocketAddr) -> Result<(), String> {
    let bytes = render(request)?;
    let answer = exchange(&bytes, outbound)?;
    let told = || {
        let fields: Vec<_> = answer.fields.0.iter().map(shown).collect();
        let body: Vec<_> = answer.text().split_ascii_whitespace().map(str::to_owned).collect();
        format!("{} {fields:?} {}", answer.status, body.join(" "))
    };
    if wanted[0].parse() != Ok(answer.status) {
        return Err(told());
    }
    match wanted[1..].iter().find(|check| !holds(check, &answer)) {
        Some(check) => Err(format!("not {check}: {}", told())),
        None => Ok(()),
    }
}

fn shown((name, value): &(String, Vec<u8>)) -> String {
    format!("{name}: {}", String::from_utf8_lossy(value))
}

/// Whether a check holds for an answer.
fn holds(check: &str, answer: &Response) -> bool {
    let field = |name: &str| {
        let all: Vec<&str> = answer.fields.all(name).collect();
        (!all.is_empty()).then(|| all.join(","))
    };
    let echo: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let seen = |name: &str| {
        let all: Vec<&str> = echo["headers"][name].as_array()?.iter().filter_map(Value::as_str).collect();
        Some(all.join(","))
    };
    let judge_field = |check: &str, of: &dyn Fn(&str) -> Option<String>| match check.split_once('=') {
        Some((name, value)) => of(name).as_deref() == Some(value),
        None => of(check).is_some(),
    };
    if let Some(name) = check.strip_prefix("!>") {
        return echo.is_object() && seen(name).is_none();
    }
    if let Some(name) = check.strip_prefix("!<") {
        return field(name).is_none();
    }
    if let Some(check) = check.strip_prefix('>') {
        return judge_field(check, &seen);
    }
    if let Some(check) = check.strip_prefix('<') {
        return judge_field(check, &field);
    }
    if let Some(part) = check.strip_prefix("body~") {
        return answer.text().contains(part);
    }
    match check.split_once('=') {
        Some(("flag", flag)) => flag_of(answer) == flag,
        Some(("body", text)) => answer.text() == text,
        Some((name, value)) => echo[name] == value,
        None => panic!("no such check: {check}"),
    }
}

/// Envoy's flag in `Proxy-Status`, empty without one.
fn flag_of(answer: &Response) -> &str {
    let status = answer.fields.get("proxy-status").unwrap_or_default();
    status.rsplit_once("flag=").map_or("", |(_, flag)| flag)
}

fn judge_many(times: &str, request: &str, wanted: &[&str], outbound: SocketAddr) -> Result<(), String> {
    let (times, by) = times.split_once('*').ok_or("expected N*KEY")?;
    let bytes = render(request)?;
    let mut client = Client::connect(outbound).map_err(|error| error.to_string())?;
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..times.parse().map_err(|_| "expected N*KEY")? {
        let answer = client.exchange(&bytes).map_err(|error| format!("no answer: {error:?}"))?;
        let echo: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let key = match echo[by].as_str() {
            Some(key) => key.to_owned(),
            None => format!("{} {}", answer.status, flag_of(&answer)).trim().to_owned(),
        };
        *counts.entry(key).or_default() += 1;
    }
    let counted = |item: &&str| {
        let (key, range) = item.rsplit_once('=').expect("KEY=N");
        is_within(range, counts.get(key).copied().unwrap_or_default())
    };
    if wanted.iter().all(counted) && wanted.len() >= counts.len() { Ok(()) } else { Err(format!("{counts:?}")) }
}

/// Whether a number is `N` or in `FROM..TO`, both included.
fn is_within(range: &str, number: u32) -> bool {
    let (from, to) = range.split_once("..").unwrap_or((range, range));
    let bound = |text: &str| text.parse::<u32>().expect("a number");
    (bound(from)..=bound(to)).contains(&number)
}

fn judge_sticky(request: &str, wanted: &str, outbound: SocketAddr) -> Result<(), String> {
    let mut pods = BTreeSet::new();
    for value in 0..24 {
        let bytes = render(&request.replace('#', &format!("user-{value}")))?;
        let mut of_value = BTreeSet::new();
        for _ in 0..3 {
            let answer = exchange(&bytes, outbound)?;
            let echo: Value = serde_json::from_slice(&answer.body).map_err(|_| format!("status {}", answer.status))?;
            of_value.insert(echo["pod"].to_string());
        }
        if of_value.len() != 1 {
            return Err(format!("value {value} reached {of_value:?}"));
        }
        pods.extend(of_value);
    }
    let count = u32::try_from(pods.len()).expect("few pods");
    if is_within(wanted, count) { Ok(()) } else { Err(format!("all values together reached {pods:?}")) }
}

fn judge_idle(request: &str, wanted: &str, site: &Site) -> Result<(), String> {
    let outbound = site.process.address("outbound");
    let mut held = Client::connect(outbound).map_err(|error| error.to_string())?;
    held.send(&render(&format!("{request} | x-echo-delay: 60s"))?).map_err(|error| error.to_string())?;
    let only_held_under_way = || {
        let samples = metrics::parse(&scrape(site.process.address("metrics"))?);
        (metrics::sum(&samples, "outrigger_endpoint_active_requests", &[]) == 1.0).then_some(())
    };
    let bytes = render(request)?;
    let mut pods = BTreeSet::new();
    for _ in 0..wanted.parse().map_err(|_| "expected a number")? {
        // The client may see the end of an answer before the worker has counted it, and the next request may meet another
        // worker.
        within(METRICS, only_held_under_way).ok_or("not just the held request is under way")?;
        let echo: Value = serde_json::from_slice(&exchange(&bytes, outbound)?.body).unwrap_or_default();
        pods.insert(echo["pod"].to_string());
    }
    if pods.len() == 1 { Ok(()) } else { Err(format!("others reached {pods:?}")) }
}

fn scrape(stats: SocketAddr) -> Option<String> {
    let request = b"GET /stats/prometheus HTTP/1.1\r\nhost: metrics\r\nconnection: close\r\n\r\n";
    Some(Client::connect(stats).ok()?.exchange(request).ok()?.text())
}

fn judge_cookie(request: &str, attribute: &str, outbound: SocketAddr) -> Result<(), String> {
    let answer = exchange(&render(request)?, outbound)?;
    let cookie = answer.fields.get("set-cookie").ok_or("no Set-Cookie")?;
    if cookie.split(';').any(|part| part.trim() == attribute) { Ok(()) } else { Err(cookie.to_owned()) }
}

fn judge_count(metric: &str, wanted: &str, stats: SocketAddr) -> Result<(), String> {
    let mut words = metric.split(' ');
    let name = words.next().unwrap_or_default();
    let labels: Vec<_> = words.map(|word| word.split_once('=').expect("label=value")).collect();
    let mut text = String::new();
    let found = within(METRICS, || {
        text = scrape(stats)?;
        (metrics::sum(&metrics::parse(&text), name, &labels) == wanted.parse::<f64>().ok()?).then_some(())
    });
    let lines = || text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join("\n    ");
    found.ok_or_else(|| format!("counted otherwise:\n    {}", lines()))
}
