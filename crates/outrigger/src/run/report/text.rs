//! The start-up report for people.

use std::net::SocketAddr;

use outrigger_config::status::{Condition, ConditionStatus, ObjectStatus};
use outrigger_model::{Diagnostic, Level};

use super::{ListenerReport, Report, WorkloadReport};
use crate::cli::{is_coloured, print_line};
use crate::run::configuration::InForce;

/// Lines of one list; the rest is counted.
const SHOWN_MAX: usize = 40;

pub(super) fn print(report: &Report) {
    let colour = is_coloured(&std::io::stdout());
    let InForce { diagnostics, files, objects, workloads, gateways, forwards, snapshot, status, .. } = &report.in_force;
    for diagnostic in diagnostics.iter() {
        print_line(&paint(diagnostic, colour));
    }
    print_line(&format!("read      {} from {}", count(*objects, "object"), count(*files, "file")));
    let outbound = report.outbound;
    print_line(&format!("outbound  http://{outbound}  (routes by Host; curl -x {outbound} works too)"));
    if let Some(inbound) = report.inbound {
        print_line(&format!("inbound   {inbound}  (for connections that the system redirects)"));
    }
    print_line(&format!("metrics   http://{}/stats/prometheus", report.metrics));
    print_line(&format!("admin     http://{}", report.admin));
    for forward in forwards.iter() {
        print_line(&format!("forward   {} to {}:{}", forward.address, forward.host, forward.port));
    }
    let services = snapshot.services.iter().map(|service| {
        let ports: Vec<String> = service.ports.iter().map(u16::to_string).collect();
        let name = format!("{}/{}", service.namespace, service.name);
        [name, ports.join(","), count(service.endpoints, "endpoint")]
    });
    table("services", services.collect());
    if !workloads.is_empty() {
        print_line("pods      metrics at http://ADDRESS:15020/stats/prometheus, outbound at ADDRESS:15001");
        table("pods", workloads.iter().map(pod).collect());
    }
    for gateway in gateways.iter() {
        print_line(&format!(
            "gateway   {} {}/{} at {}",
            gateway.kind, gateway.namespace, gateway.name, gateway.address
        ));
        gateway.listeners.iter().for_each(|listener| print_line(&format!("  {}", line(report, listener))));
    }
    status.iter().flat_map(failures).for_each(|line| print_line(&line));
}

/// Conditions that are bad news when they hold.
const NEGATIVE: [&str; 3] = ["Conflicted", "OverlappingTLSConfig", "PartiallyInvalid"];

/// The conditions that are not as they should be, each a line.
fn failures(of: &ObjectStatus) -> impl Iterator<Item = String> {
    let bad = |condition: &&Condition| match condition.status {
        ConditionStatus::True => NEGATIVE.contains(&condition.kind),
        ConditionStatus::False | ConditionStatus::Unknown => !NEGATIVE.contains(&condition.kind),
    };
    of.conditions.iter().filter(bad).map(|condition| {
        let name = match &*of.namespace {
            "" => of.name.to_string(),
            namespace => format!("{namespace}/{}", of.name),
        };
        let listener = of.listener.as_ref().map(|listener| format!(" listener {listener}")).unwrap_or_default();
        let parent = of.parent.as_ref().map(|parent| format!(" at {parent}")).unwrap_or_default();
        let Condition { kind, status, reason, message } = condition;
        format!("status    {} {name}{listener}{parent}: {kind} is {} ({reason}) {message}", of.kind, status.as_str())
            .trim_end()
            .to_owned()
    })
}

fn pod(pod: &WorkloadReport) -> [String; 3] {
    let mut ports: Vec<String> = pod
        .ports
        .iter()
        .map(|port| match port.bound {
            Some(bound) if bound.port() != port.port => format!("{}:{} (at {bound})", port.container, port.port),
            Some(_) => format!("{}:{}", port.container, port.port),
            None => format!("{}:{} (not started)", port.container, port.port),
        })
        .collect();
    if !pod.ready {
        ports.push("(not ready)".to_owned());
    }
    for (what, address, usual) in [("metrics", pod.metrics, 15020), ("outbound", pod.outbound, 15001)] {
        if address.port() != usual {
            ports.push(format!("({what} at {address})"));
        }
    }
    [format!("{}/{}", pod.namespace, pod.pod), pod.address.to_string(), ports.join(" ")]
}

/// A listener, with a command to copy where one will do.
fn line(report: &Report, listener: &ListenerReport) -> String {
    let ListenerReport { name, port, bound, protocol, hostname } = listener;
    let Some(bound) = bound else { return format!("{name} {protocol} {port} {hostname}  (not served)") };
    // Without a route to take as an example, a name that the listener takes in.
    let (host, target) = report.examples.get(bound).cloned().unwrap_or_else(|| {
        let host = hostname.strip_prefix("*.").map_or(hostname.to_string(), |rest| format!("www.{rest}"));
        (if host == "*" { String::new() } else { host }, "/".to_owned())
    });
    let command = match (&**protocol, &*host) {
        ("HTTP", "") => format!("curl http://{}{target}", without_default(*bound, 80)),
        ("HTTP", host) => format!("curl -H 'Host: {host}' http://{}{target}", without_default(*bound, 80)),
        ("HTTPS", "") => format!("curl -k https://{}{target}", without_default(*bound, 443)),
        ("HTTPS", host) => format!("curl -k --connect-to ::{bound} https://{host}{target}"),
        _ => bound.to_string(),
    };
    format!("{name} {protocol} {port} {hostname}  {command}")
}

/// An address as a URL has it.
fn without_default(address: SocketAddr, port: u16) -> String {
    if address.port() == port { address.ip().to_string() } else { address.to_string() }
}

/// Three columns, aligned.
fn table(what: &str, rows: Vec<[String; 3]>) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    for [a, b, c] in rows.iter().take(SHOWN_MAX) {
        print_line(format!("  {a:<first$}  {b:<second$}  {c}").trim_end());
    }
    if rows.len() > SHOWN_MAX {
        print_line(&format!("  … and {} more {what}", rows.len() - SHOWN_MAX));
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn paint(diagnostic: &Diagnostic, colour: bool) -> String {
    if !colour {
        return diagnostic.to_string();
    }
    let code = match diagnostic.level {
        Level::Error => "31",
        Level::Warning => "33",
        Level::Info => "36",
    };
    format!("\x1b[{code}m{diagnostic}\x1b[0m")
}
