//! What stands behind the proxies: nginx, or nghttpd where they speak HTTP/2.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::part::{DOWNLOAD_BYTES, Part};
use crate::nginx;
use crate::shell::{self, Background};

/// A gRPC message of five bytes, as it stands on the wire: not compressed, its length, itself. Request and answer alike.
pub(crate) const GRPC_MESSAGE: &[u8] = b"\0\0\0\0\x05hello";
/// The method that is called. The ending lets nghttpd give the answer its content type.
pub(crate) const GRPC_PATH: &str = "/bench.Echo/Unary.grpc";
/// Where the large download is.
pub(crate) const DOWNLOAD_PATH: &str = "/large";

/// A running backend.
pub(crate) struct Backend {
    /// Where it answers.
    pub(crate) address: SocketAddr,
    _process: Background,
}

impl Backend {
    /// Starts what a part needs, on the core of the load.
    pub(crate) fn start(part: Part, folder: &Path, core: usize) -> Result<Self> {
        let address = shell::loopback(shell::free_port()?);
        let process = if part.is_h2() {
            nghttpd(part, folder, core, address)?
        } else {
            start_nginx(part, folder, core, address)?
        };
        Ok(Self { address, _process: process })
    }
}

/// A small answer; and for downloads a file that takes no room on the disk.
fn start_nginx(part: Part, folder: &Path, core: usize, address: SocketAddr) -> Result<Background> {
    let download = if part == Part::TcpBytes {
        File::create(folder.join("large"))?.set_len(DOWNLOAD_BYTES)?;
        format!("location {DOWNLOAD_PATH} {{ root {}; sendfile on; sendfile_max_chunk 512k; }}", folder.display())
    } else {
        String::new()
    };
    let server = format!(
        "{} server {{ listen {address}; {download}
           location / {{ default_type text/plain; return 200 \"hello, world\\n\"; }} }}",
        nginx::QUIET
    );
    nginx::start("backend", folder, &server, Some(core), address)
}

/// The same small answer over HTTP/2; or a message with a status in the trailer, which is all that gRPC asks of a server.
fn nghttpd(part: Part, folder: &Path, core: usize, address: SocketAddr) -> Result<Background> {
    let program = shell::need("nghttpd", "nghttp2-server")?;
    let documents = folder.join("documents");
    fs::create_dir_all(documents.join("bench.Echo"))?;
    fs::write(documents.join("index.html"), "hello, world\n")?;
    fs::write(documents.join(&GRPC_PATH[1..]), GRPC_MESSAGE)?;
    let types = folder.join("types");
    fs::write(&types, "application/grpc grpc\n")?;
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command.args(["--no-tls", "--address", "127.0.0.1", "--max-concurrent-streams", "1000"]);
    command.arg("--htdocs").arg(&documents).arg("--mime-types-file").arg(&types);
    if part == Part::Grpc {
        command.args(["--no-content-length", "--trailer", "grpc-status: 0"]);
    }
    command.arg(address.port().to_string());
    let mut process = Background::start("backend", &mut command, &folder.join("backend.log"))?;
    process.wait_for_port(address)?;
    Ok(process)
}
