//! The start-up report.

use std::net::{SocketAddr, TcpListener};

use outrigger_model::{Diagnostic, Level};
use serde::Serialize;
use serde_json::{Value, json};

use super::configuration::InForce;
use crate::cli::{Output, is_coloured, print_line};

/// What is told once everything listens.
pub(super) struct Report {
    admin: SocketAddr,
    outbound: SocketAddr,
    metrics: SocketAddr,
    in_force: InForce,
}

/// A diagnostic as it stands in JSON.
#[derive(Serialize)]
struct Finding<'d> {
    code: &'d str,
    level: &'d str,
    object: Option<String>,
    file: Option<&'d str>,
    line: Option<u32>,
    column: Option<u32>,
    message: &'d str,
    hint: &'d str,
}

impl Report {
    /// Of a proxy that has started.
    pub(super) fn new(
        outbound: SocketAddr,
        admin: &TcpListener,
        stats: &TcpListener,
        in_force: &InForce,
    ) -> std::io::Result<Self> {
        Ok(Self {
            admin: admin.local_addr()?,
            outbound: outbound,
            metrics: stats.local_addr()?,
            in_force: in_force.clone(),
        })
    }

    /// Prints it.
    pub(super) fn print(&self, output: Output) {
        match output {
            Output::Json => print_line(&self.json().to_string()),
            Output::Text => self.print_text(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "ready": true,
            "admin": self.admin.to_string(),
            "outbound": self.outbound.to_string(),
            "metrics": self.metrics.to_string(),
            "services": services(&self.in_force),
            "diagnostics": diagnostics(&self.in_force.diagnostics),
        })
    }

    fn print_text(&self) {
        let colour = is_coloured(&std::io::stdout());
        for diagnostic in self.in_force.diagnostics.iter() {
            print_line(&paint(diagnostic, colour));
        }
        let InForce { files, objects, .. } = &self.in_force;
        print_line(&format!("read      {} from {}", count(*objects, "object"), count(*files, "file")));
        print_line(&format!(
            "outbound  http://{}  (routes by Host; curl -x {} works too)",
            self.outbound, self.outbound
        ));
        print_line(&format!("metrics   http://{}/stats/prometheus", self.metrics));
        print_line(&format!("admin     http://{}", self.admin));
        let width = self.in_force.snapshot.services.iter().map(|s| s.namespace.len() + s.name.len() + 1).max();
        for service in self.in_force.snapshot.services.iter().take(SERVICES_SHOWN_MAX) {
            let ports: Vec<String> = service.ports.iter().map(u16::to_string).collect();
            let name = format!("{}/{}", service.namespace, service.name);
            let width = width.unwrap_or_default();
            print_line(&format!("  {name:<width$}  {:<12} {} endpoints", ports.join(","), service.endpoints));
        }
        let more = self.in_force.snapshot.services.len().saturating_sub(SERVICES_SHOWN_MAX);
        if more > 0 {
            print_line(&format!("  … and {more} more services"));
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Services listed in the report for people; the rest is counted.
const SERVICES_SHOWN_MAX: usize = 40;

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

/// The services as the report and the admin interface tell them.
pub(super) fn services(in_force: &InForce) -> Value {
    let services = in_force.snapshot.services.iter().map(|s| {
        json!({
            "namespace": s.namespace, "name": s.name, "ports": s.ports, "endpoints": s.endpoints,
        })
    });
    Value::Array(services.collect())
}

/// The diagnostics as the report and the admin interface tell them.
pub(super) fn diagnostics(diagnostics: &[Diagnostic]) -> Value {
    let findings = diagnostics.iter().map(|d| {
        let place = d.place.as_ref();
        json!(Finding {
            code: d.code.0,
            level: d.level.as_str(),
            object: d.object.as_ref().map(ToString::to_string),
            file: place.map(|p| &*p.file),
            line: place.map(|p| p.line),
            column: place.map(|p| p.column),
            message: &d.message,
            hint: &d.hint,
        })
    });
    Value::Array(findings.collect())
}
