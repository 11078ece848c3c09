//! Envoy side by side: the same policies, scripted backends and requests, and what comes of them.
//!
//! Each case of the tables is configured for Envoy as Istio's control plane would and for us as the user writes it, with
//! backends of its own for each of the two. All cases run side by side, in one Envoy and one Outrigger. Then statuses, response
//! flags, the tries that backends saw and the counters are compared item by item. A difference is either named in the table
//! and in `docs/envoy-differences.md` with its reason, or the check fails; and it fails, too, if one that is named there is
//! no more.

mod backend;
mod cases;
mod client;
mod ejections;
mod frames;
mod limits;
mod outcome;
mod policy;
mod retries;
mod script;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use self::backend::Backend;
use self::cases::Case;
use self::outcome::Outcome;
use super::world::{self, Proxy};
use crate::bench;
use crate::shell::{self, Background};

/// How long counters and logs may lag behind the answers.
const SETTLING_MAX: Duration = Duration::from_secs(10);
/// Between the beginnings of two cases: a crowd of new connections at one time costs some of them a second, and what is to
/// be at once no longer is.
const STAGGER: Duration = Duration::from_millis(15);
/// What Envoy writes of each request: who was asked, and what came of it.
const LOG_FORMAT: &str = "%REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_FLAGS%\n";

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Envoy,
    Ours,
}

/// A case before one of the proxies.
struct Scene {
    case: &'static Case,
    endpoints: Vec<String>,
    backends: Vec<Backend>,
}

/// Runs all cases before both and compares.
pub(crate) fn check(program: &Path, folder: &Path) -> Result<()> {
    shell::fresh_folder(folder)?;
    let cases = cases::all();
    let port = shell::free_port()?;
    let theirs = scenes(Side::Envoy, &cases, port)?;
    let ours = scenes(Side::Ours, &cases, port)?;
    let log = folder.join("envoy-requests.log");
    let (admin, listen) = (shell::loopback(shell::free_port()?), shell::loopback(shell::free_port()?));
    let _envoy = start_envoy(folder, &envoy_configuration(&theirs, port, admin, listen, &log))?;
    let proxy = start_ours(program, folder, &ours, port)?;

    let (envoy, outrigger) = thread::scope(|scope| {
        let theirs = scope.spawn(|| walk(&theirs, listen));
        let ours = walk(&ours, proxy.outbound);
        (theirs.join().expect("no panics"), ours)
    });
    let (mut envoy, mut outrigger) = (envoy?, outrigger?);
    let sent: u32 = cases.iter().map(|case| case.requests()).sum();
    add_envoys_account(&mut envoy, &cases, sent, admin, &log)?;
    add_our_account(&mut outrigger, &cases, sent, &proxy)?;
    proxy.stop()?;
    compare(&cases, &envoy, &outrigger)
}

/// The backends of all cases before one of the proxies: an address each, all with the same port.
fn scenes(side: Side, cases: &[&'static Case], port: u16) -> Result<Vec<Scene>> {
    let net = if side == Side::Envoy { 88 } else { 89 };
    let scene = |(number, case): (usize, &&'static Case)| -> Result<Scene> {
        let mut scene = Scene { case, endpoints: Vec::new(), backends: Vec::new() };
        for (index, script) in case.backends.iter().enumerate() {
            let (third, fourth) = (u8::try_from(number + 1)?, u8::try_from(index + 1)?);
            let ip = IpAddr::V4(Ipv4Addr::new(127, net, third, fourth));
            let backend = Backend::start(script, SocketAddr::new(ip, port), case.policy.is_http2);
            scene.backends.push(backend.with_context(|| case.name)?);
            scene.endpoints.push(ip.to_string());
        }
        Ok(scene)
    };
    cases.iter().enumerate().map(scene).collect()
}

fn envoy_configuration(scenes: &[Scene], port: u16, admin: SocketAddr, listen: SocketAddr, log: &Path) -> Value {
    let at = |address: SocketAddr| json!({"socket_address": {"address": "127.0.0.1", "port_value": address.port()}});
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let hosts: Vec<Value> = scenes.iter().map(|scene| scene.case.policy.virtual_host(scene.case.name)).collect();
    let clusters: Vec<Value> =
        scenes.iter().map(|scene| scene.case.policy.cluster(scene.case.name, &scene.endpoints, port)).collect();
    let manager = json!({
        "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": hosts},
        "access_log": [{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": kind("access_loggers.file.v3.FileAccessLog"),
                "path": log,
                "log_format": {"text_format_source": {"inline_string": LOG_FORMAT}},
            },
        }],
        "http_filters": [
            {"name": "envoy.filters.http.fault", "typed_config": {"@type": kind("filters.http.fault.v3.HTTPFault")}},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": kind("filters.http.router.v3.Router")}},
        ],
    });
    json!({
        "admin": {"address": at(admin)},
        "static_resources": {
            "listeners": [{
                "address": at(listen),
                "filter_chains": [{
                    "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
                }],
            }],
            "clusters": clusters,
        },
    })
}

