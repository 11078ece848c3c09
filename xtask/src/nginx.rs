//! nginx as a helper: the backend of a comparison, an application, a gate that writes things down.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::shell::{self, Background};

/// No access log, and no connection closed for the number of its requests.
pub(crate) const QUIET: &str = "access_log off; keepalive_requests 1000000000;";

/// Starts an nginx with one worker that serves the given contents of its `http` block, and waits for `address`.
///
/// Everything it writes goes to `folder`, under `name`; `core` pins it. [`QUIET`] is what most blocks begin with.
pub(crate) fn start(
    name: &str,
    folder: &Path,
    http: &str,
    core: Option<usize>,
    address: SocketAddr,
) -> Result<Background> {
    let program = shell::need("nginx", "nginx-light")?;
    let at = folder.display();
    let temporary = |kind: &str| format!("{kind}_temp_path {at}/{name}-{kind};");
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary).join(" ");
    let configuration = format!(
        "daemon off; worker_processes 1; pid {at}/{name}.pid; error_log {at}/{name}.error;
         events {{ worker_connections 4096; }}
         http {{ {paths}
         {http} }}\n"
    );
    let file = folder.join(format!("{name}.conf"));
    fs::write(&file, configuration)?;
    let mut command = match core {
        None => Command::new(&program),
        Some(core) => {
            let mut taskset = Command::new("taskset");
            taskset.args(["-c", &core.to_string()]).arg(&program);
            taskset
        }
    };
    command.arg("-c").arg(&file);
    let mut process = Background::start(name, &mut command, &folder.join(format!("{name}.log")))?;
    process.wait_for_port(address)?;
    Ok(process)
}