fn start_envoy(folder: &Path, configuration: &Value) -> Result<Background> {
    let file = folder.join("envoy.json");
    fs::write(&file, serde_json::to_string_pretty(configuration)?)?;
    let mut command = Command::new(bench::envoy()?);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]);
    command.args(["--file-flush-interval-msec", "100", "-c"]).arg(&file);
    let mut process = Background::start("envoy", &mut command, &folder.join("envoy.log"))?;
    let listener = &configuration["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"];
    let listen = listener.as_u64().and_then(|port| u16::try_from(port).ok()).context("the listener's port")?;
    process.wait_for_port(shell::loopback(listen))?;
    Ok(process)
}

fn start_ours(program: &Path, folder: &Path, scenes: &[Scene], port: u16) -> Result<Proxy> {
    let yaml = folder.join("yaml");
    fs::create_dir_all(&yaml)?;
    for scene in scenes {
        let objects = scene.case.policy.objects(scene.case.name, &scene.endpoints, port);
        // Each a document of its own; JSON is YAML.
        let documents: Result<Vec<String>, _> = objects.iter().map(serde_json::to_string_pretty).collect();
        fs::write(yaml.join(format!("{}.yaml", scene.case.name)), documents?.join("\n---\n"))?;
    }
    let yaml = yaml.to_str().context("a path that is UTF-8")?;
    Proxy::start(program, &[yaml, "--concurrency", "1"], &folder.join("outrigger.log"))
}

/// All cases before one proxy, soon after one another and mostly at once.
fn walk(scenes: &[Scene], proxy: SocketAddr) -> Result<Vec<Outcome>> {
    thread::scope(|scope| {
        let walking: Vec<_> = scenes
            .iter()
            .map(|scene| {
                thread::sleep(STAGGER);
                scope.spawn(move || -> Result<Outcome> {
                    let case = scene.case;
                    let answers = client::walk(case.steps, &policy::host(case.name), proxy);
                    let answers = answers.with_context(|| case.name)?;
                    let tries: Vec<_> = scene.backends.iter().map(Backend::tries).collect();
                    Ok(Outcome::new(case, &answers, &tries))
                })
            })
            .collect();
        walking.into_iter().map(|one| one.join().expect("no panics")).collect()
    })
}

/// Response flags from Envoy's log, counters from its admin port.
fn add_envoys_account(
    outcomes: &mut [Outcome],
    cases: &[&'static Case],
    sent: u32,
    admin: SocketAddr,
    log: &Path,
) -> Result<()> {
    let start = Instant::now();
    let lines = loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        if text.lines().count() >= sent as usize {
            break text;
        }
        ensure!(start.elapsed() < SETTLING_MAX, "Envoy logged {} of {sent} requests", text.lines().count());
        thread::sleep(Duration::from_millis(50));
    };
    let scrape = shell::output(world::curl().arg(format!("http://{admin}/stats/prometheus")))?;
    for (outcome, case) in outcomes.iter_mut().zip(cases) {
        let host = policy::host(case.name);
        let mine = lines.lines().filter_map(|line| line.split_once(' ').filter(|(asked, _)| *asked == host));
        outcome.flag(case, mine.map(|(_, rest)| rest.to_owned()));
        outcome.count(&scrape, case.name);
    }
    Ok(())
}

/// Response flags and counters from our metrics.
fn add_our_account(outcomes: &mut [Outcome], cases: &[&'static Case], sent: u32, proxy: &Proxy) -> Result<()> {
    let start = Instant::now();
    let scrape = loop {
        let scrape = proxy.scrape()?;
        let counted = super::exposition::sum(&scrape, "istio_requests_total", &[]);
        if counted >= f64::from(sent) {
            break scrape;
        }
        ensure!(start.elapsed() < SETTLING_MAX, "Outrigger counted {counted} of {sent} requests");
        thread::sleep(Duration::from_millis(50));
    };
    for (outcome, case) in outcomes.iter_mut().zip(cases) {
        let service = format!("destination_service_name=\"{}\"", case.name);
        let mine = scrape.lines().filter(|line| line.starts_with("istio_requests_total{") && line.contains(&service));
        let flags = mine.flat_map(|line| {
            let label =
                |name: &str| line.split_once(&format!(",{name}=\"")).and_then(|(_, rest)| rest.split('"').next());
            let (code, flags) = (label("response_code").unwrap_or("?"), label("response_flags").unwrap_or("?"));
            let count = line.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
            std::iter::repeat_n(format!("{code} {flags}"), count)
        });
        outcome.flag(case, flags);
        outcome.count(&scrape, &policy::our_cluster(case.name));
    }
    Ok(())
}

/// Lays the outcomes side by side.
fn compare(cases: &[&'static Case], envoy: &[Outcome], ours: &[Outcome]) -> Result<()> {
    let mut complaints = String::new();
    for ((case, envoy), ours) in cases.iter().zip(envoy).zip(ours) {
        let complaint = case.judge(envoy, ours);
        if !complaint.is_empty() {
            complaints.push_str(&format!("{}: {}\n{complaint}", case.name, case.about));
        }
    }
    let differing = cases.iter().filter(|case| !case.differs.is_empty()).count();
    eprintln!("{} cases, in {differing} of them Outrigger differs from Envoy as intended", cases.len());
    if complaints.is_empty() { Ok(()) } else { bail!("\n{complaints}") }
}
